"""Engine: one training loop for every model, with stages, checkpoints, tracking and seeds.

Imports point down this list only: loop > job > optimizer > checkpoint, processes > config,
distributed, ema, provenance, seeding, stages, tracking.
"""
