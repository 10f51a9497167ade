"""What a node says and does when something in it dies, or a signal comes: rest, reason, exit code.

The nodes run as processes. A planted exception waits for a file to appear, so that it strikes in the
middle of the work; everything is judged from outside: commands, topics, log, exit code, episode.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from fake_robot import FakeRobot, lenient_rig
from forked import Forked
from std_msgs.msg import String
from std_srvs.srv import Trigger
from tiny_bundles import policy_bundle, progress_bundle

from benches.synthetic import SyntheticRobot
from tacit.rig import Rig, load_rig
from tacit_ros.wire import qos
from tacit_ros.wire.environment import child_environment
from tacit_ros.wire.signals import SIGNALS, hear_signals

WIDE = {"state_min": (-1.0,) * 7, "state_max": (1.0,) * 7, "obs_skew_max_s": 1.0}


class Process:
    """A node as a process, with an exception that strikes once `strike` is called."""

    def __init__(
        self, bench: Any, folder: Path, node: str, plant: str = "", error: str = "", **parameters: object
    ) -> None:
        self.bench, self.name = bench, node.removesuffix("_node")
        self._flag = folder / "strike"
        words = [w for key, value in parameters.items() for w in ("-p", f"{key}:={value}")]
        module = node if "." in node else f"tacit_ros.{node}"
        told = [module, plant or "os:getpid", error or "OSError", self._flag, "--ros-args", *words]
        self.log = folder / "log"
        with self.log.open("w") as log:
            env = child_environment()
            self.popen = Forked("planted", *told, imports=[module], env=env, output=log)

    def strike(self) -> None:
        self._flag.touch()

    def call(self, service: str) -> Trigger.Response:
        return self.bench.call(f"/{self.name}/{service}", timeout_s=60)

    def accepted(self, service: str) -> None:
        """Call a service until it accepts."""
        self.bench.until(lambda: self.call(service).success, f"{service} to be accepted", 60)

    def ended(self, within_s: float = 120.0) -> int:
        """Spin until the process has ended; returns its exit code."""
        self.bench.until(lambda: self.popen.poll() is not None, f"the end of {self.name}", within_s)
        return self.popen.returncode


@pytest.fixture
def launch(bench: Any, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    made: list[Process] = []

    def start(node: str, plant: str = "", error: str = "", **parameters: object) -> Process:
        made.append(Process(bench, tmp_path, node, plant, error, **parameters))
        return made[-1]

    yield start
    for process in made:
        process.popen.kill()
        process.popen.wait()


@pytest.fixture
def rig_path(tmp_path: Path) -> Path:
    """Ages that no busy machine reaches: what holds the arm here is what a test does to it."""
    return lenient_rig(tmp_path, tracking_error=1e9, image_age_ms=6e4, joint_age_ms=6e4)


@pytest.fixture
def robot(bench: Any, rig_path: Path) -> Iterator[FakeRobot]:
    made = FakeRobot(bench.node, load_rig(rig_path))
    yield made
    made.stop()


def texts_of(bench: Any, topic: str) -> list[str]:
    """What a latched String topic says from now on."""
    heard: list[str] = []
    bench.node.create_subscription(String, topic, lambda m: heard.append(m.data), qos.latched())
    return heard


def levels_of(bench: Any, name: str) -> list[tuple[bytes, str]]:
    """Level and message of one line of the diagnostics from now on."""
    heard: list[tuple[bytes, str]] = []

    def listen(message: DiagnosticArray) -> None:
        heard.extend((s.level, s.message) for s in message.status if s.name == name)

    bench.node.create_subscription(DiagnosticArray, "/diagnostics", listen, 10)
    return heard


def moving_policy(
    launch: Any, bench: Any, folder: Path, rig_path: Path, robot: FakeRobot, *plant: str
) -> Process:
    """A policy that has been commanding for a moment, and is then drawn far away: it moves fast."""
    bundle = policy_bundle(folder, load_rig(rig_path), **WIDE, chunk_size=25).source
    process = launch("policy_node", *plant, rig=rig_path, bundle=bundle)
    process.accepted("start")
    bench.until(lambda: len(robot.commands) > 5, "commands", 60)
    robot.follows = False
    robot.glide(0.8)
    bench.until(lambda: speed(robot, load_rig(rig_path)) > 0.1, "motion")
    return process


def speed(robot: FakeRobot, rig: Rig) -> float:
    """Largest joint speed between the last two commands, as a part of its limit."""
    if len(robot.commands) < 2:
        return 0.0
    (_, before), (_, last) = robot.commands[-2:]
    return float((np.abs(last - before) / 0.04 / rig.limits("velocity")).max())


def assert_braked(robot: FakeRobot, rig: Rig) -> None:
    """The commands ended at rest, and slowed down as the joints may: a command that the middleware of a
    busy machine drops makes one step of two."""
    commands = np.array([command for _, command in robot.commands])
    steps = np.diff(commands, axis=0) / 0.04
    assert np.abs(steps[-1]).max() <= rig.limits("acceleration").max() * 0.04 + 1e-6
    assert (np.abs(np.diff(steps, axis=0)) <= rig.limits("acceleration") * 0.04 * 2.1 + 1e-6).all()


POLICY = {
    "command": ("tacit.control.acting:Acting.watch", "AttributeError"),
    "inference": ("tacit.control.inputs:AlignedInputs.observation", "MemoryError"),
    "callbacks": ("tacit.control.inputs:AlignedInputs.store", "AttributeError"),
}


@pytest.mark.parametrize("thread", POLICY)
def test_policy_brakes_says_why_and_ends(
    launch: Any, bench: Any, tmp_path: Path, rig_path: Path, robot: FakeRobot, thread: str
) -> None:
    target, error = POLICY[thread]
    states, levels = texts_of(bench, "/policy/state"), levels_of(bench, "policy")
    process = moving_policy(launch, bench, tmp_path, rig_path, robot, target, error)
    process.strike()
    assert process.ended() == 1
    reason = f"{thread} ended: {error}: planted"
    assert states[-1].startswith("ESTOP") and reason in states[-1]
    assert levels[-1][0] == b"\x02" and reason in levels[-1][1]
    log = process.log.read_text()
    assert reason in log and "Traceback" in log
    assert_braked(robot, load_rig(rig_path))


def test_policy_whose_step_is_broken_brakes_all_the_same(
    launch: Any, bench: Any, tmp_path: Path, rig_path: Path, robot: FakeRobot
) -> None:
    plant = ("tacit.control.controller:Controller.step", "AttributeError")
    states = texts_of(bench, "/policy/state")
    process = moving_policy(launch, bench, tmp_path, rig_path, robot, *plant)
    process.strike()
    assert process.ended() == 1
    assert states[-1].startswith("ESTOP")
    assert_braked(robot, load_rig(rig_path))


def test_policy_whose_limiter_is_broken_still_ends_and_says_so(
    launch: Any, bench: Any, tmp_path: Path, rig_path: Path, robot: FakeRobot
) -> None:
    plant = ("tacit.control.safety:MotionLimiter.elapse", "AttributeError")
    process = moving_policy(launch, bench, tmp_path, rig_path, robot, *plant)
    process.strike()
    assert process.ended() == 1
    log = process.log.read_text()
    assert "command ended: AttributeError: planted" in log and "halt ended: AttributeError: planted" in log


HANGING = {
    "callbacks": ("tacit.control.inputs:AlignedInputs.store", "a callback has not returned for 8 s"),
    "command": ("tacit.control.acting:Acting.watch", "command ended: TimeoutError: did not end within 5 s"),
}


@pytest.mark.parametrize("thread", HANGING)
def test_policy_whose_thread_hangs_brakes_at_a_signal_and_ends(
    launch: Any, bench: Any, tmp_path: Path, rig_path: Path, robot: FakeRobot, thread: str
) -> None:
    target, reported = HANGING[thread]
    states = texts_of(bench, "/policy/state")
    process = moving_policy(launch, bench, tmp_path, rig_path, robot, target, "hang")
    process.strike()
    if thread == "command":
        wait_for_silence(bench, robot)
    before = len(robot.commands)
    process.popen.send_signal(signal.SIGINT)
    bench.until(lambda: any(s.startswith("HOLD (closing") for s in states), "the state at rest")
    assert (thread == "command") == (len(robot.commands) == before)  # after a stall the arm stands
    assert process.ended() == 1
    assert reported in process.log.read_text()
    if thread == "callbacks":
        assert_braked(robot, load_rig(rig_path))


def wait_for_silence(bench: Any, robot: FakeRobot) -> None:
    """Spin until no command has come for half a second."""
    last = [len(robot.commands), time.monotonic()]

    def silent() -> bool:
        if len(robot.commands) != last[0]:
            last[:] = [len(robot.commands), time.monotonic()]
        return time.monotonic() - last[1] > 0.5

    bench.until(silent, "silence")


@pytest.mark.parametrize("number", SIGNALS)
def test_every_signal_that_asks_to_end_is_heard_on_a_thread(
    number: signal.Signals,
) -> None:
    heard: queue.Queue[tuple[str, str]] = queue.Queue()
    before = signal.signal(number, signal.SIG_DFL)
    try:
        tell = lambda name: heard.put((name, threading.current_thread().name))  # noqa: E731
        with hear_signals(tell, lambda failure: None):
            os.kill(os.getpid(), number)
            name, thread = heard.get(timeout=60)
        assert name == number.name and thread != threading.current_thread().name
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_who_was_started_to_outlive_its_terminal_does() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with hear_signals(pytest.fail, lambda failure: None):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_signal_while_moving_brakes_and_leaves_no_running_behind(
    launch: Any, bench: Any, tmp_path: Path, rig_path: Path, robot: FakeRobot, number: signal.Signals
) -> None:
    states = texts_of(bench, "/policy/state")
    process = moving_policy(launch, bench, tmp_path, rig_path, robot)
    assert states[-1] == "RUNNING"
    for _ in range(3):  # an impatient person, and a launcher that forwards the signal once more
        process.popen.send_signal(number)
        time.sleep(0.01)
    assert process.ended() == 0
    assert states[-1].startswith("HOLD") and number.name in states[-1]
    assert "Traceback" not in process.log.read_text()
    assert_braked(robot, load_rig(rig_path))


FORCED = """
import sys, time
from rclpy.node import Node
from tacit_ros.wire import process

