"""Converters between our episodes and the data formats of other trainers.

Imports point down this list only: aloha, bag, command, lerobot, rig_new, robomimic, vace_e, zarr > registry,
trainers, vace_e_files > draft, gripper_mask, hdf5, incoming, job, target, video.
"""
