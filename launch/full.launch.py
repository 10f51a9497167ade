"""Policy, progress, recorder and overlay together.

ros2 launch tacit_ros full.launch.py policy__bundle:=policy.onnx progress__bundle:=progress.onnx
"""

from launch import LaunchDescription
from tacit_ros.run.launching import describe_launch


def generate_launch_description() -> LaunchDescription:
    """Return the `full` stack of `tacit_ros.run.stacks`."""
    return describe_launch("full")
