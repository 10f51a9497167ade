"""The verbs over alignment: evaluate, view, export signals, make and convert data.

Imports point down this list only: export_signals, view_alignment > data, evaluate_alignment, plots.
"""
