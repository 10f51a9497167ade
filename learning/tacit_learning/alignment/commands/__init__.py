"""The verbs over alignment: evaluate, view, export signals, make and convert data.

Imports point down this list only: evaluate_progress, export_signals, view_alignment > data,
evaluate_alignment, plots, progress_page.
"""
