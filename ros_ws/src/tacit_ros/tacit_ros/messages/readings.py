"""Numbers out of messages, bound to names: by name where the type has names, else by position."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TypeVar

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped, Vector3, WrenchStamped
from numpy.typing import ArrayLike, NDArray
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float32, Float32MultiArray, Float64, Float64MultiArray, Int32, MultiArrayLayout
from trajectory_msgs.msg import JointTrajectory

from tacit.errors import did_you_mean
from tacit.rig import ArraySpec
from tacit.streams.trajectory import Trajectory
from tacit_ros.messages.stamps import SECOND, MessageError, NotForUs
from tacit_ros.messages.values import Vector

F = TypeVar("F", np.float32, np.float64)

MOST_DIMENSIONS = 16
"""An array of more is a damaged message; numpy ends at 32 or 64, and each costs time."""

TAXEL_AXES = {"rows": 0, "height": 0, "columns": 1, "cols": 1, "width": 1, "channels": 2, "channel": 2}
"""What drivers call the dimensions of a skin. Where they are square, only this tells them apart."""

UNIT_TOLERANCE = 1e-3
"""Quaternions sent as float32 or rounded to a few digits are this far off length 1; an unset one is 1 off."""


def read_named(message: object, type_name: str, names: Sequence[str]) -> Vector | Trajectory:
    """Return the values (n,) of `names`; a JointTrajectory of several points is a `Trajectory`.

    Raises:
        MessageError: A name is missing or there twice, or the number of values is not that of the names.
        NotForUs: The message names joints, and none of ours.
    """
    reader = READERS.get(type_name)
    if reader is None:
        raise MessageError(f"cannot read {type_name!r}; {did_you_mean(type_name, READERS)}")
    return reader(message, names)


def read_joint_field(message: JointState, field: str, names: Sequence[str]) -> Vector | None:
    """Return `velocity` or `effort` (n,) of `names`; None where it is empty or of another length than names.

    Many drivers report the velocity of the arm and leave out the gripper's: which value would belong to
    which joint is then a guess, and the positions stand without it.
    """
    values = getattr(message, field)
    if not len(values) or len(values) != len(message.name):
        return None
    return np.array(values, dtype=np.float64)[_indices(message.name, names)]


def _read_joint_state(message: JointState, names: Sequence[str]) -> Vector:
    if not len(message.name) and not len(message.position):
        raise NotForUs("a message about no joint, as some drivers send before they have read any")
    indices = _indices(message.name, names)
    if len(message.position) != len(message.name):
        raise MessageError(
            f"{len(message.position)} values in position for {len(message.name)} names {list(message.name)}",
            "size",
        )
    return np.array(message.position, dtype=np.float64)[indices]


def _read_trajectory(message: JointTrajectory, names: Sequence[str]) -> Vector | Trajectory:
    if not message.points:
        raise MessageError("JointTrajectory without points, expected at least one")
    indices = _indices(message.joint_names, names)
    for number, point in enumerate(message.points):
        if len(point.positions) != len(message.joint_names):
            raise MessageError(
                f"point {number}: {len(point.positions)} positions for {len(message.joint_names)} names "
                f"{list(message.joint_names)}",
                "size",
            )
    positions = np.array([point.positions for point in message.points], dtype=np.float64)[:, indices]
    if len(positions) == 1:
        return positions[0]
    starts = [point.time_from_start for point in message.points]
    times_ns = np.array([start.sec * SECOND + start.nanosec for start in starts], dtype=np.int64)
    if times_ns[0] < 0 or (np.diff(times_ns) <= 0).any():
        raise MessageError(
            f"JointTrajectory of {len(positions)} points: time_from_start is not rising; expected each point "
            "after the one before it"
        )
    return Trajectory(times_ns, positions)


def _indices(carried: Sequence[str], names: Sequence[str]) -> list[int] | slice:
    """Return where `names` stand among the `carried` ones.

    Raises:
        MessageError: One is missing, or stands there twice with what may be two values.
        NotForUs: None is there.
    """
    carried = list(carried)
    if carried == list(names):
        return slice(None)
    missing = [name for name in names if name not in carried]
    if len(missing) == len(names) and carried:
        raise NotForUs(f"none of {list(names)} in the message, it names {carried}")
    if missing:
        raise MessageError(
            f"no joint {', '.join(map(repr, missing))} in the message, it names {carried}; "
            "make `names` in the rig the names that the driver sends",
            "names",
        )
    twice = [name for name in names if carried.count(name) > 1]
    if twice:
        raise MessageError(
            f"joint {', '.join(map(repr, twice))} stands twice in the message, it names {carried}; which "
            "value is true cannot be told: mend the driver, or whatever joins its joints",
            "names",
        )
    return [carried.index(name) for name in names]


def _read_array(message: Float64MultiArray, names: Sequence[str]) -> Vector:
    values = _flat(message.layout, np.array(message.data, dtype=np.float64))
    if len(values) != len(names):
        raise MessageError(f"{len(values)} values, expected {len(names)}: {list(names)}", "size")
    labels = _labels(message.layout)
    return values[_indices(labels, names)] if sorted(labels) == sorted(names) else values


def read_taxels(message: object, array: ArraySpec) -> NDArray[np.float32]:
    """Return the reading (R, C, K) of a touch sensor: an array, or a wrench.

    A layout, where there is one, is rows, columns and channels; the last may be left out where it is 1.

    Raises:
        MessageError: Another number of values, or a layout of other sizes or in another order.
    """
    if isinstance(message, WrenchStamped):
        return _singles(_read_wrench(message, ())).reshape(array.shape)
    assert isinstance(message, (Float32MultiArray, Float64MultiArray))
    sizes = [int(dimension.size) for dimension in message.layout.dim]
    known = (list(array.shape), list(array.shape[:2]) if array.channels == 1 else [], [prod(array.shape)])
    labels = [dimension.label.strip().lower() for dimension in message.layout.dim]
    axes = [TAXEL_AXES[label] for label in labels if label in TAXEL_AXES]
    if sizes and (sizes not in known or axes != sorted(axes)):
        told = " x ".join(f"{size} {label}".strip() for size, label in zip(sizes, labels, strict=True))
        raise MessageError(f"layout of {told}, {_as_rig(array)}", "size")
    values = _flat(message.layout, _singles(message.data))
    if len(values) != prod(array.shape):
        raise MessageError(f"{len(values)} values, {_as_rig(array)}", "size")
    return values.reshape(array.shape)


def _singles(values: ArrayLike) -> NDArray[np.float32]:
    with np.errstate(all="ignore"):  # beyond float32 is no number either, and refused as such
        return np.array(values, np.float32)


def _as_rig(array: ArraySpec) -> str:
    rows, columns, channels = array.shape
    return (
        f"the rig says {rows} rows x {columns} columns x {channels} channels; correct `array` in the rig, or "
        "the layout that the driver sends"
    )


def _flat(layout: MultiArrayLayout, data: NDArray[F]) -> NDArray[F]:
    """Return the values in the order of their indices, the last dimension fastest.

    std_msgs defines element (i, j, k) as data[data_offset + stride_1 * i + stride_2 * j + k]; the
    strides of the first dimension and those left at 0 say nothing.

    Raises:
        MessageError: The layout speaks of more values than there are, or of fewer.
    """
    sizes = [int(dimension.size) for dimension in layout.dim]
    data = data[int(layout.data_offset) :]
    if not sizes:
        return data
    if len(sizes) > MOST_DIMENSIONS:
        raise MessageError(f"layout of {len(sizes)} dimensions, expected at most {MOST_DIMENSIONS}", "size")
    packed = [prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
    stated = [*(int(dimension.stride) for dimension in layout.dim[1:]), 1]
    strides = [said or tight for said, tight in zip(stated, packed, strict=True)]
    last = sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    # More elements than values share some of them: a small message could ask for any amount of memory.
    unlike = prod(sizes) > len(data) or (strides == packed and prod(sizes) != len(data))
    if 0 in sizes or last >= len(data) or unlike:
        raise MessageError(
            f"layout of {' x '.join(map(str, sizes))} values (strides {strides}, data_offset "
            f"{layout.data_offset}), but {len(data)} values follow",
            "size",
        )
    index = np.zeros((), dtype=np.int64)
    for size, stride in zip(sizes, strides, strict=True):
        index = index[..., None] + np.arange(size) * stride
    return data[index.reshape(-1)]


def _labels(layout: MultiArrayLayout) -> list[str]:
    """The names that a layout gives its values: one label with commas, or one dimension for each value."""
    if len(layout.dim) == 1:
        return [label.strip() for label in layout.dim[0].label.split(",")]
    return []


def _read_scalar(message: Float32 | Float64 | Int32 | Bool, names: Sequence[str]) -> Vector:
    return np.array([message.data], dtype=np.float64)


def _read_mode(message: object, names: Sequence[str]) -> Vector:
    return np.array([getattr(message, "mode")], dtype=np.float64)  # noqa: B009  # of a package not installed here


def _read_wrench(message: WrenchStamped, names: Sequence[str]) -> Vector:
    return np.array([*_xyz(message.wrench.force), *_xyz(message.wrench.torque)])


def _read_twist(message: TwistStamped, names: Sequence[str]) -> Vector:
    return np.array([*_xyz(message.twist.linear), *_xyz(message.twist.angular)])


def _read_pose(message: PoseStamped, names: Sequence[str]) -> Vector:
    q = message.pose.orientation
    quaternion = np.array([q.x, q.y, q.z, q.w])
    length = float(np.linalg.norm(quaternion))
    if not abs(length - 1) <= UNIT_TOLERANCE:
        raise MessageError(
            f"orientation {quaternion.tolist()} has length {length:.4g}, expected a unit quaternion "
            "(x, y, z, w); the sender leaves it unset, or does not normalise it",
            "message" if np.isfinite(length) else "not_finite",
        )
    return np.array([*_xyz(message.pose.position), *(quaternion / length)])


def _xyz(vector: Vector3) -> tuple[float, float, float]:
    return vector.x, vector.y, vector.z


READERS = {
    "sensor_msgs/msg/JointState": _read_joint_state,
    "trajectory_msgs/msg/JointTrajectory": _read_trajectory,
    "std_msgs/msg/Float64MultiArray": _read_array,
    "std_msgs/msg/Float32": _read_scalar,
    "std_msgs/msg/Float64": _read_scalar,
    "std_msgs/msg/Int32": _read_scalar,
    "std_msgs/msg/Bool": _read_scalar,
    "geometry_msgs/msg/WrenchStamped": _read_wrench,
    "geometry_msgs/msg/TwistStamped": _read_twist,
    "geometry_msgs/msg/PoseStamped": _read_pose,
    "ur_dashboard_msgs/msg/RobotMode": _read_mode,
    "ur_dashboard_msgs/msg/SafetyMode": _read_mode,
}
