"""The progress node counts frames at its training rate, and tells done, stalled and invalid."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from fake_robot import FakeRobot, lenient_rig
from rclpy.parameter import Parameter
from std_msgs.msg import Bool, Float32, String
from std_srvs.srv import SetBool, Trigger
from tiny_bundles import manifest_for, progress_bundle

from tacit.errors import BundleError, ConfigError
from tacit.progress.watch import Judgement
from tacit.rig import load_rig
from tacit.streams import Finding
from tacit_ros.progress_node import THRESHOLDS, ProgressNode, ProgressParameters, thresholds
from tacit_ros.run.nodes import NODES
from tacit_ros.wire import qos

WIDE = {"state_min": (-1.0,) * 7, "state_max": (1.0,) * 7, "obs_skew_max_s": 1.0}
TICK_NS = 40_000_000


class Scene:
    """A progress node that sees the frames a test publishes, and everything it says."""

    def __init__(self, bench, folder: Path, rate_hz: float = 25.0, **parameters: object) -> None:
        rig_path = lenient_rig(folder)
        rig = load_rig(rig_path)
        path = progress_bundle(folder, rig, rate_hz=rate_hz, **WIDE).source
        values = {"rig": str(rig_path), "bundle": path, **parameters}
        self.bench = bench
        self.node = ProgressNode([Parameter(name, value=value) for name, value in values.items()])
        bench.add(self.node)
        self.robot = FakeRobot(bench.node, rig, runs=False)
        self.progress: list[float] = []
        self.states: list[str] = []
        self.done: list[bool] = []
        subscribe = bench.node.create_subscription
        subscribe(Float32, "/progress", lambda m: self.progress.append(m.data), 10)
        subscribe(String, "/progress/state", lambda m: self.states.append(m.data), qos.latched())
        subscribe(Bool, "/progress/done", lambda m: self.done.append(m.data), qos.latched())
        self.stamp_ns = 10**9

    def meet(self) -> None:
        """Send frames until the first is judged, then start the episode."""
        self.bench.until(lambda: self.done == [False], "latched done")
        deadline = time.monotonic() + 60
        while not self.progress:
            assert time.monotonic() < deadline, "no frame was judged within a minute"
            self.frame(1, expect=False, pass_s=1.0)  # a late answer must not count in the episode
        self.node.watch.reset()
        self.progress.clear()

    def frame(self, count: int, gap_ticks: int = 1, expect: bool = True, pass_s: float = 0.05) -> None:
        """Send frames one by one; each is judged before the next, or may be within `pass_s`."""
        for _ in range(count):
            self.stamp_ns += gap_ticks * TICK_NS
            before = len(self.progress)
            self.robot.publish_joints(self.stamp_ns)
            self.robot.publish_images(self.stamp_ns)
            if expect:
                self.bench.until(lambda n=before: len(self.progress) > n, "progress")
            else:
                end = time.monotonic() + pass_s
                self.bench.until(
                    lambda n=before, e=end: len(self.progress) > n or time.monotonic() > e, "frame to pass"
                )


@pytest.fixture
def scene(bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Scene]]:
    # Each frame is sent once and waited for: best effort, as the node hears pictures, may lose it.
    monkeypatch.setattr(qos, "live", qos.profile)
    made: list[Scene] = []

    def build(**options: object) -> Scene:
        made.append(Scene(bench, tmp_path, **options))
        made[-1].meet()
        return made[-1]

    yield build
    for one in made:
        one.node.close()


def test_progress_of_each_frame_is_published_in_order(scene) -> None:
    one = scene()
    one.bench.until(lambda: one.states, "a state, with the first judgement")
    assert one.states == ["running"]
    one.frame(6)
    np.testing.assert_allclose(one.progress, np.arange(1, 7) / 10, atol=1e-6)


def test_frames_are_decimated_to_the_training_rate(scene) -> None:
    one = scene(rate_hz=12.5)
    one.frame(1)
    for _ in range(4):
        one.frame(1, expect=False)
        one.frame(1)
    np.testing.assert_allclose(one.progress, np.arange(1, 6) / 10, atol=1e-6)


def test_done_is_latched_and_reset_clears_it(scene) -> None:
    one = scene(dwell_s=0.1)
    one.frame(30)
    one.bench.until(lambda: one.done[-1], "done")
    assert one.states[-1] == "done"
    one.bench.call("/progress/reset")
    one.bench.until(lambda: not one.done[-1], "reset")
    one.frame(1)
    assert one.progress[-1] == pytest.approx(0.1)


def test_reset_follows_a_clock_that_has_jumped_back(scene) -> None:
    one = scene()
    one.frame(5)
    one.stamp_ns -= 20 * TICK_NS
    one.frame(2, expect=False)  # refused: stamped before what came earlier
    assert len(one.progress) == 5
    one.bench.call("/progress/reset")
    one.frame(2)
    assert one.progress[-2:] == pytest.approx([0.1, 0.2])


def test_gap_starts_the_estimate_anew(scene) -> None:
    one = scene()
    one.frame(5)
    one.frame(1, gap_ticks=6)
    assert one.progress[-1] == pytest.approx(0.1)


def test_state_outside_training_is_invalid_and_repeats_nothing(scene) -> None:
    one = scene()
    one.frame(3)
    one.robot.state = np.full(7, 5.0)
    deadline = time.monotonic() + 20.0
    while "invalid" not in one.states and time.monotonic() < deadline:
        one.frame(1, expect=False)
    assert "invalid" in one.states
    assert len(one.progress) == 3


def test_joints_that_are_refused_make_the_judgement_invalid_though_no_frame_comes(scene) -> None:
    one = scene()
    one.frame(3)
    one.robot.state = np.full(7, np.nan)
    began = time.monotonic()
    while "invalid" not in one.states and time.monotonic() - began < 20.0:
        one.frame(1, expect=False)
    assert one.states[-1] == "invalid" and len(one.progress) == 3
    assert "not_finite" in str(one.node._last.fault)


def test_doubt_about_a_stream_makes_the_judgement_invalid_with_the_reason(scene) -> None:
    one = scene()
    one.frame(3)
    doubt = Finding("two_publishers", "2 publishers of /joint_states", refused=False)
    one.node._others.look = lambda: None  # the graph is well; what it would say is said here
    one.node._others._timer.cancel()
    one.node.inputs.intake.notice("test", {"joints": doubt})
    one.frame(2, expect=False)
    one.bench.until(lambda: one.states[-1] == "invalid", "invalid")
    assert one.node._last.fault.reason == "two_publishers"


def test_a_failure_is_named_stops_policy_and_recorder_once_and_may_be_made_good(
    scene, bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []

    def answer(request, response):
        calls.append(getattr(request, "data", None))
        response.success = True
        return response

    bench.node.create_service(Trigger, "/policy/hold", answer)
    bench.node.create_service(SetBool, "/recorder/stop", answer)
    one = scene(stop_on="failed", failure_above=0.5)
    failures: list[str] = []
    bench.node.create_subscription(
        String, "/progress/failure", lambda m: failures.append(m.data), qos.latched()
    )
    says = {"success": 0.0, "failure": 0.9, "kind": "miss"}
    plain = one.node.model.step
    monkeypatch.setattr(one.node.model, "step", lambda seen: replace(plain(seen), **says))
    clients = (one.node._stops._policy, one.node._stops._recorder)
    bench.until(lambda: all(client.service_is_ready() for client in clients), "services")
    one.frame(20)
    bench.until(lambda: failures == ["miss"] and len(calls) == 2, "a named failure, and both stopped")
    assert one.states[-1] == "failed" and True not in one.done
    assert None in calls and False in calls, "the recorder is told that the task was not done"
    says |= {"failure": 0.1}
    one.frame(25)
    bench.until(lambda: failures == ["miss", ""] and one.states[-1] == "running", "made good")
    says |= {"success": 0.9}
    one.frame(8)
    bench.until(lambda: one.done[-1], "done by success")
    assert len(calls) == 2


def test_diagnostics_tell_state_timing_and_what_was_refused(scene, bench) -> None:
    one = scene()
    one.frame(2)
    heard: list[DiagnosticArray] = []
    bench.node.create_subscription(DiagnosticArray, "/diagnostics", heard.append, 10)
    bench.until(lambda: heard, "diagnostics")
    (status,) = heard[-1].status
    values = {pair.key: pair.value for pair in status.values}
    assert (status.name, values["state"], values["success"]) == ("progress", "running", "")
    assert float(values["inference_p95_ms"]) > 0 and values["rejected_wrist"] == "0"


def test_a_stack_leaves_thresholds_to_the_bundle_and_offers_the_stops() -> None:
    given, plain = dict(NODES["progress"].parameters), ProgressParameters()
    del given["rig"]
    assert given == {key: getattr(plain, key) for key in given} and {"stop_on", *THRESHOLDS} < set(given)
    fitted = {"success_above": 0.9, "failure_above": 0.7, "stall_after_s": 3.0, "done_above": 0.97}
    manifest = manifest_for(load_rig("nova2_sim"), "progress", detector=fitted)
    told = thresholds(manifest, replace(plain, **given)).model_dump()
    assert {name: told[name] for name in fitted} == fitted


def test_thresholds_are_those_of_the_bundle_where_no_parameter_sets_them() -> None:
    manifest = manifest_for(
        load_rig("nova2_sim"), "progress", detector={"success_above": 0.9, "length_s": 7.0}
    )
    told = thresholds(manifest, ProgressParameters(failure_above=0.6))
    assert (told.success_above, told.length_s, told.failure_above) == (0.9, 7.0, 0.6)
    assert told.failure_below == pytest.approx(0.4) and told.done_above is None
    old = thresholds(manifest.model_copy(update={"detector": None}), ProgressParameters())
    assert old.done_above == 0.95, "bundles of before are judged as they were"


def test_slow_cameras_are_refused(bench, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="trained at 50 Hz"):
        Scene(bench, tmp_path, rate_hz=50.0)


def test_bundle_is_needed(ros) -> None:
    with pytest.raises(BundleError, match="bundle is empty"):
        ProgressNode()


def test_what_counts_as_gain_and_as_a_fall_is_set_by_parameters(scene) -> None:
    one = scene(stall_gain=0.5, stall_after_s=0.2, regression_drop=0.3)
    assert (one.node.watch._detector.config.regression_recovery) == pytest.approx(0.15)
    one.frame(8)  # progress rises by .1 a frame: less than the gain that is asked for
    one.bench.until(lambda: "stalled" in one.states, "stalled")


def test_judgement_in_flight_at_a_reset_is_dropped_and_the_reset_does_not_wait_for_it(
    scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = scene()
    entered, gate = threading.Event(), threading.Event()

    def slow(tick: object, inputs: object) -> Judgement:
        entered.set()
        assert gate.wait(20)
        return Judgement(1.0, "done", True)

    monkeypatch.setattr(one.node.watch, "_judge", slow)
    one.frame(1, expect=False)
    one.bench.until(entered.is_set, "an inference in flight")
    one.bench.call("/progress/reset")  # answers while the inference runs
    monkeypatch.undo()
    gate.set()
    one.frame(1)
    assert one.progress == [pytest.approx(0.1)]
    assert True not in one.done and "done" not in one.states
