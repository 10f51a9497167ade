"""The simulated cell: a rig without hardware, with touch, on any CPU.

Imports point down this list only: study > cli > demonstrations, evaluate, expert_node, mover_node,
simulator_node > choose_playing, closed_loop > felt > experts, poses, topics > cell > surroundings,
taxels > tactile > failures, model > waypoints > board, disturbance, wired > as_built, attributes,
fake_dobot, lens, motion, rendering, tasks. Only the nodes and topics know rclpy.
"""
