"""One tactile sensor at work: opened, followed, opened again where it was unplugged; and its reference."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from tacit.errors import RigError, TacitError
from tacit.rig import DeviceSpec, GelSpec
from tacit.streams.pictures import PictureJudge
from tacit_ros.gel.devices import DeviceError
from tacit_ros.gel.shape import shaped
from tacit_ros.gel.sources import Source, open_source

RETRY_S = 0.5
"""Time between two looks for a sensor that is not there."""
REFERENCE_FRAMES = 10
REFERENCE_S = 3.0
RESTLESS = 4.0
"""Grey levels by which pixels may vary over a reference, on average: sensors at rest do by one or two."""
RATE_WINDOW = 30

Picture = NDArray[np.uint8]


class GelFeed:
    """Hands on every new picture of one sensor.

    A picture that equals the one before, or a black one, is not handed on: a stalled driver repeats its
    buffer, and neither is news of the gel.

    Args:
        name: Of the sensor.
        spec: What the rig says of it; its `device` must be given.
        hand_on: Called with (stamp_ns, RGB (height, width, 3)) on the thread of `run`.
        tell: Called with what a person should know.
        opened: Opens the sensor.

    Attributes:
        counts: Of `new`, `repeated`, `black`, `lost` (connections).
        text: What is open, or why nothing is.
        is_open: Whether the sensor is there.
        by_driver: Whether the stamps are the driver's.
    """

    def __init__(
        self,
        name: str,
        spec: GelSpec,
        hand_on: Callable[[int, Picture], None],
        tell: Callable[[str], None],
        opened: Callable[[GelSpec, DeviceSpec], Source] = open_source,
    ) -> None:
        if spec.device is None:
            raise RigError(f"tactile.{name}: no `device`; say which camera it is, or start its own driver")
        self.name, self._spec, self._device = name, spec, spec.device
        self._hand_on, self._tell, self._opened = hand_on, tell, opened
        self.counts: Counter[str] = Counter(new=0, repeated=0, black=0, lost=0)
        self.text, self.is_open, self.by_driver = "not opened yet", False, False
        self._came_s: deque[float] = deque(maxlen=RATE_WINDOW)
        self._wanted: list[Picture] | None = None
        self._has_enough = threading.Event()

    @property
    def rate_hz(self) -> float:
        """New pictures per second lately; 0 where none came for a second."""
        came = list(self._came_s)
        if len(came) < 2 or time.monotonic() - came[-1] > 1.0:
            return 0.0
        return (len(came) - 1) / (came[-1] - came[0])

    def run(self, stopping: threading.Event) -> None:
        """Work until `stopping` is set.

        Raises:
            RigError: The pictures cannot be shaped as the rig says.
        """
        while not stopping.is_set():
            try:
                source = self._opened(self._spec, self._device)
            except DeviceError as problem:
                self._say(str(problem))
                stopping.wait(RETRY_S)
                continue
            with closing(source):
                self._say(source.text)
                self._follow(source, stopping)
            if not stopping.is_set():
                self.counts["lost"] += 1
                self._say("gone; waiting for it to come back")
                stopping.wait(RETRY_S)

    def reference(self) -> Picture:
        """Return the mean of the next pictures: what the gel shows while nothing touches it.

        Raises:
            TacitError: They do not come, or change while they do: something touches or moves the gel.
        """
        self._has_enough.clear()
        self._wanted = []
        came = self._has_enough.wait(REFERENCE_S)
        pictures, self._wanted = self._wanted or [], None
        if not came:
            raise TacitError(
                f"{self.name}: {len(pictures)} new pictures within {REFERENCE_S:g} s; {self.text}"
            )
        stack = np.stack(pictures[:REFERENCE_FRAMES]).astype(np.float32)
        restless = float(stack.std(axis=0).mean())
        if restless > RESTLESS:
            raise TacitError(
                f"{self.name}: pixels vary by {restless:.1f} grey levels while the reference is taken, "
                f"allowed {RESTLESS:g}; let nothing touch the gel, and lock exposure and white balance"
            )
        return np.rint(stack.mean(axis=0)).astype(np.uint8)

    def _follow(self, source: Source, stopping: threading.Event) -> None:
        size = (self._spec.width, self._spec.height)
        # Held against the one before alone: a folder of a few pictures may stand in for a sensor.
        judge = PictureJudge(2, (self._spec.height, self._spec.width), ring=1)
        self.is_open = True
        while (grab := source.grab(stopping)) is not None:
            self.by_driver = grab.by_driver
            picture = shaped(grab.taken_bgr, self._device, size)
            found = judge.judge(picture)
            if found is not None:
                self.counts["repeated" if found.kind == "frozen" else "black"] += 1
                continue
            self.counts["new"] += 1
            self._came_s.append(time.monotonic())
            self._hand_on(grab.stamp_ns, picture)
            self._keep(picture)
        self.is_open = False

    def _keep(self, picture: Picture) -> None:
        wanted = self._wanted
        if wanted is not None:
            wanted.append(picture)
            if len(wanted) >= REFERENCE_FRAMES:
                self._has_enough.set()

    def _say(self, text: str) -> None:
        if text != self.text:
            self.text = text
            self._tell(f"{self.name}: {text}")
