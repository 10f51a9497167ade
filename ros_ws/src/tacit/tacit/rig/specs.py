"""The parts of a rig file: joints, gripper, arms, cameras, sensors, streams, gates.

Pydantic models only; `tacit.rig.contract` joins them to a `Rig`, loads files and checks that the parts
agree with each other.
"""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from tacit.config import Config
from tacit.errors import RigError, did_you_mean
from tacit.geometry.camera import FISHEYE_COUNTS, PINHOLE_COUNTS
from tacit.geometry.kinematics import DH_MODELS, Chain, DhParameters, chain_from_dh
from tacit.geometry.transforms import Transform
from tacit.geometry.urdf import chain_from_urdf, reduce_urdf
from tacit.images import MAX_SIDE

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
MAX_RATE_HZ = 10_000.0
"""Queues are as long as rates are high; the fastest drivers of arms run at 1 kHz."""
Rate = Annotated[float, Field(gt=0, le=MAX_RATE_HZ)]
Pixels = Annotated[int, Field(gt=0, le=MAX_SIDE)]
"""A side of a picture [px]."""
ImageType = Literal["sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"]


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


def _reduced(urdf: str | None) -> str | None:
    if urdf is None:
        return None
    if "<" not in urdf:
        raise ValueError(f"{urdf[:60]!r} is not URDF text; read a rig that names a file with `load_rig`")
    try:
        return reduce_urdf(urdf)
    except RigError as problem:
        raise ValueError(str(problem)) from None


def _check_table(name: str, table: np.ndarray) -> None:
    # Read both ways: driver's value to opening when recording, back when commanding.
    steps = np.diff(table, axis=0)
    monotone = bool((steps[:, 0] > 0).all() and ((steps[:, 1] > 0).all() or (steps[:, 1] < 0).all()))
    if len(table) < 2 or not monotone:
        raise ValueError(
            f"gripper {name}: table: expected at least two [raw, opening_m] rows with raw increasing and "
            "opening strictly rising or falling"
        )


class QosSpec(Config):
    """Quality of service of one topic."""

    reliability: Literal["reliable", "best_effort"] = "reliable"
    depth: Annotated[int, Field(ge=1, le=10_000)] = 10
    durability: Literal["volatile", "transient_local"] = "volatile"


class JointSpec(Config):
    """One arm joint: canonical q = sign * raw + offset [rad]; limits are canonical.

    `urdf_joint` is its name in the URDF where that differs, as on two arms that share one file.
    """

    name: Name
    lower: float
    upper: float
    velocity: Positive
    acceleration: Positive
    sign: Literal[1, -1] = 1
    offset: float = 0.0
    urdf_joint: Name | None = None

    @model_validator(mode="after")
    def _ordered(self) -> JointSpec:
        if not self.lower < self.upper:
            raise ValueError(f"joint {self.name}: lower {self.lower} is not below upper {self.upper}")
        return self


class GripperSpec(Config):
    """A parallel gripper: state is the full opening between the pad faces [m].

    `axis` is the direction in the flange frame along which `finger_left` opens. `raw` says what the
    driver reports: `linear` (opening = scale * raw + offset), `table` ((raw, opening) rows, raw
    increasing, opening monotone) or `claw` (the X-Trainer servo coefficient 0..1, plus offset).
    """

    name: Name = "gripper"
    lower: float = 0.0
    upper: Positive
    velocity: Positive
    acceleration: Positive
    axis: tuple[float, float, float] = (1.0, 0.0, 0.0)
    raw: Literal["linear", "table", "claw"] = "linear"
    scale: float = 1.0
    offset: float = 0.0
    table: tuple[tuple[float, float], ...] = ()

    @model_validator(mode="after")
    def _usable(self) -> GripperSpec:
        if not self.lower < self.upper:
            raise ValueError(f"gripper {self.name}: lower {self.lower} is not below upper {self.upper}")
        if not any(self.axis):
            raise ValueError(f"gripper {self.name}: axis is zero, expected a direction in the flange frame")
        if self.raw == "linear" and self.scale == 0:
            raise ValueError(f"gripper {self.name}: scale is 0, expected metres of opening per raw unit")
        if self.raw == "table":
            _check_table(self.name, np.array(self.table, dtype=np.float64).reshape(-1, 2))
        return self


