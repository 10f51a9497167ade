"""URDF text to a kinematic chain, with the standard library only.

Reads what moves (joints: origin, axis, type, mimic) and ignores what is seen; meshes are never
opened, so `package://` paths do no harm. Result: `tacit.geometry.kinematics.Chain`.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from xml.parsers import expat

import numpy as np

from tacit.config.documents import MAX_URDF_BYTES
from tacit.errors import RigError, did_you_mean
from tacit.geometry.kinematics import Chain, exact, rotate_z
from tacit.geometry.rotations import rotation_from_quaternion, rotation_from_rpy
from tacit.geometry.transforms import FloatArray, from_rotation, from_translation

MOVING = ("revolute", "continuous", "prismatic")
KEPT = {"joint": ("parent", "child", "origin", "axis", "limit", "mimic"), "link": ()}
AXIS_TOLERANCE = 1e-9
UNIT_TOLERANCE = 1e-3
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
MAX_ELEMENTS, MAX_DEPTH = 100_000, 32
"""A humanoid with two hands has 5,000 elements; a URDF is five deep, Gazebo's additions ten."""


class _BoundedTree(ElementTree.TreeBuilder):
    """Builds elements while there are not too many of them, nor too deep ones."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = self._count = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> ElementTree.Element:
        """Open an element."""
        self._depth, self._count = self._depth + 1, self._count + 1
        if self._depth > MAX_DEPTH or self._count > MAX_ELEMENTS:
            raise RigError(f"urdf: more than {MAX_ELEMENTS} elements, or deeper than {MAX_DEPTH}")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> ElementTree.Element:
        """Close it."""
        self._depth -= 1
        return super().end(tag)


class Mimic(NamedTuple):
    """A joint that follows another: value = multiplier * value of `joint` + offset."""

    joint: str
    multiplier: float
    offset: float


@dataclass(frozen=True, eq=False)
class UrdfJoint:
    """One joint of a URDF: its fixed origin in the parent link, its axis as written, and what it may do.

    `axis` is zero where the joint does not move: exporters write anything there, often <axis xyz="0 0 0"/>.
    """

    name: str
    kind: str
    parent: str
    child: str
    T_parent_joint: FloatArray
    axis: FloatArray
    mimic: Mimic | None


def read_joints(text: str) -> list[UrdfJoint]:
    """Return every joint of a URDF.

    Raises:
        RigError: Not XML, not a URDF, or a joint without parent or child.
    """
    return [_joint(element) for element in _root(text).findall("joint")]


def reduce_urdf(text: str) -> str:
    """Return the same robot without geometry, inertia, transmissions and comments.

    What is left is what kinematics depends on, so it can travel in every episode and be hashed:
    a new mesh does not change the calibration of a rig. Reducing twice changes nothing.

    Raises:
        RigError: Not XML, or not a URDF.
    """
    root = _root(text)
    reduced = ElementTree.Element("robot", {"name": root.get("name", "robot")})
    for element in root:
        if element.tag not in KEPT:
            continue
        copy = ElementTree.SubElement(reduced, element.tag, dict(element.attrib))
        for child in element:
            if child.tag in KEPT[element.tag]:
                ElementTree.SubElement(copy, child.tag, dict(child.attrib))
    ElementTree.indent(reduced, " ")
    return ElementTree.tostring(reduced, encoding="unicode") + "\n"


def chain_from_urdf(text: str, base_link: str, tip_link: str, names: Sequence[str]) -> Chain:
    """Return the chain from `base_link` to `tip_link`.

    Args:
        text: The URDF.
        base_link: Link whose frame is the base.
        tip_link: Link whose frame is the flange, or a fingertip.
        names: Joints that move the path, in its order; for one that mimics another, that other joint.

    Raises:
        RigError: A link or joint does not exist, is not on the path, or the order differs.
    """
    joints = read_joints(text)
    moving: list[UrdfJoint] = []
    origins, kinds, after = [], [], np.eye(4)
    drives: list[Mimic] = []
    for joint in _path(joints, base_link, tip_link):
        after = after @ joint.T_parent_joint
        if joint.kind not in MOVING:
            continue
        drive = _drive(joint, {other.name: other for other in joints})
        # Our joints move about their own z: turn the frame to the axis before the motion, and back after.
        to_axis = from_rotation(_z_to(joint.axis / np.linalg.norm(joint.axis)))
        slides = joint.kind == "prismatic"
        shift = from_translation([0.0, 0.0, drive.offset]) if slides else rotate_z(drive.offset)
        origins.append(after @ to_axis @ shift if drive.offset else after @ to_axis)
        kinds.append(slides)
        moving.append(joint)
        drives.append(drive)
        after = to_axis.T
    found = list(dict.fromkeys(drive.joint for drive in drives))
    if list(names) != found:
        raise RigError(_joint_message(names, found, base_link, tip_link))
    coupling = _coupling(drives, found) if any(joint.mimic for joint in moving) else None
    return Chain(tuple(names), np.array(origins), np.array(kinds), after, coupling)


def joint_range(text: str, name: str) -> tuple[float, float]:
    """Return lower and upper limit of a joint [rad or m].

    Raises:
        RigError: There is no such joint, or it has no limits.
    """
    by_name = {element.get("name", ""): element for element in _root(text).iter("joint")}
    if name not in by_name:
        raise RigError(f"urdf: no joint {name!r}; {did_you_mean(name, by_name)}")
    limit = by_name[name].find("limit")
    lower, upper = (_numbers(limit, key, "0", name, count=1)[0] for key in ("lower", "upper"))
    if not lower < upper:
        raise RigError(f"urdf: joint {name!r}: limits {lower} and {upper}; expected <limit> of a range")
    return lower, upper


def _drive(joint: UrdfJoint, by_name: Mapping[str, UrdfJoint]) -> Mimic:
    """Return the joint that decides where this one stands, itself or one that it mimics, and how."""
    source, multiplier, offset = joint, 1.0, 0.0
    for _ in by_name:
        follows = source.mimic
        if follows is None:
            return Mimic(source.name, multiplier, offset)
        if follows.joint not in by_name:
            raise RigError(
                f"urdf: joint {source.name!r}: mimics {follows.joint!r}, which is not there; "
                f"{did_you_mean(follows.joint, by_name)}"
            )
        multiplier, offset = multiplier * follows.multiplier, offset + multiplier * follows.offset
        source = by_name[follows.joint]
    raise RigError(f"urdf: joint {joint.name!r}: <mimic> goes round in a circle; let one joint mimic none")


def _coupling(drives: Sequence[Mimic], names: Sequence[str]) -> FloatArray:
    """Return how joints on the path (m) follow those that are named (n): (m, n)."""
    coupling = np.zeros((len(drives), len(names)))
    for row, drive in zip(coupling, drives, strict=True):
        row[names.index(drive.joint)] = drive.multiplier
    return coupling


def _root(text: str) -> ElementTree.Element:
    if len(text) > MAX_URDF_BYTES:
        raise RigError(f"urdf: larger than {MAX_URDF_BYTES >> 20} MB")
    tree = _BoundedTree()
    # No namespaces, as in urdfdom: xmlns may be missing or be anything, <gazebo:x> is just another name.
    parser = expat.ParserCreate()
    parser.StartElementHandler = tree.start
    parser.EndElementHandler = tree.end
    parser.StartDoctypeDeclHandler = _refuse_declarations
    try:
        # urdfdom takes -- in comments and empty lines on top; line numbers of messages stay.
        parser.Parse(COMMENT.sub(lambda found: "\n" * found.group().count("\n"), text).lstrip(), True)
    except expat.ExpatError as problem:
        raise RigError(
            f"urdf: not valid XML: {problem}; if it is a .xacro, expand it: xacro FILE.xacro > FILE.urdf"
        ) from None
    root = tree.close()
    if root.tag != "robot":
        raise RigError(f"urdf: top element is <{root.tag}>, expected <robot>")
    return root


def _refuse_declarations(_name: str, _system: str | None, _public: str | None, declares: bool) -> None:
    if declares:
        raise RigError("urdf: its DOCTYPE declares entities, through which a file can grow; take it out")


def _joint(element: ElementTree.Element) -> UrdfJoint:
    name, kind = element.get("name", ""), element.get("type", "")
    links = [element.find(tag) for tag in ("parent", "child")]
    parent, child = ("" if link is None else link.get("link", "") for link in links)
    if not parent or not child:
        raise RigError(f"urdf: joint {name!r}: expected <parent link=...> and <child link=...>")
    T = _origin(element.find("origin"), name)
    axis = _numbers(element.find("axis"), "xyz", "1 0 0", name) if kind in MOVING else [0.0, 0.0, 0.0]
    return UrdfJoint(name, kind, parent, child, T, np.array(axis), _mimic(element.find("mimic"), name))


def _origin(element: ElementTree.Element | None, joint: str) -> FloatArray:
    xyz = _numbers(element, "xyz", "0 0 0", joint)
    if element is not None and "quat_xyzw" in element.attrib:  # urdfdom 5
        q = np.array(_numbers(element, "quat_xyzw", "", joint, count=4))
        if abs(np.linalg.norm(q) - 1) > UNIT_TOLERANCE:
            raise RigError(f"urdf: joint {joint!r}: quat_xyzw {q.tolist()}, expected length 1")
        return from_rotation(rotation_from_quaternion(q / np.linalg.norm(q)), xyz)
    return from_rotation(exact(rotation_from_rpy(_numbers(element, "rpy", "0 0 0", joint))), xyz)


def _mimic(element: ElementTree.Element | None, joint: str) -> Mimic | None:
    if element is None:
        return None
    multiplier, offset = (
        _numbers(element, key, default, joint, count=1)[0]
        for key, default in (("multiplier", "1"), ("offset", "0"))
    )
    return Mimic(element.get("joint", ""), multiplier, offset)


def _numbers(
    element: ElementTree.Element | None, key: str, default: str, joint: str, count: int = 3
) -> list[float]:
    text = default if element is None else element.get(key, default)
    try:
        values = [float(part) for part in text.split()]
    except ValueError:
        values = []
    if len(values) != count or not np.isfinite(values).all():
        wanted = {1: "one number", 3: "three numbers", 4: "four numbers"}[count]
        hint = "; expand the xacro first: xacro FILE.xacro > FILE.urdf" if "$" in text else ""
        raise RigError(f"urdf: joint {joint!r}: {key}={text!r}, expected {wanted}{hint}")
    return values


def _path(joints: Sequence[UrdfJoint], base_link: str, tip_link: str) -> list[UrdfJoint]:
    """Return the joints from base to tip, walking up from the tip."""
    links = {joint.parent for joint in joints} | {joint.child for joint in joints}
    for label, link in (("base_link", base_link), ("tip_link", tip_link)):
        if link not in links:
            raise RigError(f"urdf: {label}: no link {link!r}; {did_you_mean(link, links)}")
    above = {joint.child: joint for joint in joints}
    path: list[UrdfJoint] = []
    link = tip_link
    while link != base_link:
        joint = above.get(link)
        # Longer than all joints together: the file has a loop.
        if joint is None or len(path) > len(joints):
            raise RigError(f"urdf: no path from base_link {base_link!r} down to tip_link {tip_link!r}")
        _check_supported(joint)
        path.insert(0, joint)  # upwards from the tip: a link has one parent, but many children
        link = joint.parent
    return path


def _check_supported(joint: UrdfJoint) -> None:
    if joint.kind not in (*MOVING, "fixed"):
        raise RigError(
            f"urdf: joint {joint.name!r}: type {joint.kind!r}, expected {', '.join(MOVING)} or fixed; "
            "choose base_link and tip_link on one side of it"
        )
    if joint.kind in MOVING and np.linalg.norm(joint.axis) < AXIS_TOLERANCE:
        raise RigError(f"urdf: joint {joint.name!r}: axis is zero, expected the direction that it moves in")


def _joint_message(names: Sequence[str], moving: Sequence[str], base_link: str, tip_link: str) -> str:
    unknown = [name for name in names if name not in moving]
    hint = f"; {unknown[0]!r}: {did_you_mean(unknown[0], moving)}" if unknown else ""
    return (
        f"urdf: moving joints from {base_link} to {tip_link} are {', '.join(moving) or '(none)'}; "
        f"the rig names {', '.join(names) or '(none)'}{hint}"
    )


def _z_to(axis: FloatArray) -> FloatArray:
    """Return a rotation (3, 3) whose third column is `axis`; exact for axes along +-x, y, z."""
    if np.abs(axis - [0, 0, 1]).max() < AXIS_TOLERANCE:
        return np.eye(3)
    # The axis that is furthest from it: the cross product is then long, and exact for x, y and z.
    helper = np.eye(3)[int(np.argmin(np.abs(axis)))]
    x = np.cross(helper, axis)
    x /= np.linalg.norm(x)
    return np.column_stack([x, np.cross(axis, x), axis])
