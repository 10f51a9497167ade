"""Numbers, poses, calibration, regions and diagnostics as standard messages."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion, Vector3, Wrench, WrenchStamped
from numpy.typing import ArrayLike, NDArray
from sensor_msgs.msg import CameraInfo, JointState, RegionOfInterest
from std_msgs.msg import (
    Bool,
    Float32,
    Float32MultiArray,
    Float64,
    Float64MultiArray,
    Int32,
    MultiArrayDimension,
    MultiArrayLayout,
    String,
)
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from tacit.geometry.camera import Camera
from tacit.geometry.camera_info import camera_to_info
from tacit.geometry.rotations import rotation_to_quaternion
from tacit_ros.messages.stamps import duration, header

LEVELS = {
    "ok": DiagnosticStatus.OK,
    "warn": DiagnosticStatus.WARN,
    "error": DiagnosticStatus.ERROR,
    "stale": DiagnosticStatus.STALE,
}
Vector = NDArray[np.float64]


def joint_state(
    names: Sequence[str],
    position: ArrayLike,
    stamp_ns: int,
    *,
    velocity: ArrayLike = (),
    effort: ArrayLike = (),
) -> JointState:
    """Return a JointState; arrays (n,) in the order of `names`, velocity and effort may be empty."""
    message = JointState(header=header(stamp_ns), name=[str(name) for name in names])
    message.position = doubles(position)
    message.velocity = doubles(velocity)
    message.effort = doubles(effort)
    return message


def joint_trajectory(
    names: Sequence[str], positions: ArrayLike, stamp_ns: int, *, period_s: float
) -> JointTrajectory:
    """Return a trajectory through `positions` (k, n), the first point `period_s` after the stamp."""
    points = np.atleast_2d(np.asarray(positions, dtype=np.float64))
    message = JointTrajectory(header=header(stamp_ns), joint_names=[str(name) for name in names])
    message.points = [
        JointTrajectoryPoint(positions=doubles(row), time_from_start=duration((i + 1) * period_s))
        for i, row in enumerate(points)
    ]
    return message


def float_array(values: ArrayLike, labels: str = "") -> Float64MultiArray:
    """Return a Float64MultiArray of `values` (n,); `labels` names its one dimension."""
    message = Float64MultiArray(data=doubles(values))
    size = len(message.data)
    message.layout.dim = [MultiArrayDimension(label=str(labels), size=size, stride=size)]
    return message


def taxels(type_name: str, reading: ArrayLike, stamp_ns: int) -> object:
    """Return a reading (R, C, K) of touch as a message of the type that the rig gives to its topic."""
    values = np.asarray(reading, dtype=np.float32)
    if type_name == "geometry_msgs/msg/WrenchStamped":
        force, torque = values.reshape(2, 3).astype(float).tolist()
        wrench = Wrench(force=Vector3(**dict(zip("xyz", force, strict=True))))
        wrench.torque = Vector3(**dict(zip("xyz", torque, strict=True)))
        return WrenchStamped(header=header(stamp_ns), wrench=wrench)
    strides = (values.size, values.shape[1] * values.shape[2], values.shape[2])
    dims = [
        MultiArrayDimension(label=label, size=size, stride=stride)
        for label, size, stride in zip(("rows", "columns", "channels"), values.shape, strides, strict=True)
    ]
    layout = MultiArrayLayout(dim=dims)
    if type_name == "std_msgs/msg/Float64MultiArray":
        return Float64MultiArray(layout=layout, data=doubles(values))
    return Float32MultiArray(layout=layout, data=array("f", values.tobytes()))


def float32(value: float) -> Float32:
    """Return one float."""
    return Float32(data=float(value))


def float64(value: float) -> Float64:
    """Return one float of double precision."""
    return Float64(data=float(value))


def int32(value: int) -> Int32:
    """Return one integer; a value outside 32 bits is a ValueError, not a silent 0."""
    number = int(value)
    if not -(2**31) <= number < 2**31:
        raise ValueError(f"{number} does not fit into Int32")
    return Int32(data=number)


def boolean(value: bool) -> Bool:
    """Return one truth value."""
    return Bool(data=bool(value))


def string(text: str) -> String:
    """Return one text."""
    return String(data=str(text))


def pose(T: Vector, stamp_ns: int, frame_id: str) -> PoseStamped:
    """Return the pose `T` (4, 4) in the frame `frame_id`."""
    x, y, z = (float(value) for value in T[:3, 3])
    qx, qy, qz, qw = (float(value) for value in rotation_to_quaternion(T[:3, :3]))
    position, orientation = Point(x=x, y=y, z=z), Quaternion(x=qx, y=qy, z=qz, w=qw)
    return PoseStamped(
        header=header(stamp_ns, frame_id), pose=Pose(position=position, orientation=orientation)
    )


def camera_info(camera: Camera, stamp_ns: int, frame_id: str) -> CameraInfo:
    """Return the calibration of the stored image of `camera`.

    The name of the model is what ROS nodes look at before they use D: `equidistant` for a fisheye,
    `plumb_bob` for up to 5 coefficients, `rational_polynomial` for 8, and for the 12 and 14 of thin prism
    and tilted lenses, which have no name of their own and which OpenCV reads from the same D.
    """
    info = camera_to_info(camera)
    message = CameraInfo(header=header(stamp_ns, frame_id), width=info["width"], height=info["height"])
    message.distortion_model = info["distortion_model"]
    message.d = doubles(info["d"])
    for name in ("k", "r", "p"):
        setattr(message, name, np.asarray(info[name], dtype=np.float64))
    return message


def region_of_interest(box_xyxy_px: ArrayLike, width: int, height: int) -> RegionOfInterest:
    """Return the part of a box that lies in the image; an empty region when none does.

    Args:
        box_xyxy_px: Unclipped box (4,) with pixel centres at integers; NaN means no box.
        width: Width of the image [px].
        height: Height of the image [px].
    """
    box = np.asarray(box_xyxy_px, dtype=np.float64)
    if not np.isfinite(box).all():
        return RegionOfInterest()
    # A pixel centre at u covers [u - 0.5, u + 0.5], hence the half pixel.
    x0, y0 = np.clip(np.floor(box[:2] + 0.5), 0, [width, height])
    x1, y1 = np.clip(np.ceil(box[2:] + 0.5), 0, [width, height])
    if x1 <= x0 or y1 <= y0:
        return RegionOfInterest()
    return RegionOfInterest(x_offset=int(x0), y_offset=int(y0), width=int(x1 - x0), height=int(y1 - y0))


@dataclass(frozen=True)
class Status:
    """One line of diagnostics: level is ok, warn, error or stale."""

    name: str
    level: str
    message: str
    values: Mapping[str, object] = field(default_factory=dict)


def diagnostics(statuses: Iterable[Status], stamp_ns: int, hardware_id: str = "") -> DiagnosticArray:
    """Return `/diagnostics` of `statuses`."""
    entries = []
    for status in statuses:
        entry = DiagnosticStatus(name=str(status.name), message=str(status.message))
        entry.level = LEVELS[status.level]
        entry.hardware_id = str(hardware_id)
        entry.values = [KeyValue(key=str(k), value=str(v)) for k, v in status.values.items()]
        entries.append(entry)
    return DiagnosticArray(header=header(stamp_ns), status=entries)


def doubles(values: ArrayLike) -> array:
    """Return `values` flat as the array type that float64[] fields take without a copy per element."""
    return array("d", np.asarray(values, dtype=np.float64).reshape(-1).tobytes())
