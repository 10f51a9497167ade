"""ROS bags with tf: where the robot stood still, its pose there, and the picture or the board's pose.

Read by `rosbags`, which needs no ROS: bags of ROS 2 (MCAP and SQLite) and of ROS 1.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.errors import CalibrationError, MissingDependencyError, did_you_mean
from tacit.geometry.transforms import FloatArray, invert, pose_error
from tacit.images import Image
from tacit_calibration.poses.table import PoseRow, PoseTable

Stamps = NDArray[np.int64]
BAG_FILES = (".bag", ".mcap", ".db3")
TF_TYPES = ("tf2_msgs/msg/TFMessage", "tf/msg/tfMessage")
IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
STILL_NS = 250_000_000
"""How long before and after a moment the robot must stand still; a picture may be late by a tenth."""
STILL_M, STILL_RAD = 1e-3, np.deg2rad(0.1)
NEW_M, NEW_RAD = 5e-3, np.deg2rad(2.0)
"""From poses nearer than this nothing new is learnt; an arm that creeps gives no hundred views."""
UNIT_TOLERANCE = 1e-2
MAX_GAP_NS = 500_000_000
"""Between transforms further apart than this nobody knows where a frame was."""


DAMAGED = (OSError, ValueError, LookupError, ArithmeticError, MemoryError, AssertionError, struct.error)
"""What rosbags lets through of a damaged file, beside errors of its own."""


class Moments(NamedTuple):
    """Robot poses of a bag, and the pictures taken there where it has any."""

    table: PoseTable
    pictures: list[tuple[str, Image]]


@dataclass
class _Edge:
    """What was said of one frame in its parent."""

    parent: str
    is_static: bool
    stamps_ns: list[int] = field(default_factory=list)
    numbers: list[tuple[float, ...]] = field(default_factory=list)

    def at(self, times: Stamps) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Return the poses (n, 4, 4) at increasing times (n), and where they are known."""
        from scipy.spatial.transform import Rotation, Slerp  # slow to import

        stamps, first = np.unique(self.stamps_ns, return_index=True)
        numbers = np.array(self.numbers)[first]
        T = np.tile(np.eye(4), (len(times), 1, 1))
        if self.is_static or len(stamps) == 1:
            T[:, :3, :3] = Rotation.from_quat(numbers[-1, 3:]).as_matrix()
            T[:, :3, 3] = numbers[-1, :3]
            return T, np.ones(len(times), dtype=bool) if self.is_static else times == stamps[0]
        within = np.clip(times, stamps[0], stamps[-1])
        after = np.clip(np.searchsorted(stamps, within), 1, len(stamps) - 1)
        # Seconds since the first: whole nanoseconds of a date do not fit into a float.
        seconds, asked = (stamps - stamps[0]) / 1e9, (within - stamps[0]) / 1e9
        T[:, :3, :3] = Slerp(seconds, Rotation.from_quat(numbers[:, 3:]))(asked).as_matrix()
        T[:, :3, 3] = np.column_stack([np.interp(asked, seconds, numbers[:, i]) for i in range(3)])
        gap = stamps[after] - stamps[after - 1]
        return T, (gap <= MAX_GAP_NS) & (np.abs(times - within) <= STILL_NS)


def is_bag(path: Path) -> bool:
    """Return whether a path is a ROS bag: a file of one, or a folder with its metadata."""
    return path.suffix in BAG_FILES or (path / "metadata.yaml").is_file()


