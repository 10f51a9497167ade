"""The rig contract: what the robot is, read from one `rig.yaml`.

It names joints, cameras, tactile sensors, topics, limits and calibration, and drives recorder,
training, policy node and simulator. Parts: `specs`; poses and boxes: `scene`.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, model_validator

from tacit.config import Config, load_yaml, parse, to_yaml
from tacit.config.documents import inside
from tacit.errors import RigError, did_you_mean
from tacit.geometry.description import PACKAGE, in_package, read_description
from tacit.geometry.footprint import Footprint
from tacit.geometry.transforms import FloatArray
from tacit.rig.scene import RigGeometry
from tacit.rig.specs import (
    AlignmentSpec,
    ArmSpec,
    CalibrationRecord,
    DriverSpec,
    GripperSpec,
    JointSpec,
    SafetySpec,
    SimulationSpec,
)
from tacit.rig.taxels import AnyTactile, TaxelSpec
from tacit.rig.topics import (
    COMMAND_TYPES,
    NUMBER_TYPES,
    STATE_TYPES,
    CameraSpec,
    CommandSpec,
    GelSpec,
    Name,
    StreamBase,
    StreamSpec,
)

RIGS_FOLDER = Path(__file__).parent.parent / "rigs"

LATER_FIELDS: dict[str, object] = {
    "kind": "color",
    "stamps": "header",
    "frozen_after": 5,
    "device": None,
    "output_hz": None,
    "scale": 1.0,
    "ready": [],
}
"""Fields of topics that came after the first episodes were written, and what their absence means."""

LATER_SAFETY: dict[str, object] = {"estop_topic": "estop", "heartbeat": None}
"""The same of `safety`."""

LATER_GRIPPER: dict[str, object] = {"links": None, "urdf_joint": None}
"""The same of a gripper."""


class Rig(Config):
    """A whole robot cell. Stream names (cameras, tactile, streams, commands) are one namespace."""

    schema_version: Literal["tacit-rig 1"] = "tacit-rig 1"
    name: Name
    description: str = ""
    arms: Annotated[dict[Name, ArmSpec], Field(min_length=1)]
    cameras: dict[Name, CameraSpec]
    tactile: dict[Name, AnyTactile] = {}
    streams: dict[Name, StreamSpec]
    commands: dict[Name, CommandSpec]
    alignment: AlignmentSpec
    safety: SafetySpec = SafetySpec()
    simulation: SimulationSpec | None = None
    drivers: dict[Name, DriverSpec] = {}
    """By arm: drivers of ours that are started with the stacks. Without one, somebody else's runs."""
    calibrations: dict[str, CalibrationRecord] = {}
    """By key path of what was calibrated, such as `cameras.wrist.pose`."""
    unmeasured: tuple[str, ...] = ()
    """Parts (`arms.arm`, `cameras.top`, `tactile.left`) whose geometry nobody told us, as in a data set of
    others: their numbers are placeholders, and no pose or box is computed from them."""

    @model_validator(mode="after")
    def _consistent(self) -> Rig:
        for problem in _problems(self):
            raise ValueError(problem)
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rig) and other.rig_id == self.rig_id

    def __hash__(self) -> int:
        return hash(self.rig_id)

    @functools.cached_property
    def state_names(self) -> tuple[str, ...]:
        """Order of qpos and action (S,): for each arm its joints, then its gripper."""
        return tuple(member.name for member in self.members)

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

    def index_of(self, names: Sequence[str]) -> list[int]:
        """Return positions in `state_names`; an unknown name is a RigError that lists the valid."""
        for name in names:
            if name not in self.state_names:
                raise RigError(f"rig {self.name}: no joint {name!r}; {did_you_mean(name, self.state_names)}")
        return [self.state_names.index(name) for name in names]

    @functools.cached_property
    def home(self) -> FloatArray | None:
        """State (S,) to go home to: joints by `home` of each arm, NaN for grippers; None without one."""
        values: list[float] = []
        for arm in self.arms.values():
            if arm.home is None:
                return None
            values += [*arm.home, *([float("nan")] if arm.gripper else [])]
        return np.array(values)

    @functools.cached_property
    def rig_id(self) -> str:
        """sha256 of the whole rig as canonical JSON; of later additions only where they are used."""
        data = self.model_dump(mode="json", exclude={"drivers"})
        # Rigs from before these existed must keep the id under which their episodes were written.
        for field in ("calibrations", "unmeasured"):
            if not data[field]:
                del data[field]
        _drop_defaults(data["safety"], LATER_SAFETY)
        for group in ("cameras", "tactile", "streams", "commands"):
            for spec in data[group].values():
                _drop_defaults(spec, LATER_FIELDS)
        for arm in data["arms"].values():
            _drop_defaults(arm["gripper"] or {}, LATER_GRIPPER)
        return canonical_hash(data)

    @functools.cached_property
    def calibration(self) -> dict[str, Any]:
        """The geometric part alone: kinematics, gripper model, camera K/D/T, sensor poses, sizes."""
        dump = self.model_dump(mode="json")
        camera_keys = ("width", "height", "model", "K", "D", "parent", "T_parent_camera")
        arm_keys = ("model", "dh", "urdf", "base_link", "tip_link", "T_world_base")
        joint_keys = ("name", "sign", "offset", "urdf_joint")
        gripper_keys = ("name", "axis", "raw", "scale", "offset", "table")
        linked_keys = (*gripper_keys, "links", "urdf_joint", "lower", "upper")
        arms = {
            name: _pick(arm, arm_keys)
            | {
                "gripper": (gripper := arm["gripper"])
                and _pick(gripper, linked_keys if gripper["links"] else gripper_keys)
            }
            | {"joints": [_pick(joint, joint_keys) for joint in arm["joints"]]}
            for name, arm in dump["arms"].items()
        }
        placeholders = {"unmeasured": dump["unmeasured"]} if self.unmeasured else {}
        return placeholders | {
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

    @functools.cached_property
    def geometry(self) -> RigGeometry:
        """Poses and pixel boxes of this rig, built on first use."""
        return RigGeometry(self)

    def sensor_poses(self, q: ArrayLike) -> dict[str, FloatArray]:
        """Return {sensor: T_world_sensor (4, 4)} at the state q (S,)."""
        return self.geometry.sensor_poses(q)

    def sensor_boxes(self, q: ArrayLike, camera: str) -> dict[str, Footprint]:
        """Return {sensor: Footprint} in one camera at the state q (S,)."""
        self.geometry.camera(camera)  # an unknown name is an error there, not an empty answer here
        found = self.geometry.footprints(q)
        return {sensor: footprint for (name, sensor), footprint in found.items() if name == camera}

    @functools.cached_property
    def specs(self) -> dict[str, StreamBase]:
        """Every stream by name: cameras, tactile, streams, commands."""
        return {**self.cameras, **self.tactile, **self.streams, **self.commands}

    @functools.cached_property
    def states(self) -> dict[str, StreamSpec]:
        """The streams that measure the state vector; together they carry every joint and gripper once."""
        return {name: spec for name, spec in self.streams.items() if spec.role == "state"}

    @functools.cached_property
    def robot_states(self) -> dict[str, StreamSpec]:
        """The streams in which the robot says whether it is ready to move, and how fast it does."""
        return {name: spec for name, spec in self.streams.items() if spec.role == "robot_state"}

    @functools.cached_property
    def gels(self) -> dict[str, GelSpec]:
        """The touch sensors that send pictures."""
        return {name: spec for name, spec in self.tactile.items() if isinstance(spec, GelSpec)}

    @functools.cached_property
    def taxels(self) -> dict[str, TaxelSpec]:
        """The touch sensors that send arrays of numbers."""
        return {name: spec for name, spec in self.tactile.items() if isinstance(spec, TaxelSpec)}

    @functools.cached_property
    def images(self) -> dict[str, CameraSpec | GelSpec]:
        """Every stream of pictures by name: cameras, then gels."""
        return {**self.cameras, **self.gels}

    @functools.cached_property
    def image_names(self) -> tuple[str, ...]:
        """Names of cameras, then gels."""
        return tuple(self.images)

    def joint(self, name: str) -> JointSpec | GripperSpec:
        """Return the entry of one state name; an unknown name is a RigError that lists the valid."""
        return self.members[self.index_of([name])[0]]

    def to_yaml(self) -> str:
        """Return the rig as YAML text that `parse_rig` reads back."""
        return to_yaml(self)


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
    return parse(Rig, embed_urdf(data, path.parent, str(path)), str(path), RigError)


def parse_rig(text_data: dict[str, Any], source: str) -> Rig:
    """Validate an already parsed rig mapping (from an episode or a bundle)."""
    return parse(Rig, text_data, source, RigError)


def shipped_rigs() -> list[str]:
    """Return the names of the rigs inside the package."""
    return sorted(path.stem for path in RIGS_FOLDER.glob("*.yaml"))


def embed_urdf(data: dict[str, Any], folder: Path, source: str) -> dict[str, Any]:
    """Replace each `urdf:` path, relative to the rig file or in a ROS package, by the text it leads to."""
    arms = data.get("arms")
    for name, arm in arms.items() if isinstance(arms, dict) else ():
        urdf = arm.get("urdf") if isinstance(arm, dict) else None
        if not isinstance(urdf, str) or "<" in urdf:
            continue
        where = f"{source}: arms.{name}.urdf"
        path = in_package(urdf) if urdf.startswith(PACKAGE) else inside(folder, urdf, where, RigError)
        if not path.is_file():
            raise RigError(
                f"{where}: no file {str(path)!r}; paths are relative to the rig file, or package://NAME/..."
            )
        arguments = arm.pop("xacro", None) or {}
        if not isinstance(arguments, dict):
            raise RigError(f"{source}: arms.{name}.xacro: {arguments!r}, expected {{argument: value}}")
        arm["urdf"] = read_description(path, arguments)
    return data


def _drop_defaults(mapping: dict[str, Any], defaults: dict[str, object]) -> None:
    for field, default in defaults.items():
        if field in mapping and mapping[field] == default:
            del mapping[field]


def _pick(mapping: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: mapping[key] for key in keys}


def _problems(rig: Rig) -> Iterable[str]:
    """Yield what contradicts inside a rig; the first is reported."""
    if not rig.commands:
        yield "commands: at least one command topic is needed"
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
    parts = [f"{g}.{n}" for g in ("arms", "cameras", "tactile") for n in getattr(rig, g)]
    for name in rig.unmeasured:
        if name not in parts:
            yield f"unmeasured: no part {name!r}; {did_you_mean(name, parts)}"
    for name in rig.drivers:
        if name not in rig.arms:
            yield f"drivers: no arm {name!r}; {did_you_mean(name, rig.arms)}"
    for name in rig.safety.workspace:
        if name not in rig.arms:
            yield f"safety.workspace: no arm {name!r}; {did_you_mean(name, rig.arms)}"
        if f"arms.{name}" in rig.unmeasured:
            yield f"safety.workspace.{name}: the kinematics of this arm are `unmeasured`, so it has no place"
    yield from _message_types(rig)
    yield from _coverage(rig)
    source = rig.alignment.tick_source
    valid = {"timer"} | {f"camera:{name}" for name in rig.cameras}
    if source not in valid:
        yield f"alignment.tick_source: {source!r}; {did_you_mean(source, valid)}"


def _message_types(rig: Rig) -> Iterable[str]:
    """Every topic of numbers is of a type that we read, with as many names as it has numbers."""
    for group, specs in (("streams", rig.streams), ("commands", rig.commands)):
        for name, spec in specs.items():
            valid = COMMAND_TYPES if group == "commands" else tuple(NUMBER_TYPES)
            if name in rig.states:
                valid = STATE_TYPES
            if spec.type not in valid:
                yield f"{group}.{name}.type: {spec.type!r}; {did_you_mean(spec.type, valid)}"
                continue
            count = NUMBER_TYPES[spec.type]
            is_index = isinstance(spec, StreamSpec) and spec.role == "steps"
            if count is not None and not is_index and count != len(spec.names):
                yield (
                    f"{group}.{name}.names: {len(spec.names)} names, but {spec.type} carries {count} "
                    f"number{'s' if count > 1 else ''}"
                )


def _coverage(rig: Rig) -> Iterable[str]:
    """Every state element comes from one state stream and goes to one command topic."""
    states = [name for stream in rig.states.values() for name in stream.names]
    commands = [n for command in rig.commands.values() for n in command.names]
    for label, names in (("streams (role state)", states), ("commands", commands)):
        yield from _duplicates(label, names)
        for name in names:
            if name not in rig.state_names:
                yield f"{label}: unknown joint {name!r}; {did_you_mean(name, rig.state_names)}"
        missing = [name for name in rig.state_names if name not in names]
        if missing:
            yield f"{label}: no topic carries {', '.join(missing)}; add them to `names` of one topic"
    for name, stream in rig.robot_states.items():  # two arms say the same names, each on a topic of its own
        yield from _duplicates(f"streams.{name} (role robot_state)", stream.names)


def _duplicates(label: str, names: Sequence[str]) -> Iterable[str]:
    for name in sorted({n for n in names if list(names).count(n) > 1}):
        yield f"{label} {name!r} is used twice; give each its own"
