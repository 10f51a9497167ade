"""The frames of a rig as a tree: what `/tf` and `robot_description` say, for any kinematics.

Arms by DH, by built-in model and by URDF look alike here: each joint turns about, or slides along, an axis of
its own frame. Parts that the rig calls unmeasured have no frame.
"""

from __future__ import annotations

import functools
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from tacit.geometry.rotations import rotation_from_vector, rotation_to_rpy
from tacit.geometry.transforms import FloatArray
from tacit.rig.contract import Rig
from tacit.rig.scene import FINGER_SIGNS, measured

WORLD = "world"
Z_AXIS = (0.0, 0.0, 1.0)
BONE_RADIUS_M, CAMERA_BOX_M = 0.03, (0.03, 0.03, 0.04)
"""How arms and cameras are drawn where nobody gave meshes."""
SHORTEST_BONE_M = 0.02


@dataclass(frozen=True, eq=False)
class RigFrame:
    """One frame, and how it moves in its parent.

    Attributes:
        name: Unique in the rig.
        parent: Frame that it hangs on.
        T: Its pose (4, 4) in the parent where its value is 0.
        state: Name of the state that moves it; "" for a fixed frame.
        factor: Its value is this times that of the state [rad or m].
        axis: Direction (3,) in its own frame that it turns about or slides along.
        slides: Whether it slides.
        size_m: Box to draw (3,); empty for none.
        along: Returns the pose where no joint describes the motion: the finger of a linkage.
    """

    name: str
    parent: str
    T: FloatArray
    state: str = ""
    factor: float = 1.0
    axis: tuple[float, float, float] = Z_AXIS
    slides: bool = False
    size_m: tuple[float, ...] = ()
    along: Callable[[float], FloatArray] | None = None

    def at(self, value: float) -> FloatArray:
        """Return the pose (4, 4) in the parent for a value of its state [rad or m]."""
        if self.along is not None:
            return self.along(value)
        if not self.state:
            return self.T
        motion, along = np.eye(4), self.factor * value * np.asarray(self.axis)
        if self.slides:
            motion[:3, 3] = along
        else:
            motion[:3, :3] = rotation_from_vector(along)
        return np.asarray(self.T @ motion)


def frames_of(rig: Rig) -> tuple[RigFrame, ...]:
    """Return every frame of a rig, parents before children."""
    known = measured(rig)
    frames = [frame for arm in known.arms for frame in _arm(rig, arm)]
    for name in known.cameras:
        spec = rig.cameras[name]
        frames.append(
            RigFrame(spec.frame_id or name, _mount(spec.parent), spec.T_parent_camera, size_m=CAMERA_BOX_M)
        )
    for name in known.sensors:
        sensor = rig.tactile[name]
        frames.append(RigFrame(name, _mount(sensor.mount), sensor.T_mount_sensor, size_m=sensor.size_m))
    return tuple(frames)


def _mount(frame: str) -> str:
    """Return the frame that the rig calls `<arm>.flange`, `<arm>.finger_left` or `world`."""
    return frame.replace(".", "_")


def _arm(rig: Rig, name: str) -> Iterator[RigFrame]:
    arm = rig.arms[name]
    chain, parent = arm.chain, f"{name}_base"
    yield RigFrame(parent, WORLD, np.asarray(arm.T_world_base))
    for i, (origin, slides) in enumerate(zip(chain.origins, chain.prismatic, strict=True)):
        row = np.eye(len(chain.names))[i] if chain.coupling is None else chain.coupling[i]
        state = int(np.argmax(np.abs(row)))  # a joint that mimics follows exactly one other
        yield RigFrame(
            f"{name}_link{i + 1}",
            parent,
            origin,
            arm.joints[state].name,
            float(row[state]),
            slides=bool(slides),
        )
        parent = f"{name}_link{i + 1}"
    flange = f"{name}_flange"
    yield RigFrame(flange, parent, chain.end)
    if arm.gripper is not None:
        axis = np.asarray(arm.gripper.axis) / np.linalg.norm(arm.gripper.axis)
        linked = arm.fingers
        for finger, sign in FINGER_SIGNS.items():
            if linked is not None:
                moves = functools.partial(linked.pose, finger)
                yield RigFrame(f"{name}_{finger}", flange, moves(0.0), arm.gripper.name, along=moves)
                continue
            along = (float(axis[0]), float(axis[1]), float(axis[2]))
            yield RigFrame(
                f"{name}_{finger}", flange, np.eye(4), arm.gripper.name, 0.5 * sign, along, slides=True
            )


