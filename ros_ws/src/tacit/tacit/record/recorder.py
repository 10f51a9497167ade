"""The recorder without ROS: what callbacks may do, the writer thread, and the life of episodes.

Callbacks stamp and push to bounded queues; encoder threads turn frames into JPEG; one writer thread
owns the file. Requests (start, stop, ...) are carried out on that thread, between two drains.
"""

from __future__ import annotations

import shutil
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from tacit.episode import EpisodeWriter
from tacit.episode.files import find_parts, move_to_trash
from tacit.errors import EpisodeError, TacitError
from tacit.images import as_rgb
from tacit.record.encoder_pool import EncoderPool
from tacit.record.monitor import monitors_of
from tacit.record.recording import Recording
from tacit.rig import Rig
from tacit.streams import Arrival, JointReading, Value

DRAIN_S = 0.02  # the writer wakes 50 times a second, however many messages come
QUEUE_SECONDS = 4.0  # messages per stream that may wait while the disk stalls
REQUEST_TIMEOUT_S = 30.0
COMMAND_AGE_NS = 1_000_000_000  # a command this old at the start is not in force any more
OPEN_FRACTION = 0.9  # a gripper this open holds nothing: its touch image is a no-contact reference
ResultT = TypeVar("ResultT")
Report = Callable[[Literal["info", "warn", "error"], str], None]


@dataclass(frozen=True)
class SessionSettings:
    """What holds for all episodes of a session.

    Attributes:
        root: Folder of the data set.
        jpeg_quality: Of cameras, 1..100.
        tactile_quality: Of tactile images, 1..100; 0 stores PNG.
        operator: Who demonstrates.
        session: Name of the session; a random one when empty.
        metadata: Further root attributes of each episode.
    """

    root: Path
    jpeg_quality: int = 90
    tactile_quality: int = 95
    operator: str = ""
    session: str = ""
    metadata: Mapping[str, str | int | float | bool] = field(default_factory=dict)


