"""JPEG encoding beside the callbacks: one thread per image stream, so order needs no bookkeeping.

cv2 frees the interpreter lock while it encodes. A full queue drops the newest frame and counts it;
it never blocks a callback, and never shifts the frames that follow.
"""

from __future__ import annotations

import queue
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tacit.images import Image, encode_jpeg, encode_png
from tacit.images.depth import Depth, encode_depth
from tacit.threads import OnFailure, WatchedThread

QUEUE_LIMIT = 30  # one second of frames: 27 MB at VGA
PNG = 0  # as a quality: lossless
DRAIN_DEADLINE_S = 5.0  # a full queue of VGA frames takes 30 x 3 ms; fifty times that on a busy machine
DRAIN_PERIOD_S = 0.002  # between looks at what is left to encode
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
        """Start one thread per stream.

        Args:
            qualities: JPEG quality 1..100 per stream, or 0 for PNG.
            done: Called as (name, stamp_ns, recv_ns, bytes) on the stream's thread.
            on_failure: Told on its thread what ended an encoder: its stream has no frames any more.
        """
        self.dropped: Counter[str] = Counter()
        self._done = done
        self._queues: dict[str, queue.Queue] = {name: queue.Queue(maxsize=QUEUE_LIMIT) for name in qualities}
        self._threads = {
            name: WatchedThread(f"encoder of {name}", partial(self._work, name, quality), on_failure).start()
            for name, quality in qualities.items()
        }

    def submit(self, name: str, stamp_ns: int, recv_ns: int, frame: NDArray[np.uint8]) -> bool:
        """Queue a frame; False when its queue is full and the frame is dropped."""
        try:
            self._queues[name].put_nowait((stamp_ns, recv_ns, frame))
        except queue.Full:
            self.dropped[name] += 1
            return False
        return True

    def drain(self) -> bool:
        """Wait until every queued frame has been handed on; False if one was not within the deadline.

        A dead encoder hands nothing on: its queue is not waited for.
        """
        deadline = time.monotonic() + DRAIN_DEADLINE_S
        while any(self._queues[name].unfinished_tasks for name in self._living()):
            if time.monotonic() > deadline:
                return False
            time.sleep(DRAIN_PERIOD_S)
        return len(self._living()) == len(self._threads)

    def busy(self) -> list[str]:
        """Return the streams whose frames wait here, to be handed on by a living encoder."""
        return [name for name in self._living() if self._queues[name].unfinished_tasks]

    def abandon(self) -> dict[str, int]:
        """Throw away every frame that waits, and return how many of each stream."""
        left: Counter[str] = Counter()
        for name, waiting in self._queues.items():
            with suppress(queue.Empty):
                while True:
                    waiting.get_nowait()
                    waiting.task_done()
                    left[name] += 1
        return dict(left)

    def close(self) -> None:
        """Finish what is queued and end the threads."""
        self.drain()
        for name, thread in self._threads.items():
            with suppress(queue.Full):
                self._queues[name].put_nowait(None)
            thread.stop()

    def _living(self) -> list[str]:
        """Streams whose encoder still hands frames on; one that reports its failure does not."""
        return [name for name, thread in self._threads.items() if thread.is_alive and thread.failure is None]

    def _work(self, name: str, quality: int) -> None:
        waiting = self._queues[name]
        while (item := waiting.get()) is not None:
            stamp_ns, recv_ns, frame = item
            self._done(name, stamp_ns, recv_ns, encode(frame, quality))
            waiting.task_done()
        waiting.task_done()
