"""The progress node `progress`: how far the task is, and whether it is done, stalled or falling back.

`/progress` Float32 0..1, `/progress/state` String, `/progress/done` Bool (latched), `~/reset`; and
`/progress/step` String (latched), where the bundle knows the steps of its task; `/diagnostics` once a second.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.parameter import Parameter
from std_msgs.msg import Bool, Float32, String
from std_srvs.srv import Trigger

from tacit.bundle import describe, load_bundle
from tacit.bundle.runtime import OnnxProgress
from tacit.control.inputs import AlignedInputs
from tacit.errors import BundleError
from tacit.progress import DetectorConfig
from tacit.progress.watch import Judgement, ProgressWatch
from tacit.rig import load_rig
from tacit.threads import WatchedThread
from tacit_ros import messages
from tacit_ros.wire import qos
from tacit_ros.wire.observations import RigSubscriptions
from tacit_ros.wire.parameters import SHA256, declare, parameter
from tacit_ros.wire.process import WatchedNode, run_node
from tacit_ros.wire.publishers import Publishers

WAIT_S = 0.02
"""Longest sleep between looks at the aligner."""

BLIND_S = 0.5
"""Without a tick for so long, while messages are refused, the last judgement is not of the present [s]."""


@dataclass(frozen=True)
class ProgressParameters:
    """Parameters of the node; fixed once it runs."""

    rig: str = parameter("nova2_sim", "Shipped rig or path of a rig.yaml.")
    bundle: str = parameter("", "Path of the exported progress model (.onnx).")
    sha256: str = parameter("", "Expected sha256 of the bundle; empty accepts any.", pattern=SHA256)
    signal: str = parameter("progress", "Output that completion is judged by.", choices=("progress", "done"))
    done_above: float = parameter(
        0.95, "Smoothed value above which the task counts as done.", above=0, high=1
    )
    done_below: float = parameter(0.85, "Smoothed value below which the count starts anew.", low=0, high=1)
    dwell_s: float = parameter(0.5, "Time above before `done` [s].", above=0)
    stall_after_s: float = parameter(5.0, "Time without gain before `stalled` [s].", above=0)
    stall_gain: float = parameter(0.01, "Rise of the smoothed value that counts as gain.", above=0, high=1)
    regression_drop: float = parameter(
        0.2, "Fall below the highest value that counts as `regressed`.", above=0, high=1
    )
    motion_gain_s: float = parameter(0.8, "The same as stall_gain for bundles that tell motion [s].", above=0)
    motion_drop_s: float = parameter(
        1.0, "The same as regression_drop for bundles that tell motion [s].", above=0
    )
    num_threads: int = parameter(1, "Threads of one inference.", low=1, high=64)


class ProgressNode(WatchedNode):
    """Judges the progress of one task at a time.

    Raises:
        TacitError: Rig, bundle or parameters are not fit to run: the node refuses to start.
    """

    def __init__(self, parameter_overrides: list[Parameter] | None = None) -> None:
        super().__init__("progress", parameter_overrides=parameter_overrides)
        settings = declare(self, ProgressParameters)
        if not settings.bundle:
            raise BundleError(
                "parameter bundle is empty; give the path of an exported progress model (.onnx)"
            )
        rig = load_rig(settings.rig)
        bundle = load_bundle(settings.bundle, settings.sha256 or None)
        self.model = OnnxProgress(bundle, rig, settings.num_threads)
        detector = DetectorConfig(
            done_above=settings.done_above,
            done_below=settings.done_below,
            dwell_s=settings.dwell_s,
            stall_after_s=settings.stall_after_s,
            stall_gain=settings.stall_gain,
            regression_drop=settings.regression_drop,
            regression_recovery=settings.regression_drop / 2,
            motion_gain_s=settings.motion_gain_s,
            motion_drop_s=settings.motion_drop_s,
        )
        self.watch = ProgressWatch(self.model, rig, detector, settings.signal)
        self.inputs = AlignedInputs(rig, self.model.manifest, lambda: self.get_clock().now().nanoseconds)
        self._progress = self.create_publisher(Float32, "/progress", 10)
        self._state = self.create_publisher(String, "/progress/state", qos.state())
        self._done = self.create_publisher(Bool, "/progress/done", qos.latched())
        self._step = self.create_publisher(String, "/progress/step", qos.latched())
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_service(Trigger, "~/reset", self._reset)
        # Simulated time may stand still, and just then one asks what the node waits for.
        self.create_timer(1.0, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.rig_subscriptions = RigSubscriptions(
            self, rig, self.inputs.intake, self.inputs.store, live_images=True
        )
        heard = {name: self.rig_subscriptions.topic(name) for name in self.inputs.names}
        self._others = Publishers(self, heard, intake=self.inputs.intake)
        self.get_logger().info(f"{bundle.source}\n{describe(self.model.manifest)}")
        self._last, self._said = Judgement(None, "running", False), ""
        self._publish_done(False)
        self._first_tick, self._is_ending = 0, False
        self._publishing = threading.Lock()
        self._thread = WatchedThread("progress", self._run, self.thread_failed)
        self._thread.start()

    def close(self) -> None:
        """Abort the inference in progress and join the thread."""
        self._thread.stop(nudge=self._interrupt)

    def halt(self, reason: str) -> None:
        """Publish `invalid`: nobody judges from now on, and the last state is not that of the present."""
        with self._publishing:
            self._is_ending = True  # a judgement on its way must not be the last word
            self._say("invalid")
        self._state.wait_for_all_acked(Duration(seconds=0.5))

    def _interrupt(self) -> None:
        self.model.graph.terminate()
        self.inputs.wake()

    def _run(self) -> None:
        judged_s = time.monotonic()
        while not self._thread.stopping.is_set():
            self.inputs.wait(WAIT_S)
            if time.monotonic() - judged_s > BLIND_S and (blind := self.watch.blind(self.inputs)) is not None:
                self._publish(blind)
            for tick in self.inputs.poll():
                judged_s = time.monotonic()
                if self._thread.stopping.is_set() or tick.index < self._first_tick:
                    continue
                judgement = self.watch.see(tick, self.inputs)
                if judgement is not None:
                    self._publish(judgement)

    def _publish(self, judgement: Judgement) -> None:
        """Publish a judgement, unless the run that it belongs to has ended meanwhile."""
        with self._publishing:
            if judgement.run == self.watch.run and self.context.ok() and not self._is_ending:
                self._publish_present(judgement)

    def _publish_present(self, judgement: Judgement) -> None:
        if judgement.progress is not None:
            self._progress.publish(messages.float32(judgement.progress))
        self._say(judgement.state)
        if judgement.step is not None and judgement.step != self._last.step:
            self._step.publish(messages.string(judgement.step))
        if judgement.done != self._last.done:
            self._publish_done(judgement.done)
        if judgement.fault is not None:
            self.get_logger().warning(f"invalid: {judgement.fault}", throttle_duration_sec=1.0)
        self._last = judgement

    def _say(self, state: str) -> None:
        """Publish the state where it is not the last that was said: the topic is latched."""
        if state != self._said:
            self._said = state
            self._state.publish(messages.string(state))

    def _publish_done(self, done: bool) -> None:
        self._done.publish(messages.boolean(done))
        if done:
            self.get_logger().info("task done")

    def _report(self) -> None:
        """Once a second: what was judged last, how long that took, and what is heard."""
        last, runs, intake = self._last, self.model.graph.stats.summary(), self.inputs.intake
        findings = {n: f"{f.kind}: {f.text}" for n, f in intake.findings().items()}
        values: dict[str, object] = {
            "state": self._said,
            "progress": "" if last.progress is None else f"{last.progress:.3f}",
            "done": last.done,
            "inference_p95_ms": f"{runs.p95_ms:.2f}",
            "inferences": runs.count,
            **{f"age_{name}_ms": f"{age:.1f}" for name, age in self.inputs.ages_ms().items()},
            **{f"rejected_{name}": intake.num_refused(name) for name in self.inputs.names},
            **{f"finding_{name}": text for name, text in findings.items()},
        }
        reason = str(last.fault or next(iter(findings.values()), ""))
        invalid = self._said == "invalid" or bool(findings)
        text = f"{self._said or 'waiting'}{f' ({reason})' if reason else ''}"
        status = messages.Status("progress", "warn" if invalid else "ok", text, values)
        stamp_ns = self.get_clock().now().nanoseconds
        self._diagnostics.publish(messages.diagnostics([status], stamp_ns, self.model.bundle.sha256[:12]))

    def _reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self._publishing:
            if self._is_ending:
                response.success, response.message = False, "the node is ending; start it anew"
                return response
            self.watch.reset()
            self._first_tick = self.inputs.reset()  # also the cure after a clock that has jumped back
            self._last = Judgement(None, "running", False)
            self._say("running")
            self._publish_done(False)
        response.success, response.message = True, "a new episode starts with the next frame"
        return response


def main(argv: list[str] | None = None) -> int:
    """Run the node until a signal; exit code 2 where it refuses to start."""
    return run_node(ProgressNode, argv)


if __name__ == "__main__":
    sys.exit(main())
