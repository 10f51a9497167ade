"""The rig contract: what the robot is, read from one `rig.yaml`.

It names joints, cameras, tactile sensors, topics, limits and calibration, and drives recorder,
training, policy node and simulator. Geometry is answered by `tacit.geometry` on top of it.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from tacit.config import Config, load_yaml, parse, to_yaml
from tacit.errors import RigError, did_you_mean
from tacit.transforms import FloatArray, Transform

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Positive = Annotated[float, Field(gt=0)]
RIGS_FOLDER = Path(__file__).parent / "rigs"


def _intrinsics(value: Any) -> np.ndarray:
    K = np.asarray(value, dtype=np.float64)
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
    depth: Annotated[int, Field(ge=1)] = 10
    durability: Literal["volatile", "transient_local"] = "volatile"


class JointSpec(Config):
    """One arm joint: canonical q = sign * raw + offset [rad]; limits are canonical."""

    name: Name
    lower: float
    upper: float
    velocity: Positive
    acceleration: Positive
    sign: Literal[1, -1] = 1
    offset: float = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> JointSpec:
        if not self.lower < self.upper:
            raise ValueError(f"joint {self.name}: lower {self.lower} is not below upper {self.upper}")
        return self


class GripperSpec(Config):
    """A parallel gripper: state is the full opening between the pad faces [m].

    `raw` says what the driver reports: `linear` (opening = scale * raw + offset), `table`
    (piecewise linear, increasing raw) or `claw` (the X-Trainer servo coefficient 0..1).
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


class DhRow(Config):
    """One row of a standard DH table: A = Rz(q + offset) Tz(d) Tx(a) Rx(alpha)."""

    offset: float = 0.0
    d: float
    a: float
    alpha: float


class ArmSpec(Config):
    """One arm: kinematics by built-in `model`, own `dh` rows, or `urdf` with its two links."""

    model: str | None = None
    dh: tuple[DhRow, ...] | None = None
    urdf: str | None = None
    base_link: str | None = None
    tip_link: str | None = None
    T_world_base: Transform = Field(default_factory=lambda: np.eye(4))
    joints: tuple[JointSpec, ...]
    gripper: GripperSpec | None = None

    @model_validator(mode="after")
    def _one_kinematics(self) -> ArmSpec:
        given = [k for k in ("model", "dh", "urdf") if getattr(self, k) is not None]
        if len(given) != 1:
            raise ValueError(f"expected exactly one of model, dh, urdf; found {given or 'none'}")
        return self


class StreamBase(Config):
    """What every topic has: where it is, how it is sent, how often, how late."""

    topic: str
    type: str
    qos: QosSpec = QosSpec()
    rate_hz: Positive
    required: bool = True
    latency_ms: float = 0.0


class CameraSpec(StreamBase):
    """A camera: K, D describe the STORED image; parent is `world` or `<arm>.flange`."""

    type: Literal["sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"] = "sensor_msgs/msg/Image"
    info_topic: str | None = None
    width: Annotated[int, Field(gt=0)]
    height: Annotated[int, Field(gt=0)]
    model: Literal["pinhole", "fisheye"] = "pinhole"
    K: Intrinsics
    D: tuple[float, ...] = ()
    parent: str
    T_parent_camera: Transform
    frame_id: str = ""


class TactileSpec(StreamBase):
    """A camera-based tactile sensor.

    `size_m` is (width, height, thickness). The sensor frame sits in the centre of the gel face,
    x along the width, y along the height, z out of the gel. Mount is `<arm>.flange`,
    `<arm>.finger_left` (moves +opening/2 along the gripper axis) or `<arm>.finger_right`.
    """

    type: Literal["sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"] = "sensor_msgs/msg/Image"
    width: Annotated[int, Field(gt=0)]
    height: Annotated[int, Field(gt=0)]
    mount: str
    T_mount_sensor: Transform
    size_m: tuple[Positive, Positive, Positive]
    sensor_type: str = "gelsight"
    serial: str = ""


class StreamSpec(StreamBase):
    """A low-dimensional topic; `names` are its elements, bound by name where the type has names.

    role `state` feeds qpos; `extra` is stored as it is; `steps` holds an index into `names` (an
    operator's or the simulator's step marker) and becomes the step annotation of the episode.
    """

    names: tuple[Name, ...]
    role: Literal["state", "extra", "steps"] = "state"


