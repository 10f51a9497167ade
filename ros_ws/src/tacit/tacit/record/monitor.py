"""What each stream does right now: rate on its own stamps, age, and the newest value.

Pure; fed with what the intake accepts, read by the gate, the diagnostics and the session.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from tacit.rig import Rig
from tacit.streams import Value

WINDOW_NS = 2_000_000_000  # the rate is that of the last two seconds of stamps
MAX_SAMPLES = 400  # two seconds at 200 Hz


@dataclass
class StreamMonitor:
    """The recent past of one stream.

    Attributes:
        rate_hz: What the rig expects.
        received: Messages since the node started.
        stamp_ns: Newest stamp; 0 before the first message.
        recv_ns: When it was received.
        value: The newest value.
    """

    rate_hz: float
    received: int = 0
    stamp_ns: int = 0
    recv_ns: int = 0
    value: Value | None = None
    _stamps: deque[int] = field(default_factory=lambda: deque(maxlen=MAX_SAMPLES), repr=False)

    def saw(self, stamp_ns: int, recv_ns: int, value: Value) -> None:
        """Take one message."""
        self.received += 1
        # In simulated time messages without a header share the newest stamp of the others: those are counted.
        if self._stamps and stamp_ns < self._stamps[-1]:
            self._stamps.clear()  # its clock was set, as the intake has found: the old rate says nothing
        self._stamps.append(stamp_ns)
        while stamp_ns - self._stamps[0] > WINDOW_NS:
            self._stamps.popleft()
        self.stamp_ns, self.recv_ns, self.value = stamp_ns, recv_ns, value

    @property
    def num_recent(self) -> int:
        """Messages in the window that the rate is taken from."""
        return len(self._recent())

    @property
    def hz(self) -> float:
        """Rate over the recent stamps [Hz]; 0 where they do not tell."""
        recent = self._recent()
        if len(recent) < 2 or recent[-1] == recent[0]:
            return 0.0
        return (len(recent) - 1) * 1e9 / (recent[-1] - recent[0])

    def _recent(self) -> list[int]:
        return list(self._stamps)  # at once: another thread may take a message meanwhile


def monitors_of(rig: Rig) -> dict[str, StreamMonitor]:
    """Return an empty monitor for every stream of the rig."""
    return {name: StreamMonitor(spec.rate_hz) for name, spec in rig.specs.items()}
