"""What the robot is told: states, gates, limits, workspace, the inference and the command loop.

Imports point down this list only:
inference_thread > acting > controller, inputs > free_gels, free_taxels, heard > heartbeat, robot_state,
states, upsampling, workspace > last_sent, safety, periodic, players.
"""
