"""What was heard of the whole system: commands and whether they keep the limits, states, joints, pictures."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from functools import partial
from typing import Any

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float32, String

from tacit.geometry.transforms import FloatArray
from tacit.rig import Rig
from tacit.rig.units import vector_to_canonical
from tacit_ros import messages
from tacit_ros.wire import qos
from tacit_ros.wire.node_state import NodeState

DEEP = 1000
"""Messages that may wait for this listener: it must miss no command."""

STAND_RAD_S = 0.02
"""An arm slower than this stands [rad/s]: what the simulated servo leaves while it settles."""

CLOCK_ERROR_S = 0.005
"""A command's stamp is the node's estimate of the present on the cell's clock, which is off by so much."""


class Witness:
    """Listens from the first to the last moment.

    Args:
        node: Hears, as long as it is spun.
        rig: Names the topics and the limits.
        camera: The camera whose pictures are counted.

    Attributes:
        policy, progress: What these nodes say of themselves.
        truth: The simulator's newest truth.
        commands: (stamp_ns, values (n,)) by topic and sender, in the order they came.
        command_s, picture_s: When the last command and the last picture came [s, steady].
        moved_s: When the arm was last seen to move [s, steady].
        estimates: Number of messages on /progress.
    """

    def __init__(self, node: Node, rig: Rig, camera: str) -> None:
        self._rig = rig
        self.policy, self.progress = NodeState(node), NodeState(node, "/progress/state")
        self.truth: dict[str, Any] = {}
        self.commands: dict[tuple[str, bytes], list[tuple[int, FloatArray]]] = defaultdict(list)
        self.command_s = self.picture_s = self.moved_s = 0.0
        self.estimates = 0
        self.joints = np.full(len(rig.state_names), np.nan)
        self._cuts_ns: list[int] = []  # the cell was set up anew: commands before and after are no motion
        for name, spec in rig.commands.items():
            kind = messages.message_class(spec.type)
            profile = qos.profile(spec.qos, depth=DEEP)
            node.create_subscription(kind, spec.topic, partial(self._on_command, name), profile)
        for name, state in rig.states.items():
            node.create_subscription(JointState, state.topic, partial(self._on_state, name), 10)
        pictures = rig.cameras[camera]
        kind, profile = messages.message_class(pictures.type), qos.live(pictures.qos)
        node.create_subscription(kind, pictures.topic, self._on_picture, profile, raw=True)
        node.create_subscription(String, "/simulator/truth", self._on_truth, DEEP)
        node.create_subscription(Float32, "/progress", self._on_progress, 10)

    @property
    def stamp_ns(self) -> int:
        """The present of the cell."""
        return int(self.truth.get("stamp_ns", 0))

    @property
    def moves(self) -> bool:
        """Whether the arm moves now."""
        return time.monotonic() - self.moved_s < 0.1

    def num_commands(self) -> int:
        """Return how many commands came so far."""
        return sum(map(len, self.commands.values()))

    def excess(self) -> dict[str, float]:
        """Return by how much commands went beyond the limits: of position [rad, m] and of speed [per s].

        Commands further apart than three of their periods belong to two motions.
        """
        position = speed = 0.0
        for (name, _), heard in self.commands.items():
            spec = self._rig.commands[name]
            index = self._rig.index_of(spec.names)
            low, high = self._rig.limits("lower")[index], self._rig.limits("upper")[index]
            for _, values in heard:
                beyond = np.maximum(values - high, low - values).max()
                position = max(position, float(beyond) if np.isfinite(values).all() else float("inf"))
            limits, period_s = self._rig.limits("velocity")[index], 1.0 / spec.rate_hz
            speed = max(speed, self._fastest(heard, limits, period_s))
        return {"position": position, "speed": speed}

    def _fastest(self, heard: list[tuple[int, FloatArray]], limits: FloatArray, period_s: float) -> float:
        worst = 0.0
        for (before_ns, before), (stamp_ns, values) in zip(heard, heard[1:], strict=False):
            dt = (stamp_ns - before_ns) / 1e9
            if not 0 < dt <= 3 * period_s or any(before_ns < cut <= stamp_ns for cut in self._cuts_ns):
                continue
            worst = max(worst, float((np.abs(values - before) / (dt + CLOCK_ERROR_S) - limits).max()))
        return worst

    def _on_command(self, name: str, message: object, info: dict[str, Any]) -> None:
        spec = self._rig.commands[name]
        raw = messages.read_named(message, spec.type, spec.names)
        values = vector_to_canonical(self._rig, spec.names, np.asarray(raw))
        sender = bytes(info["publisher_gid"]["data"])
        self.commands[name, sender].append((messages.header_stamp_ns(message), values))
        self.command_s = time.monotonic()

    def _on_state(self, name: str, message: JointState) -> None:
        self.joints[self._rig.index_of(self._rig.states[name].names)] = message.position
        if len(message.velocity) and np.abs(message.velocity).max() > STAND_RAD_S:
            self.moved_s = time.monotonic()

    def _on_picture(self, message: bytes) -> None:
        self.picture_s = time.monotonic()

    def _on_truth(self, message: String) -> None:
        before, self.truth = self.truth, json.loads(message.data)
        if before.get("episode") != self.truth["episode"]:
            self._cuts_ns.append(self.stamp_ns)

    def _on_progress(self, message: Float32) -> None:
        self.estimates += 1
