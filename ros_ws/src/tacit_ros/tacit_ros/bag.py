"""ROS 2 bags as episodes: a bag is heard as a robot is, by the same decoders, intake, gate and aligner.

Time is the bag's: a message was received when it was written there.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rclpy.serialization import deserialize_message

from tacit.config.documents import MAX_YAML_BYTES, json_mapping, read_text, yaml_mapping
from tacit.convert.bag.contents import NO_CONTACT
from tacit.convert.bag.writing import LABELS, RIG
from tacit.convert.draft import plain_name
from tacit.convert.incoming import provenance
from tacit.convert.job import Converted, Import, Track
from tacit.episode import EpisodeWriter
from tacit.errors import EpisodeError, ImageError
from tacit.images import decode_image
from tacit.record.encoder_pool import encode
from tacit.record.monitor import monitors_of
from tacit.record.preroll import Surroundings, reasons_not_to_start
from tacit.record.recording import Recording
from tacit.record.references import TouchReferences
from tacit.rig import CameraSpec, GelSpec, Rig, load_rig, parse_rig
from tacit.streams import Arrival, Intake
from tacit_ros import messages
from tacit_ros.wire.bag_draft import draft_from
from tacit_ros.wire.hearing import Hearing

BAG_FILES = (".mcap", ".db3")
METADATA = "metadata.yaml"
COMPRESSED = "sensor_msgs/msg/CompressedImage"
GATE_EVERY_NS = 100_000_000
"""How often the gate is asked before the start: an operator would try again as well."""
SETTLED_NS = 2_000_000_000
"""For so long the no-contact pictures are waited for; what came meanwhile is in the episode all the same."""
KEPT_NS = 10_000_000_000
"""Of what came before the gate opened, so much is in the episode."""
QUALITY, TOUCH_QUALITY = 90, 95
SUCCESS: dict[object, bool] = {1: True, 0: False}
"""By the label of an episode that we made the bag from."""
MOST_NAMED = 12


@dataclass(frozen=True, kw_only=True)
class Reading(Import):
    """Read ROS 2 bags (mcap or sqlite3), each as one episode, through the rig of the robot.

    Example: tacit convert my_bags data --from rosbag2 --rig my_rig.yaml --task fold --instruction "fold it"
    """

    instruction: str = ""
    """What a person would say to have the task done."""
    rate_tolerance: float = 0.1
    """Accepted relative difference to the rates of the rig, as of the recorder."""


class _Topic(NamedTuple):
    """Where one stream of the rig is in a bag."""

    stream: str
    topic: str
    kind: str


def recognises(source: Path) -> bool:
    """Whether a path is a bag, or a folder with one in it."""
    return bool(_bags(source))


def draft(source: Path) -> Rig:
    """Return the rig that a bag carries, or one drafted from its topics.

    Raises:
        TacitError: It cannot be read, or holds no joints with names.
    """
    path = _bags(source)[0]
    with _opened(path) as bag:
        return _carried(bag, path) or draft_from(bag, plain_name(path.stem, "robot"))


def read(job: Reading, place: Path, track: Track) -> Converted:
    """Write every bag at the source as one episode below `place`."""
    bags = _bags(job.source)
    if not bags:
        raise EpisodeError(f"{job.source}: no bag ({METADATA}, *.mcap, *.db3) in it")
    frames, notes = 0, []
    for index, path in enumerate(track(bags, "bags")):
        replay = _Replay(path, place, job, index)
        frames += replay.run()
        notes += replay.notes
    return Converted(len(bags), frames, tuple(notes))


def _bags(source: Path) -> list[Path]:
    """Return the bags at a path: folders with metadata, else single files."""
    if source.is_file():
        return [source] if source.suffix in BAG_FILES else []
    if (source / METADATA).is_file():
        return [source]
    folders = sorted(path.parent for path in source.rglob(METADATA))
    files = sorted(path for path in source.rglob("*") if path.suffix in BAG_FILES)
    return folders + [path for path in files if path.parent not in folders]


class _Replay:
    """One bag on its way into an episode.

    Attributes:
        notes: What the user should know of it.
    """

    def __init__(self, path: Path, place: Path, job: Reading, index: int) -> None:
        self.notes: list[str] = []
        self._path, self._place, self._job, self._index = path, place, job, index
        self._recording: Recording | None = None
        self._aborted = False
        self._arrived: deque[Arrival] = deque()
        self._why_late = ""
        self._now_ns = self._first_ns = self._asked_ns = 0

    def run(self) -> int:
        """Read the bag; returns the number of ticks.

        Raises:
            EpisodeError: It cannot be read, lacks what the rig requires, or its streams would not have been
                let past the gate of the recorder.
        """
        with _opened(self._path) as bag:
            custom = _custom(bag)
            self._labels = json_mapping(custom.get(LABELS, "{}"), f"{self._path}: {LABELS}", EpisodeError)
            self._rig = self._rig_of(bag)
            topics = _topics(self._rig, bag, self._path)
            self._hear_through(topics)
            self._take_references(bag)
            connections = [c for c in bag.connections if (c.topic, c.msgtype) in self._streams]
            for connection, log_ns, data in bag.messages(connections):
                self._message(connection.topic, connection.msgtype, log_ns, bytes(data))
                if not self._goes_on():
                    break
        return self._finish()

    def _rig_of(self, bag: Any) -> Rig:
        rig = load_rig(self._job.rig) if self._job.rig is not None else _carried(bag, self._path)
        if rig is None:
            raise EpisodeError(
                f"{self._path}: give the rig of the robot with --rig; the bag holds {_listed(bag)}. "
                f"`tacit rig new --from-dataset {self._path} --out my_rig.yaml` drafts one"
            )
        return rig

    def _take_references(self, bag: Any) -> None:
        """Take what the sensors show untouched, which bags of ours hold."""
        names, arrays = {f"{NO_CONTACT}/{name}": name for name in self._rig.tactile}, self._rig.taxels
        skins = [c for c in bag.connections if names.get(c.topic) in arrays]
        for connection, _, data in bag.messages(skins) if skins else ():
            name = names[connection.topic]
            message: object = deserialize_message(bytes(data), messages.message_class(arrays[name].type))
            self._references.images[name] = messages.read_taxels(message, arrays[name].array)
        kept = [c for c in bag.connections if c.topic in names and c.msgtype == COMPRESSED]
        for connection, _, data in bag.messages(kept) if kept else ():
            picture: Any = deserialize_message(bytes(data), messages.message_class(COMPRESSED))
            try:
                image = decode_image(np.asarray(picture.data, np.uint8))
            except ImageError as problem:
                raise EpisodeError(f"{self._path}: {connection.topic}: {problem}") from None
            self._references.images[names[connection.topic]] = image

    def _hear_through(self, topics: Sequence[_Topic]) -> None:
        """Set up what a recorder node hears with; pictures may have come compressed."""
        data = self._rig.model_dump(mode="json")
        for found in topics:
            if found.stream in self._rig.images:
                group = "cameras" if found.stream in self._rig.cameras else "tactile"
                data[group][found.stream]["type"] = found.kind
        heard = parse_rig(data, f"rig {self._rig.name}")
        self._streams: dict[tuple[str, str], list[str]] = {}
        for found in topics:
            self._streams.setdefault((found.topic, found.kind), []).append(found.stream)
        self._intake = Intake(self._rig)
        self._monitors = monitors_of(self._rig)
        self._references = TouchReferences(self._rig, self._monitors)
        self._hearing = Hearing(heard, self._intake, self._take, joint_readings=True)

    def _message(self, topic: str, kind: str, log_ns: int, data: bytes) -> None:
        self._first_ns, self._now_ns = self._first_ns or log_ns, log_ns
        for stream in self._streams[topic, kind]:
            try:
                message: object = deserialize_message(data, messages.message_class(kind))
            except (RuntimeError, ValueError) as problem:
                self._intake.refuse(stream, "undecodable", f"no {kind}: {problem}", log_ns)
                continue
            self._hearing.hear(stream, message, log_ns, log_ns)

    def _take(self, name: str, stamp_ns: int, recv_ns: int, value: Any) -> None:
        """Take what the intake accepts."""
        newest = value["position"] if isinstance(value, dict) else value
        self._monitors[name].saw(stamp_ns, recv_ns, newest)
        if self._recording is None:
            self._references.saw(name)
        if name in self._rig.images and np.asarray(value).ndim > 1:
            value = encode(value, TOUCH_QUALITY if name in self._rig.gels else QUALITY)
        arrival = Arrival(name, stamp_ns, recv_ns, value)
        if self._recording is None:
            self._arrived.append(arrival)
        else:
            self._recording.push(arrival)

    def _goes_on(self) -> bool:
        """Start the episode as soon as the gate opens; False once it must end."""
        if self._recording is None:
            if self._now_ns - self._asked_ns >= GATE_EVERY_NS:
                self._asked_ns = self._now_ns
                self._ask()
            return True
        self._recording.advance(self._now_ns, self._now_ns, True)
        reason = self._recording.ended(self._now_ns)
        if reason is not None:
            self._recording.event("loss", {"reason": reason})
            self._recording.finish(None, reason="error", outcome=reason)
            after_s = (self._now_ns - self._first_ns) / 1e9
            self.notes.append(f"{self._path.name}: kept as aborted after {after_s:.1f} s: {reason}")
            self._aborted = True
        return reason is None

    def _ask(self) -> None:
        """Start if the gate lets it; what came long before belongs to no episode, as with a recorder."""
        settled = self._now_ns - self._first_ns >= SETTLED_NS or not self._references.missing
        reasons = self._reasons()
        if settled and not reasons:
            self._start()
        while self._arrived and self._now_ns - self._arrived[0].recv_ns > KEPT_NS:
            self._arrived.popleft()
            self._why_late = next(iter(reasons), self._why_late)

    def _reasons(self) -> list[str]:
        """Return why a recorder would not have started."""
        heard = {name for names in self._streams.values() for name in names}
        around = Surroundings(
            now_ns=self._intake.newest_ns if self._intake.is_foreign else self._now_ns,
            num_publishers=lambda name: int(name in heard),
            findings=self._intake.findings(self._now_ns),
            free_bytes=1,
            min_free_bytes=0,
            rate_tolerance=self._job.rate_tolerance,
        )
        return reasons_not_to_start(self._rig, self._monitors, around)

    def _start(self) -> None:
        """Begin the episode with everything that the bag has said so far."""
        labels, name = self._labels, plain_name(self._path.stem, "task")
        self._intake.drain_events()
        writer = EpisodeWriter(
            self._place,
            self._rig,
            task=self._job.task or str(labels.get("task", "")) or name,
            instruction=self._job.instruction or str(labels.get("language_instruction", "")),
            sim=self._rig.simulation is not None,
            references=self._references.images,
            metadata=provenance("rosbag2", "", self._path.name, self._index),
            sync=False,
        )
        self._recording = Recording(self._rig, writer, self._intake)
        if self._why_late:
            late_s = (self._arrived[0].recv_ns - self._first_ns) / 1e9
            self.notes.append(f"{self._path.name}: begins {late_s:.1f} s late: {self._why_late}")
        for arrival in self._arrived:
            self._recording.push(arrival)
        self._arrived.clear()

    def _finish(self) -> int:
        """Label and close the episode; returns the number of its ticks."""
        if self._recording is None:
            if reasons := self._reasons():
                listed = "\n- ".join(reasons)
                raise EpisodeError(f"{self._path}: the recorder would not have started:\n- {listed}")
            self._start()
        recording = self._recording
        assert recording is not None
        if not self._aborted:
            success = self._job.success(SUCCESS.get(self._labels.get("success")))
            recording.finish(success, outcome=str(self._labels.get("outcome", "")))
        if missing := self._references.missing:
            self.notes.append(
                f"{self._path.name}: no no-contact picture of {', '.join(missing)}: no gripper was seen open"
            )
        return recording.writer.num_ticks


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Yield an open reader of a bag.

    Raises:
        EpisodeError: It is damaged or cut off, or its format is not known.
    """
    import apsw
    from rosbags.rosbag2 import Reader, ReaderError

    if path.is_dir():  # within our limits first: rosbags writes out whatever aliases stand for
        metadata = path / METADATA
        yaml_mapping(read_text(metadata, MAX_YAML_BYTES, "YAML", EpisodeError), str(metadata), EpisodeError)
    try:
        with Reader(path) as bag:
            yield bag
    except (ReaderError, apsw.Error, struct.error, FileNotFoundError, EOFError) as problem:
        raise EpisodeError(
            f"{path}: cannot be read as a bag ({problem}); one that was killed while recording is mended by "
            "`ros2 bag reindex` (sqlite3) or `mcap recover` (mcap)"
        ) from None


