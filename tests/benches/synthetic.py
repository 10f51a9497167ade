"""A robot that is only messages: publishes every stream of a rig at its rate, with known contents.

For tests and benchmarks of the nodes. Messages are built and serialised before the start and sent as
bytes with a fresh stamp patched in, so that the publisher costs almost nothing.
"""

from __future__ import annotations

import struct
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.serialization import serialize_message

from tacit.images import encode_jpeg
from tacit.images.depth import encode_depth
from tacit.rig import CameraSpec, CommandSpec, GelSpec, Rig, StreamBase, StreamSpec, is_depth, load_rig
from tacit_ros import messages
from tacit_ros.wire import qos
from tacit_ros.wire.decoders import COMPRESSED, JOINT_STATE
from tacit_ros.wire.environment import prepare
from tacit_ros.wire.parameters import declare, parameter

NUM_PICTURES = 8  # different pictures per camera: a recorder sees no frozen image
STAMP_OFFSET = 4  # of the header stamp in CDR, behind the encapsulation header
STATE_AMPLITUDE, STATE_HZ = 0.2, 0.25


def joint_angle(index: int, stamp_ns: int) -> float:
    """Return what joint `index` does at an instant: a slow sine, known everywhere [rad]."""
    return STATE_AMPLITUDE * float(np.sin(2 * np.pi * STATE_HZ * (stamp_ns % 10**12) / 1e9 + index))


def joint_speed(index: int, stamp_ns: int) -> float:
    """Return the time derivative of `joint_angle` [rad/s]."""
    rate = 2 * np.pi * STATE_HZ
    return STATE_AMPLITUDE * float(rate * np.cos(rate * (stamp_ns % 10**12) / 1e9 + index))


