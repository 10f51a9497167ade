"""Converters between our episodes and the data formats of other trainers.

Imports point down this list only: vace_e > vace_e_files > gripper_mask, video.
"""
