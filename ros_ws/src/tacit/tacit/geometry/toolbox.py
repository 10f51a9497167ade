"""What roboticstoolbox and spatialmath do for tacit: inverse kinematics, and a second opinion on forward.

Both are imported inside functions: together they take 2-3 s and 170 MB (they bring matplotlib), which
only those pay who solve inverse kinematics or check a rig. `tacit.geometry.kinematics` stays the one
forward kinematics of recorder, training and nodes; what is computed here shares no code with it.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tacit.errors import MissingDependencyError
from tacit.geometry.kinematics import Chain, DhParameters
from tacit.geometry.transforms import FloatArray

UNLIMITED = 1e6
"""Joint range [rad or m] given to the solver, which wraps and rejects by it: `Robot.inverse` keeps limits."""


def ets_of(chain: Chain) -> Any:
    """Return the chain as roboticstoolbox's elementary transform sequence, for its compiled solvers.

    Raises:
        MissingDependencyError: The packages are not installed.
    """
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

    Each joint is its origin as written (roll, pitch, yaw are not snapped to quarter turns) times a turn
    about, or a slide along, its axis as written. roboticstoolbox's own loader is no reference here: 1.5.0
    turns axes that are not x, y or z wrongly, and refuses joints without limits.

    Args:
        text: A URDF that `tacit.geometry.urdf` has accepted.
        base_link: Where the chain begins.
        tip_link: Where it ends.
        Q: Values of the moving joints on the way, in this order [rad or m].

    Raises:
        MissingDependencyError: The packages are not installed.
    """
    SE3 = _packages()[1].SE3
    way: list[tuple[Any, FloatArray | None, str]] = []
    above = {_link(joint, "child"): joint for joint in ElementTree.fromstring(text).iter("joint")}
    link = tip_link
    while link != base_link:
        joint, link = above[link], _link(above[link], "parent")
        origin = SE3(_numbers(joint, "origin", "xyz", "0 0 0"))
        origin *= SE3.RPY(_numbers(joint, "origin", "rpy", "0 0 0"), order="zyx")
        kind = joint.get("type", "")
        axis = None if kind == "fixed" else _numbers(joint, "axis", "xyz", "1 0 0")
        way.insert(0, (origin, axis, kind))
    poses = []
    for q in np.asarray(Q, dtype=np.float64):
        T, values = SE3(), iter(q)
        for origin, axis, kind in way:
            T *= origin
            if axis is not None and kind == "prismatic":
                T *= SE3(next(values) * axis / np.linalg.norm(axis))
            elif axis is not None:
                T *= SE3.AngleAxis(next(values), axis)
        poses.append(T.A)
    return np.array(poses)


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
