"""The simulated cell alone, with its scripted expert.

ros2 launch tacit_ros simulate.launch.py rig:=nova2_sim seed:=1
"""

from launch import LaunchDescription
from tacit_ros.run.launching import describe_launch


def generate_launch_description() -> LaunchDescription:
    """Return the `simulate` stack of `tacit_ros.run.stacks`."""
    return describe_launch("simulate")
