"""The robot's own ready signal: without it nothing starts, and its loss holds what runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from episode_kit import tick_at
from fake_robot import lenient_rig
from policy_cell import PolicyCell
from tiny_bundles import manifest_for

from tacit.control.inputs import AlignedInputs
from tacit.control.robot_state import RobotState
from tacit.episode import EpisodeWriter
from tacit.errors import RigError
from tacit.rig import Rig, load_rig, parse_rig
from tacit.streams import Sample, Tick
from tacit_ros import messages

MS = 1_000_000
STREAMS = {
    "ready": {"topic": "/robot/enabled", "type": "std_msgs/msg/Bool", "names": ["enabled"], "rate_hz": 10.0},
    "safety": {
        "topic": "/robot/safety",
        "type": "std_msgs/msg/Float64MultiArray",
        "names": ["fault", "protective_stop", "speed_scaling"],
        "rate_hz": 10.0,
    },
}


def data_with(base: str | Path = "nova2_sim", **streams: dict) -> dict:
    data = load_rig(base).model_dump(mode="json")
    data["streams"] |= {name: spec | {"role": "robot_state"} for name, spec in streams.items()}
    return data


@pytest.fixture(scope="module")
def rig() -> Rig:
    return parse_rig(data_with(**STREAMS), "test")


def told(rig: Rig, enabled: float = 1, fault: float = 0, stop: float = 0, scale: float = 1) -> RobotState:
    state = RobotState(rig)
    state.store("ready", 0, np.array([enabled]))
    state.store("safety", 0, np.array([fault, stop, scale]))
    return state


def test_robot_may_say_more_while_another_thread_reads_what_it_said(rig: Rig) -> None:
    state = RobotState(rig)
    state.store("ready", 0, np.array([1.0]))
    reading, ages = iter(state.values.items()), iter(state._received_ns.items())
    state.store("safety", 0, np.array([0.0, 0.0, 1.0]))
    assert list(reading) == [("enabled", 1.0)] and list(ages) == [("ready", 0)]
    assert state.values.keys() == {"enabled", "fault", "protective_stop", "speed_scaling"}


def test_of_two_arms_the_one_that_is_less_ready_counts() -> None:
    streams = {name: STREAMS["safety"] | {"topic": f"/{name}/safety"} for name in ("left_arm", "right_arm")}
    state = RobotState(parse_rig(data_with(**streams), "test"))
    well = np.array([0.0, 0.0, 1.0])
    for stopped in streams:
        for name in streams:  # whoever spoke last
            state.store(name, 0, np.array([0.0, 1.0, 0.5]) if name == stopped else well)
        assert "protective_stop 1" in state.fault().detail and state.speed_scale == 0.5
        state.store(stopped, 0, well)
        assert state.fault() is None and state.speed_scale == 1.0


def test_rig_knows_what_a_robot_can_say_and_that_it_says_each_once() -> None:
    wrong = {"ready": STREAMS["ready"] | {"names": ["enable"]}}
    with pytest.raises(RigError, match="'enable' in a robot_state; did you mean 'enabled'"):
        parse_rig(data_with(**wrong), "test")
    twice = {"safety": STREAMS["safety"] | {"names": ["fault", "fault", "enabled"]}}
    with pytest.raises(RigError, match="'fault' is used twice"):
        parse_rig(data_with(**twice), "test")


NOT_READY = [
    ({"enabled": 0}, "not enabled"),
    ({"fault": 17}, "fault 17"),
    ({"stop": 1}, "protective_stop 1"),
    ({"scale": 0}, "paused"),
    ({"scale": 100}, "not in percent"),
    ({"scale": -1}, "expected 0 to 1"),
    ({"fault": np.nan}, "does not say"),
]


@pytest.mark.parametrize(("said", "reason"), NOT_READY)
def test_robot_that_is_not_ready_must_not_be_moved(rig: Rig, said: dict, reason: str) -> None:
    assert told(rig).fault() is None
    fault = told(rig, **said).fault()
    assert fault is not None and fault.reason == "robot_state" and reason in fault.detail


def test_robot_that_has_not_spoken_or_falls_silent_must_not_be_moved(rig: Rig) -> None:
    state = RobotState(rig)
    assert "ready, safety" in state.fault().detail
    state = told(rig)
    assert state.silence(300 * MS) is None
    assert "ready is 301 ms old" in state.silence(301 * MS).detail
    state.reset()
    assert state.fault() is not None


@pytest.mark.parametrize(("said", "scale"), [(1.0, 1.0), (0.3, 0.3), (0.0, 0.0), (7.0, 1.0), (np.nan, 0.0)])
def test_speed_scaling_is_a_part_of_the_velocity(rig: Rig, said: float, scale: float) -> None:
    assert told(rig, scale=said).speed_scale == scale


def test_what_the_robot_said_does_not_change_under_who_reads_it(rig: Rig) -> None:
    state = RobotState(rig)
    state.store("ready", 0, np.array([1.0]))
    read = iter(state.values.items())
    state.store("safety", 0, np.array([0.0, 0.0, 1.0]))
    assert list(read) == [("enabled", 1.0)] and len(state.values) == 4


def test_inputs_ask_the_robot_and_do_not_align_what_it_says(rig: Rig) -> None:
    inputs = AlignedInputs(rig, manifest_for(rig), lambda: 0, lambda: 10**9)
    assert {"ready", "safety"} <= set(inputs.names)
    assert inputs.doubt().reason == "robot_state"
    inputs.store("ready", 5, 0, np.array([1.0]))
    inputs.store("safety", 5, 0, np.array([0.0, 0.0, 1.0]))
    assert inputs.doubt() is None and inputs.poll() == [] and inputs.newest == {}


def test_rig_without_a_robot_state_says_nothing() -> None:
    state = RobotState(load_rig("nova2_sim"))
    assert state.names == () and state.fault() is None and state.silence(10**18) is None
    assert state.speed_scale == 1.0


class Cell(PolicyCell):
    """A policy on a fake robot that also says whether it is ready."""

    def __init__(self, bench: Any, folder: Path) -> None:
        path = lenient_rig(folder)
        path.write_text(parse_rig(data_with(path, **STREAMS), "test").to_yaml(), encoding="utf-8")
        self.said = {"ready": [1.0], "safety": [0.0, 0.0, 1.0]}
        super().__init__(bench, folder, path)
        self._publishers = {
            name: bench.node.create_publisher(messages.message_class(spec.type), spec.topic, 10)
            for name, spec in self.policy.rig.robot_states.items()
        }
        bench.node.create_timer(0.05, self._say)

    def _say(self) -> None:
        for name, values in self.said.items():
            spec = self.policy.rig.robot_states[name]
            self._publishers[name].publish(messages.build_named(spec.type, spec.names, values, 0))


@pytest.fixture
def cell(bench: Any, tmp_path: Path) -> Iterator[Cell]:
    made = Cell(bench, tmp_path)
    yield made
    made.close()


def test_policy_starts_only_when_the_robot_is_ready(cell: Cell) -> None:
    cell.said["ready"] = [0.0]
    cell.bench.until(lambda: cell.policy.acting.tick is not None, "a tick")
    cell.bench.until(lambda: len(cell.policy.inputs.robot.values) == 4, "the robot's state")
    answer = cell.call("start")
    assert not answer.success and "robot_state: the robot is not enabled" in answer.message
    cell.said["ready"] = [1.0]
    cell.run()


LOSSES = {
    "disabled": {"ready": [0.0]},
    "protective stop": {"safety": [0.0, 1.0, 1.0]},
    "fault": {"safety": [3.0, 0.0, 1.0]},
}


@pytest.mark.parametrize("loss", [*LOSSES, "silent"])
def test_policy_holds_when_the_ready_signal_is_lost(cell: Cell, loss: str) -> None:
    cell.run()
    cell.said = {} if loss == "silent" else cell.said | LOSSES[loss]
    cell.bench.until(lambda: cell.policy.controller.state == "HOLD", "HOLD")
    assert cell.policy.controller.fault.reason == "robot_state"
    cell.bench.until(lambda: cell.policy.controller.limiter.is_at_rest, "rest")


def test_slowed_down_robot_is_commanded_slowly_and_it_is_told(cell: Cell) -> None:
    cell.said["safety"] = [0.0, 0.0, 0.1]
    cell.bench.until(lambda: cell.policy.inputs.robot.speed_scale == 0.1, "the scaling")
    cell.run()
    cell.robot.glide(0.3)  # draws the policy's target away, fast
    cell.bench.until(lambda: len(cell.robot.commands) > 20, "commands")
    stamps, commands = zip(*cell.robot.commands, strict=True)
    speeds = np.abs(np.diff(commands, axis=0)) / np.maximum(np.diff(stamps)[:, None] / 1e9, 0.028)
    assert (speeds <= 0.1 * cell.policy.rig.limits("velocity") * 1.05 + 1e-9).all()
    assert cell.policy.diagnostics.values()["robot_speed_scaling"] == "0.1"


def test_episode_stores_what_the_robot_says_as_it_is(rig: Rig, tmp_path: Path) -> None:
    said = {"ready": np.array([1.0]), "safety": np.array([0.0, 0.0, 0.5])}
    writer = EpisodeWriter(tmp_path, rig, task="t")
    for index in range(3):
        tick = tick_at(index)
        extra = {n: Sample(v, tick.stamp_ns, tick.stamp_ns, index, True) for n, v in said.items()}
        writer.append(Tick(tick.stamp_ns, index, {**tick.samples, **extra}))
    with h5py.File(writer.close(True)) as file:
        np.testing.assert_array_equal(file["observations/extra/safety"], [[0.0, 0.0, 0.5]] * 3)
        np.testing.assert_array_equal(file["observations/extra/ready"], [[1.0]] * 3)
