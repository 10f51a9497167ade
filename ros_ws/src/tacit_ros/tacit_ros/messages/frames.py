"""Transforms of frames, as `/tf` carries them."""

from __future__ import annotations

import importlib
from typing import Any

from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3

from tacit.errors import MissingDependencyError
from tacit.geometry.rotations import rotation_to_quaternion
from tacit_ros.messages.stamps import header
from tacit_ros.messages.values import Vector


def transform(T: Vector, stamp_ns: int, parent: str, child: str) -> TransformStamped:
    """Return the pose `T` (4, 4) of the frame `child` in the frame `parent`."""
    x, y, z = (float(value) for value in T[:3, 3])
    qx, qy, qz, qw = (float(value) for value in rotation_to_quaternion(T[:3, :3]))
    pose = Transform(translation=Vector3(x=x, y=y, z=z), rotation=Quaternion(x=qx, y=qy, z=qz, w=qw))
    return TransformStamped(header=header(stamp_ns, parent), child_frame_id=str(child), transform=pose)


def tf_message_class() -> Any:
    """Return the class of `/tf`.

    Raises:
        MissingDependencyError: Its package is not installed: there is no wheel of it, every ROS has it.
    """
    try:
        return importlib.import_module("tf2_msgs.msg").TFMessage
    except ModuleNotFoundError:
        raise MissingDependencyError(
            "tf2_msgs is not installed: it comes with a ROS 2 installation, and there is no wheel of it"
        ) from None
