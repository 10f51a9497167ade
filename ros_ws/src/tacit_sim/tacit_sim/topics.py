"""Topics of the simulated robot: the rig's own, in its types, names and units, and the truth.

Subscriptions only store; the stepping thread of `simulator_node` takes from them.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Bool, String

from tacit.geometry.transforms import FloatArray
from tacit.record.encoder_pool import encode
from tacit.rig import CameraSpec, GelSpec, Rig, StreamBase, StreamSpec
from tacit.rig.scene import camera_from_spec
from tacit.rig.units import (
    efforts_to_canonical,
    rates_from_canonical,
    vector_from_canonical,
    vector_to_canonical,
)
from tacit.streams import Trajectory
from tacit_ros import messages
from tacit_ros.messages import MessageError
from tacit_ros.wire.qos import profile
from tacit_sim.as_built import JointError
from tacit_sim.cell import CAMERA_QUALITY, TACTILE_QUALITY, Cell
from tacit_sim.tasks import distance_to_goal
from tacit_sim.taxels import DueArrays

JOINT_STATE = "sensor_msgs/msg/JointState"

HISTORY_S = 1.0
"""Simulated time that a publisher keeps for slow listeners: in lockstep nothing holds the cell back."""


class RobotTopics:
    """Publishes what the robot of the rig would: joints, images, camera calibration, stage.

    On a rig with a driver the joints are the driver's to publish: two publishers of one stream look like a
    robot that jumps, and are refused.

    Args:
        node: Owns the publishers.
        cell: Measured at each call.
        joint_error: What its encoders get wrong; nothing by default.
        clock_offsets_ns: How far the clock of a stream is ahead of the cell's [ns]; 0 by default.
    """

    def __init__(
        self,
        node: Node,
        cell: Cell,
        joint_error: JointError | None = None,
        clock_offsets_ns: Mapping[str, int] | None = None,
    ) -> None:
        self._cell, rig = cell, cell.rig
        self._joint_error, self._offsets_ns = joint_error, dict(clock_offsets_ns or {})
        self._rig = rig
        self._images = {name: _ImageTopic(node, name, spec) for name, spec in rig.images.items()}
        self._infos = {
            name: node.create_publisher(CameraInfo, spec.info_topic, _profile(spec))
            for name, spec in rig.cameras.items()
            if spec.info_topic
        }
        self._arrays, self._due = rig.taxels, DueArrays(rig)
        roles = ("steps",) if rig.drivers else ("state", "steps")
        told = {name: spec for name, spec in rig.streams.items() if spec.role in roles}
        self._streams: dict[str, Publisher] = {
            name: node.create_publisher(messages.message_class(spec.type), spec.topic, _profile(spec))
            for name, spec in (told | self._arrays).items()
        }
        self._states = {n: (s, rig.index_of(s.names)) for n, s in told.items() if s.role == "state"}
        self._steps = {n: s for n, s in told.items() if s.role == "steps"}

    def publish_joints(self) -> None:
        """Publish every state stream at the present simulated time, and the arrays of taxels that are due."""
        state, velocity, effort = self._measured(), self._cell.velocity(), self._cell.effort()
        for name, (spec, index) in self._states.items():
            stamp_ns = self._stamp_ns(name)
            message = self._state(spec, stamp_ns, state[index], velocity[index], effort[index])
            self._streams[name].publish(message)
        # After the joints: arrays have no stamp of their own, and count from the newest that was heard.
        for name in self._due.at(self._cell.time_ns):
            reading = messages.taxels(self._arrays[name].type, self._cell.reading(name), self._stamp_ns(name))
            self._streams[name].publish(reading)

    def _measured(self) -> FloatArray:
        state = self._cell.state()
        return state if self._joint_error is None else self._joint_error.measured_state(state)

    def _state(
        self, spec: StreamSpec, stamp_ns: int, position: FloatArray, velocity: FloatArray, effort: FloatArray
    ) -> object:
        raw = vector_from_canonical(self._rig, spec.names, position)
        if spec.type == JOINT_STATE:
            if not np.array_equal(raw, position):  # a driver with other units; efforts change sign at most
                velocity = rates_from_canonical(self._rig, spec.names, velocity, raw)
                effort = efforts_to_canonical(self._rig, spec.names, effort, raw)
            return messages.joint_state(spec.names, raw, stamp_ns, velocity=velocity, effort=effort)
        return messages.build_named(spec.type, spec.names, raw, stamp_ns)

    def _stamp_ns(self, name: str) -> int:
        """The present on the clock of a stream."""
        return self._cell.time_ns + self._offsets_ns.get(name, 0)

    def publish_frame(self) -> None:
        """Publish every image and its calibration, then the stage."""
        for name, topic in self._images.items():
            if not topic.is_heard:
                continue  # drawing a picture is most of the work of a tick
            topic.publish(self._cell.sensed(name), self._stamp_ns(name))
        for name, publisher in self._infos.items():
            camera = self._rig.cameras[name]
            info = messages.camera_info(camera_from_spec(camera), self._stamp_ns(name), camera.frame_id)
            publisher.publish(info)
        for name, spec in self._steps.items():
            stage = messages.build_named(spec.type, (name,), [self._cell.stage()], self._stamp_ns(name))
            self._streams[name].publish(stage)


def _profile(spec: StreamBase) -> QoSProfile:
    return profile(spec.qos, depth=max(spec.qos.depth, round(HISTORY_S * spec.rate_hz)))


class _ImageTopic:
    """One image topic, raw or compressed as the rig says: colours as JPEG, depth as 16-bit PNG."""

    def __init__(self, node: Node, name: str, spec: CameraSpec | GelSpec) -> None:
        frame_id = getattr(spec, "frame_id", "") or name
        self._frame_id = frame_id
        self._builder = messages.ImageBuilder(frame_id)
        self._quality = CAMERA_QUALITY if isinstance(spec, CameraSpec) else TACTILE_QUALITY
        self._compressed = spec.type.endswith("CompressedImage")
        self._publisher: Publisher = node.create_publisher(
            messages.message_class(spec.type), spec.topic, _profile(spec)
        )

    @property
    def is_heard(self) -> bool:
        return bool(self._publisher.get_subscription_count())

    def publish(self, pixels: np.ndarray, stamp_ns: int) -> None:
        if self._compressed:
            data = encode(pixels, self._quality)
            format = "jpeg" if pixels.ndim == 3 else "16UC1; png compressed"
            self._publisher.publish(messages.compressed_image(data, stamp_ns, self._frame_id, format))
        else:
            self._publisher.publish(self._builder.build(pixels, stamp_ns))


class TruthTopics:
    """Publishes what only a simulator knows, under /simulator, once per tick; `newest` is the JSON text.

    Args:
        node: Owns the publishers.
        cell: Measured at each call.
        segmentation: Add the boxes of the visible pixels of each pad; costs a rendering for each.
        clock: Publish simulated time on /clock.
    """

    def __init__(self, node: Node, cell: Cell, *, segmentation: bool, clock: bool) -> None:
        self._cell, self._segmentation = cell, segmentation
        self.newest = "{}"
        self._truth = node.create_publisher(String, "/simulator/truth", 10)
        self._pose = node.create_publisher(PoseStamped, "/simulator/object_pose", 10)
        self._success = node.create_publisher(Bool, "/simulator/success", 10)
        self._clock = node.create_publisher(Clock, "/clock", 10) if clock else None

    def publish_clock(self) -> None:
        """Publish simulated time, if asked to."""
        if self._clock is not None:
            self._clock.publish(messages.clock(self._cell.time_ns))

    def publish(self, episode: int) -> None:
        """Publish pose, success and the whole truth of the present tick."""
        cell = self._cell
        pose = messages.pose(cell.object_pose(), cell.time_ns, "world")
        self._pose.publish(pose)
        self._success.publish(messages.boolean(cell.success()))
        self.newest = json.dumps(truth(cell, episode, self._segmentation))
        self._truth.publish(messages.string(self.newest))


def truth(cell: Cell, episode: int, segmentation: bool = False) -> dict[str, object]:
    """Return the truth of the present tick as JSON-able data.

    `object_pose` is T_world_part as four rows; `pad_boxes` (camera, sensor) are in whole pixels.
    """
    report: dict[str, object] = {
        "stamp_ns": cell.time_ns,
        "episode": episode,
        "task": cell.task.name,
        "state": cell.state().tolist(),
        "object_pose": cell.object_pose().tolist(),
        "object_xyz": cell.object_pose()[:3, 3].tolist(),
        "stage": cell.stage(),
        "stage_name": cell.stage_name(),
        "lifted": cell.lifted(),
        "success": cell.success(),
        "error_m": distance_to_goal(cell.task, cell.object_pose()[:3, 3]),
        "hidden": asdict(cell.hidden),
        "placed_on": cell.placed_on(),
    }
    if segmentation:
        rig = cell.rig
        report["pad_boxes"] = {c: {s: cell.pad_box(c, s) for s in rig.tactile} for c in rig.cameras}
    return report


class CommandTopics:
    """Publishes targets on the rig's command topics, in the names and units of its drivers.

    Args:
        node: Owns the publishers.
        rig: Says topics, types and names.
        history: Commands kept at least for a slow listener.
    """

    def __init__(self, node: Node, rig: Rig, history: int = 1) -> None:
        self._rig = rig
        self._publishers: dict[str, Publisher] = {
            name: node.create_publisher(
                messages.message_class(spec.type),
                spec.topic,
                profile(spec.qos, depth=max(spec.qos.depth, history)),
            )
            for name, spec in rig.commands.items()
        }

    def publish(self, target: FloatArray, stamp_ns: int) -> None:
        """Publish a target (S,) as the answer to the tick at `stamp_ns`."""
        for name, spec in self._rig.commands.items():
            raw = vector_from_canonical(self._rig, spec.names, target[self._rig.index_of(spec.names)])
            period_s = 1.0 / spec.rate_hz
            self._publishers[name].publish(
                messages.build_named(spec.type, spec.names, raw, stamp_ns, period_s=period_s)
            )


class CommandInbox:
    """The newest command of each command topic, bound by name, for another thread to take.

    Args:
        node: Owns the subscriptions.
        rig: Says topics, types and names.
    """

    def __init__(self, node: Node, rig: Rig) -> None:
        self._node, self._rig = node, rig
        self._changed = threading.Condition()
        self._parts: dict[str, tuple[FloatArray, int]] = {}
        self._is_new = False
        self._closed = False
        for name, spec in rig.commands.items():
            node.create_subscription(
                messages.message_class(spec.type), spec.topic, partial(self._store, name), profile(spec.qos)
            )

    def _store(self, name: str, message: object) -> None:
        spec = self._rig.commands[name]
        try:
            raw = messages.read_named(message, spec.type, spec.names)
        except MessageError as error:
            self._node.get_logger().error(f"{spec.topic}: {error}", throttle_duration_sec=1.0)
            return
        if isinstance(raw, Trajectory):
            text = "a trajectory of several points; the simulated arm takes one point at a time, ignored"
            self._node.get_logger().error(f"{spec.topic}: {text}", throttle_duration_sec=1.0)
            return
        if not np.isfinite(raw).all():
            self._node.get_logger().error(f"{spec.topic}: not finite, ignored", throttle_duration_sec=1.0)
            return
        values = vector_to_canonical(self._rig, spec.names, raw)
        with self._changed:
            self._parts[name] = (values, messages.header_stamp_ns(message))
            self._is_new = True
            self._changed.notify_all()

    def take(self, current: FloatArray) -> FloatArray | None:
        """Return the newest target (S,), parts without a command from `current`; None if nothing is new."""
        with self._changed:
            return self._taken(current)

    def _taken(self, current: FloatArray) -> FloatArray | None:
        if not self._is_new:
            return None
        self._is_new = False
        target = np.array(current, dtype=np.float64)
        for name, (values, _) in self._parts.items():
            target[self._rig.index_of(self._rig.commands[name].names)] = values
        return target

    def wait(self, current: FloatArray, stamp_ns: int, timeout_s: float) -> FloatArray | None:
        """Wait for commands that answer the tick at `stamp_ns`; a command without a stamp answers any.

        Returns:
            The target (S,), or None when the timeout passed or `wake` was called.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not self._closed and not self._answered(stamp_ns):
                if not self._changed.wait(deadline - time.monotonic()):
                    return None
            return None if self._closed else self._taken(current)

    def _answered(self, stamp_ns: int) -> bool:
        stamps = [stamp for _, stamp in self._parts.values()]
        complete = len(stamps) == len(self._rig.commands)
        return self._is_new and complete and all(stamp in (0, stamp_ns) for stamp in stamps)

    def clear(self) -> None:
        """Forget all commands: those of the last episode are not for the next."""
        with self._changed:
            self._parts.clear()
            self._is_new = False
            self._closed = False

    def wake(self) -> None:
        """End a `wait` in the other thread; it stays ended until `clear`."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
