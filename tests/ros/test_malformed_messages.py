"""No message ends a node: whatever comes in, a decoder returns a value or raises a MessageError of a kind.

Messages are spoiled at random, from a seed: sizes, encodings, lengths, names, NaN, empty and huge.
"""

from __future__ import annotations

import struct
import time
import uuid
from array import array
from collections import Counter
from typing import Any

import cv2
import numpy as np
import pytest
from builtin_interfaces.msg import Duration
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Float32MultiArray, Float64MultiArray, MultiArrayDimension
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from tacit.errors import ImageError
from tacit.images import as_rgb
from tacit.images.depth import as_depth, encode_depth
from tacit.rig import Rig, load_rig, parse_rig
from tacit.streams import Trajectory
from tacit.streams.intake import Intake
from tacit_ros import messages
from tacit_ros.wire.decoders import decoder_of, has_joint_reading, joint_reading_of
from tacit_ros.wire.observations import RigSubscriptions

KINDS = {"encoding", "size", "truncated", "undecodable", "names", "not_finite", "message"}
SIZES = [0, 1, 2, 3, 60, 119, 120, 160, 16385, 2**31, 2**32 - 1]
NUMBERS = [0.0, -1.0, 1e300, -1e300, float("nan"), float("inf"), float("-inf"), 5e-324]
COUNT = 340  # for each of 16 streams
ON_THE_WIRE = 80  # of them are read from their bytes too


def fuzz_rig() -> Rig:
    """nova2_sim with a stream of every kind that a rig may name, and driver units to convert."""
    data = load_rig("nova2_sim").model_dump(mode="json")
    top = data["cameras"]["top"]
    data["cameras"]["top_jpeg"] = top | {"type": "sensor_msgs/msg/CompressedImage", "topic": "/a"}
    data["cameras"]["range"] = top | {"kind": "depth", "topic": "/b"}
    data["cameras"]["range_png"] = data["cameras"]["top_jpeg"] | {"kind": "depth", "topic": "/c"}
    data["commands"]["command"]["type"] = "trajectory_msgs/msg/JointTrajectory"
    data["arms"]["arm"]["joints"][0] |= {"sign": -1, "offset": 0.1}
    data["arms"]["arm"]["gripper"] |= {"raw": "claw"}
    extra = {"rate_hz": 10.0, "role": "extra"}
    kinds = {"WrenchStamped": 6, "TwistStamped": 6, "PoseStamped": 7}
    for kind, count in kinds.items():
        names = [f"{kind}{i}" for i in range(count)]
        topic = {"topic": f"/{kind}", "type": f"geometry_msgs/msg/{kind}"}
        data["streams"][kind] = extra | topic | {"names": names}
    array_type = {"topic": "/array", "type": "std_msgs/msg/Float64MultiArray", "names": list("abcd")}
    data["streams"]["array"] = extra | array_type
    skins = load_rig("nova2_sim_taxels").model_dump(mode="json")["tactile"]
    wide = {"type": "std_msgs/msg/Float64MultiArray", "array": {"rows": 2, "columns": 2, "range": [0, 1]}}
    tip = {"rows": 1, "columns": 1, "channels": 6, "range": [-9, 9]}
    data["tactile"]["skin"] = skins["right"] | {"topic": "/d"}
    data["tactile"]["wide"] = skins["right"] | {"topic": "/e"} | wide
    tip_type = {"topic": "/f", "type": "geometry_msgs/msg/WrenchStamped"}
    data["tactile"]["tip"] = skins["right"] | tip_type | {"array": tip}
    return parse_rig(data, "fuzz")


