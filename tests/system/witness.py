"""What was heard of the whole system: commands and whether they keep the limits, states, joints, pictures."""

from __future__ import annotations

import json
import math
import os
import time
from collections import defaultdict
from functools import partial
from typing import Any, NamedTuple

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
"""Time between two commands is known so well. A stamp is the sender's estimate of the cell's present, which
may shrink a gap; when the sender handed it on is exact, but says nothing where the cell waits in lockstep.
The longer of the two counts. When it arrived is not looked at: a busy listener hears many at once."""


class Command(NamedTuple):
    """One command as heard: its stamp, when its sender handed it on, and the values (n,) of its topic."""

    stamp_ns: int
    sent_ns: int
    values: FloatArray


class Excess(NamedTuple):
    """By how much commands went beyond the limits of position [rad, m] and speed [per s], and where most."""

    position: float
    speed: float
    worst: str


class Witness:
    """Listens from the first to the last moment.

    Args:
        node: Hears, as long as it is spun.
        rig: Names the topics and the limits.
        camera: The camera whose pictures are counted.

    Attributes:
        policy, progress: What these nodes say of themselves.
        truth: The simulator's newest truth.
        commands: By topic and sender, in the order they came.
        command_s, picture_s: When the last command and the last picture came [s, steady].
        moved_s: When the arm was last seen to move [s, steady].
        said_s, gone_s: When the policy last said something, and was first known to be gone [s, steady].
        estimates: Number of messages on /progress.
        silence_s: Longest time between two messages of measured joints, as they were handled here [s].
    """

    def __init__(self, node: Node, rig: Rig, camera: str) -> None:
        self._rig = rig
        self.policy, self.progress = NodeState(node), NodeState(node, "/progress/state")
        self.truth: dict[str, Any] = {}
        self.commands: dict[tuple[str, bytes], list[Command]] = defaultdict(list)
        self.command_s = self.picture_s = self.moved_s = self.said_s = self.gone_s = 0.0
        self.estimates, self.silence_s, self._joints_s = 0, 0.0, math.inf
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
        node.create_subscription(String, "/policy/state", self._on_said, qos.state())
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

    def machine(self) -> str:
        """Say how busy the machine was: what is late on a busy one is late in every row above."""
        load, cores = os.getloadavg()[1], os.cpu_count()
        return f"load {load:.0f} on {cores} cores; joints were silent for up to {self.silence_s:.2f} s"

    def num_commands(self) -> int:
        """Return how many commands came so far."""
        return sum(map(len, self.commands.values()))

    def excess(self) -> Excess:
        """Judge every command that was heard.

        Two that are further apart than three of their periods belong to two motions.
        """
        position, fastest = 0.0, (0.0, "")
        for (name, _), heard in self.commands.items():
            spec = self._rig.commands[name]
            index = self._rig.index_of(spec.names)
            low, high = self._rig.limits("lower")[index], self._rig.limits("upper")[index]
            for command in heard:
                beyond = float(np.maximum(command.values - high, low - command.values).max())
                position = max(position, beyond if np.isfinite(command.values).all() else float("inf"))
            limits = self._rig.limits("velocity")[index]
            for before, after in zip(heard, heard[1:], strict=False):
                fastest = max(fastest, self._too_fast(before, after, limits, 3.0 / spec.rate_hz))
        return Excess(position, *fastest)

    def _too_fast(
        self, before: Command, after: Command, limits: FloatArray, longest_s: float
    ) -> tuple[float, str]:
        by_stamp = (after.stamp_ns - before.stamp_ns) / 1e9
        by_sending = (after.sent_ns - before.sent_ns) / 1e9
        is_new = any(before.stamp_ns < cut <= after.stamp_ns for cut in self._cuts_ns)
        if is_new or not 0 < by_stamp <= longest_s:
            return 0.0, ""
        step = np.abs(after.values - before.values)
        excess = step / (max(by_stamp, by_sending) + CLOCK_ERROR_S) - limits
        most = int(np.argmax(excess))
        where = f"{step[most]:.3f} in {by_stamp:.3f} s by stamps, {by_sending:.3f} s as sent"
        return (float(excess[most]), where) if excess[most] > 0 else (0.0, "")

    def _on_command(self, name: str, message: object, info: dict[str, Any]) -> None:
        spec = self._rig.commands[name]
        raw = messages.read_named(message, spec.type, spec.names)
        values = vector_to_canonical(self._rig, spec.names, np.asarray(raw))
        sender = bytes(info["publisher_gid"]["data"])
        stamp_ns = messages.header_stamp_ns(message)
        self.commands[name, sender].append(Command(stamp_ns, int(info["source_timestamp"]), values))
        self.command_s = time.monotonic()

    def _on_state(self, name: str, message: JointState) -> None:
        self.joints[self._rig.index_of(self._rig.states[name].names)] = message.position
        now = time.monotonic()
        self.silence_s, self._joints_s = max(self.silence_s, now - self._joints_s), now
        if len(message.velocity) and np.abs(message.velocity).max() > STAND_RAD_S:
            self.moved_s = time.monotonic()

        if self.policy.is_gone and self.gone_s == 0.0:
            self.gone_s = now

    def _on_said(self, message: String) -> None:
        self.said_s = time.monotonic()

    def _on_picture(self, message: bytes) -> None:
        self.picture_s = time.monotonic()

    def _on_truth(self, message: String) -> None:
        before, self.truth = self.truth, json.loads(message.data)
        if before.get("episode") != self.truth["episode"]:
            self._cuts_ns.append(self.stamp_ns)

    def _on_progress(self, message: Float32) -> None:
        self.estimates += 1
