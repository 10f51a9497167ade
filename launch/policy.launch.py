"""Run a policy bundle on the robot, or in the simulated cell.

ros2 launch tacit_ros policy.launch.py rig:=nova2_sim bundle:=policy.onnx
"""

from launch import LaunchDescription
from tacit_ros.run.launching import describe_launch


def generate_launch_description() -> LaunchDescription:
    """Return the `policy` stack of `tacit_ros.run.stacks`."""
    return describe_launch("policy")