class RecorderSession:
    """Records episodes one after the other from the arrivals it is given.

    Attributes:
        monitors: State of every stream, recording or not.
        last_path: The newest finished episode of this session.
    """

    def __init__(self, rig: Rig, settings: SessionSettings, report: Report) -> None:
        """Start the writer thread and the encoders; `report` may be called from that thread."""
        self.monitors = monitors_of(rig)
        self.last_path: Path | None = None
        self.simulated = False
        self._rig, self._settings, self._report = rig, settings, report
        self._session = settings.session or uuid.uuid4().hex[:8]
        self._images = set(rig.image_names)
        self._limits = {name: int(QUEUE_SECONDS * spec.rate_hz) + 8 for name, spec in rig.specs.items()}
        self._arrived: dict[str, deque[Arrival]] = {name: deque() for name in self._limits}
        self._lost_queue: Counter[str] = Counter()
        self._references: dict[str, np.ndarray] = {}
        self._recording: Recording | None = None
        self._labels = ("", "")
        self._requests: deque[tuple[Callable[[], object], Future]] = deque()
        self._wake = threading.Event()
        self._closing = False
        qualities = dict.fromkeys(rig.cameras, settings.jpeg_quality)
        qualities |= dict.fromkeys(rig.tactile, settings.tactile_quality)
        self._encoders = EncoderPool(qualities, self._enqueue)
        self._thread = threading.Thread(target=self._work, name="writer", daemon=True)
        self._thread.start()

    # --- called by the subscriptions -------------------------------------------------------------

    def receive(self, name: str, stamp_ns: int, recv_ns: int, value: Value | JointReading) -> None:
        """Take one message; returns at once."""
        if isinstance(value, dict):
            self.monitors[name].saw(stamp_ns, recv_ns, value["position"])
            if self._recording is not None:
                self._enqueue(name, stamp_ns, recv_ns, value)
            return
        self.monitors[name].saw(stamp_ns, recv_ns, value)
        if self._recording is None:
            if name in self._rig.tactile and name not in self._references:
                self._references[name] = np.array(as_rgb(value))
        elif name not in self._images or value.ndim == 1:  # numbers, or encoded by the driver
            self._enqueue(name, stamp_ns, recv_ns, value)
        elif not self._encoders.submit(name, stamp_ns, recv_ns, cast(NDArray[np.uint8], value)):
            self._lost_queue[name] += 1

    # --- called by the services ------------------------------------------------------------------

    def start(self, task: str, instruction: str) -> Path:
        """Begin an episode.

        Raises:
            EpisodeError: One is being recorded already, or its file cannot be made.
        """
        return self._request(lambda: self._start(task, instruction))

    def stop(self, success: bool | None) -> Path:
        """Finish the episode and return its path.

        Raises:
            EpisodeError: None is being recorded, or it has no tick.
        """
        return self._request(lambda: self._stop(success))

    def discard(self) -> Path:
        """Move the episode that is being recorded to the trash."""
        return self._request(self._discard)

    def redo(self) -> Path:
        """Move the episode that is being recorded (else the last one) to the trash and start anew."""
        return self._request(self._redo)

    def delete_last(self) -> Path:
        """Move the last finished episode of this session to the trash."""
        return self._request(self._delete_last)

    def mark(self, label: str) -> int:
        """Note an event at the present instant; returns the number of ticks so far."""
        return self._request(lambda: self._mark(label))

    def status(self) -> dict[str, object]:
        """Return what goes on, as JSON-able data."""
        recording = self._recording
        return {
            "state": "idle" if recording is None else "recording",
            "task": self._labels[0],
            "path": None if recording is None else str(recording.writer.path),
            "num_ticks": 0 if recording is None else recording.writer.num_ticks,
            "last": None if self.last_path is None else str(self.last_path),
            "streams": {n: {"hz": round(m.hz, 2), "received": m.received} for n, m in self.monitors.items()},
            "counts": {} if recording is None else recording.summary(),
            "free_gb": round(self.free_bytes() / 1e9, 2),
            "session": self._session,
        }

    @property
    def is_recording(self) -> bool:
        """Whether an episode is in the making."""
        return self._recording is not None

    def report_lost(self, lost: Mapping[str, int]) -> None:
        """Pass on how many messages the middleware reports as lost during this episode."""
        if self._recording is not None:
            self._recording.lost_reported = dict(lost)

    def free_bytes(self) -> int:
        """Return the free space of the disk of the episodes."""
        folder = self._settings.root.absolute()
        while not folder.exists():
            folder = folder.parent
        return shutil.disk_usage(folder).free

    @property
    def root(self) -> Path:
        """Folder of the data set."""
        return self._settings.root

    def interrupted(self) -> list[Path]:
        """Return the `.part` files that an earlier session left."""
        if not self._settings.root.is_dir():
            return []
        recording = self._recording
        own = None if recording is None else recording.writer.part
        return [path for path in find_parts(self._settings.root) if path != own]

    def close(self) -> None:
        """Finish what is being recorded, unlabelled, and end all threads."""
        if self._closing:
            return
        if self.is_recording:
            try:
                self._report("warn", f"interrupted; kept {self.stop(None)}")
            except TacitError as error:
                self._report("error", str(error))
        self._closing = True
        self._wake.set()
        self._thread.join()
        self._encoders.close()

    # --- the writer thread -----------------------------------------------------------------------

    def _request(self, action: Callable[[], ResultT]) -> ResultT:
        future: Future[ResultT] = Future()
        self._requests.append((action, future))
        self._wake.set()
        return future.result(timeout=REQUEST_TIMEOUT_S)

    def _work(self) -> None:
        while not self._closing:
            self._wake.wait(DRAIN_S)
            self._wake.clear()
            self._advance()
            while self._requests:
                action, future = self._requests.popleft()
                try:
                    future.set_result(action())
                except (TacitError, OSError, ValueError) as error:
                    future.set_exception(error)

    def _advance(self) -> None:
        """Bring what has arrived to the file; end the episode when it cannot go on."""
        recording = self._recording
        if recording is None:
            return
        now_ns = time.monotonic_ns()
        try:
            heard = self._drain(recording)
            recording.advance(now_ns, heard)
            reason = recording.lost(now_ns, self.simulated)
        except (TacitError, OSError, ValueError) as error:
            reason = str(error)
        if reason is not None:
            self._abort(recording, reason)

    def _drain(self, recording: Recording) -> bool:
        """Push everything that has arrived, in the order of reception."""
        arrivals: list[Arrival] = []
        for waiting in self._arrived.values():
            arrivals += [waiting.popleft() for _ in range(len(waiting))]
        for arrival in sorted(arrivals, key=lambda a: a.recv_ns):
            recording.push(arrival)
        return bool(arrivals)

    def _enqueue(self, name: str, stamp_ns: int, recv_ns: int, value: Value | JointReading) -> None:
        waiting = self._arrived[name]
        if len(waiting) >= self._limits[name]:
            self._lost_queue[name] += 1
        else:
            waiting.append(Arrival(name, stamp_ns, recv_ns, value))

    def _start(self, task: str, instruction: str) -> Path:
        if self._recording is not None:
            raise EpisodeError(f"already recording {self._recording.writer.path}; stop or discard it first")
        self._refresh_references()
        writer = EpisodeWriter(
            self._settings.root,
            self._rig,
            task=task,
            instruction=instruction,
            sim=self._rig.simulation is not None,
            session_id=self._session,
            operator=self._settings.operator,
            references=self._references,
            metadata=self._settings.metadata,
        )
        self._labels = (task, instruction)
        self._lost_queue.clear()
        for waiting in self._arrived.values():
            waiting.clear()
        self._recording = Recording(self._rig, writer, self._commands_in_force())
        self._recording.lost_queue = self._lost_queue
        return writer.path

    def _commands_in_force(self) -> list[Arrival]:
        """Commands given shortly before the start; an older one may belong to another scene."""
        newest_ns = max(monitor.stamp_ns for monitor in self.monitors.values())
        return [
            Arrival(name, monitor.stamp_ns, monitor.recv_ns, monitor.value)
            for name in self._rig.commands
            if (monitor := self.monitors[name]).stamp_ns > max(newest_ns - COMMAND_AGE_NS, 0)
        ]

    def _refresh_references(self) -> None:
        """Take the present touch images as no-contact references if all grippers are open."""
        if not self._grippers_open():
            return
        for name in self._rig.tactile:
            value = self.monitors[name].value
            if value is not None:
                self._references[name] = np.array(as_rgb(value))

    def _grippers_open(self) -> bool:
        openings = {a.gripper.name: a.gripper.upper for a in self._rig.arms.values() if a.gripper}
        for stream, spec in self._rig.streams.items():
            value = self.monitors[stream].value
            for index, name in enumerate(spec.names):
                if name in openings and (value is None or value[index] < OPEN_FRACTION * openings[name]):
                    return False
        return True

    def _take(self) -> Recording:
        """End the intake and return the recording with everything that had arrived."""
        recording = self._recording
        if recording is None:
            raise EpisodeError("nothing is being recorded; call start first")
        self._encoders.drain()
        self._drain(recording)
        self._recording = None
        return recording

    def _stop(self, success: bool | None) -> Path:
        recording = self._take()
        try:
            self.last_path = recording.finish(success)
        except EpisodeError:
            if recording.writer.num_ticks == 0:
                recording.discard()
            raise
        return self.last_path

    def _discard(self) -> Path:
        return self._take().discard()

    def _redo(self) -> Path:
        task, instruction = self._labels
        if not task:
            raise EpisodeError("nothing to redo in this session; call start first")
        if self._recording is not None:
            self._discard()
        else:
            self._delete_last()
        return self._start(task, instruction)

    def _delete_last(self) -> Path:
        if self.last_path is None:
            raise EpisodeError("no finished episode in this session; earlier ones are left alone")
        trashed = move_to_trash(self.last_path)
        self.last_path = None
        return trashed

    def _mark(self, label: str) -> int:
        if self._recording is None:
            raise EpisodeError("nothing is being recorded; call start first")
        self._recording.event("mark", {"label": label})
        return self._recording.writer.num_ticks

    def _abort(self, recording: Recording, reason: str) -> None:
        """Keep what there is as an aborted episode."""
        try:
            recording.event("loss", {"reason": reason})
            self.last_path = recording.finish(None, reason="error", outcome=reason)
            self._report("error", f"episode aborted and kept as {self.last_path}: {reason}")
        except (TacitError, OSError) as error:
            self._report("error", f"episode aborted ({reason}) and not finished: {error}")
        finally:
            self._recording = None
