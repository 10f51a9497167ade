"""The commands of `tacit calibrate`, one module each: arguments in, files and a short report out.

Imports point down this list only:
world > handeye >
board, capture, check, from_poses, gripper, intrinsics, judge, moved, sensor, session, verify > place.
"""