class DhRow(Config):
    """One row of a standard DH table: A = Rz(q + offset) Tz(d) Tx(a) Rx(alpha)."""

    offset: float = 0.0
    d: float
    a: float
    alpha: float


class ArmSpec(Config):
    """One arm: kinematics by built-in `model`, own `dh` rows, or `urdf` with its two links.

    `urdf` is a path relative to the rig file, or the text itself; in a loaded rig it is always the
    text, reduced to what kinematics needs, so a rig in an episode stands alone. `home` are the joints
    [rad] of the pose that the policy node's `~/home` goes to.
    """

    model: str | None = None
    dh: tuple[DhRow, ...] | None = None
    urdf: Annotated[str | None, AfterValidator(_reduced)] = None
    base_link: str | None = None
    tip_link: str | None = None
    T_world_base: Transform = Field(default_factory=lambda: np.eye(4))
    joints: Annotated[tuple[JointSpec, ...], Field(min_length=1)]
    gripper: GripperSpec | None = None
    home: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _home_within_limits(self) -> ArmSpec:
        if self.home is not None and len(self.home) != len(self.joints):
            raise ValueError(f"home: {len(self.home)} values for {len(self.joints)} joints")
        for joint, value in zip(self.joints, self.home or (), strict=False):
            if not joint.lower <= value <= joint.upper:
                raise ValueError(f"home: {joint.name} at {value} is outside {joint.lower} to {joint.upper}")
        return self

    @model_validator(mode="after")
    def _one_kinematics(self) -> ArmSpec:
        given = [k for k in ("model", "dh", "urdf") if getattr(self, k) is not None]
        if len(given) != 1:
            raise ValueError(f"expected exactly one of model, dh, urdf; found {given or 'none'}")
        return self

    @model_validator(mode="after")
    def _chain_exists(self) -> ArmSpec:
        try:
            _ = self.chain
        except RigError as problem:
            raise ValueError(str(problem)) from None
        return self

    @property
    def dh_rows(self) -> tuple[DhParameters, ...] | None:
        """The DH rows of `model` or `dh`, one per joint; None where a `urdf` describes the arm.

        Raises:
            RigError: Unknown model, or another number of rows than joints.
        """
        if self.urdf is not None:
            return None
        if self.model is not None and self.model not in DH_MODELS:
            raise RigError(
                f"model: no arm {self.model!r}; {did_you_mean(self.model, DH_MODELS)}; or give dh or urdf"
            )
        own = tuple(DhParameters(**row.model_dump()) for row in self.dh or ())
        rows = DH_MODELS[self.model] if self.model else own
        if len(rows) != len(self.joints):
            raise RigError(
                f"{self.model or 'dh'}: {len(rows)} rows for {len(self.joints)} joints; "
                "give one row per joint"
            )
        return rows

    @functools.cached_property
    def chain(self) -> Chain:
        """The kinematics that `model`, `dh` or `urdf` describe.

        Raises:
            RigError: As for `dh_rows`, or the URDF does not fit.
        """
        rows = self.dh_rows
        if rows is not None:
            return chain_from_dh(rows, [joint.name for joint in self.joints])
        if self.base_link is None or self.tip_link is None:
            raise RigError("urdf: base_link and tip_link are needed; name the two links of the chain")
        names = [joint.urdf_joint or joint.name for joint in self.joints]
        return chain_from_urdf(str(self.urdf), self.base_link, self.tip_link, names)


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
    latency_ms: float = 0.0
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


class TactileSpec(StreamBase):
    """A camera-based tactile sensor.

    `size_m` is (width, height, thickness). The sensor frame sits in the centre of the gel face,
    x along the width, y along the height, z out of the gel. Mount is `<arm>.flange`,
    `<arm>.finger_left` (moves +opening/2 along the gripper axis) or `<arm>.finger_right`.
    """

    type: ImageType = "sensor_msgs/msg/Image"
    width: Pixels
    height: Pixels
    frozen_after: FrozenAfter = 5
    mount: str
    T_mount_sensor: Transform
    size_m: tuple[Positive, Positive, Positive]
    sensor_type: str = "gelsight"
    serial: str = ""


