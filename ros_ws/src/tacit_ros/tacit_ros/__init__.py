"""Thin ROS 2 nodes over the pure core `tacit`: they move bytes and time, and decide nothing else.

Each node is a module `*_node`, a shell around objects of the core. `messages` builds and reads ROS
messages, `wire` connects a rig's topics with values, `run` starts what belongs together, `bag` hears what
was recorded elsewhere, `demo` shows the whole loop. Nothing here imports torch.

Imports point down this list only:
demo, desk_node, managed_node > bag, capture_node, description_node, dobot_node, gripper_action_node,
overlay_node, policy_node, progress_node, recorder_node, replay_node, run, tactile_camera_node, teleop_node >
gel, wire > messages.
"""
