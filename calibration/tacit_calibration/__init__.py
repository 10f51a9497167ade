"""tacit calibration: boards in exact millimetres, lenses and camera poses from their pictures, rig checks.

Pure Python on numpy, scipy and OpenCV; no ROS, no torch. Inside, imports point down this list only:
cli > commands > bench, click_page, residual_pictures > bench_peers, overlays > bench_scenes, bench_opencv,
verify, session, coverage, imports, joint_check, drift, kinematic_check > outline > sensor_offset >
touch_views > clicks, gripper_model, rig_check, intrinsics, world, held_out > rig_update, hand_eye,
samples > lens_fit, diagnosis, noise, arm_errors > closed_form, degeneracy > board_pose > increments >
detection > board_files > board.
"""
