"""JPEG encoding beside the callbacks: one thread per image stream, so order needs no bookkeeping.

cv2 frees the interpreter lock while it encodes. A full queue drops the newest frame and counts it;
it never blocks a callback, and never shifts the frames that follow.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from tacit.images import encode_jpeg, encode_png

QUEUE_LIMIT = 30  # one second of frames: 27 MB at VGA
PNG = 0  # as a quality: lossless
Encoded = Callable[[str, int, int, NDArray[np.uint8]], None]


def encode(rgb: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Return `rgb` (H, W, 3) as JPEG of `quality`, or as PNG for quality 0; encoded 1-D stays."""
    if rgb.ndim == 1:
        return rgb
    return encode_png(rgb) if quality == PNG else encode_jpeg(rgb, quality)


class EncoderPool:
    """Threads that turn frames into bytes and hand them on, each stream in its own order.

    Attributes:
        dropped: Frames per stream that found their queue full.
    """

    def __init__(self, qualities: Mapping[str, int], done: Encoded) -> None:
        """Start one thread per stream.

        Args:
            qualities: JPEG quality 1..100 per stream, or 0 for PNG.
            done: Called as (name, stamp_ns, recv_ns, bytes) on the stream's thread.
        """
        self.dropped: Counter[str] = Counter()
        self._done = done
        self._queues: dict[str, queue.Queue] = {name: queue.Queue(maxsize=QUEUE_LIMIT) for name in qualities}
        self._threads = [
            threading.Thread(target=self._work, args=(name, quality), name=f"encode-{name}", daemon=True)
            for name, quality in qualities.items()
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, name: str, stamp_ns: int, recv_ns: int, frame: NDArray[np.uint8]) -> bool:
        """Queue a frame; False when its queue is full and the frame is dropped."""
        try:
            self._queues[name].put_nowait((stamp_ns, recv_ns, frame))
        except queue.Full:
            self.dropped[name] += 1
            return False
        return True

    def drain(self) -> None:
        """Wait until every queued frame has been handed on."""
        for waiting in self._queues.values():
            waiting.join()

    def close(self) -> None:
        """Finish what is queued and end the threads."""
        for waiting in self._queues.values():
            waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self, name: str, quality: int) -> None:
        waiting = self._queues[name]
        while (item := waiting.get()) is not None:
            stamp_ns, recv_ns, frame = item
            self._done(name, stamp_ns, recv_ns, encode(frame, quality))
            waiting.task_done()
        waiting.task_done()