def picture(width: int, height: int, number: int) -> NDArray[np.uint8]:
    """Return a smooth picture with noise (height, width, 3), unlike for each `number`."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [128 + 80 * np.sin(x / (11.0 + number) + c) * np.cos(y / 17.0 + number) for c in range(3)]
    noise = np.random.default_rng(number).normal(0, 2, (height, width, 3))
    return np.clip(np.stack(waves, axis=-1) + noise, 0, 255).astype(np.uint8)


def depth(width: int, height: int, number: int) -> NDArray[np.uint16]:
    """Return distances (height, width) [mm] of a leaning plane, with a hole, unlike for each `number`."""
    mm = np.full((height, width), 600 + number) + np.arange(width)
    mm[: height // 4, : width // 4] = 0
    return mm.astype(np.uint16)


def _depth_message(mm: NDArray[np.uint16], compressed: bool) -> object:
    """As a driver sends it: 16UC1, or compressedDepth with its header before the PNG."""
    if not compressed:
        return messages.image(mm, 0)
    data = bytes(12) + encode_depth(mm).tobytes()
    return messages.compressed_image(data, 0, format="16UC1; compressedDepth png")


@dataclass
class _Source:
    """One stream: when its next message is due, and how to make it."""

    name: str
    period_ns: int
    publisher: Publisher
    make: Callable[[int], bytes]
    next_ns: int = 0
    sent: int = 0


@dataclass
class Faults:
    """What goes wrong on purpose.

    Attributes:
        silent: Streams that are not published.
        shuffle: Send joint names in reverse order.
        sizes: Another (width, height) for an image stream.
        stamp: Replaces the stamp of a message: (stream, stamp_ns) to stamp_ns.
    """

    silent: set[str] = field(default_factory=set)
    shuffle: bool = False
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    stamp: Callable[[str, int], int] = lambda name, stamp_ns: stamp_ns


class SyntheticRobot:
    """Publishes the streams of a rig from one loop on absolute deadlines."""

    def __init__(
        self, node: Node, rig: Rig, *, without: Iterable[str] = (), faults: Faults | None = None
    ) -> None:
        """Create the publishers; `without` names streams that have no publisher at all."""
        self.faults = faults or Faults()
        self._rig = rig
        self._sources = [
            self._source(node, name, spec) for name, spec in rig.specs.items() if name not in set(without)
        ]

    @property
    def sent(self) -> dict[str, int]:
        """Messages sent per stream."""
        return {source.name: source.sent for source in self._sources}

    def run(self, until: Callable[[], bool], start_ns: int | None = None, speed: float = 1.0) -> None:
        """Publish until `until()` is true.

        Args:
            until: Asked after each message.
            start_ns: First stamp; the present by default.
            speed: Stamps advance this many times faster than the clock; 1 is real time.
        """
        began = time.monotonic_ns()
        start_ns = time.time_ns() if start_ns is None else start_ns
        for source in self._sources:
            source.next_ns = start_ns
        while not until():
            source = min(self._sources, key=lambda s: s.next_ns)
            wait_ns = (source.next_ns - start_ns) / speed - (time.monotonic_ns() - began)
            if wait_ns > 0:
                time.sleep(wait_ns / 1e9)
            self.send(source)

    def step(self, stamp_ns: int) -> None:
        """Publish one message of every stream with the same stamp."""
        for source in self._sources:
            source.next_ns = stamp_ns
            self.send(source)

    def send(self, source: _Source) -> None:
        """Publish the message of `source` that is due."""
        if source.name not in self.faults.silent:
            stamp_ns = self.faults.stamp(source.name, source.next_ns)
            source.publisher.publish(source.make(stamp_ns))
            source.sent += 1
        source.next_ns += source.period_ns

    def _source(self, node: Node, name: str, spec: StreamBase) -> _Source:
        publisher: Publisher = node.create_publisher(
            messages.message_class(spec.type), spec.topic, qos.profile(spec.qos)
        )
        if isinstance(spec, (CameraSpec, GelSpec)):
            make = self._images(name, spec)
        else:
            make = self._numbers(name, spec)
        return _Source(name, round(1e9 / spec.rate_hz), publisher, make)

    def _images(self, name: str, spec: CameraSpec | GelSpec) -> Callable[[int], bytes]:
        width, height = self.faults.sizes.get(name, (spec.width, spec.height))
        if is_depth(spec):
            depths = [depth(width, height, number) for number in range(NUM_PICTURES)]
            built = [_depth_message(mm, spec.type == COMPRESSED) for mm in depths]
        else:
            pictures = [picture(width, height, number) for number in range(NUM_PICTURES)]
            if spec.type == COMPRESSED:
                built = [messages.compressed_image(encode_jpeg(p), 0) for p in pictures]
            else:
                built = [messages.image(p, 0) for p in pictures]
        stamped = [_Stamped(bytes(serialize_message(message))) for message in built]
        return lambda stamp_ns: stamped[stamp_ns // spec_period(spec) % NUM_PICTURES].at(stamp_ns)

    def _numbers(self, name: str, spec: StreamBase) -> Callable[[int], bytes]:
        names = tuple(getattr(spec, "names", ()))
        if spec.type.startswith("geometry_msgs/"):
            resting = _Stamped(bytes(serialize_message(messages.message_class(spec.type)())))
            return resting.at
        if isinstance(spec, StreamSpec) and spec.role != "state":
            names = (name,) if spec.role == "steps" else names
            return lambda stamp_ns: bytes(
                serialize_message(messages.build_named(spec.type, names, np.zeros(len(names)), stamp_ns))
            )

        def make(stamp_ns: int) -> bytes:
            order = names[::-1] if self.faults.shuffle else names
            values = [self._value(n, stamp_ns) for n in order]
            if spec.type != JOINT_STATE or isinstance(spec, CommandSpec):
                return bytes(serialize_message(messages.build_named(spec.type, order, values, stamp_ns)))
            speeds = [self._speed(n, stamp_ns) for n in order]
            return bytes(serialize_message(messages.joint_state(order, values, stamp_ns, velocity=speeds)))

        return make

    def _value(self, name: str, stamp_ns: int) -> float:
        index = self._rig.state_names.index(name)
        if index in self._rig.gripper_indices:
            return float(self._rig.limits("upper")[index])
        return joint_angle(index, stamp_ns)

    def _speed(self, name: str, stamp_ns: int) -> float:
        index = self._rig.state_names.index(name)
        return 0.0 if index in self._rig.gripper_indices else joint_speed(index, stamp_ns)


def spec_period(spec: StreamBase) -> int:
    """Return the nominal period of a stream [ns]."""
    return round(1e9 / spec.rate_hz)


class _Stamped:
    """A serialised message whose header stamp is overwritten in place."""

    def __init__(self, data: bytes) -> None:
        self._data = bytearray(data)

    def at(self, stamp_ns: int) -> bytes:
        struct.pack_into("<iI", self._data, STAMP_OFFSET, *divmod(stamp_ns, messages.SECOND))
        return bytes(self._data)


@dataclass(frozen=True)
class SyntheticParameters:
    """Parameters of the node."""

    rig: str = parameter("nova2_sim", "Shipped rig or path of a rig.yaml.")


class SyntheticNode(Node):
    """The synthetic robot as a process of its own: `python -m benches.synthetic`."""

    def __init__(self) -> None:
        """Create the publishers."""
        super().__init__("synthetic")
        self.robot = SyntheticRobot(self, load_rig(declare(self, SyntheticParameters).rig))


def main(argv: list[str] | None = None) -> int:
    """Publish in real time until a signal comes."""
    prepare()
    rclpy.init(args=sys.argv if argv is None else ["synthetic", *argv])
    node = SyntheticNode()
    try:
        node.robot.run(lambda: not rclpy.ok())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
