"""Our episodes as ROS 2 bags in MCAP, for Foxglove and `ros2 bag`; the way in is `tacit_ros.bag`.

Imports point down this list only: writing > contents > messages.
"""
