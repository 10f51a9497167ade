"""ACT-HSA: action chunking with touch, and touch aligned with the place where it is seen.

Imports point down this list only: view_touch > train, view_actions > evaluate, feature_cache, watch >
policy, probes > balance, future, touch_alignment > model, negatives > arguments, config.
"""