NUMBER_TYPES: dict[str, int | None] = {
    "sensor_msgs/msg/JointState": None,
    "trajectory_msgs/msg/JointTrajectory": None,
    "std_msgs/msg/Float64MultiArray": None,
    "std_msgs/msg/Float32": 1,
    "std_msgs/msg/Int32": 1,
    "std_msgs/msg/Bool": 1,
    "geometry_msgs/msg/WrenchStamped": 6,
    "geometry_msgs/msg/TwistStamped": 6,
    "geometry_msgs/msg/PoseStamped": 7,
}
"""Messages that carry numbers, and how many: force and torque, linear and angular, position and
quaternion x y z w. None: as many as `names`."""
COMMAND_TYPES = tuple(name for name in NUMBER_TYPES if not name.startswith("geometry_msgs/"))
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
    not 0 and `fault` and `protective_stop` are 0, at `speed_scaling` (0 to 1) of the velocity limits.
    """

    names: tuple[Name, ...]
    role: Literal["state", "extra", "steps", "robot_state"] = "state"

    @model_validator(mode="after")
    def _known_robot_states(self) -> StreamSpec:
        for name in self.names if self.role == "robot_state" else ():
            if name not in ROBOT_STATES:
                raise ValueError(f"names: {name!r} in a robot_state; {did_you_mean(name, ROBOT_STATES)}")
        return self


class CommandSpec(StreamBase):
    """A topic on which commands go to the robot, for the named joints and grippers."""

    names: tuple[Name, ...]


class CalibrationRecord(Config):
    """How a calibrated value of a rig came about; written by `tacit calibrate`, read by people and checks.

    Attributes:
        parent, child: The named frames of a pose; empty where the value is no pose.
        date: ISO 8601, with its offset from UTC.
        method: The command that wrote it.
        num_views: Pictures used.
        rms_px, held_out_px: Error over the pictures used, and over pictures that were not.
        sigma_mm, sigma_deg: One standard deviation of a pose.
        inputs_sha256: Hash of the pictures and joints that went in.
        replaces: `calibration_id` of the rig before.
        value_sha256: Hash of the value itself, so that a later change by hand is seen.
    """

    parent: str = ""
    child: str = ""
    date: str
    method: str
    num_views: Annotated[int, Field(ge=0)] = 0
    rms_px: float | None = None
    held_out_px: float | None = None
    sigma_mm: float | None = None
    sigma_deg: float | None = None
    board: str = ""
    inputs_sha256: str = ""
    replaces: str = ""
    value_sha256: str = ""


class AlignmentSpec(Config):
    """When a tick is made: `camera:<name>` (its stamps) or `timer` at `rate_hz`."""

    tick_source: str
    rate_hz: Rate


class WorkspaceSpec(Config):
    """A box in the world frame [m] that flange and tactile sensors of an arm must stay in."""

    lower: tuple[float, float, float]
    upper: tuple[float, float, float]

    @model_validator(mode="after")
    def _has_room(self) -> WorkspaceSpec:
        if not all(low < high for low, high in zip(self.lower, self.upper, strict=True)):
            raise ValueError(f"workspace: lower {self.lower} is not below upper {self.upper} in x, y and z")
        return self


class SafetySpec(Config):
    """Limits that stop or hold the policy node; ages in ms."""

    image_age_ms: Positive = 150.0
    joint_age_ms: Positive = 60.0
    skew_ms: Positive = 50.0
    tracking_error: Positive = 0.35
    calibration_translation_m: Positive = 0.003
    calibration_rotation_deg: Positive = 0.5
    workspace: dict[Name, WorkspaceSpec] = {}


class SimulationSpec(Config):
    """Marks a rig that `tacit_sim` can stand in for."""

    task: str = "place_cube"
    tactile_rays: tuple[int, int] = (40, 30)
