"""`tacit bench fk`: speed of forward kinematics, and how far a built-in arm lies from the vendor's URDF."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from benches.core import best_seconds
from tacit.config.arguments import NewFile, parse_words
from tacit.geometry.kinematics import DH_MODELS, chain_from_dh
from tacit.geometry.robot import Robot
from tacit.geometry.transforms import FloatArray, pose_error
from tacit.geometry.urdf import chain_from_urdf

CALLS = 2000
BATCH, NUM_COMPARED = 10_000, 5000
REACH = 2.7
"""Joints are compared within +-2.7 rad, where every joint of the arms may be."""
MAX_SINGLE_US, MAX_BATCH_US, MAX_NOVA2_MM = 15.0, 2.0, 0.02

# Joint origins (xyz [m]; rpy [rad]) as the vendor's files print them.
# Source: Dobot-Arm/DOBOT_6Axis_ROS2_V4 @a1eabef (MIT).
VENDOR_ORIGINS = {
    "nova2": (
        "0 0 0.2234; 0 0 0",
        "0 0 0; 1.5708 1.5708 0",
        "-0.28 0 0; 0 0 0",
        "-0.22501 0 0.1175; 0 0 -1.5708",
        "0 -0.12 0; 1.5708 0 0",
        "0 0.088004 0; -1.5708 0 0",
    ),
    "nova5": (
        "0 0 0.24; 0 0 0",
        "0 0 0; -1.570803 1.535866 3.141593",
        "-0.399756 -0.013969 0; 0 0 0",
        "-0.329799 -0.011524 0.135; 0 0 -1.535866",
        "0 -0.12 0; 1.5708 0 0",
        "0 0.088328 0; -1.5708 0 0",
    ),
    "cr5": (
        "0 0 0.147; 0 0 0",
        "0 0 0; 1.5708 1.5708 0",
        "-0.427 -0.00034866 0; 0 0 0",
        "-0.357 0.00034866 0.141; 0 0 -1.5708",
        "0 -0.116 0; 1.5708 0 0",
        "0 0.105 0; -1.5708 0 0",
    ),
}


@dataclass(frozen=True)
class Args:
    """Measure forward kinematics on one core: the best of five rounds."""

    json: NewFile | None = None
    """Write the numbers to this file too."""


class Line(NamedTuple):
    """One measured number, its unit, and what it must not exceed (None: for information)."""

    name: str
    value: float
    unit: str
    bar: float | None


def main(argv: list[str]) -> int:
    """Measure, print a table; 0 when every bar is met, 1 when one is missed."""

    args = parse_words(Args, argv, "tacit bench fk")
    lines = measure()
    _print(lines)
    if args.json is not None:
        args.json.write_text(
            json.dumps({f"{line.name} [{line.unit}]": line.value for line in lines}, indent=2)
        )
    return 1 if any(line.bar is not None and line.value > line.bar for line in lines) else 0


def measure() -> list[Line]:
    """Return speed through the robot model, and the distance of each arm from its URDF."""
    robot = dh_robot("nova2")
    Q = np.random.default_rng(0).uniform(-REACH, REACH, (BATCH, robot.num_joints))
    q = Q[0]
    return [
        Line("one pose", 1e6 * best_seconds(lambda: robot.forward(q), CALLS), "us", MAX_SINGLE_US),
        Line(
            f"batch of {BATCH}",
            1e6 / BATCH * best_seconds(lambda: robot.forward_batch(Q), 3),
            "us a pose",
            MAX_BATCH_US,
        ),
        Line("Jacobian", 1e6 * best_seconds(lambda: robot.jacobian(q), CALLS), "us", None),
        *(
            Line(
                f"{model} against the vendor's URDF",
                distance,
                "mm",
                MAX_NOVA2_MM if model == "nova2" else None,
            )
            for model in VENDOR_ORIGINS
            for distance in [1e3 * float(distance_to_urdf(model).max())]
        ),
    ]


def dh_robot(model: str) -> Robot:
    """Return a built-in arm, its joints free within a half turn."""
    names = [f"joint{i + 1}" for i in range(len(DH_MODELS[model]))]
    limits = np.full(len(names), -np.pi), np.full(len(names), np.pi)
    return Robot(chain_from_dh(DH_MODELS[model], names), *limits)


def urdf_robot(model: str) -> Robot:
    """Return the same arm by the numbers of the vendor's URDF."""
    joints = []
    for i, origin in enumerate(VENDOR_ORIGINS[model]):
        xyz, rpy = origin.split("; ")
        joints.append(
            f'<joint name="joint{i + 1}" type="revolute"><parent link="Link{i}"/><child link="Link{i + 1}"/>'
            f'<origin xyz="{xyz}" rpy="{rpy}"/><axis xyz="0 0 1"/></joint>'
        )
    text = f'<robot name="{model}">{"".join(joints)}</robot>'
    names = [f"joint{i + 1}" for i in range(len(joints))]
    limits = np.full(len(names), -np.pi), np.full(len(names), np.pi)
    return Robot(chain_from_urdf(text, "Link0", f"Link{len(names)}", names), *limits)


def distance_to_urdf(model: str, seed: int = 0) -> FloatArray:
    """Return how far the flange lies from the URDF's (k,) [m] at random joints."""
    Q = np.random.default_rng(seed).uniform(-REACH, REACH, (NUM_COMPARED, len(VENDOR_ORIGINS[model])))
    return pose_error(dh_robot(model).forward_batch(Q), urdf_robot(model).forward_batch(Q)).translation


def _print(lines: list[Line]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "", "", "bar", title="tacit bench fk", title_justify="left", box=None)
    for line in lines:
        bar = "" if line.bar is None else f"{line.bar:g}" + ("" if line.value <= line.bar else "  MISSED")
        table.add_row(line.name, f"{line.value:.3g}", line.unit, bar)
    Console(highlight=False).print(table)
