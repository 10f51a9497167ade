"""Record demonstrations; on a simulated rig the cell and its expert run too.

ros2 launch tacit_ros record.launch.py rig:=nova2_sim task:=place_cube root:=data
"""

from launch import LaunchDescription
from tacit_ros.run.launching import describe_launch


def generate_launch_description() -> LaunchDescription:
    """Return the `record` stack of `tacit_ros.run.stacks`."""
    return describe_launch("record")
