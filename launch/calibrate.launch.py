"""Take calibration pictures; on a simulated rig the cell and somebody who moves the arm run too.

ros2 launch tacit_ros calibrate.launch.py rig:=nova2 camera:=wrist out:=session/samples/wrist
"""

from launch import LaunchDescription
from tacit_ros.run.launching import describe_launch


def generate_launch_description() -> LaunchDescription:
    """Return the `calibrate` stack of `tacit_ros.run.stacks`."""
    return describe_launch("calibrate")
