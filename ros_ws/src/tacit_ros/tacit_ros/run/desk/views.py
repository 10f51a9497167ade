"""The newest picture of every camera and tactile sensor, with boxes, as JPEG, made when somebody looks."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.images import encode_jpeg
from tacit.images.depth import to_look_at
from tacit.images.taxels import taxel_colours
from tacit.rig import Rig
from tacit.streams import Value
from tacit.view.draw import draw_footprints
from tacit.view.live import LiveBoxes

MAX_WIDTH = 640
JPEG_QUALITY = 80


@dataclass(frozen=True)
class Seen:
    """One message of an image stream.

    Attributes:
        value: As it was received.
        number: Of the message in its stream, from 1.
        heard_s: Reception on the steady clock [s].
    """

    value: Value
    number: int
    heard_s: float


@dataclass(frozen=True)
class Shown:
    """A picture for the page.

    Attributes:
        jpeg: Its bytes.
        number: Which message it shows.
    """

    jpeg: bytes
    number: int


class Views:
    """Takes what arrives, on the thread of the node, and draws on demand, on any other thread.

    Args:
        rig: Says where sensors and cameras are.
    """

    def __init__(self, rig: Rig) -> None:
        self._rig, self._boxes = rig, LiveBoxes(rig)
        self._seen: dict[str, Seen] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        """What `take` expects: cameras, touch and states."""
        return [*self.shown_names, *self._boxes.streams]

    @property
    def shown_names(self) -> list[str]:
        """What there is to look at: cameras and touch."""
        return [*self._rig.cameras, *self._rig.tactile]

    def take(self, name: str, value: Value) -> None:
        """Take one message; returns at once."""
        if name in self._boxes.streams:
            self._boxes.take(name, value)
            return
        with self._lock:
            before = self._seen.get(name)
            number = 1 if before is None else before.number + 1
            self._seen[name] = Seen(value, number, time.monotonic())

    def ages_s(self) -> dict[str, float | None]:
        """Return how long ago each image stream was heard [s]; None where it never was."""
        now_s = time.monotonic()
        with self._lock:
            seen = dict(self._seen)
        return {name: now_s - seen[name].heard_s if name in seen else None for name in self.shown_names}

    def shown(self, name: str, after: int = 0) -> Shown | None:
        """Return the newest picture of a stream; None where none came since message `after`.

        Raises:
            ImageError: It cannot be decoded.
        """
        with self._lock:
            seen = self._seen.get(name)
        if seen is None or seen.number == after:
            return None
        picture = self._picture(name, seen.value)
        boxes = self._boxes.seen_by(name) if name in self._rig.cameras else None
        picture = draw_footprints(picture, boxes or {})
        return Shown(encode_jpeg(_smaller(picture), JPEG_QUALITY).tobytes(), seen.number)

    def _picture(self, name: str, value: Value) -> NDArray[np.uint8]:
        if name not in self._rig.taxels:
            return to_look_at(value)
        array = self._rig.taxels[name].array
        return taxel_colours(np.asarray(value), array.low, array.high)


def _smaller(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    if width <= MAX_WIDTH:
        return picture
    size = (MAX_WIDTH, round(height * MAX_WIDTH / width))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
