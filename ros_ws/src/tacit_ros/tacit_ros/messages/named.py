"""Messages by type name, as the rig writes it: values bound to joint names, never guessed."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float32, Float64MultiArray, Int32
from trajectory_msgs.msg import JointTrajectory

from tacit.errors import did_you_mean
from tacit_ros.messages.stamps import MessageError
from tacit_ros.messages.values import (
    Vector,
    boolean,
    float32,
    float_array,
    int32,
    joint_state,
    joint_trajectory,
)


def message_class(type_name: str) -> type:
    """Return the class of `package/msg/Name`.

    Raises:
        MessageError: The package is not installed or has no such message.
    """
    package, _, name = type_name.partition("/msg/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ModuleNotFoundError, AttributeError):
        raise MessageError(
            f"message type {type_name!r} is not available; expected `package/msg/Name` of an installed "
            f"package (pip install ros-{package.replace('_', '-')})"
        ) from None


def build_named(
    type_name: str, names: Sequence[str], values: ArrayLike, stamp_ns: int, period_s: float = 0.0
) -> object:
    """Return `values` (n,) of `names` as a message of the type that the rig gives to the topic.

    Args:
        type_name: JointState, JointTrajectory (one point), Float64MultiArray, Float32, Int32 or Bool.
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
        case "std_msgs/msg/Int32":
            return int32(vector[0])
        case "std_msgs/msg/Bool":
            return boolean(vector[0])
    raise MessageError(f"cannot build {type_name!r}; {did_you_mean(type_name, READERS)}")


def read_named(message: object, type_name: str, names: Sequence[str]) -> Vector:
    """Return the values (n,) of `names`: by name where the type has names, else by position.

    Raises:
        MessageError: A name is missing, or the number of values is not that of the names.
    """
    reader = READERS.get(type_name)
    if reader is None:
        raise MessageError(f"cannot read {type_name!r}; {did_you_mean(type_name, READERS)}")
    return reader(message, names)


def read_joint_field(message: JointState, field: str, names: Sequence[str]) -> Vector | None:
    """Return `velocity` or `effort` (n,) of `names`; None where the driver leaves it empty.

    Raises:
        MessageError: Neither empty nor one value per joint.
    """
    values = getattr(message, field)
    return _by_name(message.name, values, names, field) if len(values) else None


def _read_joint_state(message: JointState, names: Sequence[str]) -> Vector:
    return _by_name(message.name, message.position, names)


def _read_trajectory(message: JointTrajectory, names: Sequence[str]) -> Vector:
    if not message.points:
        raise MessageError("JointTrajectory without points, expected at least one")
    return _by_name(message.joint_names, message.points[0].positions, names)


def _by_name(
    carried: Sequence[str], values: Sequence[float], names: Sequence[str], what: str = "position"
) -> Vector:
    if len(values) != len(carried):
        raise MessageError(f"{len(values)} values in {what} for {len(carried)} names {list(carried)}")
    if list(carried) == list(names):
        return np.array(values, dtype=np.float64)
    table = dict(zip(carried, values, strict=True))
    missing = [name for name in names if name not in table]
    if missing:
        raise MessageError(
            f"no joint {', '.join(map(repr, missing))} in the message, it names {list(carried)}; "
            "make `names` in the rig the names that the driver sends"
        )
    return np.array([table[name] for name in names], dtype=np.float64)


def _read_array(message: Float64MultiArray, names: Sequence[str]) -> Vector:
    if len(message.data) != len(names):
        raise MessageError(f"{len(message.data)} values, expected {len(names)}: {list(names)}")
    return np.array(message.data, dtype=np.float64)


def _read_scalar(message: Float32 | Int32 | Bool, names: Sequence[str]) -> Vector:
    return np.array([message.data], dtype=np.float64)


READERS = {
    "sensor_msgs/msg/JointState": _read_joint_state,
    "trajectory_msgs/msg/JointTrajectory": _read_trajectory,
    "std_msgs/msg/Float64MultiArray": _read_array,
    "std_msgs/msg/Float32": _read_scalar,
    "std_msgs/msg/Int32": _read_scalar,
    "std_msgs/msg/Bool": _read_scalar,
}
