"""What roboticstoolbox and spatialmath do for tacit: inverse kinematics, and a second opinion on forward.

Both are imported inside functions: together they take 2-3 s and 170 MB (they bring matplotlib), which
only those pay who solve inverse kinematics or check a rig. `tacit.geometry.kinematics` stays the one
forward kinematics of recorder, training and nodes; what is computed here shares no code with it.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tacit.errors import MissingDependencyError, RigError
from tacit.geometry.kinematics import Chain, DhParameters
from tacit.geometry.transforms import FloatArray

UNLIMITED = 1e6
"""Joint range [rad or m] given to the solver, which wraps and rejects by it: `Robot.inverse` keeps limits."""


def ets_of(chain: Chain) -> Any:
    """Return the chain as roboticstoolbox's elementary transform sequence, for its compiled solvers.

    Raises:
        MissingDependencyError: The packages are not installed.
        RigError: Joints of the chain follow others, which the solvers do not know.
    """
    if chain.coupling is not None:
        raise RigError(
            "inverse kinematics: joints on the way mimic others; end the chain at the flange, before them"
        )
    rtb, _ = _packages()
    parts = []
    for origin, slides in zip(chain.origins, chain.prismatic, strict=True):
        motion = rtb.ET.tz if slides else rtb.ET.Rz
        parts += [rtb.ET.SE3(origin), motion(qlim=[-UNLIMITED, UNLIMITED])]
    return rtb.ETS([*parts, rtb.ET.SE3(chain.end)])


def dh_poses(rows: Sequence[DhParameters], Q: ArrayLike) -> FloatArray:
    """Return T_base_tip (N, 4, 4) of standard DH rows at joints Q (N, n) by roboticstoolbox's `DHRobot`.

    Raises:
        MissingDependencyError: The packages are not installed.
    """
    rtb, _ = _packages()
    links = [rtb.RevoluteDH(d=row.d, a=row.a, alpha=row.alpha, offset=row.offset) for row in rows]
    arm = rtb.DHRobot(links)
    return np.array([arm.fkine(q).A for q in np.asarray(Q, dtype=np.float64)])


def urdf_poses(text: str, base_link: str, tip_link: str, Q: ArrayLike) -> FloatArray:
    """Return T_base_tip (N, 4, 4) of a URDF at joints Q (N, n), straight from its definition by spatialmath.

    Each joint is its origin as written times a turn about, or a slide along, its axis as written.
    roboticstoolbox's own loader is no reference here: 1.5.0 turns axes that are not x, y or z wrongly, and
    refuses joints without limits.

    Args:
        text: A URDF that `tacit.geometry.urdf` has accepted.
        base_link: Where the chain begins.
        tip_link: Where it ends.
        Q: Values of the joints that move it, in their order on the way [rad or m]; of joints that mimic
            another, those of that other.

    Raises:
        MissingDependencyError: The packages are not installed.
    """
    spatialmath = _packages()[1]
    SE3, UnitQuaternion = spatialmath.SE3, spatialmath.UnitQuaternion
    joints = list(ElementTree.fromstring(text).iter("joint"))
    above = {_link(joint, "child"): joint for joint in joints}
    by_name = {joint.get("name", ""): joint for joint in joints}
    way: list[ElementTree.Element] = []
    link = tip_link
    while link != base_link:
        way.insert(0, above[link])
        link = _link(above[link], "parent")
    poses = []
    for q in np.asarray(Q, dtype=np.float64):
        T, values = SE3(), dict[str, float]()
        for joint in way:
            T *= SE3(_numbers(joint, "origin", "xyz", "0 0 0"))
            x, y, z, w = _numbers(joint, "origin", "quat_xyzw", "0 0 0 1")
            T *= UnitQuaternion(w, [x, y, z]).SE3()
            T *= SE3.RPY(_numbers(joint, "origin", "rpy", "0 0 0"), order="zyx")
            if joint.get("type") == "fixed":
                continue
            value, axis = _value(joint, by_name, values, q), _numbers(joint, "axis", "xyz", "1 0 0")
            slides = joint.get("type") == "prismatic"
            T *= SE3(value * axis / np.linalg.norm(axis)) if slides else SE3.AngleAxis(value, axis)
        poses.append(T.A)
    return np.array(poses)


def _value(
    joint: ElementTree.Element,
    by_name: Mapping[str, ElementTree.Element],
    values: dict[str, float],
    q: FloatArray,
) -> float:
    """Return where a joint stands; `values` grows by each joint of q (n,) that is met for the first time."""
    mimic = joint.find("mimic")
    if mimic is not None:
        followed = _value(by_name[mimic.get("joint", "")], by_name, values, q)
        return float(mimic.get("multiplier", "1")) * followed + float(mimic.get("offset", "0"))
    name = joint.get("name", "")
    if name not in values:
        values[name] = float(q[len(values)])
    return values[name]


def _link(joint: ElementTree.Element, role: str) -> str:
    element = joint.find(role)
    return "" if element is None else element.get("link", "")


def _numbers(joint: ElementTree.Element, tag: str, key: str, default: str) -> FloatArray:
    element = joint.find(tag)
    return np.array((default if element is None else element.get(key, default)).split(), dtype=np.float64)


def _packages() -> tuple[Any, Any]:
    try:
        import roboticstoolbox
        import spatialmath
    except ImportError as problem:
        raise MissingDependencyError(
            f"inverse kinematics and the check of kinematics need two packages ({problem}): "
            "pip install roboticstoolbox-python spatialmath-python"
        ) from None
    return roboticstoolbox, spatialmath
