"""Folders of videos as checked, aligned windows, encoded once, in padded batches.

Imports point down this list only: batches > inputs > cache, data_check, label_check, schedule >
dataset > discovery > episode_check > jitter, trajectories > batch_choice, grippers, items, masks,
noise, prompts, windows.
"""
