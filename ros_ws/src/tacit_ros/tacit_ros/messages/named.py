"""Commands as messages of the type that the rig names: values bound to joint names, never guessed."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from tacit.errors import did_you_mean
from tacit.rig import COMMAND_TYPES
from tacit_ros.messages.stamps import MessageError
from tacit_ros.messages.values import (
    boolean,
    float32,
    float64,
    float_array,
    int32,
    joint_state,
    joint_trajectory,
)


def message_class(type_name: str) -> type:
    """Return the class of `package/msg/Name` or `package/action/Name`.

    Raises:
        MessageError: The package is not installed or has no such type.
    """
    package, _, rest = type_name.partition("/")
    kind, _, name = rest.partition("/")
    try:
        return getattr(importlib.import_module(f"{package}.{kind}"), name)
    except (ModuleNotFoundError, AttributeError):
        raise MessageError(
            f"message type {type_name!r} is not available; expected `package/msg/Name` of an installed "
            f"package (pip install ros-{package.replace('_', '-')}, or with ROS: apt install "
            f"ros-$ROS_DISTRO-{package.replace('_', '-')})"
        ) from None


def build_named(
    type_name: str, names: Sequence[str], values: ArrayLike, stamp_ns: int, period_s: float = 0.0
) -> object:
    """Return `values` (n,) of `names` as a message of the type that the rig gives to the topic.

    Args:
        type_name: JointState, JointTrajectory (one point), Float64MultiArray, Float32, Float64, Int32, Bool.
        names: What the values are called.
        values: In the unit of the driver.
        stamp_ns: Header stamp, where the type has one.
        period_s: Time to reach the target, for trajectories [s].
    """
    vector = np.asarray(values, dtype=np.float64).reshape(-1)
    if vector.size != len(names):
        raise ValueError(f"{vector.size} values for {len(names)} names {tuple(names)}")
    match type_name:
        case "sensor_msgs/msg/JointState":
            return joint_state(names, vector, stamp_ns)
        case "trajectory_msgs/msg/JointTrajectory":
            return joint_trajectory(names, vector, stamp_ns, period_s=period_s)
        case "std_msgs/msg/Float64MultiArray":
            return float_array(vector, ",".join(names))
        case "std_msgs/msg/Float32":
            return float32(vector[0])
        case "std_msgs/msg/Float64":
            return float64(vector[0])
        case "std_msgs/msg/Int32":
            return int32(vector[0])
        case "std_msgs/msg/Bool":
            return boolean(vector[0])
    raise MessageError(f"cannot build {type_name!r}; {did_you_mean(type_name, COMMAND_TYPES)}")
