"""The simulated cell: a rig without hardware, with touch, on any CPU.

Imports point down this list only: simulator_node, expert_node, cli > evaluate, demonstrations >
experts > cell > disturbance, tasks, tactile, rendering > model. Only the two nodes know rclpy.
"""
