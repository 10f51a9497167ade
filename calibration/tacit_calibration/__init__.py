"""Calibration: boards in exact millimetres, lenses and camera poses from pictures, touch sensors, rig checks.

Pure Python on numpy, scipy and OpenCV; no ROS, no torch. `hand_eye`, `intrinsics`, `world` and `touch` solve,
on the ground of `estimation`; `commands` are what `tacit calibrate` offers.

Imports point down this list only:
cli > commands > pictures > checks, held_out, lens_choice, world > ways >
coverage, hand_eye, imports, intrinsics, pose_arm, pose_conventions, touch > estimation, poses, samples >
board_files, detection, lens_files, session > boards_seen > finders, kalibr > board, rig_update.
"""
