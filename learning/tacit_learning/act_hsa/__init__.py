"""ACT-HSA: action chunking with touch, and touch aligned with the place where it is seen.

Imports point down this list only: view_touch > train > evaluate, watch > policy, probes > balance,
touch_alignment > model, negatives > arguments, config.
"""