class CommandSpec(StreamBase):
    """A topic on which commands go to the robot, for the named joints and grippers."""

    names: tuple[Name, ...]


class AlignmentSpec(Config):
    """When a tick is made: `camera:<name>` (its stamps) or `timer` at `rate_hz`."""

    tick_source: str
    rate_hz: Positive


class SafetySpec(Config):
    """Gates of the policy node; ages in ms. Defaults: RUNTIME section of the README."""

    image_age_ms: Positive = 150.0
    joint_age_ms: Positive = 60.0
    skew_ms: Positive = 50.0
    tracking_error: Positive = 0.35
    calibration_translation_m: Positive = 0.003
    calibration_rotation_deg: Positive = 0.5


class SimulationSpec(Config):
    """Marks a rig that `tacit_sim` can stand in for."""

    task: str = "place_cube"
    tactile_rays: tuple[int, int] = (40, 30)


def _checked_topics(commands: dict[str, CommandSpec]) -> dict[str, CommandSpec]:
    if not commands:
        raise ValueError("at least one command topic is needed")
    return commands


class Rig(Config):
    """A whole robot cell. Stream names (cameras, tactile, streams, commands) are one namespace."""

    schema_version: Literal["tacit-rig 1"] = "tacit-rig 1"
    name: Name
    description: str = ""
    arms: dict[Name, ArmSpec]
    cameras: dict[Name, CameraSpec]
    tactile: dict[Name, TactileSpec] = {}
    streams: dict[Name, StreamSpec]
    commands: Annotated[dict[Name, CommandSpec], AfterValidator(_checked_topics)]
    alignment: AlignmentSpec
    safety: SafetySpec = SafetySpec()
    simulation: SimulationSpec | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Rig:
        for problem in _problems(self):
            raise ValueError(problem)
        return self

    @functools.cached_property
    def state_names(self) -> tuple[str, ...]:
        """Order of qpos and action (S,): for each arm its joints, then its gripper."""
        names: list[str] = []
        for arm in self.arms.values():
            names += [joint.name for joint in arm.joints]
            names += [arm.gripper.name] if arm.gripper else []
        return tuple(names)

    @functools.cached_property
    def gripper_indices(self) -> tuple[int, ...]:
        """Positions of the gripper openings in `state_names`."""
        grippers = {arm.gripper.name for arm in self.arms.values() if arm.gripper}
        return tuple(i for i, name in enumerate(self.state_names) if name in grippers)

    @functools.cached_property
    def members(self) -> tuple[JointSpec | GripperSpec, ...]:
        """Joint and gripper entries in the order of `state_names`."""
        result: list[JointSpec | GripperSpec] = []
        for arm in self.arms.values():
            result += [*arm.joints, *([arm.gripper] if arm.gripper else [])]
        return tuple(result)

    def limits(self, field: Literal["lower", "upper", "velocity", "acceleration"]) -> FloatArray:
        """Return one limit for every state element (S,) [rad, m and per second]."""
        return np.array([getattr(member, field) for member in self.members])

    def arm_slice(self, arm: str) -> slice:
        """Return where the joints (without gripper) of `arm` stand in the state vector."""
        first = self.arms[arm].joints[0].name
        start = self.state_names.index(first)
        return slice(start, start + len(self.arms[arm].joints))

    def index_of(self, names: Iterable[str]) -> NDIndex:
        """Return positions in `state_names`; an unknown name is a RigError that lists the valid."""
        for name in names:
            if name not in self.state_names:
                raise RigError(f"rig {self.name}: no joint {name!r}; {did_you_mean(name, self.state_names)}")
        return [self.state_names.index(name) for name in names]

    @functools.cached_property
    def rig_id(self) -> str:
        """sha256 of the whole rig as canonical JSON."""
        return canonical_hash(self.model_dump(mode="json"))

    @functools.cached_property
    def calibration(self) -> dict[str, Any]:
        """The geometric part alone: kinematics, gripper model, camera K/D/T, sensor poses, sizes."""
        dump = self.model_dump(mode="json")
        camera_keys = ("width", "height", "model", "K", "D", "parent", "T_parent_camera")
        arm_keys = ("model", "dh", "urdf", "base_link", "tip_link", "T_world_base", "gripper")
        joint_keys = ("name", "sign", "offset")
        arms = {
            name: {k: arm[k] for k in arm_keys} | {"joints": [_pick(j, joint_keys) for j in arm["joints"]]}
            for name, arm in dump["arms"].items()
        }
        return {
            "arms": arms,
            "cameras": {n: _pick(c, camera_keys) for n, c in dump["cameras"].items()},
            "tactile": {
                n: _pick(t, ("mount", "T_mount_sensor", "size_m")) for n, t in dump["tactile"].items()
            },
        }

    @functools.cached_property
    def calibration_id(self) -> str:
        """sha256 of `calibration` as canonical JSON."""
        return canonical_hash(self.calibration)

    def to_yaml(self) -> str:
        """Return the rig as YAML text that `parse_rig` reads back."""
        return to_yaml(self)


