"""Converters between our episodes and the data formats of other trainers.

Imports point down this list only: command, vace_e > registry, vace_e_files > gripper_mask, job, target,
video.
"""
