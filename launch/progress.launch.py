"""Watch the progress of a task with a progress bundle.

ros2 launch tacit_ros progress.launch.py rig:=nova2_sim bundle:=progress.onnx
"""

from launch import LaunchDescription
from tacit_ros.run.launching import describe_launch


def generate_launch_description() -> LaunchDescription:
    """Return the `progress` stack of `tacit_ros.run.stacks`."""
    return describe_launch("progress")
