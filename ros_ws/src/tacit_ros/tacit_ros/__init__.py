"""Thin ROS 2 nodes over the pure core `tacit`: they move bytes and time, and decide nothing else.

No module imports torch. Inside, imports point down this list only:
recorder_node, policy_node, progress_node, overlay_node, capture_node, demo, bench, up, launching >
record_client, testing, synthetic, inference_thread, preroll, progress_watch, recorder, capture >
inputs, monitor, observations, recording, scripted >
commands, controller, decoders, policy_diagnostics, process >
encoder_pool, environment, messages, overlay, parameters, periodic, policy_state, qos, session, stacks.
"""