class Spoiler:
    """Makes messages, right and wrong ones, from a seed."""

    def __init__(self, rig: Rig, seed: int) -> None:
        self.rig, self.random = rig, np.random.default_rng(seed)
        picture = self.random.integers(0, 256, (120, 160, 3), dtype=np.uint8)
        depth = encode_depth(np.full((120, 160), 700, np.uint16)).tobytes()
        self.files = [
            cv2.imencode(".jpg", picture)[1].tobytes(),
            cv2.imencode(".png", picture)[1].tobytes(),
            depth,
            struct.pack("<iff", 0, 10100.0, -1009.0) + depth,
        ]

    def pick(self, items: list[Any]) -> Any:
        return items[self.random.integers(len(items))]

    def number(self) -> float:
        return self.pick(NUMBERS) if self.random.random() < 0.3 else float(self.random.normal())

    def numbers(self, count: int) -> array:
        return array("d", [self.number() for _ in range(count)])

    def names(self, known: tuple[str, ...]) -> list[str]:
        pool = [*known, "finger", "", "\u00e9\u4e2d", known[0]]
        if self.random.random() < 0.4:
            return list(known)
        return [self.pick(pool) for _ in range(self.random.integers(0, 9))]

    def length(self, right: int) -> int:
        return right if self.random.random() < 0.6 else int(self.pick([0, 1, right + 1, 40]))

    def image(self, height: int, width: int) -> Image:
        known = [*messages.COLOUR_ENCODINGS, *messages.DEPTH_ENCODINGS]
        message = Image(encoding=self.pick([*known, "", "8UC2", "h264", "\x00", "RGB8"]))
        message.height, message.width = height, width
        message.is_bigendian = int(self.random.integers(0, 256))
        message.step = int(self.pick([*(width * k for k in (1, 2, 3, 4, 6, 8)), *SIZES]))
        for field in ("height", "width"):
            if self.random.random() < 0.2:
                setattr(message, field, self.pick(SIZES))
        size = min(message.step * message.height, 400_000)
        message.data = array("B", bytes(int(self.pick([size, size, size, 0, 1, max(size - 1, 0)]))))
        return message

    def compressed(self) -> CompressedImage:
        formats = ["jpeg", "png", "", "16UC1; compressedDepth png", "32FC1; compressedDepth", "32FC1; png"]
        data = bytearray(self.pick([*self.files, b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", bytes(50)]))
        if data and self.random.random() < 0.5:
            data = data[: self.random.integers(len(data))] if self.random.random() < 0.5 else data
            for _ in range(self.random.integers(0, 20) if len(data) else 0):
                data[self.random.integers(len(data))] = self.random.integers(256)
        rest = self.pick([*formats, "16UC1; compressedDepth rvl"])
        return messages.compressed_image(bytes(data), 1, format=rest)

    def joints(self, known: tuple[str, ...]) -> JointState:
        message = JointState(name=self.names(known))
        for field in ("position", "velocity", "effort"):
            setattr(message, field, self.numbers(self.length(len(message.name))))
        return message

    def trajectory(self, known: tuple[str, ...]) -> JointTrajectory:
        message = JointTrajectory(joint_names=self.names(known))
        for k in range(self.random.integers(0, 5)):
            seconds = int(self.pick([k, k, k, 0, -5, 2**31 - 1]))
            start = Duration(sec=seconds, nanosec=int(self.pick([0, 5, 2**32 - 1])))
            positions = self.numbers(self.length(len(message.joint_names)))
            message.points.append(JointTrajectoryPoint(positions=positions, time_from_start=start))
        return message

    def array(self) -> Float64MultiArray:
        message = Float64MultiArray(data=self.numbers(self.length(4)))
        message.layout.data_offset = int(self.pick([0, 0, 0, 1, 5, 2**32 - 1]))
        for _ in range(self.random.integers(0, 4)):
            size, stride = (int(self.pick([0, 1, 2, 4, 2**32 - 1])) for _ in range(2))
            label = self.pick(["", "a,b,c,d", "d,c,b,a", "rows"])
            message.layout.dim.append(MultiArrayDimension(label=label, size=size, stride=stride))
        return message

    def skin(self, kind: type, shape: tuple[int, ...]) -> Any:
        """An array of taxels, mostly of the right size, with a layout that fits, or does not, or is none."""
        count = self.length(int(np.prod(shape)))
        code = "f" if kind is Float32MultiArray else "d"
        limit = 3e38 if code == "f" else 1e308  # beyond that a message cannot be built at all
        data = array(code, [float(np.clip(x, -limit, limit)) for x in self.numbers(count)])
        message = kind(data=data)
        sizes = self.pick([shape, shape, shape, shape[:2], (int(np.prod(shape)),), shape[::-1], (0, 2), ()])
        labels = self.pick([("rows", "columns", "channels"), ("channels", "rows", "columns"), ("", "", "")])
        for label, size in zip(labels, sizes, strict=False):
            message.layout.dim.append(MultiArrayDimension(label=label, size=int(size)))
        message.layout.data_offset = int(self.pick([0, 0, 0, 1, 2**32 - 1]))
        return message

    def of(self, name: str) -> object:
        """A message for a stream of the rig."""
        spec = self.rig.specs[name]
        kind = spec.type.rpartition("/")[2]
        if name in self.rig.taxels and kind != "WrenchStamped":
            return self.skin(messages.message_class(spec.type), self.rig.taxels[name].array.shape)
        is_index = getattr(spec, "role", "") == "steps"
        names = (name,) if is_index else getattr(spec, "names", ())
        if kind == "Image":
            return self.image(spec.height, spec.width)  # type: ignore[attr-defined]
        if kind in ("CompressedImage", "Float64MultiArray"):
            return self.compressed() if kind == "CompressedImage" else self.array()
        if kind == "JointState":
            return self.joints(names)
        if kind == "JointTrajectory":
            return self.trajectory(names)
        message = messages.message_class(spec.type)()
        self.fill(message)
        if kind == "PoseStamped" and self.random.random() < 0.5:
            q = message.pose.orientation
            q.x, q.y, q.z, q.w = 0.0, 0.6, 0.0, -0.8
        return message

    def fill(self, message: Any) -> None:
        """Numbers into every number of a message that holds only such."""
        for field, kind in message.get_fields_and_field_types().items():
            if kind == "double":
                setattr(message, field, self.number())
            elif kind == "float":
                setattr(message, field, float(self.pick([0.0, 0.5, float("nan"), float("inf")])))
            elif kind == "int32":
                setattr(message, field, int(self.pick([0, 1, -1, 2**31 - 1, -(2**31)])))
            elif kind != "std_msgs/Header" and "/" in kind:
                self.fill(getattr(message, field))


RIG = fuzz_rig()


@pytest.mark.parametrize("name", list(RIG.specs))
def test_a_decoder_gives_a_value_or_names_the_kind_of_fault(name: str) -> None:
    spoiler, seen = Spoiler(RIG, seed=len(name)), Counter()
    decoders = [decoder_of(RIG, name)]
    if has_joint_reading(RIG, name):
        decoders.append(joint_reading_of(RIG, name))
    intake, read = Intake(RIG), messages.reader_of(RIG.specs[name].type)
    for number in range(COUNT):
        message = spoiler.of(name)
        stamp_ns = 10**18 + number * round(1e9 / RIG.specs[name].rate_hz)
        for decode in decoders:
            kind, value = outcome(decode, message)
            if number < ON_THE_WIRE:
                data = serialize_message(message)
                same = deserialize_message(data, type(message))
                assert_alike(outcome(decode, same), outcome(decode, read(data)))
            seen[kind] += 1
            if kind != "taken":
                assert kind in KINDS and value
                continue
            check_value(name, value)
            intake.take(name, stamp_ns, stamp_ns, value, stamp_ns)  # what judges it next must bear it, too
    assert seen["taken"], seen  # else nothing was tried but the first check
    if not name.endswith(("WrenchStamped", "TwistStamped", "progress", "tip")):
        assert sum(seen.values()) > seen["taken"], seen


def outcome(decode: Any, message: object) -> tuple[str, Any]:
    """What becomes of a message: "taken" and its value, or the kind of fault and its words."""
    try:
        return "taken", decode(message)
    except messages.MessageError as problem:
        return problem.kind, str(problem)


def assert_alike(one: tuple[str, Any], other: tuple[str, Any]) -> None:
    """A message is judged alike, read by us or by rclpy."""
    assert one[0] == other[0]
    if isinstance(one[1], np.ndarray):
        assert one[1].dtype == other[1].dtype
    np.testing.assert_equal(other[1], one[1])


@pytest.mark.parametrize("name", list(RIG.specs))
def test_bytes_that_were_spoiled_on_their_way_are_read_or_refused(name: str) -> None:
    spoiler, seen = Spoiler(RIG, seed=1 + len(name)), Counter()
    decode, read = decoder_of(RIG, name), messages.reader_of(RIG.specs[name].type)
    for _ in range(60):
        data = bytearray(serialize_message(spoiler.of(name)))
        data = data[: spoiler.random.integers(len(data))] if spoiler.random.random() < 0.5 else data
        for place in spoiler.random.integers(0, min(200, len(data) or 1), 6):
            data[place : place + 1] = bytes([spoiler.random.integers(256)])
        kind, found = outcome(lambda message: decode(read(bytes(message))), data)
        seen[kind] += 1
        assert kind == "taken" or (kind in KINDS and found)
    assert seen["truncated"], seen


def check_value(name: str, value: object) -> None:
    """What comes through has the shape that the rig says, and can be decoded or is refused as an image."""
    spec = RIG.specs[name]
    if name in RIG.image_names:
        picture = np.asarray(value)
        try:
            pixels = as_depth(picture) if name.startswith("range") else as_rgb(picture)
        except ImageError:
            assert picture.ndim == 1
            return
        assert pixels.shape[:2] == (spec.height, spec.width)
        return
    if name in RIG.taxels:
        assert np.asarray(value).shape == RIG.taxels[name].array.shape
        return
    for row in value.values() if isinstance(value, dict) else [value]:
        numbers = row.positions if isinstance(row, Trajectory) else row
        assert np.asarray(numbers).shape[-1:] == ((1,) if name == "stage" else (len(spec.names),))


def test_a_topic_shared_by_two_drivers_is_heard_by_each_stream_without_a_complaint(bench: Any) -> None:
    data = load_rig("nova2_sim").model_dump(mode="json")
    topic = f"/joints_{uuid.uuid4().hex[:8]}"
    for name in ("joints", "gripper_state"):
        data["streams"][name] |= {"topic": topic}
    rig = parse_rig(data, "test")
    heard: Counter[str] = Counter()
    intake = Intake(rig, ["joints", "gripper_state"])
    streams = RigSubscriptions(bench.node, rig, intake, lambda name, *_: heard.update([name]))
    publisher = bench.node.create_publisher(JointState, topic, 10)
    arm = list(rig.streams["joints"].names)
    stamp = [10**9]

    def both_heard() -> bool:
        stamp[0] += 10_000_000
        publisher.publish(messages.joint_state(arm, [0.1] * 6, stamp[0]))
        publisher.publish(messages.joint_state(["gripper"], [0.05], stamp[0]))
        return min(heard["joints"], heard["gripper_state"]) >= 3

    bench.until(both_heard, "both drivers on one topic")
    assert not intake.problems and not any(intake.counts.values())
    assert set(streams.subscriptions) == set(heard)


def test_a_planned_motion_without_a_stamp_begins_when_it_comes(bench: Any) -> None:
    data = load_rig("nova2_sim").model_dump(mode="json")
    topic = f"/plan_{uuid.uuid4().hex[:8]}"
    data["commands"]["command"] |= {"topic": topic, "type": "trajectory_msgs/msg/JointTrajectory"}
    rig = parse_rig(data, "test")
    heard: list[tuple[int, int, object]] = []
    intake = Intake(rig, ["command"])
    streams = RigSubscriptions(bench.node, rig, intake, lambda _, *rest: heard.append(rest))
    publisher = bench.node.create_publisher(JointTrajectory, topic, 10)
    names = list(rig.commands["command"].names)
    plan = messages.joint_trajectory(names, [[0.0] * 7, [0.1] * 7], 0, period_s=0.5)

    def came() -> bool:
        publisher.publish(plan)
        return bool(heard)

    bench.until(came, "a trajectory with an empty stamp")
    stamp_ns, recv_ns, value = heard[0]
    assert stamp_ns == recv_ns > 0 and isinstance(value, Trajectory)
    assert not intake.problems and streams.topic("command") == topic


def test_a_planned_motion_begins_at_its_stamp_and_one_of_another_time_is_refused(bench: Any) -> None:
    data = load_rig("nova2_sim").model_dump(mode="json")
    topic = f"/plan_{uuid.uuid4().hex[:8]}"
    data["commands"]["command"] |= {"topic": topic, "type": "trajectory_msgs/msg/JointTrajectory"}
    rig = parse_rig(data, "test")
    heard: list[tuple[int, int, Any]] = []
    intake = Intake(rig, ["command"])
    streams = RigSubscriptions(bench.node, rig, intake, lambda _, *rest: heard.append(rest))
    publisher = bench.node.create_publisher(JointTrajectory, topic, 10)
    bench.until(lambda: publisher.get_subscription_count() > 0, "the subscription")
    names = list(rig.commands["command"].names)
    points = [[0.0] * 7, [0.1] * 7]
    begin_ns = time.time_ns() + 400_000_000  # later than any measurement may be stamped
    publisher.publish(messages.joint_trajectory(names, points, begin_ns, period_s=0.5))
    bench.until(lambda: heard, "a motion that begins in 0.4 s")
    stamp_ns, recv_ns, motion = heard[0]
    assert stamp_ns == recv_ns and list(stamp_ns + motion.times_ns - begin_ns) == [500_000_000, 1_000_000_000]
    for far_s, kind in ((3600, "stamp_ahead"), (-3600, "message")):
        far_ns = time.time_ns() + far_s * messages.SECOND
        publisher.publish(messages.joint_trajectory(names, points, far_ns, period_s=0.5))
        bench.until(lambda kind=kind: intake.counts["command"][kind], f"a motion {far_s} s away")
    assert len(heard) == 1 and "command" in streams.problems
