"""A rig drafted from a bag: joints, pictures, lenses, commands and rates, under the topics that it holds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from rclpy.serialization import deserialize_message

from tacit.convert.draft import COMMAND, STATES, Draft, draft_rig, feels, motion_limits, plain_names
from tacit.errors import CalibrationError, RigError
from tacit.geometry.camera import FisheyeCamera
from tacit.geometry.camera_info import camera_from_info
from tacit.images.encoded import read_header
from tacit.rig import COMMAND_TYPES, Rig, parse_rig
from tacit_ros import messages

JOINTS = "sensor_msgs/msg/JointState"
IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
INFO = "sensor_msgs/msg/CameraInfo"
COMMAND_WORDS = re.compile(r"command|cmd|target|goal|desired|setpoint", re.IGNORECASE)
PLAIN_ENDINGS = re.compile(r"(/(compressed|compressedDepth|image\w*|color|colour|rgb|depth))+$")
"""What image_transport and drivers add to the name of a camera."""
LENS_FIELDS = ("width", "height", "distortion_model", "d", "k", "binning_x", "binning_y")
WINDOW_FIELDS = ("x_offset", "y_offset", "width", "height")
DEPTH_ENCODINGS = ("16UC1", "mono16")
RATED = 300
"""Messages that tell the rate of a topic: a bag may hold an hour of pictures."""
NEAR_INTEGER = 0.02
"""A rate within so much of a whole number is that number."""


class _Topic(NamedTuple):
    """One topic of a bag, and how often it came [Hz]."""

    connection: Any
    topic: str
    kind: str
    rate_hz: float


class _State(NamedTuple):
    """A topic of measured joints: their names, and their positions (T, n)."""

    topic: _Topic
    names: tuple[str, ...]
    track: np.ndarray


class _Picture(NamedTuple):
    """What one message says of a stream of pictures."""

    topic: _Topic
    height: int
    width: int
    is_depth: bool


def draft_from(bag: Any, name: str) -> Rig:
    """Return a rig whose joints, cameras, types and rates are those of an open bag.

    Raises:
        RigError: No joints in it, with names.
    """
    topics = [_rated(bag, connection) for connection in bag.connections if connection.msgcount > 1]
    states = _states(bag, topics)
    if not states:
        held = ", ".join(f"{topic.topic} ({topic.kind})" for topic in topics) or "no topic with two messages"
        raise RigError(f"{name}: holds {held}; to draft a rig it needs joints with names ({JOINTS})")
    pictures = _pictures(bag, topics)
    joints = tuple(joint for state in states for joint in state.names)
    limits = [motion_limits([state.track], state.topic.rate_hz) for state in states]
    low, high, speed, change = (np.concatenate(parts) for parts in zip(*limits, strict=True))
    ticks = next((p.topic for p in pictures.values() if not p.is_depth), states[0].topic)
    sizes = {stream: (picture.height, picture.width) for stream, picture in pictures.items()}
    draft = Draft(name, joints, ticks.rate_hz, low, high, speed, change, sizes)
    data = draft_rig(draft).model_dump(mode="json")
    data["description"] = "Drafted from a bag; fill in limits, units and geometry."
    del data["streams"][STATES]
    for stream, state in zip(_names(states), states, strict=True):
        data["streams"][stream] = _source(state.topic) | {"names": list(state.names), "role": "state"}
    data["commands"][COMMAND] |= _command(bag, topics, len(joints))
    lenses = _lenses(bag, topics)
    for stream, picture in pictures.items():
        group = "cameras" if stream in data["cameras"] else "tactile"
        data[group][stream] |= _source(picture.topic)
        if group == "cameras":
            data[group][stream] |= _lens(lenses, picture) | {"kind": "depth" if picture.is_depth else "color"}
    return parse_rig(data, f"rig drafted for {name}")


def _rated(bag: Any, connection: Any) -> _Topic:
    """Return a topic with the rate of its messages, as they were written down."""
    first_ns, last_ns, count = 0, 0, 0
    for _, log_ns, _ in islice(bag.messages([connection]), RATED):
        first_ns, last_ns, count = first_ns or log_ns, log_ns, count + 1
    rate_hz = (count - 1) * 1e9 / max(last_ns - first_ns, 1)
    near = abs(rate_hz - round(rate_hz)) < NEAR_INTEGER * rate_hz and round(rate_hz) > 0
    return _Topic(connection, connection.topic, connection.msgtype, float(round(rate_hz, 0 if near else 2)))


def _all(bag: Any, topic: _Topic) -> Iterator[Any]:
    kind = messages.message_class(topic.kind)
    for _, _, data in bag.messages([topic.connection]):
        yield deserialize_message(bytes(data), kind)


def _states(bag: Any, topics: Sequence[_Topic]) -> list[_State]:
    """Return the topics of measured joints; no joint twice."""
    found: list[_State] = []
    known: set[str] = set()
    for topic in topics:
        if topic.kind != JOINTS or COMMAND_WORDS.search(topic.topic):
            continue
        names = tuple(next(_all(bag, topic)).name)
        if not names or known & set(names):
            continue
        rows = [list(message.position) for message in _all(bag, topic) if tuple(message.name) == names]
        track = np.array([row for row in rows if len(row) == len(names) and np.isfinite(row).all()])
        if len(track) > 1:
            found.append(_State(topic, names, track))
            known |= set(names)
    return found


def _names(states: Sequence[_State]) -> list[str]:
    return [STATES] if len(states) == 1 else plain_names([state.topic.topic.strip("/") for state in states])


def _pictures(bag: Any, topics: Sequence[_Topic]) -> dict[str, _Picture]:
    """Return the streams of pictures by a name made of their topic; of two ways of one camera, the first."""
    found: dict[str, _Picture] = {}
    for topic in topics:
        if topic.kind not in (IMAGE, COMPRESSED) or topic.topic.endswith("compressedDepth"):
            continue
        base = PLAIN_ENDINGS.sub("", topic.topic)
        picture = _picture(topic, next(_all(bag, topic)))
        if picture is not None and base + picture.is_depth * "_depth" not in found:
            found[base + picture.is_depth * "_depth"] = picture
    last = [base.rpartition("/")[2] for base in found]
    ends = last if len(set(last)) == len(last) else [base.strip("/") for base in found]
    ends = [
        f"touch_{end}" if feels(base) and not feels(end) else end
        for base, end in zip(found, ends, strict=True)
    ]
    return dict(zip(plain_names(ends), found.values(), strict=True))


def _picture(topic: _Topic, message: Any) -> _Picture | None:
    if topic.kind == IMAGE:
        return _Picture(topic, message.height, message.width, message.encoding in DEPTH_ENCODINGS)
    header = read_header(np.asarray(message.data, np.uint8))
    return None if header is None else _Picture(topic, header.height, header.width, header.bits == 16)


def _source(topic: _Topic) -> dict[str, Any]:
    return {"topic": topic.topic, "type": topic.kind, "rate_hz": topic.rate_hz}


def _command(bag: Any, topics: Sequence[_Topic], count: int) -> dict[str, Any]:
    """Return the topic of commands that fits the joints; without one, an example that is not required."""
    for topic in topics:
        if topic.kind not in COMMAND_TYPES or not COMMAND_WORDS.search(topic.topic):
            continue
        first = next(_all(bag, topic))
        held = (getattr(first, field, ()) for field in ("name", "joint_names", "data"))
        if any(np.size(values) == count for values in held):
            return _source(topic)
    return {"required": False}


def _lenses(bag: Any, topics: Sequence[_Topic]) -> dict[str, Any]:
    """Return the first CameraInfo of each namespace."""
    return {t.topic.rpartition("/")[0]: next(_all(bag, t)) for t in topics if t.kind == INFO}


def _lens(lenses: Mapping[str, Any], picture: _Picture) -> dict[str, Any]:
    """Return K and D of a camera, where the bag has them for pictures of this size."""
    spaces = [picture.topic.topic.rpartition("/")[0], PLAIN_ENDINGS.sub("", picture.topic.topic)]
    spaces.append(spaces[0].rpartition("/")[0])
    info = next((lenses[space] for space in spaces if space in lenses), None)
    if info is None:
        return {}
    try:
        camera = camera_from_info(
            {field: getattr(info, field) for field in LENS_FIELDS}
            | {"roi": {field: getattr(info.roi, field) for field in WINDOW_FIELDS}}
        )
    except CalibrationError:
        return {}  # a driver that was never calibrated
    if (camera.height, camera.width) != (picture.height, picture.width):
        return {}
    model = "fisheye" if isinstance(camera, FisheyeCamera) else "pinhole"
    return {"K": camera.K.tolist(), "D": list(camera.D), "model": model}
