"""URDF text to a kinematic chain, with the standard library only.

Reads what moves (joints: origin, axis, type, limits) and ignores what is seen; meshes are never
opened, so `package://` paths do no harm. Result: `tacit.geometry.kinematics.Chain`.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tacit.config.documents import MAX_URDF_BYTES
from tacit.errors import RigError, did_you_mean
from tacit.geometry.kinematics import Chain, exact, snap
from tacit.geometry.rotations import rotation_from_rpy
from tacit.geometry.transforms import FloatArray, from_rotation

MOVING = ("revolute", "continuous", "prismatic")
KEPT = {"joint": ("parent", "child", "origin", "axis", "limit", "mimic"), "link": ()}
AXIS_TOLERANCE = 1e-9
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
    mimic: bool


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
        tip_link: Link whose frame is the flange.
        names: Moving joints in the order of the rig; all on the path, from base to tip.

    Raises:
        RigError: A link or joint does not exist, is not on the path, or the order differs.
    """
    path = _path(read_joints(text), base_link, tip_link)
    moving = [joint.name for joint in path if joint.kind in MOVING]
    if list(names) != moving:
        raise RigError(_joint_message(names, moving, base_link, tip_link))
    origins, kinds, after = [], [], np.eye(4)
    for joint in path:
        after = after @ joint.T_parent_joint
        if joint.kind not in MOVING:
            continue
        # Our joints move about their own z: turn the frame to the axis before the motion, and back after.
        to_axis = from_rotation(_z_to(joint.axis / np.linalg.norm(joint.axis)))
        origins.append(after @ to_axis)
        kinds.append(joint.kind == "prismatic")
        after = to_axis.T
    return Chain(tuple(names), np.array(origins), np.array(kinds), after)


def _root(text: str) -> ElementTree.Element:
    if len(text) > MAX_URDF_BYTES or "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise RigError(
            f"urdf: larger than {MAX_URDF_BYTES >> 20} MB, or with a DOCTYPE, through which a file can "
            "grow or name other files; take the DOCTYPE out"
        )
    try:
        root = ElementTree.fromstring(text, parser=ElementTree.XMLParser(target=_BoundedTree()))
    except ElementTree.ParseError as problem:
        raise RigError(f"urdf: not valid XML: {problem}; if it is a .xacro, expand it first") from None
    if root.tag != "robot":
        raise RigError(f"urdf: top element is <{root.tag}>, expected <robot>")
    return root


def _joint(element: ElementTree.Element) -> UrdfJoint:
    name, kind = element.get("name", ""), element.get("type", "")
    links = [element.find(tag) for tag in ("parent", "child")]
    parent, child = ("" if link is None else link.get("link", "") for link in links)
    if not parent or not child:
        raise RigError(f"urdf: joint {name!r}: expected <parent link=...> and <child link=...>")
    origin = element.find("origin")
    xyz = _numbers(origin, "xyz", "0 0 0", name)
    rpy = [snap(angle) for angle in _numbers(origin, "rpy", "0 0 0", name)]
    axis = _numbers(element.find("axis"), "xyz", "1 0 0", name) if kind in MOVING else [0.0, 0.0, 0.0]
    T = from_rotation(exact(rotation_from_rpy(rpy)), xyz)
    return UrdfJoint(name, kind, parent, child, T, np.array(axis), element.find("mimic") is not None)


def _numbers(element: ElementTree.Element | None, key: str, default: str, joint: str) -> list[float]:
    text = default if element is None else element.get(key, default)
    try:
        values = [float(part) for part in text.split()]
    except ValueError:
        values = []
    if len(values) != 3 or not np.isfinite(values).all():
        raise RigError(f"urdf: joint {joint!r}: {key}={text!r}, expected three numbers")
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
            f"urdf: joint {joint.name!r}: type {joint.kind!r}, expected {', '.join(MOVING)} or fixed"
        )
    if joint.mimic:
        raise RigError(f"urdf: joint {joint.name!r}: <mimic> between base and tip is not supported")
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
