"""JPEG encoding beside the callbacks: one thread for all streams, and helpers while frames pile up.

cv2 frees the interpreter lock while it encodes. One thread after the other takes a quarter less processor
time than a thread per stream: cores share caches and ports, and every thread must be woken. A full queue
drops the newest frame and counts it; it never blocks a callback, and never shifts the frames that follow.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from tacit.images import Image, encode_jpeg, encode_png
from tacit.images.depth import Depth, encode_depth
from tacit.threads import OnFailure, WatchedThread

QUEUE_LIMIT = 30  # one second of frames: 27 MB at VGA
HELP_BEYOND = 2  # frames per stream that may wait before another thread helps
PNG = 0  # as a quality: lossless
DRAIN_DEADLINE_S = 5.0  # a full queue of VGA frames takes 30 x 3 ms; fifty times that on a busy machine
DRAIN_PERIOD_S = 0.002  # between looks at what is left to encode
Frame = tuple[int, int, NDArray[np.uint8]]  # stamp, reception, pixels
Encoded = Callable[[str, int, int, NDArray[np.uint8]], None]


def encode(frame: Image | Depth, quality: int) -> NDArray[np.uint8]:
    """Return RGB (H, W, 3) as JPEG of `quality`, or as PNG for quality 0; encoded 1-D stays.

    Depth (H, W) uint16 becomes a 16-bit PNG at any quality: a lossy millimetre is no measurement.
    """
    if frame.dtype == np.uint16:
        return encode_depth(frame.astype(np.uint16, copy=False))
    rgb = frame.astype(np.uint8, copy=False)
    if rgb.ndim == 1:
        return rgb
    return encode_png(rgb) if quality == PNG else encode_jpeg(rgb, quality)


class EncoderPool:
    """Threads that turn frames into bytes and hand them on, each stream in its own order.

    Attributes:
        dropped: Frames per stream that found their queue full.
    """

    def __init__(self, qualities: Mapping[str, int], done: Encoded, on_failure: OnFailure) -> None:
        """Start the threads.

        Args:
            qualities: JPEG quality 1..100 per stream, or 0 for PNG.
            done: Called as (name, stamp_ns, recv_ns, bytes), for one frame of a stream at a time.
            on_failure: Told on its thread what ended an encoder: nothing is handed on any more.
        """
        self.dropped: Counter[str] = Counter()
        self._done, self._qualities = done, dict(qualities)
        self._lock = threading.Lock()
        self._waiting: dict[str, deque[Frame]] = {name: deque() for name in qualities}
        self._at_work: set[str] = set()  # streams that are due, or of which a frame is being encoded
        self._due: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._piled_up = threading.Event()
        self._threads: list[WatchedThread] = []
        for number in range(len(qualities)):  # on a busy machine each has a share of its own
            work = self._work if number == 0 else self._help
            self._threads.append(WatchedThread("encoder", work, on_failure))
        for thread in self._threads:
            thread.start()

    def submit(self, name: str, stamp_ns: int, recv_ns: int, frame: NDArray[np.uint8]) -> bool:
        """Queue a frame; False when its queue is full and the frame is dropped."""
        waiting = self._waiting[name]
        if len(waiting) >= QUEUE_LIMIT:
            self.dropped[name] += 1
            return False
        with self._lock:
            waiting.append((stamp_ns, recv_ns, frame))
            if name not in self._at_work:
                self._at_work.add(name)
                self._due.put(name)
        if len(self._threads) > 1 and sum(map(len, self._waiting.values())) > HELP_BEYOND * len(
            self._waiting
        ):
            self._piled_up.set()
        return True

    def drain(self) -> bool:
        """Wait until every queued frame has been handed on; False if one was not within the deadline.

        Dead encoders hand nothing on: they are not waited for.
        """
        deadline = time.monotonic() + DRAIN_DEADLINE_S
        while self.busy():
            if time.monotonic() > deadline:
                return False
            time.sleep(DRAIN_PERIOD_S)
        return self._are_well()

    def busy(self) -> list[str]:
        """Return the streams whose frames wait here, to be handed on by living encoders."""
        with self._lock:
            held = list(self._at_work)
        return held if held and self._are_well() else []

    def abandon(self) -> dict[str, int]:
        """Throw away every frame that waits, and return how many of each stream."""
        with self._lock:
            left = {name: len(waiting) for name, waiting in self._waiting.items() if waiting}
            for waiting in self._waiting.values():
                waiting.clear()
        return left

    def close(self) -> None:
        """Finish what is queued and end the threads."""
        self.drain()
        for thread in self._threads:
            thread.stop(nudge=self._nudge)

    def _are_well(self) -> bool:
        """Whether no encoder has failed; one that reports its failure has."""
        return all(thread.is_alive and thread.failure is None for thread in self._threads)

    def _nudge(self) -> None:
        self._due.put(None)
        self._piled_up.set()

    def _work(self) -> None:
        """Encode whatever is due."""
        own = self._threads[0]
        while not own.stopping.is_set():
            self._encode(own, self._due.get())

    def _help(self) -> None:
        """Encode while frames pile up."""
        own = next(thread for thread in self._threads if thread.is_current)
        while not own.stopping.is_set():
            self._piled_up.wait()
            self._piled_up.clear()
            with suppress(queue.Empty):
                while not own.stopping.is_set():
                    self._encode(own, self._due.get_nowait())

    def _encode(self, own: WatchedThread, name: str | None) -> None:
        """Encode the oldest frame of a stream that is due and hand it on; None is no stream.

        A stream is due once, whatever waits of it, so that no other thread takes its next frame meanwhile.
        """
        if name is None:
            return
        waiting = self._waiting[name]
        with self._lock:
            next_one = waiting.popleft() if waiting else None  # abandoned meanwhile
        if next_one is not None:
            stamp_ns, recv_ns, frame = next_one
            own.name = f"encoder of {name}"  # what a failure is reported under
            self._done(name, stamp_ns, recv_ns, encode(frame, self._qualities[name]))
        with self._lock:
            if waiting:
                self._due.put(name)
            else:
                self._at_work.discard(name)
