"""Converters between our episodes and the data formats of other trainers.

Imports point down this list only: command, vace_e > registry, vace_e_files > draft, gripper_mask, incoming,
job, target, video.
"""
