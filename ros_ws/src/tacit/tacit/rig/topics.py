"""The topics of a rig: cameras, tactile sensors, numbers and commands, each with its type, rate and clock."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from tacit.config import Config
from tacit.errors import did_you_mean
from tacit.geometry.camera import FISHEYE_COUNTS, PINHOLE_COUNTS
from tacit.geometry.transforms import Transform
from tacit.images import MAX_SIDE

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
TOPIC = re.compile(r"(~?/)?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Positive = Annotated[float, Field(gt=0)]
MAX_RATE_HZ = 10_000.0
"""Queues are as long as rates are high; the fastest drivers of arms run at 1 kHz."""
Rate = Annotated[float, Field(gt=0, le=MAX_RATE_HZ)]
OutputRate = Annotated[float, Field(ge=20, le=1000)]
"""What drivers of arms are told positions at [Hz]."""
MAX_LATENCY_MS = 60_000.0
"""Values that are older wait for no tick: their clock is wrong."""
Latency = Annotated[float, Field(ge=-MAX_LATENCY_MS, le=MAX_LATENCY_MS)]
Pixels = Annotated[int, Field(gt=0, le=MAX_SIDE)]
"""A side of a picture [px]."""
ImageType = Literal["sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"]


def name_problem(name: str) -> str:
    """Return what to write for a text that is no name of a node or topic; "" where it is one."""
    if TOPIC.fullmatch(name):
        return ""
    plain = "/".join(re.sub(r"\W+", "_", part).strip("_") for part in name.strip().split("/"))
    plain = re.sub(r"/(?=\d)", "/_", re.sub(r"/+", "/", plain)).rstrip("/")
    return f"did you mean {plain!r}?" if TOPIC.fullmatch(plain) else "use letters, digits, _ and /"


def _intrinsics(value: Any) -> np.ndarray:
    try:
        K = np.asarray(value, dtype=np.float64)
    except TypeError:
        raise ValueError("camera matrix: expected three rows of three numbers") from None
    if K.shape != (3, 3) or not np.isfinite(K).all():
        raise ValueError(f"camera matrix of shape {K.shape}, expected 3x3 finite numbers")
    if K[0, 0] <= 0 or K[1, 1] <= 0 or not np.array_equal(K[2], [0, 0, 1]):
        raise ValueError("camera matrix: expected fx, fy > 0 and a last row [0, 0, 1]")
    K.setflags(write=False)
    return K


Intrinsics = Annotated[np.ndarray, BeforeValidator(_intrinsics), PlainSerializer(lambda K: K.tolist())]


class QosSpec(Config):
    """Quality of service of one topic."""

    reliability: Literal["reliable", "best_effort"] = "reliable"
    depth: Annotated[int, Field(ge=1, le=10_000)] = 10
    durability: Literal["volatile", "transient_local"] = "volatile"


class StreamBase(Config):
    """What every topic has: where it is, how it is sent, how often, how late.

    `latency_ms` is how much older than its stamp a value is. `stamps: receive` counts values from their
    reception: for a driver whose stamps are not of a clock that is kept right.
    """

    topic: str
    type: str
    qos: QosSpec = QosSpec()
    rate_hz: Rate
    required: bool = True
    latency_ms: Latency = 0.0
    stamps: Literal["header", "receive"] = "header"


FrozenAfter = Annotated[int, Field(ge=2)]
"""So many equal pictures in a row, each with a new stamp, mean that the camera stands still."""


class CameraSpec(StreamBase):
    """A camera: K, D describe the STORED image; parent is `world` or `<arm>.flange`.

    `kind: depth` is a camera whose pixels are distances: 16-bit millimetres, 0 where none was measured.
    """

    type: ImageType = "sensor_msgs/msg/Image"
    kind: Literal["color", "depth"] = "color"
    info_topic: str | None = None
    width: Pixels
    height: Pixels
    frozen_after: FrozenAfter = 5
    model: Literal["pinhole", "fisheye"] = "pinhole"
    K: Intrinsics
    D: tuple[float, ...] = ()
    parent: str
    T_parent_camera: Transform
    frame_id: str = ""

    @model_validator(mode="after")
    def _known_distortion(self) -> CameraSpec:
        counts = FISHEYE_COUNTS if self.model == "fisheye" else PINHOLE_COUNTS
        if len(self.D) not in counts:
            raise ValueError(f"D: {len(self.D)} coefficients, expected one of {counts} for {self.model}")
        return self


def is_depth(spec: StreamBase) -> bool:
    """Tell whether a stream's pictures are distances, not colours."""
    return isinstance(spec, CameraSpec) and spec.kind == "depth"


class DeviceSpec(Config):
    """The USB camera (UVC) inside a tactile sensor, for our own driver `tacit_ros.tactile_camera_node`.

    It is found by the sensor's `serial`, or by `path`: a device, or a folder of pictures or a video that
    stands in for one. `width` and `height` are what the camera takes; `crop` [x_min, y_min, x_max, y_max] in
    its pixels, the turn clockwise and the flip make of it the picture that the rig describes. `locked` turns
    automatic exposure and white balance off; values that are not given stay as they are.
    """

    path: str = ""
    width: Pixels = 640
    height: Pixels = 480
    fps: Rate | None = None
    fourcc: Annotated[str, Field(pattern=r"^(|[A-Z0-9]{4})$")] = ""
    crop: tuple[int, int, int, int] | None = None
    rotate_deg: Literal[0, 90, 180, 270] = 0
    flip: Literal["none", "horizontal", "vertical"] = "none"
    locked: bool = True
    exposure: float | None = None
    white_balance_k: Positive | None = None
    gain: float | None = None

    @model_validator(mode="after")
    def _crop_is_inside(self) -> DeviceSpec:
        x_min, y_min, x_max, y_max = self.crop or (0, 0, self.width, self.height)
        if not (0 <= x_min < x_max <= self.width and 0 <= y_min < y_max <= self.height):
            raise ValueError(
                f"crop: {list(self.crop or ())}, expected [x_min, y_min, x_max, y_max] within "
                f"{self.width}x{self.height} px"
            )
        return self


