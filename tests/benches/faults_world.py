"""A robot cell in virtual time: drivers that send real ROS messages, and a robot that follows commands.

Nothing here waits: `Timeline` jumps from one event to the next, so how busy the machine is decides nothing.
"""

from __future__ import annotations

import functools
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from benches.synthetic import NUM_PICTURES, picture
from tacit.geometry.transforms import FloatArray
from tacit.images import encode_jpeg
from tacit.rig import CameraSpec, GelSpec, Rig, StreamBase, load_rig, parse_rig
from tacit_ros import messages

MS, SECOND = 1_000_000, 1_000_000_000
BOOT_NS = 5_000 * SECOND
BEGIN_NS = 1_790_000_000 * SECOND
SIZE, JPEG_SIZE = (32, 24), (160, 120)
"""Pictures are tiny (width, height): what is judged here does not depend on it, but of encoded ones how many
bytes they have per pixel."""

LAG_S, DEAD_NS = 0.05, 40 * MS
"""The arm follows its commands as a first-order lag of so many seconds, after a dead time."""

NOISE, QUANTUM = 5e-5, 2e-4
"""Of encoders [rad, m]; quiet ones have none, and repeat themselves to the bit while the arm stands."""

LOSS = 0.01
"""Part of the messages that never come."""

COMPRESSED_CAMERA = "top"
ROBOT_STATE = "robot_state"
READY = np.array([1.0, 0.0, 0.0, 1.0])
"""enabled, fault, protective_stop, speed_scaling of a robot that may be moved."""

Build = Callable[[object, int], object]


class Timeline:
    """A steady clock, the machine's clock, and what will happen when."""

    def __init__(self) -> None:
        self._now_ns, self._wall_ahead_ns = BOOT_NS, BEGIN_NS - BOOT_NS
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def steady(self) -> int:
        """Return the steady clock [ns]."""
        return self._now_ns

    def wall(self) -> int:
        """Return the machine's clock [ns]."""
        return self._now_ns + self._wall_ahead_ns

    def set_wall(self, step_ns: int) -> None:
        """Set the machine's clock on by `step_ns`."""
        self._wall_ahead_ns += step_ns

    def at(self, when_ns: int, action: Callable[[], None]) -> None:
        """Do something at an instant of the steady clock."""
        heapq.heappush(self._events, (when_ns, next(self._order), action))

    def run_until(self, when_ns: int) -> None:
        """Let everything happen that is due; may be called from within an event."""
        while self._events and self._events[0][0] <= when_ns:
            due_ns, _, action = heapq.heappop(self._events)
            self._now_ns = max(self._now_ns, due_ns)
            action()
        self._now_ns = max(self._now_ns, when_ns)


@dataclass
class Disturbance:
    """What is wrong with a driver from some instant on.

    Attributes:
        read: Replaces what is measured.
        stamp: Replaces the stamp [ns].
        alter: Replaces a message by those that are sent instead.
        late_ns: Each message comes so much later.
        times: For so many messages; for ever where it is None.
    """

    read: Callable[[object], object] = lambda value: value
    stamp: Callable[[int], int] = lambda stamp_ns: stamp_ns
    alter: Callable[[object], list[object]] = lambda message: [message]
    late_ns: int = 0
    times: int | None = None


@dataclass
class Driver:
    """Sends one stream at its rate, with jitter and loss.

    Attributes:
        name: The stream.
        period_ns: Of its messages.
        read: What is measured now.
        build: Makes a message of a value and a stamp.
        clock_ns: How far its clock is ahead of the machine's.
        disturbance: What is wrong with it; None where all is well.
    """

    name: str
    period_ns: int
    read: Callable[[], object]
    build: Build
    send: Callable[[str, object, bool], None]
    timeline: Timeline
    random: np.random.Generator
    loss: float = LOSS
    clock_ns: int = 0
    disturbance: Disturbance | None = None
    _arrival_ns: int = field(default=0, init=False)

    def begin(self) -> None:
        """Send from now on, out of step with the others."""
        self._next(self.timeline.steady() + int(self.random.uniform(0, self.period_ns)))

    def _next(self, due_ns: int) -> None:
        late_ns = int(abs(self.random.normal(0, 0.04)) * self.period_ns)
        self.timeline.at(due_ns + late_ns, lambda: self._fire(due_ns))

    def _fire(self, due_ns: int) -> None:
        self._next(due_ns + self.period_ns)
        value, stamp_ns = self.read(), self.timeline.wall() + self.clock_ns
        wrong = self.disturbance
        if wrong is None:
            if self.random.random() >= self.loss:
                self._deliver([self.build(value, stamp_ns)])
            return
        message = self.build(wrong.read(value), wrong.stamp(stamp_ns))
        self._deliver(wrong.alter(message), wrong.late_ns, message)
        if wrong.times is not None:
            wrong.times -= 1
            if wrong.times <= 0:
                self.disturbance = None

    def _deliver(self, sent: list[object], late_ns: int = 0, disturbed: object = None) -> None:
        """Bring messages in order; a disturbance is never lost, so that each try has its fault.

        Args:
            sent: The messages.
            late_ns: How much later than usual.
            disturbed: What the disturbed driver itself would have sent; None where it is sound. `alter` may
                hand that on as it is beside messages of another, which alone are wrong then.
        """
        slow = 8.0 if self.random.random() < 0.01 else 0.0
        way_ns = int((0.4 + self.random.exponential(0.8) + slow) * MS)
        usual_ns = self.timeline.steady() + way_ns
        if disturbed is not None and (late_ns or not sent):
            self.timeline.at(usual_ns, lambda: self.send(self.name, None, True))
        self._arrival_ns = max(self._arrival_ns + 1, usual_ns + late_ns)
        for message in sent:
            wrong = disturbed is not None and not (len(sent) > 1 and message is disturbed)
            self.timeline.at(self._arrival_ns, functools.partial(self.send, self.name, message, wrong))