NDIndex = list[int]


def canonical_hash(data: Any) -> str:
    """Return sha256 (hex) of `data` as JSON with sorted keys; floats as Python's repr."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def load_rig(name_or_path: str | Path) -> Rig:
    """Read a shipped rig by name (`nova2_sim`) or any `rig.yaml` by path.

    Raises:
        RigError: No such rig, or the file is wrong; the message names file, key path and cure.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = RIGS_FOLDER / f"{name_or_path}.yaml"
        if not path.is_file():
            raise RigError(
                f"rig {str(name_or_path)!r}: not shipped and not a .yaml path; "
                f"{did_you_mean(str(name_or_path), shipped_rigs())}"
            )
    data = load_yaml(path, RigError)
    return parse(Rig, _resolve_urdf(data, path.parent), str(path), RigError)


def parse_rig(text_data: dict[str, Any], source: str) -> Rig:
    """Validate an already parsed rig mapping (from an episode or a bundle)."""
    return parse(Rig, text_data, source, RigError)


def shipped_rigs() -> list[str]:
    """Return the names of the rigs inside the package."""
    return sorted(path.stem for path in RIGS_FOLDER.glob("*.yaml"))


def _resolve_urdf(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Read a relative `urdf:` path as relative to the rig file."""
    arms = data.get("arms")
    if not isinstance(arms, dict):
        return data
    for arm in arms.values():
        if isinstance(arm, dict) and isinstance(arm.get("urdf"), str) and "<" not in arm["urdf"]:
            arm["urdf"] = str((folder / arm["urdf"]).resolve())
    return data


def _pick(mapping: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: mapping[key] for key in keys}


def _problems(rig: Rig) -> Iterable[str]:
    """Yield what contradicts inside a rig; the first is reported."""
    yield from _duplicates("state name", rig.state_names)
    groups = (rig.cameras, rig.tactile, rig.streams, rig.commands)
    yield from _duplicates("stream name", [name for group in groups for name in group])
    frames = {"world"} | {f"{arm}.flange" for arm in rig.arms}
    fingers = {f"{a}.finger_{side}" for a, s in rig.arms.items() if s.gripper for side in ("left", "right")}
    for name, camera in rig.cameras.items():
        if camera.parent not in frames:
            yield f"cameras.{name}.parent: no frame {camera.parent!r}; {did_you_mean(camera.parent, frames)}"
    mounts = (frames | fingers) - {"world"}
    for name, sensor in rig.tactile.items():
        if sensor.mount not in mounts:
            yield f"tactile.{name}.mount: no frame {sensor.mount!r}; {did_you_mean(sensor.mount, mounts)}"
    yield from _coverage(rig)
    source = rig.alignment.tick_source
    valid = {"timer"} | {f"camera:{name}" for name in rig.cameras}
    if source not in valid:
        yield f"alignment.tick_source: {source!r}; {did_you_mean(source, valid)}"


def _coverage(rig: Rig) -> Iterable[str]:
    """Every state element comes from one state stream and goes to one command topic."""
    states = [n for stream in rig.streams.values() if stream.role == "state" for n in stream.names]
    commands = [n for command in rig.commands.values() for n in command.names]
    for label, names in (("streams (role state)", states), ("commands", commands)):
        yield from _duplicates(label, names)
        for name in names:
            if name not in rig.state_names:
                yield f"{label}: unknown joint {name!r}; {did_you_mean(name, rig.state_names)}"
        missing = [name for name in rig.state_names if name not in names]
        if missing:
            yield f"{label}: no topic carries {', '.join(missing)}; add them to `names` of one topic"


def _duplicates(label: str, names: Sequence[str]) -> Iterable[str]:
    for name in sorted({n for n in names if list(names).count(n) > 1}):
        yield f"{label} {name!r} is used twice; give each its own"
