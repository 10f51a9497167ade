"""The recorder over real ROS topics: what a publisher sends is what the file holds."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import rclpy
from rclpy.node import Node
from recorder_stage import Stage
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool

from benches.synthetic import NUM_PICTURES, Faults, depth, joint_angle, joint_speed
from benches.testing import wait_until
from tacit.episode import EpisodeReader, check_episode
from tacit.rig import Rig, load_rig, parse_rig
from tacit_ros import messages
from tacit_ros.recorder_node import RecorderNode
from tacit_ros.run.record_client import Command, RecorderClient, RecorderError, in_words
from tacit_ros.wire import qos
from tacit_ros.wire.process import run_node

SECOND = 10**9


@pytest.fixture
def make_stage(bench: Any, tmp_path: Path) -> Iterator[Callable[[Rig], Stage]]:
    made: list[Stage] = []

    def make(rig: Rig) -> Stage:
        made.append(Stage(bench, tmp_path, rig))
        return made[-1]

    yield make
    for stage in made:
        stage.close()


@pytest.fixture
def stage(make_stage: Callable[[Rig], Stage], rig: Rig) -> Stage:
    return make_stage(rig)


def assert_state_follows_the_robot(path: Path) -> None:
    with EpisodeReader(path) as episode:
        expected = np.array([[joint_angle(j, int(t)) for j in range(6)] for t in episode.tick_ns])
        # a cubic bound: linear interpolation of a sine over 10 ms, plus f4
        fresh = episode.timestamps("joints")["fresh"].astype(bool)
        assert fresh.mean() > 0.9  # a stop does not wait for the joint sample after the last tick
        np.testing.assert_allclose(episode.qpos[fresh, :6], expected[fresh], atol=1e-4)
        assert (np.diff(episode.tick_ns) > 0).all()


@pytest.mark.parametrize("shuffle", [False, True], ids=["order of the rig", "reverse order"])
def test_joints_arrive_under_their_names_at_the_instant_of_the_image(stage: Stage, shuffle: bool) -> None:
    assert stage.recorder._said == "IDLE"  # from the start, not since a timer's first turn
    told: list[str] = []
    stage.bench.node.create_subscription(
        String, "/recorder/state", lambda m: told.append(m.data), qos.state()
    )
    stage.bench.until(lambda: told == ["IDLE"], "the first state")
    stage.play(Faults(shuffle=shuffle))
    stage.ready()
    path = stage.record(25)
    stage.bench.until(lambda: len(told) >= 3, "the last state")
    assert told == ["IDLE", f"RECORDING {path}", "IDLE"]
    assert_state_follows_the_robot(path)
    with h5py.File(path) as file:
        assert all(file[f"drops/{name}"].attrs["lost_queue"] == 0 for name in file["drops"])
        assert file.attrs["rmw"] and file.attrs["clock_domain"] == "sim"


def test_depth_and_a_wrench_are_recorded_as_they_were_sent(make_stage: Callable[[Rig], Stage]) -> None:
    data = load_rig("nova2_sim").model_dump(mode="json")
    top = data["cameras"]["top"] | {"kind": "depth", "info_topic": None}
    data["cameras"]["range"] = top | {"topic": "/range"}
    data["cameras"]["range_png"] = top | {"topic": "/range_png", "type": "sensor_msgs/msg/CompressedImage"}
    wrench = {"topic": "/wrench", "type": "geometry_msgs/msg/WrenchStamped", "rate_hz": 50.0, "role": "extra"}
    data["streams"]["wrench"] = wrench | {"names": ["fx", "fy", "fz", "tx", "ty", "tz"]}
    stage = make_stage(parse_rig(data, "test"))
    stage.play()
    stage.ready()
    path = stage.record(12)
    sent = [depth(160, 120, number) for number in range(NUM_PICTURES)]
    with EpisodeReader(path) as episode:
        for camera in ("range", "range_png"):
            for tick in range(episode.num_ticks):
                assert any(np.array_equal(episode.depth(camera, tick), mm) for mm in sent)
        assert not episode.file["observations/extra/wrench"][5:].any()
    assert check_episode(path, full=True).ok


def test_velocity_is_recorded_where_the_driver_reports_it_and_effort_is_not_invented(stage: Stage) -> None:
    stage.play(Faults(shuffle=True))
    stage.ready()
    with EpisodeReader(stage.record(25)) as episode:
        expected = np.array([[joint_speed(j, int(t)) for j in range(6)] for t in episode.tick_ns])
        assert episode.qvel is not None
        np.testing.assert_allclose(episode.qvel[:, :6], expected, atol=1e-3)
        assert set(episode.stream("joints")) == {"stamp_ns", "recv_ns", "position", "velocity"}
        assert episode.effort is None


def test_simulated_time_may_run_faster_than_the_clock(stage: Stage) -> None:
    stage.play(start_ns=5 * SECOND, speed=3.0)
    stage.ready()
    path = stage.record(60)
    assert_state_follows_the_robot(path)
    with EpisodeReader(path) as episode:
        assert np.median(np.diff(episode.tick_ns)) == SECOND // 25


@pytest.mark.parametrize("name", ["top", "joints", "command"])
def test_missing_topic_refuses_the_start_by_name(stage: Stage, name: str, rig: Rig) -> None:
    stage.play(without=(name,))
    others = {"wrist", "left", "gripper_state"} - {name}
    stage.bench.until(lambda: all(stage.status()["streams"][o]["received"] > 30 for o in others), "others")
    answer = stage.call("start")
    topic = ({**rig.cameras, **rig.streams, **rig.commands})[name].topic
    assert not answer.success and topic in answer.message and "ros2 topic list" in answer.message
    assert answer.message.count("\n- ") == 1


def test_camera_of_another_size_is_refused_with_both_sizes(stage: Stage) -> None:
    stage.play(Faults(sizes={"top": (320, 240)}))
    stage.bench.until(lambda: stage.status()["rejected"].get("top", 0) > 30, "refused images")
    answer = stage.call("start")
    assert not answer.success and "320x240" in answer.message and "160x120" in answer.message


def test_missing_joint_name_is_refused_not_guessed(stage: Stage, rig: Rig) -> None:
    publisher = stage.robot_node.create_publisher(
        messages.message_class("sensor_msgs/msg/JointState"), rig.streams["joints"].topic, 10
    )

    def refused() -> bool:
        publisher.publish(messages.joint_state(["joint1", "finger"], [0.2, 0.01], SECOND))
        return stage.status()["rejected"].get("joints", 0) > 3

    stage.bench.until(refused, "refused message")
    assert "'joint2'" in stage.status()["problems"]["joints"]
    assert stage.status()["streams"]["joints"]["received"] == 0


def test_empty_stamps_are_refused_at_the_gate(stage: Stage) -> None:
    stage.play(Faults(stamp=lambda name, stamp_ns: 0 if name == "left" else stamp_ns))
    stage.bench.until(lambda: stage.status()["streams"]["wrist"]["received"] > 30, "other streams")
    answer = stage.call("start")
    assert not answer.success and "left" in answer.message and "stamp" in answer.message


def test_backward_stamps_are_counted_and_never_stored(stage: Stage) -> None:
    def sometimes_backwards(name: str, stamp_ns: int) -> int:
        late = name == "right" and (stamp_ns // (SECOND // 25)) % 10 == 0
        return stamp_ns - SECOND if late else stamp_ns

    stage.play(start_ns=5 * SECOND, faults=Faults(stamp=sometimes_backwards))
    stage.bench.until(lambda: stage.status()["streams"]["right"]["received"] > 30, "stream")
    stage.recorder.set_parameters([rclpy.Parameter("rate_tolerance", value=0.5)])
    stage.ready()
    path = stage.record(30)
    with h5py.File(path) as file:
        assert file["drops/right"].attrs["out_of_order"] >= 2
        stamps = file["timestamps/right/stamp_ns"][:]
        assert (np.diff(stamps) >= 0).all()


def test_publisher_that_dies_aborts_the_episode_and_keeps_it(stage: Stage) -> None:
    robot = stage.play()
    stage.ready()
    assert stage.call("start").success
    stage.bench.until(lambda: stage.status()["num_ticks"] > 10, "ticks")
    robot.faults.silent.add("joints")
    stage.bench.until(lambda: stage.status()["state"] == "idle", "end of the episode")
    with EpisodeReader(Path(stage.status()["last"])) as episode:
        assert episode.state == "aborted" and episode.num_ticks > 10


def test_driver_with_another_quality_of_service_is_reported(stage: Stage, rig: Rig) -> None:
    from rclpy.qos import QoSProfile, ReliabilityPolicy

    weak = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    stage.robot_node.create_publisher(
        messages.message_class(rig.cameras["top"].type), rig.cameras["top"].topic, weak
    )
    stage.bench.until(lambda: "top" in stage.status()["problems"], "report")
    assert "quality of service" in stage.status()["problems"]["top"]


def test_diagnostics_name_the_silent_stream_once_a_second(stage: Stage) -> None:
    from diagnostic_msgs.msg import DiagnosticArray

    heard: list[DiagnosticArray] = []
    stage.bench.node.create_subscription(DiagnosticArray, "/diagnostics", heard.append, 10)
    stage.play(without=("right",))
    stage.bench.until(lambda: len(heard) >= 2, "diagnostics")
    levels = {status.name: status.level for status in heard[-1].status}
    assert levels["recorder: right"] == b"\x03" and levels["recorder: wrist"] == b"\x00"


def test_interrupted_files_are_named_at_the_start(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "lift").mkdir()
    part = tmp_path / "lift/episode_3.hdf5.part"
    part.touch()
    node = bench.add(RecorderNode(parameter_overrides={"root": str(tmp_path)}))
    assert json.loads(node._status())["interrupted"] == [str(part)]
    node.close()


def test_recorder_with_an_unknown_parameter_refuses_to_start(domain: int) -> None:
    assert run_node(RecorderNode, ["--ros-args", "-p", "jpeg_qualty:=80"]) == 2
    assert run_node(RecorderNode, ["--ros-args", "-p", "stamps:=never"]) == 2


def test_client_without_a_recorder_says_how_to_start_one(bench: Any) -> None:
    client = RecorderClient(bench.node, timeout_s=0.3)
    with pytest.raises(RecorderError, match="tacit up record"):
        client.ask(Command.status)


def test_client_drives_a_recorder(stage: Stage) -> None:
    stage.play()
    stage.ready()
    spin = threading.Event()
    thread = threading.Thread(
        target=lambda: [stage.bench.executor.spin_once(0.02) for _ in iter(spin.is_set, True)]
    )
    thread.start()
    try:
        client = RecorderClient(stage.client)
        client.set_texts(task="pour", instruction="pour the water")
        assert "pour/episode_0" in client.ask(Command.start)
        wait_until(lambda: json.loads(client.ask(Command.status))["num_ticks"] > 5, "ticks")
        with pytest.raises(RecorderError, match="already recording"):
            client.ask(Command.start)
        client.ask(Command.mark)
        client.ask(Command.redo)
        wait_until(lambda: json.loads(client.ask(Command.status))["num_ticks"] > 5, "ticks")
        path = Path(client.ask(Command.stop, success=False).removeprefix("saved "))
    finally:
        spin.set()
        thread.join()
    with EpisodeReader(path) as episode:
        assert (episode.task, episode.instruction, episode.success) == ("pour", "pour the water", False)


# --- what comes is false --------------------------------------------------------------------------


def ended(stage: Stage) -> tuple[str, Path]:
    """Wait until the episode has ended by itself; its outcome, and where it is."""
    stage.bench.until(lambda: stage.status()["state"] == "idle", "end of the episode")
    path = Path(stage.status()["last"])
    with EpisodeReader(path) as episode:
        assert episode.state == "aborted" and episode.success is None
        return str(episode.attribute("outcome")), path


def kinds_after_each(stage: Stage, name: str) -> list[str]:
    """What was found of a stream after each of its messages from now on; "" where nothing was."""
    intake, kinds = stage.recorder._session.intake, []
    take = intake.take

    def watched(heard: str, *message: Any) -> int | None:
        kept = take(heard, *message)
        if heard == name:
            found = intake.findings().get(name)
            kinds.append("" if found is None else found.kind)
        return kept

    intake.take = watched  # type: ignore[method-assign]
    return kinds


def test_clocks_that_are_set_back_are_named_within_a_second_and_end_the_episode(
    make_stage: Callable[[Rig], Stage], rig: Rig
) -> None:
    shift = [0]
    stage = make_stage(rig.model_copy(update={"simulation": None}))
    stage.play(Faults(stamp=lambda name, stamp_ns: stamp_ns - shift[0]))
    stage.ready()
    assert stage.call("start").success
    stage.bench.until(lambda: stage.status()["num_ticks"] > 10, "ticks")
    named = kinds_after_each(stage, "joints")
    shift[0] = 6 * SECOND
    stage.bench.until(lambda: stage.status()["findings"].get("joints") == "out_of_order", "a finding")
    assert named.index("out_of_order") < 100  # of 100 a second, in messages: this machine may be slow
    outcome, path = ended(stage)
    assert "clock_step" in outcome and re.search(r"-[56]\.\d\d s", outcome) and "chrony" in outcome
    assert any(f.rule == "W15" and "out_of_order" in f.message for f in check_episode(path).findings)
    stage.bench.until(lambda: not stage.status()["findings"], "trust in the new clocks, which agree")
    assert "behind the clock of this computer" in stage.recorder.not_ready()[0]


def test_few_stamps_ahead_cost_themselves_alone(make_stage: Callable[[Rig], Stage], rig: Rig) -> None:
    odd: list[int] = []
    stage = make_stage(rig.model_copy(update={"simulation": None}))

    def stamp(name: str, stamp_ns: int) -> int:
        if name == "joints" and odd and len(odd) < 4:
            odd.append(stamp_ns)
            return stamp_ns + 60 * SECOND
        return stamp_ns

    stage.play(Faults(stamp=stamp))
    stage.ready()
    assert stage.call("start").success
    stage.bench.until(lambda: stage.status()["num_ticks"] > 10, "ticks")
    odd.append(0)
    stage.bench.until(lambda: stage.status()["num_ticks"] > 40, "more ticks")
    path = Path(stage.call("stop", SetBool.Request(data=True)).message.removeprefix("saved "))
    with EpisodeReader(path) as episode:
        expected = np.array([[joint_angle(j, int(t)) for j in range(6)] for t in episode.tick_ns])
        np.testing.assert_allclose(episode.qpos[:, :6], expected, atol=0.01)
        assert episode.state == "complete" and episode.drops["joints"]["stamp_ahead"] == 3
    assert any(f.rule == "W15" and f.where == "joints" for f in check_episode(path).findings)


def test_second_publisher_of_the_joints_is_named_live_stored_and_repeated_by_check(
    stage: Stage, bench: Any
) -> None:
    stage.play()
    stage.ready()
    assert stage.call("start").success
    stage.bench.until(lambda: stage.status()["num_ticks"] > 10, "ticks")
    second = bench.add(Node("joint_state_publisher"))
    publisher = second.create_publisher(JointState, "/joint_states", 10)
    names = [f"joint{i}" for i in range(1, 7)]
    second.create_timer(
        0.1, lambda: publisher.publish(messages.joint_state(names, [0.0] * 6, time.time_ns() - 5_000_000))
    )
    stage.bench.until(lambda: stage.status()["findings"].get("joints") == "two_publishers", "a finding")
    refused = lambda: stage.status()["found"]["joints"].keys() & {"out_of_order", "jump"}  # noqa: E731
    stage.bench.until(refused, "messages of the second that are refused")  # they must not hide the cause
    assert any("/joint_state_publisher" in reason for reason in stage.recorder.not_ready())
    assert "two_publishers: 2 publishers of /joint_states" in in_words(stage.status())
    counted = lambda: stage.status()["counts"]["joints"].get("two_publishers", 0) > 2  # noqa: E731
    stage.bench.until(counted, "seconds of it")
    path = Path(stage.call("stop", SetBool.Request(data=True)).message.removeprefix("saved "))
    errors = {(f.rule, f.where): f.message for f in check_episode(path).errors}
    assert "two_publishers for" in errors["E13", "joints"]


def test_joint_that_is_not_a_number_ends_the_episode_and_refuses_the_next(stage: Stage) -> None:
    robot = stage.play()
    true = robot._value
    stage.ready()
    assert stage.call("start").success
    stage.bench.until(lambda: stage.status()["num_ticks"] > 10, "ticks")
    robot._value = lambda name, stamp_ns: np.nan if name == "joint1" else true(name, stamp_ns)  # type: ignore[method-assign]
    outcome, path = ended(stage)
    assert "joints" in outcome and "not_finite" in outcome and "joint1" in outcome
    assert any("joint1" in reason for reason in stage.recorder.not_ready())
    assert "not_finite: not a number: joint1" in in_words(stage.status())
    with EpisodeReader(path) as episode:
        assert np.isfinite(episode.qpos).all()
