"""tacit calibration: boards in exact millimetres, lenses from their pictures, checks of a rig.

Pure Python on numpy and OpenCV; no ROS, no torch. Inside, imports point down this list only:
cli > intrinsics, rig_check > detection > board_files > board.
"""
