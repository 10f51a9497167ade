"""What the policy node says of itself on `/diagnostics`, once a second."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray

from tacit_ros import messages

if TYPE_CHECKING:
    from tacit_ros.policy_node import PolicyNode

LEVELS = {"IDLE": "ok", "RUNNING": "ok", "HOMING": "ok", "HOLD": "warn", "ESTOP": "error"}


class PolicyDiagnostics:
    """Publishes state, timing, ages and clamps of a policy node."""

    def __init__(self, node: PolicyNode) -> None:
        self._node = node
        self._topic = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def publish(self) -> None:
        """Publish one DiagnosticArray."""
        node = self._node
        status = messages.Status("policy", LEVELS[node.controller.state], str(node.controller), self.values())
        stamp_ns = node.get_clock().now().nanoseconds
        node_id = node.policy.bundle.sha256[:12]
        self._topic.publish(messages.diagnostics([status], stamp_ns, node_id))

    def values(self) -> dict[str, object]:
        """Return every measured quantity as text to show."""
        return {**self._identity(), **self._timing(), **self._inputs(), **self._motion()}

    def _identity(self) -> dict[str, object]:
        node = self._node
        return {
            "state": node.controller.state,
            "reason": node.controller.fault.reason if node.controller.fault else "",
            "dry_run": node.controller.dry_run,
            "mode": node.acting.play.mode,
            "bundle_sha256": node.policy.bundle.sha256,
        }

    def _timing(self) -> dict[str, object]:
        node = self._node
        runs = node.policy.stats.summary()
        values: dict[str, object] = {
            "inference_p50_ms": f"{runs.p50_ms:.2f}",
            "inference_p95_ms": f"{runs.p95_ms:.2f}",
            "inference_max_ms": f"{runs.max_ms:.2f}",
            "inferences": runs.count,
        }
        if node.loop is not None:
            jitter = node.loop.jitter()
            values |= {
                "period_error_p99_ms": f"{jitter.p99_ms:.3f}",
                "period_error_max_ms": f"{jitter.max_ms:.3f}",
                "ticks": jitter.steps,
                "missed_ticks": jitter.missed,
                "realtime": node.loop.is_realtime,
            }
        return values

    def _inputs(self) -> dict[str, object]:
        node = self._node
        ages = {f"age_{name}_ms": f"{age:.1f}" for name, age in node.inputs.ages_ms().items()}
        rejected = {f"rejected_{n}": c for n, c in node.subscriptions_of_rig.rejected.items()}
        tick = node.acting.tick
        skew = {"skew_ms": f"{node.inputs.skew_ms(tick):.1f}"} if tick is not None else {}
        return {**ages, **skew, **rejected}

    def _motion(self) -> dict[str, object]:
        node = self._node
        names, clamps = node.rig.state_names, node.controller.limiter.clamps
        return {
            **{f"clamps_{name}": int(count) for name, count in zip(names, clamps, strict=True)},
            "chunk_rows_left": node.controller.rows_left(node.inputs.now_ns()),
            "chunk_disagreement": f"{node.controller.disagreement:.4f}",
            "not_finite_chunks": node.acting.not_finite,
        }