class TactileSpec(StreamBase):
    """A touch sensor: where it sits, and how large its face is. What it sends, its two kinds say.

    `size_m` is (width, height, thickness). The sensor frame sits in the centre of the sensing face,
    x along the width, y along the height, z out of it. Mount is `<arm>.flange`,
    `<arm>.finger_left` (moves +opening/2 along the gripper axis) or `<arm>.finger_right`.
    """

    mount: str
    T_mount_sensor: Transform
    size_m: tuple[Positive, Positive, Positive]
    sensor_type: str
    serial: str = ""


class GelSpec(TactileSpec):
    """A camera-based tactile sensor, with a picture (height, width) of its gel."""

    type: ImageType = "sensor_msgs/msg/Image"
    width: Pixels
    height: Pixels
    frozen_after: FrozenAfter = 5
    sensor_type: str = "gelsight"
    device: DeviceSpec | None = None

    @model_validator(mode="after")
    def _can_be_found(self) -> GelSpec:
        if self.device is not None and not (self.serial or self.device.path):
            raise ValueError(
                "device: neither `serial` of the sensor nor `device.path` says which camera it is"
            )
        return self


NUMBER_TYPES: dict[str, int | None] = {
    "sensor_msgs/msg/JointState": None,
    "trajectory_msgs/msg/JointTrajectory": None,
    "std_msgs/msg/Float64MultiArray": None,
    "std_msgs/msg/Float32": 1,
    "std_msgs/msg/Float64": 1,
    "std_msgs/msg/Int32": 1,
    "std_msgs/msg/Bool": 1,
    "geometry_msgs/msg/WrenchStamped": 6,
    "geometry_msgs/msg/TwistStamped": 6,
    "geometry_msgs/msg/PoseStamped": 7,
    "ur_dashboard_msgs/msg/RobotMode": 1,
    "ur_dashboard_msgs/msg/SafetyMode": 1,
}
"""Messages that carry numbers, and how many: force and torque, linear and angular, position and
quaternion x y z w. None: as many as `names`."""
COMMAND_TYPES = tuple(name for name in NUMBER_TYPES if not name.startswith(("geometry_msgs/", "ur_")))
"""Those of them that a joint or gripper can be commanded with."""
STATE_TYPES = tuple(name for name in COMMAND_TYPES if name != "trajectory_msgs/msg/JointTrajectory")
"""Those of them that a measured joint or gripper comes in."""
ROBOT_STATES = ("enabled", "fault", "protective_stop", "speed_scaling")
"""What a robot can say of itself in a stream of role `robot_state`."""


class StreamSpec(StreamBase):
    """A low-dimensional topic; `names` are its elements, bound by name where the type has names.

    role `state` feeds qpos; `extra` is stored as it is; `steps` holds an index into `names` (an
    operator's or the simulator's step marker) and becomes the step annotation of the episode;
    `robot_state` is what the robot says of itself, stored as it is: a policy acts only while `enabled` is
    not 0 and `fault` and `protective_stop` are 0, at `speed_scaling` (0 to 1) of the velocity limits. Its
    numbers are multiplied by `scale` (0.01 for a speed in percent); where `ready` lists the numbers of modes
    that are well, every other one is not. One of durability `transient_local` speaks on change only.
    """

    names: tuple[Name, ...]
    role: Literal["state", "extra", "steps", "robot_state"] = "state"
    scale: Positive = 1.0
    ready: tuple[int, ...] = ()

    def robot_state(self, numbers: Sequence[float]) -> dict[str, float]:
        """Return what the robot says of itself, by name, of the numbers of one message."""
        said = {n: self.scale * float(x) for n, x in zip(self.names, numbers, strict=True)}
        if not self.ready:
            return said
        return {name: _judged(name, value, value in self.ready) for name, value in said.items()}

    @model_validator(mode="after")
    def _known_robot_states(self) -> StreamSpec:
        if self.role != "robot_state" and (self.ready or self.scale != 1):
            raise ValueError("scale and ready are for streams of role robot_state")
        for name in self.names if self.role == "robot_state" else ():
            if name not in ROBOT_STATES:
                raise ValueError(f"names: {name!r} in a robot_state; {did_you_mean(name, ROBOT_STATES)}")
        return self


def _judged(name: str, value: float, is_well: bool) -> float:
    """A mode as what its name means: `enabled` is 1 where it is well, all others 0."""
    if name == "enabled":
        return float(is_well)
    return 0.0 if is_well else value or 1.0


class CommandSpec(StreamBase):
    """A topic on which commands go to the robot, for the named joints and grippers.

    `output_hz` is the rate at which the driver wants to be told positions. Without it commands leave at the
    rate of whoever commands; with it, on a smooth path through them, two of their periods behind.
    """

    names: tuple[Name, ...]
    output_hz: OutputRate | None = None
