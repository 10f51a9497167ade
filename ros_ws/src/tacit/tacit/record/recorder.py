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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from tacit.episode import EpisodeWriter
from tacit.episode.files import find_parts, move_to_trash
from tacit.errors import EpisodeError, TacitError
from tacit.record.attention import Attention
from tacit.record.encoder_pool import EncoderPool
from tacit.record.monitor import monitors_of
from tacit.record.recording import Recording
from tacit.record.references import TouchReferences
from tacit.rig import Rig
from tacit.streams import Arrival, Intake, JointReading, Value
from tacit.threads import Caught, Failure, OnFailure, WatchedThread
from tacit.threads.requests import Requests

DRAIN_S = 0.04  # the writer wakes 25 times a second, however many messages come
QUEUE_SECONDS = 4.0  # messages per stream that may wait while the disk stalls
FINISH_DEADLINE_S = 20.0  # for the writer thread to end with the episode in the making
COMMAND_AGE_NS = 1_000_000_000  # a command this old at the start is not in force any more
Report = Callable[[Literal["info", "warn", "error"], str], None]


@dataclass(frozen=True)
class SessionSettings:
    """What holds for all episodes of a session.

    Attributes:
        root: Folder of the data set.
        jpeg_quality: JPEG quality of camera images, 1..100.
        tactile_quality: JPEG quality of tactile images, 1..100; 0 stores PNG.
        operator: Who demonstrates.
        session: Name of the session; a random one when empty.
        stamp_on_reception: Trust no header: every stream counts from its reception.
        metadata: Further root attributes of each episode.
        clock: The steady clock [ns], on which silence is measured.
    """

    root: Path
    jpeg_quality: int = 90
    tactile_quality: int = 95
    operator: str = ""
    session: str = ""
    stamp_on_reception: bool = False
    metadata: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    clock: Callable[[], int] = time.monotonic_ns


