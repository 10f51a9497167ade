"""From messages of a rig to what a bundle asks for: the newest aligned tick, as an observation.

Callbacks only store (`store`); the inference thread drains, aligns and gates. No rclpy here. Used
by the policy node and the progress node alike.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from tacit.bundle.manifest import Manifest
from tacit.bundle.runtime import Observation
from tacit.control.free_gels import FreeGels
from tacit.control.free_taxels import FreeTaxels
from tacit.control.heard import HeardStreams
from tacit.control.safety import Fault, check_age, check_finite, check_range, check_skew, first_fault, skew_ms
from tacit.errors import ImageError
from tacit.images import as_rgb, encode_jpeg
from tacit.images.depth import as_depth
from tacit.rig import Rig
from tacit.streams import TIMER, Aligner, Arrival, Tick, Value

TOUCH_QUALITY = 95
"""JPEG quality of touch images, as the recorder writes them (its default)."""

QUEUE_LIMIT = 1024
"""Messages that wait for the inference thread: more than a second of a full rig."""


class AlignedInputs(HeardStreams):
    """Holds and aligns the streams that a bundle needs on a rig.

    Args:
        rig: Checked against the bundle before.
        manifest: Says which cameras, touch sensors and ranges.
        node_time_ns, steady_ns, simulated: As of `HeardStreams`.
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
        reference = rig.alignment.tick_source.removeprefix("camera:")
        self._manifest = manifest
        self.gels, self.taxels = FreeGels(rig, manifest), FreeTaxels(rig, manifest.taxels)
        self._images = (*manifest.cameras, *manifest.touch, *manifest.taxels)
        names = {*self._images, *({reference} - {TIMER})}
        super().__init__(rig, names, node_time_ns, steady_ns, simulated=simulated)
        left_out = [name for name in rig.specs if name not in self._listened]
        self._aligner = Aligner.from_rig(rig, exclude=left_out)
        self._queue: deque[Arrival] = deque(maxlen=QUEUE_LIMIT)
        self._steps_seen = 0
        self._aligning = threading.Lock()
        self._event = threading.Event()

    def store(self, name: str, stamp_ns: int, recv_ns: int, value: Value) -> None:
        """Keep one message; `recv_ns` of the middleware is replaced by the steady clock."""
        received_ns = self._steady_ns()
        self._keep(name, stamp_ns, received_ns, value)
        self.taxels.saw(name, value)
        if name not in self.robot.names:
            self._queue.append(Arrival(name, stamp_ns, received_ns, value))
            self._event.set()

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
            self.forget()
            self.taxels.forget()
            self._aligner.reset()
            self._steps_seen = 0
            return self._aligner.num_ticks

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
            references=self.gels.images,
            taxels={name: self.taxels.against(name, samples[name].value) for name in self.taxels.offsets},
        )

    def take_free_gels(self, tick: Tick) -> Fault | None:
        """Take the gels and offsets without contact of a run that begins with a tick; why not, if touched."""
        samples = tick.samples
        state = self._state({name: samples[name].value for name in self._states})
        try:
            touch = {name: np.asarray(as_rgb(samples[name].value)) for name in self._manifest.touch}
            return self.gels.take(state, touch) or self.taxels.take(self.gels.closed(state))
        except ImageError as problem:
            return Fault("touch_reference", str(problem))

    def tick_fault(self, tick: Tick, check_ages: bool = True) -> Fault | None:
        """Return why this tick must not be inferred on: missing, age, skew, finite, range."""
        return first_fault(self._tick_gates(tick, check_ages))

    def skew_ms(self, tick: Tick) -> float:
        """Return how far the parts of a tick lie apart [ms]."""
        return skew_ms(self._stamps(tick).values())

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

    def _stamps(self, tick: Tick) -> dict[str, int]:
        used = (*self._images, *self._states)
        return {name: tick.samples[name].stamp_ns for name in used} | {"tick": tick.stamp_ns}


def as_recorded(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a touch image (H, W, 3) as training saw it; what a driver has encoded (N,) is only decoded.

    The recorder stores touch as JPEG. The model subtracts the no-contact image, which leaves faint
    differences: without the coding, the actions of one policy were off by 2 mrad on average and 15 at the
    99th percentile. Coding the camera images as well changed nothing more.
    """
    return as_rgb(image if image.ndim == 1 else encode_jpeg(image, TOUCH_QUALITY))
