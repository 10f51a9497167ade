"""Converters between our episodes and the data formats of other trainers.

Imports point down this list only: aloha, bag, command, lerobot, ph2d, rig_new, robomimic, vace_e,
vace_e_read, zarr > registry, trainers, vace_e_files > draft, gripper_mask, hdf5, incoming, job, pictures,
target, video.
"""