def _custom(bag: Any) -> dict[str, str]:
    """Return what we had noted in a bag of ours."""
    return getattr(bag.storage.metadata, "custom", None) or {}


def _carried(bag: Any, path: Path) -> Rig | None:
    """Return the rig in a bag of ours."""
    where, text = f"{path}: {RIG}", _custom(bag).get(RIG)
    return None if text is None else parse_rig(yaml_mapping(text, where, EpisodeError), where)


def _topics(rig: Rig, bag: Any, path: Path) -> list[_Topic]:
    """Return where the streams of the rig are in the bag.

    Raises:
        EpisodeError: A required one is not there, or of another type.
    """
    held = {(connection.topic, connection.msgtype) for connection in bag.connections}
    found, lacking = [], []
    for name, spec in rig.specs.items():
        match = next((place for place in _places(spec) if place in held), None)
        if match is not None:
            found.append(_Topic(name, *match))
        elif spec.required:
            lacking.append(f"{name}: {spec.topic} ({spec.type})")
    if lacking:
        raise EpisodeError(
            f"{path}: lacks what the rig {rig.name} requires: {'; '.join(lacking)}. The bag holds "
            f"{_listed(bag)}; name its topics in the rig, or set `required: false` there"
        )
    return found


def _places(spec: Any) -> list[tuple[str, str]]:
    """Return (topic, type) where a stream may be: a picture also as image_transport compresses it."""
    places = [(spec.topic, spec.type)]
    if isinstance(spec, (CameraSpec, GelSpec)):
        base = spec.topic.removesuffix("/compressed").removesuffix("/compressedDepth")
        places += [(f"{base}/{ending}", COMPRESSED) for ending in ("compressed", "compressedDepth")]
        places.append((base, "sensor_msgs/msg/Image"))
    return places


def _listed(bag: Any) -> str:
    topics = [f"{connection.topic} ({connection.msgtype})" for connection in bag.connections]
    more = len(topics) - MOST_NAMED
    return ", ".join(topics[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
