"""tacit calibration: boards in exact millimetres, lenses and camera poses from their pictures, rig checks.

Pure Python on numpy, scipy and OpenCV; no ROS, no torch. Inside, imports point down this list only:
cli > intrinsics, hand_eye, rig_check, samples > detection > board_files > board.
"""
