"""The parts of a rig file: joints, gripper, arms, cameras, sensors, streams, gates.

Pydantic models only; `tacit.rig.contract` joins them to a `Rig`, loads files and checks that the parts
agree with each other.
"""

from __future__ import annotations

import functools
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from tacit.config import Config
from tacit.errors import RigError, did_you_mean
from tacit.geometry.fingers import LinkedFingers, linked_fingers
from tacit.geometry.kinematics import DH_MODELS, Chain, DhParameters, chain_from_dh
from tacit.geometry.transforms import Transform
from tacit.geometry.urdf import chain_from_urdf, reduce_urdf
from tacit.rig.topics import Name, Positive, Rate

FINGERS = ("finger_left", "finger_right")


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
    increasing, opening monotone; two rows: it only says open or closed, and may pass from one to the other
    at once) or `claw` (the X-Trainer servo coefficient 0..1, plus offset).

    Fingers slide along `axis` unless `links` names the two links of the arm's URDF that carry the pads: then
    they move as `urdf_joint` does by <mimic>, as on linkage grippers, and are those links' frames.
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
    links: dict[Literal["finger_left", "finger_right"], str] | None = None
    urdf_joint: Name | None = None

    @model_validator(mode="after")
    def _usable(self) -> GripperSpec:
        if not self.lower < self.upper:
            raise ValueError(f"gripper {self.name}: lower {self.lower} is not below upper {self.upper}")
        if not any(self.axis):
            raise ValueError(f"gripper {self.name}: axis is zero, expected a direction in the flange frame")
        if self.raw == "linear" and self.scale == 0:
            raise ValueError(f"gripper {self.name}: scale is 0, expected metres of opening per raw unit")
        if self.links is not None and len(self.links) != len(FINGERS):
            raise ValueError(f"gripper {self.name}: links: expected a link for each of {', '.join(FINGERS)}")
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

    `urdf` is a path relative to the rig file, inside its folder, or the text itself; an absolute path, `..`
    and links may not lead out of that folder, `package://NAME/path` leads into a ROS package. A xacro is
    expanded with the arguments of `xacro: {prefix: left_}` beside it. In a loaded rig it is always the text,
    reduced to what kinematics needs, so a rig in an episode stands alone. `home` are the joints [rad] of the
    pose that the policy node's `~/home` goes to.
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
            _ = self.chain, self.fingers
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

    @functools.cached_property
    def fingers(self) -> LinkedFingers | None:
        """Fingers that the URDF moves; None where they slide along the gripper's axis.

        Raises:
            RigError: There is no URDF, or it does not fit.
        """
        gripper = self.gripper
        if gripper is None or gripper.links is None:
            return None
        if self.urdf is None or self.tip_link is None:
            raise RigError("gripper.links: links of a URDF, and this arm has none; give urdf, or no links")
        stroke, joint = (gripper.lower, gripper.upper), gripper.urdf_joint or gripper.name
        links = {str(finger): link for finger, link in gripper.links.items()}
        return linked_fingers(self.urdf, self.tip_link, links, joint, gripper.axis, stroke)


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


class HeartbeatSpec(Config):
    """A topic that must go on coming while the robot moves; a Bool that says false counts as silence.

    `on_loss: hold` brakes and holds, until it is heard again and somebody starts; `estop` latches as well.
    """

    topic: str = "heartbeat"
    type: Literal["std_msgs/msg/Empty", "std_msgs/msg/Bool"] = "std_msgs/msg/Empty"
    timeout_ms: Positive = 500.0
    on_loss: Literal["hold", "estop"] = "hold"


class SafetySpec(Config):
    """Limits that stop or hold the policy node; ages in ms.

    `true` on `estop_topic` (std_msgs/Bool) latches an emergency stop. Names without a leading `/` lie in the
    namespace of the node that moves the robot.
    """

    image_age_ms: Positive = 150.0
    joint_age_ms: Positive = 60.0
    skew_ms: Positive = 50.0
    tracking_error: Positive = 0.35
    calibration_translation_m: Positive = 0.003
    calibration_rotation_deg: Positive = 0.5
    workspace: dict[Name, WorkspaceSpec] = {}
    estop_topic: str = "estop"
    heartbeat: HeartbeatSpec | None = None


class DriverSpec(Config):
    """Our own driver of an arm, started with the stacks; `parameters` are those of its node.

    Says how the robot is reached, not what it is: it counts in no id of the rig.
    """

    kind: Literal["dobot"]
    parameters: dict[str, str | int | float | bool] = {}


class SimulationSpec(Config):
    """Marks a rig that `tacit_sim` can stand in for."""

    task: str = "place_cube"
    tactile_rays: tuple[int, int] = (40, 30)
