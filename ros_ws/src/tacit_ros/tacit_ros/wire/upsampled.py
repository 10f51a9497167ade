"""Command topics that run faster than the policy: each has a path of its own, and a thread or a plan.

Positions (JointState, Float64MultiArray and the like) leave from a thread at `output_hz`. A trajectory
controller is sent, with each command, all points that are known and then those of coming to rest, so that it
stops by itself where nothing more comes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from rclpy.node import Node
from rclpy.publisher import Publisher

from tacit.control.periodic import Clock, PeriodicThread
from tacit.control.safety import MotionLimiter
from tacit.control.upsampling import Upsampler
from tacit.geometry.transforms import FloatArray
from tacit.rig import CommandSpec, Rig
from tacit.rig.units import vector_from_canonical
from tacit.threads import OnFailure
from tacit_ros import messages

TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"
PLAN_S = 5.0
"""Longest trajectory of one command [s]: far beyond what braking takes."""


class Pace(NamedTuple):
    """What threads of outputs run on: clock, whom to tell of a failure, SCHED_FIFO priority."""

    clock: Clock
    on_failure: OnFailure
    priority: int


class UpsampledOutput:
    """One command topic at the driver's rate.

    Args:
        node: The owner of the topic.
        rig: Limits, names and units.
        spec: The command, with an `output_hz`.
        publisher: Of its topic.
        period_s: Period of the commands that come in [s].
        pace: What its thread runs on.
    """

    def __init__(
        self, node: Node, rig: Rig, spec: CommandSpec, publisher: Publisher, period_s: float, pace: Pace
    ) -> None:
        assert spec.output_hz is not None
        self._node, self._rig, self._spec, self._publisher = node, rig, spec, publisher
        self._index, self._clock, self._dt = rig.index_of(spec.names), pace.clock, 1 / spec.output_hz
        self._upsampler = Upsampler(MotionLimiter.from_rig(rig, self._dt), period_s)
        self._loop: PeriodicThread | None = None
        if spec.type != TRAJECTORY:
            self._loop = PeriodicThread(
                round(1e9 * self._dt), self._send, pace.on_failure, pace.clock, pace.priority
            )
            self._loop.start()

    @property
    def starved(self) -> int:
        """How often it braked because no command came."""
        return self._upsampler.starved

    @property
    def missed(self) -> int:
        """How many of its periods were left out."""
        return self._loop.missed if self._loop is not None else 0

    def follow(self, command: FloatArray, limiter: MotionLimiter) -> None:
        """Take a command (S,) of a limiter."""
        self._upsampler.follow(command, limiter.speed, limiter.dt, self._now())
        self._send_plan()

    def settle(self) -> None:
        """No command comes any more: go to the last one."""
        self._change(self._upsampler.finish, "following")

    def brake(self) -> None:
        """Come to rest at once."""
        self._change(self._upsampler.brake, "following", "finishing")

    def come_to_rest(self, deadline: float) -> None:
        """Brake; return at rest or at `deadline` (monotonic) [s]. Sends itself where its thread has ended."""
        self.brake()
        while not self._upsampler.is_at_rest and time.monotonic() < deadline:
            if self._loop is None:
                self._upsampler.plan(self._now(), 0.0)
            elif not self._loop.is_at_work:
                self._send()
            time.sleep(self._dt)

    def close(self) -> None:
        """Stop and join the thread."""
        if self._loop is not None:
            self._loop.stop()

    def _change(self, change: Callable[[], None], *motions: str) -> None:
        """Do `change` where it means something, and tell a trajectory controller."""
        is_new = self._upsampler.motion in motions
        if is_new:
            change()
        if self._loop is None:
            self._upsampler.plan(self._now(), 0.0)  # what was planned has been done
        if is_new:
            self._send_plan()

    def _now(self) -> float:
        return self._clock.now_ns() / 1e9

    def _send(self) -> None:
        command = self._upsampler.step(self._now())
        if command is not None and self._node.context.ok():
            stamp_ns = self._node.get_clock().now().nanoseconds
            raw = vector_from_canonical(self._rig, self._spec.names, command[self._index])
            self._publisher.publish(messages.build_named(self._spec.type, self._spec.names, raw, stamp_ns))
            self._upsampler.sent(self._now())

    def _send_plan(self) -> None:
        """Send a trajectory controller everything that is known, to begin at once (an empty stamp)."""
        if self._loop is not None or not self._node.context.ok():
            return
        rows = self._upsampler.plan(self._now(), PLAN_S)
        names = self._spec.names
        raw = [vector_from_canonical(self._rig, names, row[self._index]) for row in rows]
        if raw:
            self._publisher.publish(messages.joint_trajectory(names, raw, 0, period_s=self._dt))
