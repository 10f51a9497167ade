"""A robot made of publishers: joints at 100 Hz, pictures at 25 Hz, follows its commands exactly.

Faults are attributes that a test sets while it runs.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import JointState

from tacit.rig import Rig, load_rig, parse_rig
from tacit_ros import messages
from tacit_ros.wire import qos

JOINT_PERIOD_S = 0.01
IMAGE_EVERY = 4
GLIDE_RAD = 0.02  # per period: 2 rad/s


def lenient_rig(folder: Path, **safety: object) -> Path:
    """Write nova2_sim with ages that a loaded machine keeps, and other `safety` values as given."""
    data = load_rig("nova2_sim").model_dump(mode="json")
    data["safety"] |= {"image_age_ms": 3000.0, "joint_age_ms": 3000.0, "skew_ms": 1000.0} | safety
    path = folder / "rig.yaml"
    path.write_text(parse_rig(data, "test").to_yaml(), encoding="utf-8")
    return path


class FakeRobot:
    """Publishes what a rig says, on a thread of its own, until `stop`.

    Attributes:
        state: Measured state (S,), published raw (nova2_sim reports canonical units).
        silent: Streams that publish nothing.
        repeat: Streams that publish with the stamp they had when they were put here.
        shift_ns: Added to the stamps of a stream.
        follows: Whether commands move it.
        noise: Of the joints' encoders [rad]; without it a robot at rest repeats itself to the bit.
        frozen: Cameras and touch sensors that send their last picture again and again.
        level: Brightness of the pictures.
        joint_names: What the joint driver calls its joints.
    """

    def __init__(self, node: Node, rig: Rig, state: np.ndarray | None = None, runs: bool = True) -> None:
        self.rig, self.node = rig, node
        self.state = np.full(len(rig.state_names), 0.05) if state is None else np.array(state)
        self.silent: set[str] = set()
        self.repeat: dict[str, int] = {}
        self.shift_ns: dict[str, int] = {}
        self.follows = True
        self.noise, self._num_readings = 1e-7, 0
        self.frozen: set[str] = set()
        self.level = 128
        self.joint_names = list(rig.streams["joints"].names)
        self.commands: list[tuple[int, np.ndarray]] = []
        self.shadow: list[JointState] = []
        self._images = rig.images
        self._num_pictures = 0
        self._goal: float | None = None
        self._publishers = {
            name: node.create_publisher(messages.message_class(spec.type), spec.topic, qos.profile(spec.qos))
            for name, spec in {**self._images, **self._state_streams()}.items()
        }
        for spec in rig.commands.values():
            node.create_subscription(JointState, spec.topic, self._on_command, 10)
        node.create_subscription(JointState, "/policy/shadow_command", self.shadow.append, 10)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        if runs:
            self._thread.start()

    def stop(self) -> None:
        """Fall silent; joins the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(5)

    def _state_streams(self) -> dict:
        return self.rig.states

    def _on_command(self, message: JointState) -> None:
        positions = dict(zip(message.name, message.position, strict=True))
        command = np.array([positions[name] for name in self.rig.state_names])
        self.commands.append((messages.header_stamp_ns(message), command))
        if self.follows:
            self.state = command.copy()

    def glide(self, angle: float) -> None:
        """Move all joints to `angle` [rad] as fast as a robot could, whatever is commanded."""
        self.follows, self._goal = False, angle

    def publish_joints(self, stamp_ns: int) -> None:
        """Send the state."""
        self._num_readings += 1
        noise = self.noise * (self._num_readings % 5 - 2)
        for name, spec in self._state_streams().items():
            values = self.state[self.rig.index_of(spec.names)] + noise
            names = self.joint_names if name == "joints" else spec.names
            self._publish(name, stamp_ns, lambda s, n=names, v=values: messages.joint_state(n, v, s))

    def publish_images(self, stamp_ns: int) -> None:
        """Send a grey picture on every camera and touch sensor, never the same twice in a row."""
        self._num_pictures += 1
        for name, image in self._images.items():
            picture = np.full((image.height, image.width, 3), self.level, dtype=np.uint8)
            picture[0, 0] = 0 if name in self.frozen else self._num_pictures % 251
            self._publish(name, stamp_ns, lambda s, p=picture: messages.image(p, s))

    def _run(self) -> None:
        count = 0
        while not self._stop.wait(JOINT_PERIOD_S):
            now_ns = time.time_ns()
            if self._goal is not None:
                left = self._goal - self.state[:6]
                self.state = np.append(self.state[:6] + np.clip(left, -GLIDE_RAD, GLIDE_RAD), self.state[6:])
            self.publish_joints(now_ns)
            if count % IMAGE_EVERY == 0:
                self.publish_images(now_ns)
            count += 1

    def _publish(self, name: str, now_ns: int, build) -> None:  # type: ignore[no-untyped-def]
        if name not in self.silent:
            stamp_ns = self.repeat.get(name, now_ns) + self.shift_ns.get(name, 0)
            self._publishers[name].publish(build(stamp_ns))
