"""What the policy node says of itself on `/diagnostics`, once a second."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node

from tacit.control.acting import Acting
from tacit.control.periodic import PeriodicThread
from tacit.control.states import LEVELS
from tacit.rig import Rig
from tacit_ros import messages
from tacit_ros.wire.commands import CommandPublisher


class PolicyDiagnostics:
    """Publishes state, timing, ages and clamps of a policy node.

    Args:
        node: The owner of the topic.
        rig: Names of the commanded joints.
        acting: The policy at work.
        loop: The command loop; None in lockstep.
        commands: Where commands go.
    """

    def __init__(
        self, node: Node, rig: Rig, acting: Acting, loop: PeriodicThread | None, commands: CommandPublisher
    ) -> None:
        self._node, self._rig, self._acting, self._loop = node, rig, acting, loop
        self._commands = commands
        self._topic = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def publish(self) -> None:
        """Publish one DiagnosticArray."""
        controller = self._acting.controller
        status = messages.Status("policy", LEVELS[controller.state], str(controller), self.values())
        stamp_ns = self._node.get_clock().now().nanoseconds
        bundle_id = self._acting.policy.bundle.sha256[:12]
        self._topic.publish(messages.diagnostics([status], stamp_ns, bundle_id))

    def values(self) -> dict[str, object]:
        """Return every measured quantity as text to show."""
        return {**self._identity(), **self._timing(), **self._inputs(), **self._motion()}

    def _identity(self) -> dict[str, object]:
        acting = self._acting
        return {
            "state": acting.controller.state,
            "reason": acting.controller.fault.reason if acting.controller.fault else "",
            "dry_run": acting.controller.dry_run,
            "mode": acting.play.mode,
            "bundle_sha256": acting.policy.bundle.sha256,
        }

    def _timing(self) -> dict[str, object]:
        acting = self._acting
        runs = acting.policy.stats.summary()
        values: dict[str, object] = {
            "inference_p50_ms": f"{runs.p50_ms:.2f}",
            "inference_p95_ms": f"{runs.p95_ms:.2f}",
            "inference_max_ms": f"{runs.max_ms:.2f}",
            "inferences": runs.count,
        }
        if self._loop is not None:
            jitter = self._loop.jitter()
            values |= {
                "period_error_p99_ms": f"{jitter.p99_ms:.3f}",
                "period_error_max_ms": f"{jitter.max_ms:.3f}",
                "ticks": jitter.steps,
                "missed_ticks": jitter.missed,
                "realtime": self._loop.is_realtime,
            }
        for name, output in self._commands.upsampled.items():
            values |= {f"missed_outputs_{name}": output.missed, f"starved_outputs_{name}": output.starved}
        return values

    def _inputs(self) -> dict[str, object]:
        acting, intake = self._acting, self._acting.inputs.intake
        ages = {f"age_{name}_ms": f"{age:.1f}" for name, age in acting.inputs.ages_ms().items()}
        rejected = {f"rejected_{name}": intake.num_refused(name) for name in acting.inputs.names}
        tick = acting.tick
        robot = {f"robot_{name}": f"{value:g}" for name, value in acting.inputs.robot.values.items()}
        skew = {"skew_ms": f"{acting.inputs.skew_ms(tick):.1f}"} if tick is not None else {}
        findings = {f"finding_{n}": f"{f.kind}: {f.text}" for n, f in intake.findings().items()}
        return {**ages, **skew, **robot, **rejected, **findings}

    def _motion(self) -> dict[str, object]:
        acting = self._acting
        names, clamps = self._rig.state_names, acting.controller.limiter.clamps
        return {
            **{f"clamps_{name}": int(count) for name, count in zip(names, clamps, strict=True)},
            "chunk_rows_left": acting.controller.rows_left(acting.inputs.now_ns()),
            "chunk_disagreement": f"{acting.controller.disagreement:.4f}",
            "not_finite_chunks": acting.not_finite,
        }