def read_bag(path: Path, frames: Sequence[str], topic: str = "") -> Moments:
    """Return the pose of the robot at each place where it stood still, once for each place.

    Args:
        path: The bag.
        frames: Base and flange; then, where tf has the board too and no pictures are wanted, camera and
            board.
        topic: Topic of the pictures; the only one if left out.

    Returns:
        Poses in metres with quaternions xyzw. Pictures are those of each moment, none for four frames.

    Raises:
        CalibrationError: No bag, no such frames or topic, or the robot never stood still.
        MissingDependencyError: rosbags is not installed.
    """
    with _opened(path) as reader:
        edges = _edges(reader)
        if len(frames) not in (2, 4):
            raise CalibrationError(
                f"{path}: --frames: expected base and flange, or base, flange, camera and board; tf has "
                f"{', '.join(sorted({*edges, *(edge.parent for edge in edges.values())})) or 'no frames'}"
            )
        if len(frames) == 4:
            times = _stamps_between(edges, frames[2], frames[3], path)
            robot, chosen = _still(edges, frames, times, path)
            boards, known = _transform(edges, frames[2], frames[3], times[chosen], path)
            rows = [
                PoseRow(_seven(T), f"{times[i] / 1e9:.3f} s", _seven(C))
                for i, T, C, ok in zip(chosen, robot, boards, known, strict=True)
                if ok
            ]
            return Moments(_table(rows), [])
        connection = _image_connection(reader, topic, path)
        stamps = [_stamp_ns(message, log_ns) for log_ns, message in _messages(reader, connection)]
        times = np.unique(np.array(stamps, dtype=np.int64))
        robot, chosen = _still(edges, frames, times, path)
        wanted = dict(zip(times[chosen].tolist(), robot, strict=True))
        # Read a second time: pictures of minutes do not fit into memory, those of the places do.
        pictures = {
            stamp: _decoded(message, path)
            for stamp, (_, message) in zip(stamps, _messages(reader, connection), strict=True)
            if stamp in wanted
        }
    rows = [PoseRow(_seven(T), f"{stamp / 1e9:.3f} s") for stamp, T in wanted.items()]
    return Moments(_table(rows), [(f"{stamp / 1e9:.3f} s", pictures[stamp]) for stamp in wanted])


def _table(rows: list[PoseRow]) -> PoseTable:
    return PoseTable(tuple(rows), unit="m", quaternion="xyzw")


def _seven(T: FloatArray) -> tuple[float, ...]:
    from scipy.spatial.transform import Rotation  # slow to import

    return (*T[:3, 3].tolist(), *Rotation.from_matrix(T[:3, :3]).as_quat().tolist())


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        from rosbags.highlevel import AnyReader, AnyReaderError
        from rosbags.rosbag1 import ReaderError as Reader1Error
        from rosbags.rosbag2 import ReaderError as Reader2Error
        from rosbags.typesys import Stores, get_typestore
    except ImportError:
        raise MissingDependencyError(
            f"{path}: to read a ROS bag, pip install rosbags rosbags-image"
        ) from None
    try:
        # Bags of Humble and before hold no definitions of their messages.
        with AnyReader([path], default_typestore=get_typestore(Stores.ROS2_HUMBLE)) as reader:
            yield reader
    except (AnyReaderError, Reader1Error, Reader2Error, *DAMAGED) as problem:
        raise CalibrationError(
            f"{path}: no ROS bag that can be read ({problem}); one whose end is missing is mended by `mcap "
            "recover` or `ros2 bag reindex`"
        ) from None


def _messages(reader: Any, connection: Any) -> Iterator[tuple[int, Any]]:
    for _, log_ns, raw in reader.messages(connections=[connection]):
        yield log_ns, reader.deserialize(raw, connection.msgtype)


def _edges(reader: Any) -> dict[str, _Edge]:
    """Return {frame: what was said of it in its parent} of all tf topics."""
    edges: dict[str, _Edge] = {}
    for connection in reader.connections:
        if connection.msgtype not in TF_TYPES:
            continue
        is_static = connection.topic.endswith("tf_static")
        for log_ns, message in _messages(reader, connection):
            for stamped in message.transforms:
                parent, child = (
                    name.lstrip("/") for name in (stamped.header.frame_id, stamped.child_frame_id)
                )
                edge = edges.setdefault(child, _Edge(parent, is_static))
                if edge.parent != parent:
                    raise CalibrationError(
                        f"tf frame {child!r} has two parents, {edge.parent!r} and {parent!r}; which is right?"
                    )
                t, q = stamped.transform.translation, stamped.transform.rotation
                numbers = (t.x, t.y, t.z, q.x, q.y, q.z, q.w)
                if np.isfinite(numbers).all() and abs(np.linalg.norm(numbers[3:]) - 1) < UNIT_TOLERANCE:
                    edge.stamps_ns.append(_stamp_ns(stamped, log_ns))
                    edge.numbers.append(numbers)
    return {child: edge for child, edge in edges.items() if edge.numbers}


def _stamp_ns(message: Any, log_ns: int) -> int:
    stamp = message.header.stamp
    return int(stamp.sec * 1_000_000_000 + stamp.nanosec) or log_ns