class RecorderSession:
    """Records episodes one after the other from the arrivals it is given.

    Attributes:
        intake: Judges what comes in; `receive` is given only what it accepts.
        monitors: State of every stream, recording or not.
        last_path: The newest finished episode of this session.
        failure: What ended one of its threads; None while all is well. Nothing is recorded after it.
    """

    def __init__(self, rig: Rig, settings: SessionSettings, report: Report, on_failure: OnFailure) -> None:
        """Start the writer thread and the encoders.

        Args:
            rig: What is recorded.
            settings: Settings of the session.
            report: Told in words what happens; called from any thread.
            on_failure: Told what ended a thread, after the episode in the making has been kept.
        """
        self.failure: Failure | None = None
        self._on_failure = on_failure
        self.monitors = monitors_of(rig)
        self.last_path: Path | None = None
        self.intake = Intake(rig, receive=rig.specs if settings.stamp_on_reception else ())
        self._rig, self._settings, self._report = rig, settings, report
        self._session = settings.session or uuid.uuid4().hex[:8]
        self._images = set(rig.image_names)
        self._limits = {name: int(QUEUE_SECONDS * spec.rate_hz) + 8 for name, spec in rig.specs.items()}
        self._arrived: dict[str, deque[Arrival]] = {name: deque() for name in self._limits}
        self._lost_queue: Counter[str] = Counter()
        self._attention, self._looked_from_outside = Attention(), False
        self._references = TouchReferences(rig, self.monitors)
        self._recording: Recording | None = None
        self._labels = ("", "")
        self._wake = threading.Event()
        self._requests = Requests("the recorder", EpisodeError, self._wake.set)
        qualities = dict.fromkeys(rig.cameras, settings.jpeg_quality)
        qualities |= dict.fromkeys(rig.gels, settings.tactile_quality)
        self._encoders = EncoderPool(qualities, self._enqueue, self._thread_failed)
        self._writer = WatchedThread("writer", self._work, self._thread_failed)
        self._writer.start()

    # --- called by the subscriptions -------------------------------------------------------------

    def receive(self, name: str, stamp_ns: int, recv_ns: int, value: Value | JointReading) -> None:
        """Take one message; returns at once."""
        newest = value["position"] if isinstance(value, dict) else value
        self.monitors[name].saw(stamp_ns, recv_ns, newest)
        if self._recording is None:
            self._references.saw(name)
        elif name not in self._images or np.asarray(newest).ndim == 1:  # numbers, or encoded by the driver
            self._enqueue(name, stamp_ns, recv_ns, value)
        elif not self._encoders.submit(name, stamp_ns, recv_ns, cast("NDArray[np.uint8]", value)):
            self._lost_queue[name] += 1

    def looked(self, now_ns: int) -> None:
        """Say that everything that had come was handed to `receive`: from here on silence is the drivers'.

        A caller that polls its messages says so after each round; whoever never does is taken to listen
        whenever the writer runs.

        Args:
            now_ns: Steady clock.
        """
        self._looked_from_outside = True
        self._attention.looked(now_ns)

    # --- called by the services ------------------------------------------------------------------

    def start(self, task: str, instruction: str) -> Path:
        """Begin an episode.

        Raises:
            EpisodeError: One is being recorded already, or its file cannot be made.
        """
        return self._requests.ask(lambda: self._start(task, instruction))

    def stop(self, success: bool | None) -> Path:
        """Finish the episode and return its path.

        Raises:
            EpisodeError: None is being recorded, or it has no tick.
        """
        return self._requests.ask(lambda: self._stop(success))

    def discard(self) -> Path:
        """Move the episode that is being recorded to the trash."""
        return self._requests.ask(self._discard)

    def redo(self) -> Path:
        """Move the episode that is being recorded (else the last one) to the trash and start anew."""
        return self._requests.ask(self._redo)

    def delete_last(self) -> Path:
        """Move the last finished episode of this session to the trash."""
        return self._requests.ask(self._delete_last)

    def abort(self, reason: str) -> None:
        """Keep the episode that is being recorded, if any, as aborted for `reason`."""
        self._requests.ask(lambda: self._abort_if_recording(reason))

    def mark(self, label: str) -> int:
        """Note an event at the present instant; returns the number of ticks so far."""
        return self._requests.ask(lambda: self._mark(label))

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
        recording = self._recording  # the writer's thread may end it meanwhile
        if recording is not None:
            recording.lost_reported = dict(lost)

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
        if self._writer.stopping.is_set():
            return
        if self.is_recording and self._writer.is_alive:
            try:
                self._report("warn", f"interrupted; kept {self.stop(None)}")
            except TacitError as error:
                self._report("error", str(error))
        self._writer.stop(FINISH_DEADLINE_S, nudge=self._wake.set)
        self._encoders.close()

    # --- the writer thread -----------------------------------------------------------------------

    def _work(self) -> None:
        while not self._writer.stopping.is_set():
            self._wake.wait(DRAIN_S)
            self._wake.clear()
            self._advance()
            self._requests.serve()

    def _thread_failed(self, failure: Failure) -> None:
        """Keep the episode in the making with the reason; runs on the thread that has failed."""
        if self._writer.is_current:  # nobody else may touch the file, and this thread still can
            self._requests.refuse(str(failure))
            self._abort_if_recording(str(failure))
        elif not self._writer.stopping.is_set():
            try:
                self.abort(str(failure))
            except TacitError as error:
                self._report("error", str(error))
        self._requests.refuse(str(failure))
        self.failure = self.failure or failure
        self._on_failure(failure)

    def _advance(self) -> None:
        """Bring what has arrived to the file; end the episode when it cannot go on."""
        recording = self._recording
        if recording is None:
            return
        now_ns = self._settings.clock()
        if not self._looked_from_outside:
            self._attention.looked(now_ns)
        listened_ns = self._attention.ns  # before the drain: what comes during it was heard
        try:
            heard = self._drain(recording)
            recording.advance(now_ns, listened_ns, heard, self._encoders.busy())
            reason = recording.ended(listened_ns) or self._attention.absent(now_ns)
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
        for away_ns in self._attention.take_late():
            recording.event("late_intake", {"ms": away_ns / 1e6})
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
        self._references.refresh()
        writer = EpisodeWriter(
            self._settings.root,
            self._rig,
            task=task,
            instruction=instruction,
            sim=self._rig.simulation is not None,
            session_id=self._session,
            operator=self._settings.operator,
            references=self._references.images,
            metadata=self._settings.metadata,
        )
        self._labels = (task, instruction)
        self.intake.drain_events()
        self._lost_queue.clear()
        for waiting in self._arrived.values():
            waiting.clear()
        self._attention.take_late()  # of the time between two episodes
        self._recording = Recording(self._rig, writer, self.intake, self._commands_in_force())
        self._recording.lost_queue = self._lost_queue
        if missing := self._references.missing:
            self._report(
                "warn",
                f"{writer.path.name} has no no-contact picture of {', '.join(missing)}: no moment with all "
                "grippers open was seen yet; discard it, open them for a second, and start again",
            )
        return writer.path

    def _commands_in_force(self) -> list[Arrival]:
        """Commands given shortly before the start; an older one may belong to another scene."""
        newest_ns = max(monitor.stamp_ns for monitor in self.monitors.values())
        return [
            Arrival(name, monitor.stamp_ns, monitor.recv_ns, monitor.value)
            for name, spec in self._rig.commands.items()
            if spec.required  # an optional one may be the last word before a person took the arm by hand
            and (monitor := self.monitors[name]).stamp_ns > max(newest_ns - COMMAND_AGE_NS, 0)
        ]

    def _take(self) -> Recording:
        """End the intake and return the recording with everything that had arrived."""
        recording = self._recording
        if recording is None:
            raise EpisodeError("nothing is being recorded; call start first")
        if not self._encoders.drain():
            self._lost_queue.update(left := self._encoders.abandon())
            lost = ", ".join(f"{count} of {name}" for name, count in left.items()) or "a dead encoder's"
            self._report("error", f"the last frames are lost: {lost}; the encoders could not keep up")
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

    def _abort_if_recording(self, reason: str) -> None:
        if self._recording is not None:
            self._abort(self._recording, reason)

    def _abort(self, recording: Recording, reason: str) -> None:
        """Keep what there is as an aborted episode; where even that fails, say how to get it back."""
        with Caught() as caught:
            recording.event("loss", {"reason": reason})
            self.last_path = recording.finish(None, reason="error", outcome=reason)
        self._recording = None
        if caught.error is None:
            self._report("error", f"episode aborted and kept as {self.last_path}: {reason}")
        else:
            self._report(
                "error",
                f"episode aborted ({reason}) and not finished: {caught.error!r}; "
                f"bring it back with `tacit recover {recording.writer.part}`",
            )
