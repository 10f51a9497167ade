"""The progress node `progress`: how far the task is, whether it is done, fails, stalls or falls back.

`/progress` Float32 0..1, `/progress/state` String, `/progress/done` Bool (latched), `/diagnostics`,
`~/reset`; where the bundle knows of them `/progress/step` String (latched), `/progress/success` Float32
0..1, and `/progress/failure` String (latched): the kind of the failure that holds.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass

from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.parameter import Parameter
from std_msgs.msg import Bool, Float32, String
from std_srvs.srv import Trigger

from tacit.bundle import Manifest, describe, load_bundle
from tacit.bundle.runtime import OnnxProgress
from tacit.control.inputs import AlignedInputs
from tacit.errors import BundleError
from tacit.progress import DetectorConfig, detector_of
from tacit.progress.watch import Judgement, ProgressWatch
from tacit.rig import load_rig
from tacit.threads import WatchedThread
from tacit_ros import messages
from tacit_ros.wire import qos
from tacit_ros.wire.observations import RigSubscriptions
from tacit_ros.wire.parameters import SHA256, declare, parameter
from tacit_ros.wire.process import WatchedNode, run_node
from tacit_ros.wire.progress_reactions import ProgressDiagnostics, Stops
from tacit_ros.wire.publishers import Publishers

WAIT_S = 0.02
"""Longest sleep between looks at the aligner."""

BLIND_S = 0.5
"""Without a tick for so long, while messages are refused, the last judgement is not of the present [s]."""


BY_BUNDLE = "0: as the bundle says."
THRESHOLDS = (
    *("success_above", "failure_above", "done_above", "done_below", "dwell_s", "stall_after_s"),
    *("stall_gain", "regression_drop", "motion_gain_s", "motion_drop_s"),
)
BELOW = 2 / 3
"""Part of an upper threshold at which its lower one lies, where a parameter sets the upper one."""


@dataclass(frozen=True)
class ProgressParameters:
    """Parameters of the node; fixed once it runs."""

    rig: str = parameter("nova2_sim", "Shipped rig or path of a rig.yaml.")
    bundle: str = parameter("", "Path of the exported progress model (.onnx).")
    sha256: str = parameter("", "Expected sha256 of the bundle; empty accepts any.", pattern=SHA256)
    signal: str = parameter(
        "progress",
        "Output that completion is judged by, where the bundle tells no success.",
        choices=("progress", "done"),
    )
    success_above: float = parameter(0.0, f"Probability of success that counts. {BY_BUNDLE}", low=0, high=1)
    failure_above: float = parameter(0.0, f"Probability of failure that counts. {BY_BUNDLE}", low=0, high=1)
    done_above: float = parameter(
        0.0, f"Smoothed progress that counts as done, without success. {BY_BUNDLE}", low=0, high=1
    )
    done_below: float = parameter(0.0, f"Below it that count starts anew. {BY_BUNDLE}", low=0, high=1)
    dwell_s: float = parameter(0.0, f"Time above done_above before `done` [s]. {BY_BUNDLE}", low=0)
    stall_after_s: float = parameter(0.0, f"Time without gain before `stalled` [s]. {BY_BUNDLE}", low=0)
    stall_gain: float = parameter(0.0, f"Rise that counts as gain. {BY_BUNDLE}", low=0, high=1)
    regression_drop: float = parameter(
        0.0, f"Fall below the highest value that counts as `regressed`. {BY_BUNDLE}", low=0, high=1
    )
    motion_gain_s: float = parameter(
        0.0, f"The same as stall_gain for bundles that tell motion [s]. {BY_BUNDLE}", low=0
    )
    motion_drop_s: float = parameter(
        0.0, f"The same as regression_drop for bundles that tell motion [s]. {BY_BUNDLE}", low=0
    )
    stop_on: str = parameter(
        "nothing", "What stops policy and recorder.", choices=("nothing", "done", "failed", "both")
    )
    stop_policy: str = parameter("/policy/hold", "Service (Trigger) that is called then; empty: none.")
    stop_recorder: str = parameter(
        "/recorder/stop", "Service (SetBool: was it done?) that is called then; empty: none."
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
        self.watch = ProgressWatch(self.model, rig, thresholds(bundle.manifest, settings), settings.signal)
        self.inputs = AlignedInputs(rig, self.model.manifest, lambda: self.get_clock().now().nanoseconds)
        self._progress = self.create_publisher(Float32, "/progress", 10)
        self._state = self.create_publisher(String, "/progress/state", qos.state())
        self._done = self.create_publisher(Bool, "/progress/done", qos.latched())
        self._step = self.create_publisher(String, "/progress/step", qos.latched())
        self._success = self.create_publisher(Float32, "/progress/success", 10)
        self._failure = self.create_publisher(String, "/progress/failure", qos.latched())
        self.create_service(Trigger, "~/reset", self._reset)
        self.rig_subscriptions = RigSubscriptions(
            self, rig, self.inputs.intake, self.inputs.store, live_images=True
        )
        heard = {name: self.rig_subscriptions.topic(name) for name in self.inputs.names}
        self._others = Publishers(self, heard, intake=self.inputs.intake)
        self.get_logger().info(f"{bundle.source}\n{describe(self.model.manifest)}")
        if "success" not in self.model.outputs:
            self.get_logger().warning(
                "the bundle tells neither success nor failure: done is judged by progress alone, and what "
                "fails may be called done; train it on failures too and export it anew"
            )
        self._stops = Stops(self, settings.stop_on, settings.stop_policy, settings.stop_recorder)  # type: ignore[arg-type]
        self._diagnostics = ProgressDiagnostics(
            self, self.model, self.inputs, lambda: (self._said, self._last)
        )
        # Simulated time may stand still, and just then one asks what the node waits for.
        self.create_timer(1.0, self._diagnostics.publish, clock=Clock(clock_type=ClockType.STEADY_TIME))
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
        if judgement.success is not None:
            self._success.publish(messages.float32(judgement.success))
        if judgement.failure != self._last.failure:
            self._failure.publish(messages.string(judgement.failure))
        if judgement.done != self._last.done:
            self._publish_done(judgement.done)
        self._stops.look(judgement)
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

    def _reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self._publishing:
            if self._is_ending:
                response.success, response.message = False, "the node is ending; start it anew"
                return response
            self.watch.reset()
            self._first_tick = self.inputs.reset()  # also the cure after a clock that has jumped back
            if self._last.failure:
                self._failure.publish(messages.string(""))
            if self._last.step:
                self._step.publish(messages.string(""))
            self._last = Judgement(None, "running", False)
            self._say("running")
            self._publish_done(False)
        response.success, response.message = True, "a new episode starts with the next frame"
        return response


def thresholds(manifest: Manifest, settings: ProgressParameters) -> DetectorConfig:
    """Return the thresholds of the bundle, with those that a parameter sets in their place."""
    given = {name: getattr(settings, name) for name in THRESHOLDS if getattr(settings, name)}
    for name in ("success", "failure"):
        if f"{name}_above" in given:
            given[f"{name}_below"] = BELOW * given[f"{name}_above"]
    if "regression_drop" in given:
        given["regression_recovery"] = given["regression_drop"] / 2
    return detector_of(manifest).model_copy(update=given)


def main(argv: list[str] | None = None) -> int:
    """Run the node until a signal; exit code 2 where it refuses to start."""
    return run_node(ProgressNode, argv)


if __name__ == "__main__":
    sys.exit(main())
