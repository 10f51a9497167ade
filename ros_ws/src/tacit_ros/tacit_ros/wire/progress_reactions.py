"""What the progress node does about its judgements: diagnostics once a second, and stops by option."""

from __future__ import annotations

from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.client import Client
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from tacit.bundle.runtime import OnnxProgress
from tacit.control.inputs import AlignedInputs
from tacit.progress import StopOn, stopping_states
from tacit.progress.watch import Judgement
from tacit_ros import messages


class ProgressDiagnostics:
    """Publishes the last judgement, timing and the state of the inputs of a progress node.

    Args:
        node: The owner of the topic.
        model: The bundle at work.
        inputs: What it hears.
        last: Returns the state that was said last ("" none yet), and the last judgement.
    """

    def __init__(
        self,
        node: Node,
        model: OnnxProgress,
        inputs: AlignedInputs,
        last: Callable[[], tuple[str, Judgement]],
    ) -> None:
        self._node, self._model, self._inputs, self._last = node, model, inputs, last
        self._topic = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def publish(self) -> None:
        """Publish one DiagnosticArray; its level is the health of the node, not the luck of the task."""
        said, judgement = self._last()
        findings = [f"{f.kind}: {f.text}" for f in self._inputs.intake.findings().values()]
        reason = judgement.failure or str(judgement.fault or next(iter(findings), ""))
        text = f"{said or 'waiting'}{f' ({reason})' if reason else ''}"
        level = "warn" if said == "invalid" or findings else "ok"
        status = messages.Status("progress", level, text, self.values())
        stamp_ns = self._node.get_clock().now().nanoseconds
        self._topic.publish(messages.diagnostics([status], stamp_ns, self._model.bundle.sha256[:12]))

    def values(self) -> dict[str, object]:
        """Return every measured quantity as text to show."""
        (state, judgement), intake = self._last(), self._inputs.intake
        runs = self._model.graph.stats.summary()
        told = {"progress": judgement.progress, "success": judgement.success}
        ages = {f"age_{name}_ms": f"{age:.1f}" for name, age in self._inputs.ages_ms().items()}
        rejected = {f"rejected_{name}": intake.num_refused(name) for name in self._inputs.names}
        findings = {f"finding_{n}": f"{f.kind}: {f.text}" for n, f in intake.findings().items()}
        return {
            "state": state,
            "done": judgement.done,
            "failure": judgement.failure,
            "reason": judgement.fault.reason if judgement.fault else "",
            **{name: "" if value is None else f"{value:.3f}" for name, value in told.items()},
            "bundle_sha256": self._model.bundle.sha256,
            "inference_p50_ms": f"{runs.p50_ms:.2f}",
            "inference_p95_ms": f"{runs.p95_ms:.2f}",
            "inferences": runs.count,
            **ages,
            **rejected,
            **findings,
        }


class Stops:
    """Ends policy and recording when the task is done or has failed, once in each run.

    Args:
        node: Calls the services.
        stop_on: What ends them.
        policy: Service (Trigger) that stops the policy; "" none.
        recorder: Service (SetBool, whether the task was done) that saves the episode; "" none.
    """

    def __init__(self, node: Node, stop_on: StopOn, policy: str, recorder: str) -> None:
        self._node = node
        self._states = stopping_states(stop_on)
        self._policy: Client | None = node.create_client(Trigger, policy) if policy and self._states else None
        self._recorder: Client | None = (
            node.create_client(SetBool, recorder) if recorder and self._states else None
        )
        self._stopped_run: int | None = None

    def look(self, judgement: Judgement) -> None:
        """Stop what is to be stopped, if this judgement is the first of its run that says so."""
        if judgement.state not in self._states or judgement.run == self._stopped_run:
            return
        self._stopped_run = judgement.run
        why = f"{judgement.state} {judgement.failure}".strip()
        if self._policy is not None:
            self._call(self._policy, Trigger.Request(), why)
        if self._recorder is not None:
            self._call(self._recorder, SetBool.Request(data=judgement.state == "done"), why)

    def _call(self, client: Client, request: object, why: str) -> None:
        if not client.service_is_ready():
            self._node.get_logger().warning(f"{why}: {client.srv_name} is not there, so nothing is stopped")
            return
        self._node.get_logger().info(f"{why}: calling {client.srv_name}")
        client.call_async(request)
