"""ACT policies that LeRobot or the original ACT code trained, rebuilt to be exported and run here.

Imports point down this list only: act, lerobot > policy, weights > network.
"""