class Stuck(Node):
    def __init__(self):
        super().__init__("stuck")

    def close(self):
        time.sleep(60)

process.CLOSE_DEADLINE_S = 1.0
sys.exit(process.run_node(Stuck, []))
"""


def test_node_that_does_not_close_is_ended_by_force_and_shows_where_it_hangs(bench: Any) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", FORCED], env=child_environment(), stderr=subprocess.PIPE, text=True
    )
    bench.until(lambda: "stuck" in bench.node.get_node_names(), "node", 60)
    process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 1 and "in close" in log


RECORDER = {
    "intake": ("tacit_ros.wire.observations:RigSubscriptions.poll", "AttributeError"),
    "encoder of wrist": ("tacit.record.encoder_pool:encode", "MemoryError"),
    "writer": ("tacit.record.recording:Recording.advance", "AttributeError"),
    "callbacks": ("tacit_ros.recorder_node:RecorderNode._stream_statuses", "AttributeError"),
}


@pytest.fixture
def streams(bench: Any) -> Iterator[Rig]:
    """A robot on a thread that publishes every stream of the rig as it should."""
    rig, stop = load_rig("nova2_sim"), threading.Event()
    thread = threading.Thread(target=SyntheticRobot(bench.node, rig).run, args=(stop.is_set,))
    thread.start()
    yield rig
    stop.set()
    thread.join()


@pytest.mark.parametrize("thread", RECORDER)
def test_recorder_keeps_the_episode_says_why_and_ends(
    launch: Any, bench: Any, tmp_path: Path, streams: Rig, thread: str
) -> None:
    target, error = RECORDER[thread]
    process = launch("recorder_node", target, error, root=tmp_path, task="lift", min_free_gb=0.0)
    process.accepted("start")
    bench.until(lambda: '"num_ticks": 0' not in process.call("status").message, "ticks")
    began = time.monotonic()
    process.strike()
    assert process.ended() == 1
    assert time.monotonic() - began < 60  # of a busy machine
    (path,) = (tmp_path / "lift").glob("*.hdf5")
    assert list((tmp_path / "lift").glob("*.part")) == []
    with h5py.File(path) as file:
        assert file.attrs["state"] == "aborted" and file.attrs["num_ticks"] > 0
        assert f"{error}: planted" in file.attrs["outcome"]
    log = process.log.read_text()
    assert f"{error}: planted" in log and "Traceback" in log and "aborted and kept" in log


PROGRESS = {
    "progress": ("tacit.progress.watch:ProgressWatch.see", "MemoryError"),
    "callbacks": ("tacit.control.inputs:AlignedInputs.store", "AttributeError"),
}


@pytest.mark.parametrize("thread", PROGRESS)
def test_progress_says_invalid_why_and_ends(
    launch: Any, bench: Any, tmp_path: Path, rig_path: Path, robot: FakeRobot, thread: str
) -> None:
    target, error = PROGRESS[thread]
    bundle = progress_bundle(tmp_path, load_rig(rig_path), rate_hz=25.0, **WIDE).source
    states = texts_of(bench, "/progress/state")
    process = launch("progress_node", target, error, rig=rig_path, bundle=bundle)
    process.accepted("reset")
    bench.until(lambda: states, "a state")
    process.strike()
    assert process.ended() == 1
    assert states[-1] == "invalid"
    log = process.log.read_text()
    assert f"{thread} ended: {error}: planted" in log and "Traceback" in log


def test_simulator_whose_stepping_thread_dies_ends_and_says_why(launch: Any, bench: Any) -> None:
    pytest.importorskip("mujoco")
    process = launch("tacit_sim.simulator_node", "tacit_sim.cell:Cell.step", "AttributeError")
    bench.until(lambda: "simulator" in bench.node.get_node_names(), "node", 60)
    process.strike()
    assert process.ended() == 1
    assert "cell ended: AttributeError: planted" in process.log.read_text()