class Robot:
    """Follows its commands as a first-order lag, within its speeds.

    Attributes:
        q: Where it is (S,) [rad, m].
        is_quiet: Its encoders have no noise.
    """

    def __init__(
        self, rig: Rig, timeline: Timeline, random: np.random.Generator, is_quiet: bool = False
    ) -> None:
        home = rig.home
        assert home is not None
        self.q = np.where(np.isnan(home), 0.6 * rig.limits("upper"), home)
        self._goal, self._speed = self.q.copy(), rig.limits("velocity")
        self._timeline, self._random, self._at_ns = timeline, random, timeline.steady()
        self.is_quiet = is_quiet

    def command(self, goal: FloatArray) -> None:
        """Take a command (S,), to be followed a moment later."""

        def follow() -> None:
            self._move()
            self._goal = goal

        self._timeline.at(self._timeline.steady() + DEAD_NS, follow)

    def measured(self) -> FloatArray:
        """Return what the encoders say now (S,)."""
        self._move()
        if self.is_quiet:
            return QUANTUM * np.round(self.q / QUANTUM)
        return self.q + NOISE * self._random.standard_normal(len(self.q))

    def _move(self) -> None:
        passed_s, self._at_ns = (self._timeline.steady() - self._at_ns) / 1e9, self._timeline.steady()
        far = (self._goal - self.q) * (1 - np.exp(-passed_s / LAG_S))
        self.q = self.q + np.clip(far, -self._speed * passed_s, self._speed * passed_s)


class Graph:
    """Who publishes what; stands in for the node that asks the middleware.

    Args:
        nodes: Names of the nodes that publish, by topic; shared by all who ask.
        name: Who asks.
    """

    def __init__(self, nodes: dict[str, list[str]], name: str) -> None:
        self._nodes, self._name = nodes, name

    def get_name(self) -> str:
        """Return the name of the asking node."""
        return self._name

    def get_namespace(self) -> str:
        """Return its namespace."""
        return "/"

    def create_timer(self, *_: object, **__: object) -> None:
        """The bench looks by itself."""

    def count_publishers(self, topic: str) -> int:
        """Return how many publish a topic."""
        return len(self.get_publishers_info_by_topic(topic))

    def get_publishers_info_by_topic(self, topic: str) -> list[SimpleNamespace]:
        """Return the publishers of a topic."""
        return [SimpleNamespace(node_name=n, node_namespace="/") for n in self._nodes.get(topic, ())]


def bench_rig() -> Rig:
    """Return a small rig on the machine's clock: two cameras, one of them JPEG, touch, an arm."""
    data = load_rig("nova2_sim").model_dump(mode="json")
    for key in ("simulation", "safety"):
        del data[key]
    del data["tactile"]["right"]
    for stream in ("stage", "progress"):
        del data["streams"][stream]
    data["cameras"][COMPRESSED_CAMERA] |= {"type": "sensor_msgs/msg/CompressedImage"}
    for name, spec in (*data["cameras"].items(), *data["tactile"].items()):
        width, height = size_of(name)
        spec |= {"width": width, "height": height}
        if name in data["cameras"]:
            spec["K"] = [[0.8 * width, 0.0, width / 2], [0.0, 0.8 * width, height / 2], [0.0, 0.0, 1.0]]
    data["streams"][ROBOT_STATE] = {
        "topic": "/robot/state",
        "type": "std_msgs/msg/Float64MultiArray",
        "names": ["enabled", "fault", "protective_stop", "speed_scaling"],
        "rate_hz": 25.0,
        "role": "robot_state",
    }
    return parse_rig(data | {"name": "bench"}, "bench")


def size_of(camera: str) -> tuple[int, int]:
    """Return (width, height) of a camera's or sensor's pictures."""
    return JPEG_SIZE if camera == COMPRESSED_CAMERA else SIZE


@functools.cache
def pictures_of(camera: str) -> tuple[NDArray[np.uint8], ...]:
    """Return what a camera sees, in turn: noisy pictures, RGB (H, W, 3) or JPEG (N,)."""
    pool = [picture(*size_of(camera), number) for number in range(NUM_PICTURES)]
    return tuple(encode_jpeg(image) if camera == COMPRESSED_CAMERA else image for image in pool)


def reader_of(rig: Rig, name: str, robot: Robot) -> tuple[Callable[[], object], Build]:
    """Return what the driver of a stream measures, and how it makes a message of that."""
    spec: StreamBase = rig.specs[name]
    if isinstance(spec, (CameraSpec, GelSpec)):
        seen = itertools.cycle(pictures_of(name))
        build = messages.compressed_image if name == COMPRESSED_CAMERA else messages.image
        return lambda: next(seen), build  # type: ignore[return-value]  # of what `seen` holds
    names = rig.streams[name].names
    if name == ROBOT_STATE:
        return lambda: READY.copy(), lambda values, stamp_ns: messages.float_array(values, ",".join(names))
    index = rig.index_of(names)
    return lambda: robot.measured()[index], lambda values, stamp_ns: messages.joint_state(
        names, values, stamp_ns
    )
