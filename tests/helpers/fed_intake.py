"""A robot of a test that feeds an intake: what it sends, and when, may be bent."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tacit.rig import Rig, parse_rig
from tacit.streams import Intake

SECOND = 1_000_000_000
WALL = 1_700_000_000 * SECOND
DELAY = 4_000_000
RATES = {"joints": 100, "gripper_state": 100, "top": 25, "wrist": 25, "left": 25, "right": 25}


def real(rig: Rig, **streams: dict) -> Rig:
    """The rig as one of a real robot, with other values for some streams."""
    data = rig.model_dump(mode="json") | {"simulation": None}
    for name, changes in streams.items():
        part = next(part for part in ("cameras", "tactile", "streams") if name in data[part])
        data[part][name] |= changes
    return parse_rig(data, "test")


class Robot:
    """Feeds an intake: joints at 100 Hz and pictures at 25 Hz, with stamps that a test may bend.

    Attributes:
        accepted: (stream, stamp) of what was accepted.
        bend: Replaces the stamp of a message: (stream, seconds since the start, stamp) to stamp.
        values: Replaces the value of a message: (stream, seconds, value) to value.
    """

    def __init__(self, intake: Intake, rig: Rig, start_ns: int = WALL, wall_ns: int = WALL) -> None:
        self.intake, self.rig = intake, rig
        self.start_ns, self.wall_ns, self.now_ns = start_ns, wall_ns, 0
        self.accepted: list[tuple[str, int]] = []
        self.bend: Callable[[str, float, int], int] = lambda name, t, stamp: stamp
        self.values: Callable[[str, float, object], object] = lambda name, t, value: value
        self.random = np.random.default_rng(0)
        self.speed = 1.0

    def run(self, seconds: float) -> None:
        """Let so many seconds of the stamps' clock pass."""
        end = self.now_ns + round(seconds * SECOND)
        while self.now_ns < end:
            self.now_ns += 10_000_000
            for name, rate in RATES.items():
                if name in self.intake.counts and self.now_ns % (SECOND // rate) == 0:
                    self.send(name)

    def send(self, name: str) -> None:
        t = self.now_ns / 1e9
        passed_ns = round(self.now_ns / self.speed) + DELAY + int(self.random.integers(0, 6_000_000))
        stamp_ns = self.bend(name, t, self.start_ns + self.now_ns)
        value = self.values(name, t, self.value(name, t))
        kept = self.intake.take(name, stamp_ns, self.wall_ns + passed_ns, value, 77 * SECOND + passed_ns)
        if kept is not None:
            self.accepted.append((name, kept))

    def value(self, name: str, t: float) -> object:
        if name in self.rig.images:
            return self.random.integers(20, 200, (12, 16, 3), dtype=np.uint8)
        names = self.rig.streams[name].names
        low, high = self.rig.limits("lower"), self.rig.limits("upper")
        middle = (0.3 * low + 0.7 * high)[self.rig.index_of(names)]
        wave = 0.2 if name == "joints" else 0.001
        return {"position": middle + wave * np.sin(t + np.arange(len(names)))}

    def stamps(self, name: str) -> np.ndarray:
        return np.array([stamp for n, stamp in self.accepted if n == name])

    @property
    def kinds(self) -> dict[str, str]:
        return {name: found.kind for name, found in self.intake.findings().items()}


def robot_of(rig: Rig, **settings: int) -> Robot:
    return Robot(Intake(rig, RATES), rig, **settings)
