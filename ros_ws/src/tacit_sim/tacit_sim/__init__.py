"""The simulated cell: a rig without hardware, with touch, on any CPU.

Imports point down this list only: simulator_node, expert_node, cli, evaluate > topics, closed_loop >
demonstrations > experts > cell > disturbance, tactile > model > tasks, rendering, statistics.
Only the two nodes and topics know rclpy.
"""
