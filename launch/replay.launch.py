"""Do again what was commanded in an episode, on the robot or in the simulated cell.

ros2 launch tacit_ros replay.launch.py rig:=nova2_sim episode:=data/place_cube/episode_0.hdf5
"""

from launch import LaunchDescription
from tacit_ros.run.launching import describe_launch


def generate_launch_description() -> LaunchDescription:
    """Return the `replay` stack of `tacit_ros.run.stacks`."""
    return describe_launch("replay")
