"""How good a trained model is: loss on fixed noise, sampled videos, probes of features; and its page.

Imports point down this list only: validate > control, probes > lpips, metrics, report, tracker.
"""
