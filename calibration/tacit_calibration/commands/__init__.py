"""The commands of `tacit calibrate`, one module each: arguments in, files and a short report out.

Imports point down this list only:
world > handeye > from_poses >
board, capture, check, corners, gripper, intrinsics, judge, moved, sensor, session, verify > place.
"""
