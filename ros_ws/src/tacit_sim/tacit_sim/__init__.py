"""The simulated cell: a rig without hardware, with touch, on any CPU.

Imports point down this list only: simulator_node, expert_node, mover_node, cli, videos, evaluate,
bench_calibration > topics, closed_loop > demonstrations > experts, poses > cell >
disturbance, tactile > model > tasks, rendering, board, lens, as_built, motion > attributes.
Only the nodes and topics know rclpy.
"""
