"""A policy node on a fake robot, in the process of the test; and the node's controller without ROS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from fake_robot import FakeRobot, lenient_rig
from rclpy.parameter import Parameter
from tiny_bundles import policy_bundle

from tacit.bundle.player import ChunkPlayer
from tacit.control.controller import Controller
from tacit.rig import Rig, load_rig, parse_rig
from tacit_ros.policy_node import PolicyNode

WIDE = {"state_min": (-1.0,) * 7, "state_max": (1.0,) * 7, "obs_skew_max_s": 1.0, "chunk_size": 25}
"""A bundle that infers wherever the fake robot is."""
PERIOD = 40_000_000
START = np.full(7, 0.04)


class PolicyCell:
    """A policy on a fake robot.

    Args:
        bench: Spins both.
        folder: For rig and bundle.
        path: The rig; the lenient one when left out.
    """

    def __init__(self, bench: Any, folder: Path, path: Path | None = None) -> None:
        path = path or lenient_rig(folder)
        rig = load_rig(path)
        values = {"rig": str(path), "bundle": policy_bundle(folder, rig, **WIDE).source}
        self.bench = bench
        self.policy = bench.add(PolicyNode([Parameter(k, value=v) for k, v in values.items()]))
        self.robot = FakeRobot(bench.node, rig)

    def call(self, service: str, request: Any = None) -> Any:
        return self.bench.call(f"/policy/{service}", request)

    def ready(self) -> None:
        self.bench.until(lambda: self.policy.acting.readiness() is None, "input")

    def run(self) -> None:
        self.ready()
        assert self.call("start").success
        self.bench.until(lambda: len(self.robot.commands) > 5, "commands")

    def close(self) -> None:
        self.robot.stop()
        self.policy.close()


def strict_rig() -> Rig:
    """Return the rig of the simulated cell with the gates of a real one."""
    data = load_rig("nova2_sim").model_dump(mode="json")
    data["safety"] |= {"image_age_ms": 150.0, "joint_age_ms": 60.0}
    return parse_rig(data, "test")


def controller(rig: Rig, mode: str = "blend", dry_run: bool = False) -> Controller:
    return Controller(rig, ChunkPlayer(PERIOD, mode), PERIOD / 1e9, dry_run)


def running(rig: Rig, rows: int = 10, **options: object) -> Controller:
    made = controller(rig, **options)
    assert made.start(START, None).success
    made.add(np.tile(START, (rows, 1)), 0)
    return made
