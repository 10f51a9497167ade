"""Temporal alignment of annotated videos, and progress of a task as it runs.

`tacit train alignment` and its preset `tacit train progress` learn embeddings and progress of annotated
videos; what is exported takes one frame at a time. Imports point down this list only:
commands, train_alignment > objective > metrics, progress_terms > checkpoints, judge, recipes >
data, old_heads, terms > model > settings > arguments, frames, signals.
"""
