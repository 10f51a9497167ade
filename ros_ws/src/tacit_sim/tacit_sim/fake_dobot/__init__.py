"""A Dobot controller of protocol V4 that is none: both ports, replies, refusals, alarms, and its bad days.

Written from the public interface guide, apart from the driver that it tries. An arm stands behind it: one
that is where it was told, or the simulated cell. Imports point down this list only:
serve > server > controller > plant.
"""
