"""From messages of a rig to what a bundle asks for: the newest aligned tick, as an observation.

Callbacks only store (`store`); the inference thread drains, aligns and gates. No rclpy here. Used
by the policy node and the progress node alike.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tacit.bundle.manifest import Manifest
from tacit.bundle.runtime import Observation
from tacit.control.robot_state import RobotState
from tacit.control.safety import (
    Fault,
    check_age,
    check_finite,
    check_range,
    check_skew,
    first_fault,
    skew_ms,
)
from tacit.geometry.transforms import FloatArray
from tacit.images import as_rgb, encode_jpeg
from tacit.images.depth import as_depth
from tacit.rig import Rig
from tacit.streams import TIMER, Aligner, Arrival, Intake, Tick, Value

TOUCH_QUALITY = 95
"""JPEG quality of touch images, as the recorder writes them (its default)."""

QUEUE_LIMIT = 1024
"""Messages that wait for the inference thread: more than a second of a full rig."""

OFFSET_WINDOW = 50
"""Messages whose delay is looked back on to place foreign stamps on the steady clock: a fifth of a second,
so that a simulator which paused (to reset) is followed again at once."""

HOLDING = ("not_finite", "out_of_limits", "jump", "clock_step")
"""Refusals that hold the robot at once; others cost their sample, and silence holds if they go on."""

REFUSED_AGE_MS, REFUSED_PERIODS = 100.0, 2.5
"""A stream whose messages are being refused is waited for so long at most, and for so many of its periods:
one odd message costs itself, two in a row are a fault that has been seen."""

SAME_CLOCK_NS = 10_000_000_000
"""Stamps further than this from the node's clock come from another clock: a simulator without /clock."""


@dataclass(frozen=True)
class Newest:
    """The newest message of a stream: header stamp, reception on the steady clock, value."""

    stamp_ns: int
    received_ns: int
    value: Value