def _way_up(edges: dict[str, _Edge], frame: str, path: Path) -> list[str]:
    """Return the frames from this one to the root."""
    every = {*edges, *(edge.parent for edge in edges.values())}
    if frame not in every:
        raise CalibrationError(f"{path}: tf has no frame {frame!r}; {did_you_mean(frame, every)}")
    way = [frame]
    while way[-1] in edges and len(way) <= len(edges):
        way.append(edges[way[-1]].parent)
    return way


def _between(edges: dict[str, _Edge], one: str, other: str, path: Path) -> tuple[list[str], list[str]]:
    """Return the frames below the common one on the way up from each.

    Raises:
        CalibrationError: The two hang together by no transform.
    """
    up, down = _way_up(edges, one, path), _way_up(edges, other, path)
    common = next((frame for frame in up if frame in down), None)
    if common is None:
        raise CalibrationError(f"{path}: tf does not connect {one!r} (root {up[-1]!r}) and {other!r}")
    return up[: up.index(common)], down[: down.index(common)]


def _transform(
    edges: dict[str, _Edge], one: str, other: str, times: Stamps, path: Path
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return T_one_other (n, 4, 4) at increasing times (n), and where it is known."""
    known = np.ones(len(times), dtype=bool)
    ends = []
    for way in _between(edges, one, other, path):
        T = np.tile(np.eye(4), (len(times), 1, 1))
        for frame in way:
            step, ok = edges[frame].at(times)
            T, known = step @ T, known & ok
        ends.append(T)
    return invert(ends[0]) @ ends[1], known


def _stamps_between(edges: dict[str, _Edge], one: str, other: str, path: Path) -> Stamps:
    """Return when the transform between two frames was told anew: the times of its rarest part."""
    moving = [
        edges[frame].stamps_ns
        for way in _between(edges, one, other, path)
        for frame in way
        if not edges[frame].is_static
    ]
    if not moving:
        raise CalibrationError(f"{path}: {other!r} is fixed in {one!r}; expected a board that is detected")
    return np.unique(min(moving, key=len))


def _still(
    edges: dict[str, _Edge], frames: Sequence[str], times: Stamps, path: Path
) -> tuple[FloatArray, list[int]]:
    """Return the poses (k, 4, 4) of the flange where it stood still, and which of the times those are."""
    before, now, after = (
        _transform(edges, frames[0], frames[1], times + shift, path) for shift in (-STILL_NS, 0, STILL_NS)
    )
    known = before[1] & now[1] & after[1]
    for one, two in ((before, after), (before, now)):
        known &= ~_apart(one[0], two[0], STILL_M, STILL_RAD)
    chosen: list[int] = []
    for i in np.flatnonzero(known).tolist():
        same_place = np.broadcast_to(now[0][i], (len(chosen), 4, 4))
        if _apart(now[0][chosen], same_place, NEW_M, NEW_RAD).all():
            chosen.append(i)
    if not chosen:
        raise CalibrationError(
            f"{path}: {frames[1]!r} never stood still in {frames[0]!r} for {2 * STILL_NS / 1e9:.1f} s around "
            f"one of {len(times)} pictures or detections; stop the arm at every pose"
        )
    return now[0][chosen], chosen


def _apart(one: FloatArray, other: FloatArray, metres: float, radians: float) -> NDArray[np.bool_]:
    apart = pose_error(one, other)
    return np.asarray((apart.translation > metres) | (apart.rotation > radians))


def _image_connection(reader: Any, topic: str, path: Path) -> Any:
    found = {c.topic: c for c in reader.connections if c.msgtype in IMAGE_TYPES}
    if not topic and len(found) == 1:
        return next(iter(found.values()))
    if topic not in found:
        raise CalibrationError(
            f"{path}: --topic {topic!r}: expected one of the topics with pictures, "
            f"{', '.join(sorted(found)) or '(none)'}; or give --frames base flange camera board"
        )
    return found[topic]


def _decoded(message: Any, path: Path) -> Image:
    from rosbags.image import ImageError, message_to_cvimage

    try:
        return np.asarray(message_to_cvimage(message, "rgb8"), dtype=np.uint8)
    except (ImageError, cv2.error) as problem:
        raise CalibrationError(f"{path}: a picture that cannot be decoded ({problem})") from None
