"""Feeds a recorder session by hand, tick by tick, as the subscriptions of a healthy robot would."""

from __future__ import annotations

import numpy as np

from tacit.record.monitor import StreamMonitor, monitors_of
from tacit.record.preroll import Surroundings
from tacit.record.recorder import RecorderSession
from tacit.rig import Rig

SECOND = 10**9
BEGIN = 1_700_000_000 * SECOND
TICK = SECOND // 25


def value_of(rig: Rig, name: str, number: int) -> np.ndarray:
    """A value that any stream may carry; images differ from tick to tick."""
    spec = rig.specs[name]
    if name in set(rig.image_names):
        return np.full((spec.height, spec.width, 3), 60 + number % 100, np.uint8)
    if name in ("stage", "progress"):
        return np.array([float(number >= 10)])
    return np.array([rig.limits("upper")[rig.state_names.index(n)] * 0.5 for n in spec.names])


def feed(session: RecorderSession, rig: Rig, first: int, count: int, without: tuple[str, ...] = ()) -> None:
    """Deliver `count` ticks of every stream, low-dimensional ones at their own rate."""
    for number in range(first, first + count):
        for name, spec in rig.specs.items():
            for k in range(round(spec.rate_hz / 25)):
                stamp_ns = BEGIN + number * TICK + k * round(SECOND / spec.rate_hz)
                if name not in without:
                    session.receive(name, stamp_ns, stamp_ns + 1_000_000, value_of(rig, name, number))
        session._encoders.drain()  # a burst would rightly overflow the queues


def show(session: RecorderSession, rig: Rig, tick: int, opening: float, grey: int) -> None:
    """One gripper state, as a part of its range, and the touch pictures of the same instant."""
    stamp_ns = BEGIN + tick * TICK
    session.receive("gripper_state", stamp_ns, stamp_ns, rig.limits("upper")[6:] * opening)
    for name in rig.tactile:
        session.receive(name, stamp_ns, stamp_ns, value_of(rig, name, grey))


def healthy(rig: Rig) -> dict[str, StreamMonitor]:
    monitors = monitors_of(rig)
    for name, monitor in monitors.items():
        period = round(SECOND / monitor.rate_hz)
        for number in range(-40, 1):
            monitor.saw(BEGIN + number * period, BEGIN, value_of(rig, name, 3))
    return monitors


def around(**changes: object) -> Surroundings:
    settings: dict = {
        "now_ns": BEGIN,
        "num_publishers": lambda name: 1,
        "findings": {},
        "free_bytes": 10**12,
        "min_free_bytes": 10**9,
        "rate_tolerance": 0.1,
    }
    return Surroundings(**(settings | changes))
