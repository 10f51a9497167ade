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
from tacit.rig import Rig
from tacit.rig.scene import RigGeometry
from tacit.streams import Value
from tacit.view.draw import draw_footprints

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
        self._rig, self._geometry = rig, RigGeometry(rig)
        self._indices = {name: rig.index_of(spec.names) for name, spec in rig.states.items()}
        self._state = np.full(len(rig.state_names), np.nan)
        self._seen: dict[str, Seen] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        """What `take` expects: image streams and states."""
        return [*self._rig.image_names, *self._indices]

    def take(self, name: str, value: Value) -> None:
        """Take one message; returns at once."""
        with self._lock:
            if name in self._indices:
                self._state[self._indices[name]] = np.asarray(value)
            else:
                before = self._seen.get(name)
                number = 1 if before is None else before.number + 1
                self._seen[name] = Seen(value, number, time.monotonic())

    def ages_s(self) -> dict[str, float | None]:
        """Return how long ago each image stream was heard [s]; None where it never was."""
        now_s = time.monotonic()
        with self._lock:
            seen = dict(self._seen)
        return {name: now_s - seen[name].heard_s if name in seen else None for name in self._rig.image_names}

    def shown(self, name: str, after: int = 0) -> Shown | None:
        """Return the newest picture of a stream; None where none came since message `after`.

        Raises:
            ImageError: It cannot be decoded.
        """
        with self._lock:
            seen, state = self._seen.get(name), self._state.copy()
        if seen is None or seen.number == after:
            return None
        picture = to_look_at(seen.value)
        if name in self._rig.cameras and np.isfinite(state).all():
            found = self._geometry.footprints(state)
            picture = draw_footprints(picture, {s: f for (c, s), f in found.items() if c == name})
        return Shown(encode_jpeg(_smaller(picture), JPEG_QUALITY).tobytes(), seen.number)


def _smaller(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    if width <= MAX_WIDTH:
        return picture
    size = (MAX_WIDTH, round(height * MAX_WIDTH / width))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