class AlignedInputs:
    """Holds and aligns the streams that a bundle needs on a rig.

    Args:
        rig: Checked against the bundle before.
        manifest: Says which cameras, touch sensors and ranges.
        node_time_ns: The node's clock (ROS time).
        steady_ns: The clock that measures ages: the steady one, or simulated time where that rules.
        simulated: Stamps may be of a simulated clock; by default as the rig says.

    Attributes:
        intake: Judges what comes in, before it is stored here.
        newest: The newest message per stream.
        robot: What the robot says of itself.
        watched: Asked, beside the streams, for what speaks against acting: who else publishes the topics.
    """

    def __init__(
        self,
        rig: Rig,
        manifest: Manifest,
        node_time_ns: Callable[[], int],
        steady_ns: Callable[[], int] = time.monotonic_ns,
        *,
        simulated: bool | None = None,
    ) -> None:
        self._rig, self._manifest = rig, manifest
        self._node_time_ns, self._steady_ns = node_time_ns, steady_ns
        reference = rig.alignment.tick_source.removeprefix("camera:")
        self._images = (*manifest.cameras, *manifest.touch)
        self._states = tuple(rig.states)
        needed = {*self._images, *self._states, *({reference} - {TIMER})}
        specs = rig.specs
        self.robot = RobotState(rig)
        self.names = (*(name for name in specs if name in needed), *self.robot.names)
        self.intake = Intake(rig, self.names, simulated=simulated)
        self._aligner = Aligner.from_rig(rig, exclude=[name for name in specs if name not in needed])
        self._queue: deque[Arrival] = deque(maxlen=QUEUE_LIMIT)
        self._offsets_ns: deque[int] = deque(maxlen=OFFSET_WINDOW)
        self._steps_seen = 0
        self._aligning = threading.Lock()
        self._event = threading.Event()
        self.newest: dict[str, Newest] = {}
        self.watched: list[Callable[[], Fault | None]] = []

    def store(self, name: str, stamp_ns: int, recv_ns: int, value: Value) -> None:
        """Keep one message; `recv_ns` of the middleware is replaced by the steady clock."""
        received_ns = self._steady_ns()
        if name in self.robot.names:
            self.robot.store(name, received_ns, value)
            return
        before = self.newest.get(name)
        if before is None or stamp_ns != before.stamp_ns:  # a repeated stamp is no news: it ages
            self._offsets_ns.append(stamp_ns - received_ns)
            self.newest[name] = Newest(stamp_ns, received_ns, value)
        self._queue.append(Arrival(name, stamp_ns, received_ns, value))
        self._event.set()

    def hear(self, name: str, stamp_ns: int, value: Value) -> None:
        """Judge and keep a message that came when it was stamped, as those of a simulated cell do."""
        if self.intake.take(name, stamp_ns, stamp_ns, value, stamp_ns) is not None:
            self.store(name, stamp_ns, stamp_ns, value)

    def wait(self, timeout_s: float) -> None:
        """Return when a message has come, or after `timeout_s`."""
        self._event.wait(timeout_s)
        self._event.clear()

    def wake(self) -> None:
        """Let `wait` return now."""
        self._event.set()

    def poll(self, may_wait: bool = True) -> list[Tick]:
        """Align what was stored and return the closed ticks, oldest first.

        Args:
            may_wait: False where time stands still until an answer comes: then stamps alone decide.
        """
        with self._aligning:
            if self._steps_seen != self.intake.num_steps:  # the clock before would block the new one
                self._steps_seen = self.intake.num_steps
                self._queue.clear()
                self._aligner.reset()
            while self._queue:
                arrival = self._queue.popleft()
                self._aligner.push(arrival.name, arrival.stamp_ns, arrival.recv_ns, arrival.value)
            return self._aligner.poll(self._steady_ns() if may_wait else None)

    def realign(self) -> None:
        """Align anew from the next message on; what was heard and judged stays known."""
        with self._aligning:
            self._aligner.reset()

    def reset(self) -> int:
        """Forget everything that was heard: the cure after a clock was set anew, which blocks what comes.

        Returns:
            The index of the first tick that will be made of what comes from now on.
        """
        with self._aligning:
            self._queue.clear()
            self._offsets_ns.clear()
            self.newest = {}
            self.robot.reset()
            self._aligner.reset()
            self.intake.reset()
            self._steps_seen = 0
            return self._aligner.num_ticks

    def now_ns(self) -> int:
        """Return the present on the clock of the stamps.

        That is the node's clock, or, where stamps lie far from it, the steady clock shifted by the
        least delay of late messages.
        """
        return self._present()[0]

    def _present(self) -> tuple[int, bool]:
        """Return the present on the clock of the stamps, and whether that is the node's own clock."""
        node_ns = self._node_time_ns()
        offset_ns = max(self._offsets_ns.copy(), default=None)  # one look: a reset may come in between
        if offset_ns is None:
            return node_ns, True
        shifted_ns = self._steady_ns() + offset_ns
        return (node_ns, True) if abs(node_ns - shifted_ns) <= SAME_CLOCK_NS else (shifted_ns, False)

    def steady_now_ns(self) -> int:
        """Return the present on the clock that measures ages."""
        return self._steady_ns()

    def newest_stamp_ns(self) -> int:
        """Return the latest stamp heard on any stream; 0 before the first."""
        return max((newest.stamp_ns for newest in list(self.newest.values())), default=0)

    def measured(self) -> FloatArray | None:
        """Return the newest state (S,) in rig order, not aligned; None before all streams were heard."""
        newest = self.newest  # a reset on another thread puts an empty one in its place
        if any(name not in newest for name in self._states):
            return None
        return self._state({name: newest[name].value for name in self._states})

    def observation(self, tick: Tick) -> Observation:
        """Return a tick as an observation; compressed images are decoded here.

        Touch images are coded as the recorder codes them: see `as_recorded`.

        Raises:
            ImageError: An image cannot be decoded.
        """
        samples = tick.samples
        cameras, touch = self._manifest.cameras, self._manifest.touch
        return Observation(
            stamp_ns=tick.stamp_ns,
            state=self._state({name: samples[name].value for name in self._states}),
            images={
                name: as_rgb(samples[name].value)
                if image.depth_range_m is None
                else as_depth(samples[name].value)
                for name, image in cameras.items()
            },
            touch={name: as_recorded(samples[name].value) for name in touch},  # type: ignore[arg-type]
        )

    def tick_fault(self, tick: Tick, check_ages: bool = True) -> Fault | None:
        """Return why this tick must not be inferred on: missing, age, skew, finite, range."""
        return first_fault(self._tick_gates(tick, check_ages))

    def silence_fault(self) -> Fault | None:
        """Return which stream has gone silent by the steady clock, and why; or whose stamps are off."""
        now_ns = self._steady_ns()
        silent = first_fault(self._silence(name, now_ns) for name in self._aligner.buffers)
        return silent or self._stamps_of_states() or self.robot.silence(now_ns)

    def _stamps_of_states(self) -> Fault | None:
        """Judge the stamps of the measured state like those of images: alignment hides how old they are.

        Only on the node's own clock: where another rules, the present is a guess, and reception must do.
        """
        now_ns, is_own = self._present()
        if not is_own:
            return None
        limit_ms = self._rig.safety.joint_age_ms
        newest = ((name, self.newest.get(name)) for name in self._states)
        return first_fault(
            check_age(name, heard.stamp_ns - self._latency_ns(name), now_ns, limit_ms)
            for name, heard in newest
            if heard is not None
        )

    def _latency_ns(self, name: str) -> int:
        return self._aligner.buffers[name].plan.latency_ns

    def finding_fault(self) -> Fault | None:
        """Return what the intake doubts, or keeps refusing, on a stream that decides where the robot goes."""
        for name, found in self.intake.findings().items():
            if not found.refused or found.kind in HOLDING:
                return Fault(found.kind, f"{name}: {found.text}")
        return None

    def _refusal(self, name: str) -> Fault | None:
        """Return why messages of a stream are refused now: the cause where it seems silent."""
        found = self.intake.findings().get(name)
        return None if found is None else Fault(found.kind, f"{name}: {found.text}")

    def doubt(self) -> Fault | None:
        """Return what speaks now against acting on the inputs, whatever a single tick shows."""
        return self.finding_fault() or self.robot.fault() or first_fault(ask() for ask in self.watched)

    def skew_ms(self, tick: Tick) -> float:
        """Return how far the parts of a tick lie apart [ms]."""
        return skew_ms(self._stamps(tick).values())

    def ages_ms(self) -> dict[str, float]:
        """Return time since the last reception per stream [ms]."""
        now_ns = self._steady_ns()
        return {name: (now_ns - n.received_ns) / 1e6 for name, n in list(self.newest.items())}

    def _tick_gates(self, tick: Tick, check_ages: bool) -> Iterator[Fault | None]:
        safety, manifest = self._rig.safety, self._manifest
        missing = [n for n in (*self._images, *self._states) if n not in tick.samples]
        yield Fault("missing", f"no message yet on {', '.join(missing)}") if missing else None
        if check_ages:
            now_ns = self.now_ns()
            for name in self._images:
                yield check_age(name, tick.samples[name].stamp_ns, now_ns, safety.image_age_ms)
        yield self.finding_fault()
        yield check_skew(self._stamps(tick), min(safety.skew_ms, 1e3 * manifest.obs_skew_max_s))
        state = self._state({name: tick.samples[name].value for name in self._states})
        yield check_finite("state", state)
        wanted = [self._rig.state_names.index(name) for name in manifest.state_names]
        yield check_range(manifest.state_names, state[wanted], manifest.state_min, manifest.state_max)

    def _silence(self, name: str, now_ns: int) -> Fault | None:
        newest = self.newest.get(name)
        if newest is None:
            return self._refusal(name) or Fault("missing", f"no message yet on {name}")
        safety = self._rig.safety
        limit_ms = safety.joint_age_ms if name in self._states else safety.image_age_ms
        refused_ms = max(REFUSED_AGE_MS, REFUSED_PERIODS * 1e3 / self._rig.specs[name].rate_hz)
        if check_age(name, newest.received_ns, now_ns, min(limit_ms, refused_ms)) is None:
            return None
        return self._refusal(name) or check_age(name, newest.received_ns, now_ns, limit_ms)

    def _stamps(self, tick: Tick) -> dict[str, int]:
        used = (*self._images, *self._states)
        return {name: tick.samples[name].stamp_ns for name in used} | {"tick": tick.stamp_ns}

    def _state(self, values: dict[str, object]) -> FloatArray:
        state = np.full(len(self._rig.state_names), np.nan)
        for name, value in values.items():
            state[self._rig.index_of(self._rig.streams[name].names)] = np.asarray(value, dtype=np.float64)
        return state


def as_recorded(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a touch image (H, W, 3) as training saw it; what a driver has encoded (N,) is only decoded.

    The recorder stores touch as JPEG. The model subtracts the no-contact image, which leaves faint
    differences: without the coding, the actions of one policy were off by 2 mrad on average and 15 at the
    99th percentile. Coding the camera images as well changed nothing more.
    """
    return as_rgb(image if image.ndim == 1 else encode_jpeg(image, TOUCH_QUALITY))
