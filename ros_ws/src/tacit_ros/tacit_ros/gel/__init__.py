"""Tactile sensors that are a USB camera behind a gel: found by serial number, locked, read and shaped.

Nothing here knows ROS; `tacit_ros.tactile_camera_node` publishes what a `GelFeed` hands on.

Imports point down this list only: feed > sources > devices, shape.
"""
