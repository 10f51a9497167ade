"""The policy node on a robot made of publishers: it moves by name, and holds for every fault."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from fake_robot import FakeRobot, lenient_rig
from policy_cell import WIDE
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from std_srvs.srv import SetBool, Trigger
from tiny_bundles import nan_bundle, policy_bundle, slow_bundle

from tacit.bundle import MANIFEST_KEY, PlaySpec
from tacit.bundle.onnx_file import read_metadata, with_metadata
from tacit.errors import BundleError, ConfigError
from tacit.rig import Rig, load_rig
from tacit_ros import messages
from tacit_ros.policy_node import PolicyNode
from tacit_ros.run.stacks import build_stack


@dataclass
class Cell:
    """A policy node, its robot and the bench that spins both."""

    bench: object
    node: PolicyNode
    robot: FakeRobot
    diagnostics: list = field(default_factory=list)

    def call(self, service: str, request: object = None) -> Trigger.Response:
        return self.bench.call(f"/policy/{service}", request)

    def ready(self) -> None:
        self.bench.until(lambda: self.node.acting.readiness() is None, "input")

    def run(self) -> None:
        self.ready()
        answer = self.call("start")
        assert answer.success, answer.message
        self.bench.until(lambda: len(self.robot.commands) > 5, "commands")

    def until_hold(self, reason: str) -> None:
        self.bench.until(lambda: self.node.controller.state == "HOLD", f"HOLD for {reason}")
        assert self.node.controller.fault.reason == reason, str(self.node.controller.fault)

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.bench.until(lambda: time.monotonic() > end, "time to pass", seconds + 20)


Make = Callable[..., Cell]


@pytest.fixture
def make(bench, tmp_path: Path) -> Iterator[Make]:
    made: list[Cell] = []

    def build(
        bundle: Callable = policy_bundle, safety: dict | None = None, runs: bool = True, **parameters: object
    ) -> Cell:
        rig_path = lenient_rig(tmp_path, **(safety or {}))
        rig = load_rig(rig_path)
        path = bundle(tmp_path, rig, **WIDE).source
        values = {"rig": str(rig_path), "bundle": path, **parameters}
        node = PolicyNode([Parameter(name, value=value) for name, value in values.items()])
        cell = Cell(bench, bench.add(node), FakeRobot(bench.node, rig, runs=runs))
        bench.node.create_subscription(DiagnosticArray, "/diagnostics", cell.diagnostics.append, 10)
        made.append(cell)
        return cell

    yield build
    for cell in made:
        cell.robot.stop()
        cell.node.close()


def test_nothing_is_sent_before_start(make: Make) -> None:
    cell = make()
    cell.ready()
    cell.spin(0.3)
    assert cell.node.controller.state == "IDLE" and not cell.robot.commands


@pytest.mark.parametrize("mode", ["blend", "temporal_ensemble", "replace", "open_loop"])
def test_running_policy_commands_at_its_rate_within_limits(make: Make, mode: str) -> None:
    cell = make(mode=mode)
    cell.run()
    cell.spin(1.0)
    assert cell.node.controller.state == "RUNNING", str(cell.node.controller)
    stamps, commands = zip(*cell.robot.commands, strict=True)
    assert (np.diff(stamps) > 0).all()
    rig, path = cell.node.rig, np.array(commands)
    assert (np.abs(np.diff(path, axis=0)) <= rig.limits("velocity") * 0.04 + 1e-9).all()
    assert (path[-1] > 0.05).all()


def test_stack_without_options_plays_as_the_bundle_says_and_an_option_overrides_it(
    ros, tmp_path: Path, rig: Rig
) -> None:
    way = PlaySpec(mode="blend", every_ticks=3, blend=5)
    path = policy_bundle(tmp_path, rig, chunk_size=25, play=way).source

    def played(**options: str) -> PlaySpec:
        [spec] = [
            n
            for n in build_stack("policy", "nova2_sim", {"bundle": path, **options}).nodes
            if n.name == "policy"
        ]
        node = PolicyNode(parameters(**spec.parameters))
        node.close()
        node.destroy_node()
        return node.acting.play

    assert played() == way
    assert played(replan_ticks="2") == PlaySpec(mode="blend", every_ticks=2, blend=5)
    assert played(mode="temporal_ensemble") == PlaySpec(blend=5)


def test_home_goes_there_and_ends_idle(make: Make) -> None:
    cell = make()
    cell.ready()
    answer = cell.call("home")
    assert answer.success, answer.message
    cell.bench.until(lambda: cell.node.controller.state == "IDLE", "arrival")
    np.testing.assert_allclose(cell.robot.commands[-1][1][:6], cell.node.rig.home[:6], atol=1e-3)


def test_hold_brakes_and_falls_silent(make: Make) -> None:
    cell = make()
    cell.run()
    assert cell.call("hold").success
    cell.bench.until(lambda: cell.node.controller.limiter.is_at_rest, "rest")
    cell.spin(0.2)
    count = len(cell.robot.commands)
    cell.spin(0.4)
    assert len(cell.robot.commands) == count
    assert cell.call("start").success


def test_emergency_stop_is_latched_until_reset(make: Make) -> None:
    cell = make()
    cell.run()
    assert cell.call("estop").success
    answer = cell.call("start")
    assert not answer.success and "reset" in answer.message
    cell.bench.until(lambda: cell.node.controller.limiter.is_at_rest, "rest")
    assert cell.call("reset").success
    cell.ready()
    assert cell.call("start").success


def test_dry_run_sends_the_robot_nothing(make: Make) -> None:
    cell = make(dry_run=True)
    cell.ready()
    assert cell.call("start").success
    cell.bench.until(lambda: len(cell.robot.shadow) > 5, "shadow commands")
    assert not cell.robot.commands
    assert list(cell.robot.shadow[0].name) == list(cell.node.rig.state_names)
    refused = cell.call("set_dry_run", SetBool.Request(data=False))
    assert not refused.success and "hold" in refused.message


def test_diagnostics_come_also_while_simulated_time_stands_still(make: Make) -> None:
    cell = make(use_sim_time=True, runs=False)
    cell.bench.until(lambda: cell.diagnostics, "diagnostics without a clock")


def test_start_without_input_is_refused_with_the_stream(make: Make) -> None:
    cell = make(runs=False)
    cell.robot.silent.add("wrist")
    cell.robot._thread.start()
    cell.bench.until(lambda: "joints" in cell.node.inputs.newest, "joints")
    answer = cell.call("start")
    assert not answer.success and "wrist" in answer.message


@pytest.mark.parametrize("lockstep", [False, True])
def test_command_dies_with_its_time_unless_time_waits_for_it(make: Make, lockstep: bool) -> None:
    cell = make(lockstep=lockstep, runs=False)
    topic = cell.node.rig.commands["command"].topic
    cell.bench.until(lambda: cell.node.count_publishers(topic), "the publisher in the graph")
    [publisher] = cell.node.get_publishers_info_by_topic(topic)
    lifespan_s = publisher.qos_profile.lifespan.nanoseconds / 1e9
    assert lifespan_s > 10**6 if lockstep else lifespan_s == pytest.approx(3 * 0.04)


@pytest.mark.parametrize("mode", ["blend", "temporal_ensemble", "open_loop"])
def test_lockstep_answers_each_tick_once_with_its_stamp(make: Make, mode: str) -> None:
    cell = make(lockstep=True, mode=mode, runs=False)
    first_ns = 10**9
    while cell.node.acting.tick is None:
        first_ns += 40_000_000
        cell.robot.publish_joints(first_ns)
        cell.robot.publish_images(first_ns)
        cell.spin(0.05)
    assert cell.call("start").success
    cell.bench.until(lambda: cell.robot.commands, "first command")
    stamps = [cell.robot.commands[0][0] + 40_000_000 * k for k in range(30)]
    for count, stamp_ns in enumerate(stamps[1:], start=1):
        cell.robot.publish_joints(stamp_ns)
        cell.robot.publish_images(stamp_ns)
        cell.bench.until(lambda n=count: len(cell.robot.commands) > n, f"command {count}")
    assert [stamp for stamp, _ in cell.robot.commands] == stamps


FAULTS: dict[str, tuple[Callable[[FakeRobot], object], str]] = {
    "frozen camera": (lambda robot: robot.silent.add("wrist"), "stale"),
    "frozen touch": (lambda robot: robot.silent.add("left"), "stale"),
    "dead joints": (lambda robot: robot.silent.add("joints"), "stale"),
    "dead gripper": (lambda robot: robot.silent.add("gripper_state"), "stale"),
    "repeated frame": (lambda robot: robot.repeat.update(wrist=time.time_ns()), "duplicate"),
    "stamps backwards": (lambda robot: robot.shift_ns.update(wrist=-(10**9)), "out_of_order"),
    "joint stamps backwards": (lambda robot: robot.shift_ns.update(joints=-(10**9)), "out_of_order"),
    "stamps from the future": (
        lambda robot: robot.shift_ns.update(
            dict.fromkeys(("wrist", "left", "joints", "gripper_state"), 10**9)
        ),
        "stamp_ahead",
    ),
    "joints from the future": (lambda robot: robot.shift_ns.update(joints=200_000_000), "stamp_ahead"),
    "unstamped camera": (lambda robot: robot.repeat.update(wrist=0), "no_stamp"),
    "input not a number": (lambda robot: _freeze_at(robot, np.nan), "not_finite"),
    "input out of range": (lambda robot: _freeze_at(robot, 1e6), "out_of_limits"),
    "jump of the joints": (lambda robot: _freeze_at(robot, 0.6), "jump"),
    "camera that repeats itself": (lambda robot: robot.frozen.add("wrist"), "frozen"),
    "touch that repeats itself": (lambda robot: robot.frozen.add("left"), "frozen"),
    "black pictures": (lambda robot: setattr(robot, "level", 0), "black"),
    "renamed joints": (lambda robot: setattr(robot, "joint_names", [f"j{i}" for i in range(6)]), "stale"),
}


def _freeze_at(robot: FakeRobot, value: float) -> None:
    robot.follows = False
    robot.state = np.full(7, value)


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_brakes_and_holds(make: Make, fault: str) -> None:
    cell = make(safety={"image_age_ms": 600.0, "joint_age_ms": 600.0, "tracking_error": 1e9})
    cell.run()
    break_it, reason = FAULTS[fault]
    break_it(cell.robot)
    cell.until_hold(reason)
    cell.bench.until(lambda: cell.node.controller.limiter.is_at_rest, "rest")
    cell.spin(0.1)
    count = len(cell.robot.commands)
    cell.spin(0.2)
    assert len(cell.robot.commands) == count
    low, high = cell.node.rig.limits("lower"), cell.node.rig.limits("upper")
    assert all(((c >= low) & (c <= high)).all() for _, c in cell.robot.commands)


def test_joints_that_rest_to_the_bit_while_commanded_hold_and_a_start_is_refused(make: Make) -> None:
    cell = make(safety={"tracking_error": 1e9})
    cell.ready()
    cell.robot.follows, cell.robot.noise = False, 0.0
    assert cell.call("home").success  # a robot at rest may start: it was told nothing yet
    cell.until_hold("stuck")
    cell.bench.until(lambda: cell.node.controller.limiter.is_at_rest, "rest")
    answer = cell.call("start")
    assert not answer.success and "stuck" in answer.message
    cell.robot.noise = 1e-7
    cell.bench.until(lambda: cell.node.acting.readiness() is None, "a living robot")


def test_node_that_ends_while_simulated_time_stands_still_brakes_all_the_same(make: Make) -> None:
    cell = make(safety={"tracking_error": 1e9}, use_sim_time=True)
    clock = cell.bench.node.create_publisher(Clock, "/clock", 10)
    ticking = cell.bench.node.create_timer(0.005, lambda: clock.publish(messages.clock(time.time_ns())))
    cell.run()
    cell.robot.glide(0.8)
    limiter = cell.node.controller.limiter
    cell.bench.until(lambda: np.abs(limiter.speed).max() > 0.1, "motion")
    ticking.cancel()
    cell.spin(0.2)
    count, moving = len(cell.robot.commands), not limiter.is_at_rest
    cell.node.halt("SIGINT came")
    assert moving and limiter.is_at_rest
    cell.bench.until(lambda: len(cell.robot.commands) > count, "braking commands")
    assert cell.node.controller.state == "HOLD"


@pytest.mark.parametrize("step_s", [-1000, 1000])
def test_reset_lets_a_run_start_after_every_clock_was_set_anew(make: Make, step_s: int) -> None:
    cell = make()
    cell.run()
    cell.robot.shift_ns = dict.fromkeys(cell.robot.rig.specs, step_s * 10**9)
    cell.bench.until(lambda: cell.node.controller.state == "HOLD", "HOLD")
    cell.bench.until(lambda: cell.node.controller.limiter.is_at_rest, "rest")
    assert cell.call("reset").success
    count = len(cell.robot.commands)
    cell.ready()
    assert cell.call("start").success
    cell.bench.until(lambda: len(cell.robot.commands) > count + 5, "commands")
    assert cell.node.controller.state == "RUNNING"


def test_output_that_is_not_a_number_holds(make: Make) -> None:
    cell = make(nan_bundle, safety={"tracking_error": 1e9})
    cell.run()
    cell.robot.follows = False
    cell.robot.glide(-0.7)
    cell.until_hold("not_finite")
    assert cell.node.acting.not_finite == 1


def test_stuck_inference_is_aborted_and_holds(make: Make) -> None:
    # planned at every tick, so that the deadline comes long before the chunk in force ends
    cell = make(slow_bundle, safety={"tracking_error": 1e9}, mode="replace", replan_ticks=1)
    cell.run()
    cell.robot.follows = False
    cell.robot.glide(0.8)
    cell.until_hold("inference_deadline")


def test_robot_that_does_not_follow_holds(make: Make) -> None:
    cell = make(safety={"tracking_error": 0.1})
    cell.run()
    cell.robot.follows = False
    cell.robot.glide(-0.3)
    cell.until_hold("tracking")
    answer = cell.call("start")
    assert not answer.success and "reset" in answer.message


def test_diagnostics_and_state_tell_what_happens(make: Make) -> None:
    cell = make()
    cell.run()

    def values() -> dict[str, str]:
        last = [s for m in cell.diagnostics for s in m.status if s.name == "policy"]
        return {v.key: v.value for v in last[-1].values} if last else {}

    cell.bench.until(lambda: values().get("state") == "RUNNING", "diagnostics")
    found = values()
    for key in ("inference_p95_ms", "period_error_p99_ms", "missed_ticks", "age_wrist_ms", "clamps_joint1"):
        assert float(found[key]) >= 0, key
    cell.call("hold")
    cell.bench.until(lambda: values().get("reason") == "requested", "reason")


def parameters(**values: object) -> list[Parameter]:
    return [Parameter(name, value=value) for name, value in values.items()]


def test_node_refuses_to_start_without_a_bundle(ros) -> None:
    with pytest.raises(BundleError, match="parameter bundle is empty"):
        PolicyNode()


def test_node_refuses_an_unknown_mode(ros, tmp_path: Path, rig: Rig) -> None:
    with pytest.raises(ConfigError, match="did you mean 'blend'"):
        PolicyNode(parameters(bundle=policy_bundle(tmp_path, rig).source, mode="blnd"))


def test_node_refuses_a_tampered_manifest(ros, tmp_path: Path, rig: Rig) -> None:
    bundle = policy_bundle(tmp_path, rig)
    text = read_metadata(bundle.model_bytes)[MANIFEST_KEY].replace('"rate_hz":25.0', '"rate_hz":50.0')
    Path(bundle.source).write_bytes(with_metadata(bundle.model_bytes, {MANIFEST_KEY: text}))
    with pytest.raises(BundleError, match="digest"):
        PolicyNode(parameters(bundle=bundle.source))


def test_node_refuses_other_joint_names(ros, tmp_path: Path, rig: Rig) -> None:
    names = ("elbow", *rig.state_names[1:])
    path = policy_bundle(tmp_path, rig, state_names=names, action_names=names).source
    with pytest.raises(BundleError, match="no joint 'elbow'"):
        PolicyNode(parameters(bundle=path))


def test_node_refuses_another_rig(ros, tmp_path: Path, rig: Rig) -> None:
    data = rig.model_dump(mode="json")
    data["cameras"]["wrist"]["K"][0][0] *= 1.1
    other = tmp_path / "other.yaml"
    other.write_text(Rig.model_validate(data).to_yaml(), encoding="utf-8")
    with pytest.raises(BundleError, match=r"cameras\.wrist\.K"):
        PolicyNode(parameters(bundle=policy_bundle(tmp_path, rig).source, rig=str(other)))


def test_node_refuses_another_file_than_the_pinned_one(ros, tmp_path: Path, rig: Rig) -> None:
    with pytest.raises(BundleError, match="sha256"):
        PolicyNode(parameters(bundle=policy_bundle(tmp_path, rig).source, sha256="0" * 64))
