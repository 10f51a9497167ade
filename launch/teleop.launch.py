"""Demonstrate by hand: keys, pad, space mouse or leader arm; on a simulated rig the cell runs too.

ros2 launch tacit_ros teleop.launch.py rig:=nova2_sim task:=place_cube root:=data
"""

from launch import LaunchDescription
from tacit_ros.run.launching import describe_launch


def generate_launch_description() -> LaunchDescription:
    """Return the `teleop` stack of `tacit_ros.run.stacks`."""
    return describe_launch("teleop")
