"""Alignment and progress: which moments of videos correspond, and how far a task is, told causally.

`settings` and `train_alignment` train on annotated videos or episodes; `config` and `train` are the small
estimator of the demo.
"""