def robot_description(rig: Rig) -> str:
    """Return the rig as URDF: every frame a link, every state a joint of its name, simple shapes to look at.

    A gripper's opening is a joint of its own without a body, which the two fingers mimic by half.
    """
    frames = frames_of(rig)
    robot = ElementTree.Element("robot", {"name": rig.name})
    ElementTree.SubElement(robot, "link", {"name": WORLD})
    named: set[str] = set()
    for frame in frames:
        if frame.along is None and frame.state and abs(frame.factor) != 1.0 and frame.state not in named:
            named.add(frame.state)
            _add_opening(robot, rig, frame)
        _add_link(robot, frame, frames)
        _add_joint(robot, rig, frame, frame.state in named)
        named |= {frame.state} - {""} if frame.along is None else set()
    ElementTree.indent(robot, " ")
    return ElementTree.tostring(robot, encoding="unicode") + "\n"


def _add_opening(robot: ElementTree.Element, rig: Rig, frame: RigFrame) -> None:
    """Add the joint of a state that moves frames only by parts of itself."""
    link = f"{frame.state}_opening"
    ElementTree.SubElement(robot, "link", {"name": link})
    opening = RigFrame(link, frame.parent, np.eye(4), frame.state, 1.0, frame.axis, frame.slides)
    _add_joint(robot, rig, opening, False)


def _add_joint(robot: ElementTree.Element, rig: Rig, frame: RigFrame, mimics: bool) -> None:
    kind = _kind(frame)
    name = frame.state if kind in ("prismatic", "revolute") and not mimics else f"{frame.name}_joint"
    joint = ElementTree.SubElement(robot, "joint", {"name": name, "type": kind})
    ElementTree.SubElement(joint, "parent", {"link": frame.parent})
    ElementTree.SubElement(joint, "child", {"link": frame.name})
    ElementTree.SubElement(joint, "origin", _origin(frame.T))
    if kind in ("fixed", "floating"):
        return
    ElementTree.SubElement(joint, "axis", {"xyz": _numbers(frame.axis)})
    spec = rig.joint(frame.state)
    ends = sorted((frame.factor * spec.lower, frame.factor * spec.upper))
    limit = {"lower": ends[0], "upper": ends[1], "velocity": abs(frame.factor) * spec.velocity, "effort": 0.0}
    ElementTree.SubElement(joint, "limit", {key: repr(float(value)) for key, value in limit.items()})
    if mimics:
        follows = {"joint": frame.state, "multiplier": repr(frame.factor)}
        ElementTree.SubElement(joint, "mimic", follows)


def _kind(frame: RigFrame) -> str:
    """Return the type of the joint: URDF has none for a linkage, so `/tf` alone says where it is."""
    if frame.along is not None:
        return "floating"
    return "fixed" if not frame.state else "prismatic" if frame.slides else "revolute"


def _add_link(robot: ElementTree.Element, frame: RigFrame, frames: tuple[RigFrame, ...]) -> None:
    link = ElementTree.SubElement(robot, "link", {"name": frame.name})
    if frame.size_m:
        _add_visual(link, np.eye(4), "box", {"size": _numbers(frame.size_m)})
    for child in frames:
        if child.parent == frame.name and frame.state and not frame.slides:
            bone = child.T[:3, 3]
            length = float(np.linalg.norm(bone))
            if length > SHORTEST_BONE_M and not child.size_m:
                shape = {"radius": repr(BONE_RADIUS_M), "length": repr(length)}
                _add_visual(link, _along(bone), "cylinder", shape)


def _add_visual(link: ElementTree.Element, T: FloatArray, shape: str, size: dict[str, str]) -> None:
    visual = ElementTree.SubElement(link, "visual")
    ElementTree.SubElement(visual, "origin", _origin(T))
    ElementTree.SubElement(ElementTree.SubElement(visual, "geometry"), shape, size)


def _along(bone: FloatArray) -> FloatArray:
    """Return the pose (4, 4) of a cylinder about z that reaches from the origin to `bone` (3,)."""
    z = bone / np.linalg.norm(bone)
    turn = np.cross(Z_AXIS, z)
    angle = np.arctan2(np.linalg.norm(turn), z[2])
    norm = np.linalg.norm(turn)
    T = np.eye(4)
    T[:3, :3] = rotation_from_vector(angle * (turn / norm if norm > 0 else np.array([1.0, 0.0, 0.0])))
    T[:3, 3] = bone / 2
    return T


def _origin(T: FloatArray) -> dict[str, str]:
    return {"xyz": _numbers(T[:3, 3]), "rpy": _numbers(rotation_to_rpy(T[:3, :3]))}


def _numbers(values: object) -> str:
    return " ".join(repr(float(value)) for value in np.asarray(values, dtype=np.float64))
