"""`tacit bench dobot`: the node of a Dobot arm before a fake controller, and the simulated cell behind that.

Commands leave here at 100 Hz as from a policy (upsampled), cross ROS to `dobot_node` in a process of its own,
and TCP to the fake controller here. What is counted stands in the controller's own log.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benches.testing import isolated_domain, wait_until
from tacit.config.arguments import NewFile, parse_words
from tacit.control.periodic import PeriodicThread, SteadyClock
from tacit.control.safety import MotionLimiter
from tacit.geometry.transforms import FloatArray
from tacit.rig import Rig, load_rig, parse_rig
from tacit.threads import Failure
from tacit_sim.fake_dobot.plant import FollowingArm, Plant
from tacit_sim.fake_dobot.server import FakeDobot

PERIOD_S = 0.04
SERVO_HZ = 100 / 3
TIMEOUT_S = 0.2
BAR_MISSED, BAR_SUCCESS = 0.01, 0.9
ROUNDING_RAD = 1e-5
"""ServoJ carries four decimals of a degree."""
START = np.array([-0.3424, 0.0643, 2.0576, -0.5511, -1.5708, 1.2284])


@dataclass(frozen=True)
class Args:
    """Drive a fake Dobot controller through its node: periods, disconnects, and place_cube behind it."""

    minutes: float = 10.0
    """How long ServoJ is sent."""
    disconnects: int = 20
    """How often the connections are cut in motion."""
    episodes: int = 20
    """Episodes of place_cube by the scripted expert, through the wire."""
    pace: float = 0.5
    """Speed of the expert: it plays by the clock, and does not see that the arm lies .2 s behind."""
    json: NewFile | None = None
    """Write the numbers to this file too."""


@dataclass
class Numbers:
    """What was measured.

    Attributes:
        servo_commands: ServoJ that the controller accepted.
        missed_share: Periods of the node in which no ServoJ came, of all in which commands were sent.
        stops: How often the node stopped because it did not hear the arm, and was started again.
        gap_p99_ms, gap_max_ms: Between two ServoJ as they arrived.
        largest_step, allowed_step: Of any joint between two ServoJ, and velocity x period [rad].
        excess: By how much a step exceeded velocity x the time since the one before, as it arrived [rad].
        disconnects, reconnects: Cuts in motion, and connections made again.
        slowest_return_s: From the cut until joints came again.
        late_commands: ServoJ that came later than the timeout after the last command, of all stops.
        zeros: Joint messages that said zero.
        successes, episodes: Of place_cube.
        states: What the node said of itself during the ten minutes.
        log: The end of the controller's log.
    """

    servo_commands: int = 0
    missed_share: float = 0.0
    stops: int = 0
    gap_p99_ms: float = 0.0
    gap_max_ms: float = 0.0
    largest_step: float = 0.0
    allowed_step: float = 0.0
    excess: float = 0.0
    disconnects: int = 0
    reconnects: int = 0
    slowest_return_s: float = 0.0
    late_commands: int = 0
    zeros: int = 0
    successes: int = 0
    episodes: int = 0
    states: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)


def wired_rig() -> Rig:
    """Return the simulated cell's rig on the topics of a Dobot: gripper by register, commands at 100 Hz."""
    data = load_rig("nova2_sim").model_dump(mode="json")
    data["arms"]["arm"]["gripper"] |= {"raw": "linear", "scale": 8e-5, "offset": 0.0}
    data["commands"]["command"] |= {"output_hz": 100.0}
    data["streams"]["robot_state"] = {
        "role": "robot_state",
        "topic": "/robot_state",
        "type": "std_msgs/msg/Float64MultiArray",
        "rate_hz": 20.0,
        "names": ["enabled", "fault", "protective_stop", "speed_scaling"],
    }
    return parse_rig(data, "wired")


class Commander:
    """A policy's limiter and upsampled output on ROS, and what the robot says there."""

    def __init__(self, rig: Rig) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from sensor_msgs.msg import JointState
        from std_msgs.msg import Float64MultiArray, String
        from std_srvs.srv import Trigger

        from tacit_ros.wire import qos
        from tacit_ros.wire.commands import CommandPublisher
        from tacit_ros.wire.upsampled import Pace

        rclpy.init()
        self.node = rclpy.create_node("commander")
        self.failures: list[Failure] = []
        pace = Pace(SteadyClock(), self.failures.append, 10)
        self.publisher = CommandPublisher(self.node, rig, PERIOD_S, pace=pace)
        self.limiter = MotionLimiter.from_rig(rig, PERIOD_S)
        self.joints: list[tuple[float, np.ndarray]] = []
        self.status: list[Any] = []
        self.states: list[str] = []
        self.node.create_subscription(JointState, "/joint_states", self._joints, 50)
        self.node.create_subscription(
            Float64MultiArray, "/robot_state", lambda m: self.status.append(m.data), 10
        )
        self.node.create_subscription(
            String, "/dobot/state", lambda m: self.states.append(m.data), qos.state()
        )
        self._clients: dict[str, Any] = {
            n: self.node.create_client(Trigger, f"/dobot/{n}") for n in ("enable", "clear")
        }
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        while not self._stop.is_set():
            self._executor.spin_once(timeout_sec=0.05)

    def _joints(self, message: Any) -> None:
        self.joints.append((time.monotonic(), np.array(message.position)))

    def call(self, name: str) -> tuple[bool, str]:
        """Call a service of the node."""
        from std_srvs.srv import Trigger

        client = self._clients[name]
        wait_until(client.service_is_ready, name, 20)
        future = client.call_async(Trigger.Request())
        wait_until(future.done, name, 20)
        answer = future.result()
        return answer.success, answer.message

    def hears_after(self, count: int) -> Callable[[], bool]:
        """Return whether more than `count` joint states have come, to be asked again."""
        return lambda: len(self.joints) > count

    def enable(self) -> None:
        """Clear and enable until the robot says that it is ready."""
        wait_until(lambda: self.joints and self.status, "the robot", 20)
        self.call("clear")
        success, message = self.call("enable")
        if not success:
            raise RuntimeError(message)
        wait_until(lambda: list(self.status[-1]) == [1.0, 0.0, 0.0, 1.0], "an enabled robot", 20)

    def begin(self, state: FloatArray) -> None:
        """Start from `state` (7,)."""
        self.limiter.seed(state)

    def tick(self, target: FloatArray) -> None:
        """One command of the policy."""
        self.publisher.publish(self.limiter.step(target), time.time_ns(), False, self.limiter)

    def rest(self) -> None:
        """No command comes any more."""
        self.publisher.settle()

    def close(self) -> None:
        """Stop."""
        import rclpy

        self._stop.set()
        self._thread.join(5)
        self.publisher.close()
        rclpy.try_shutdown()


@contextmanager
def driven(plant: Plant, rig: Rig, folder: Path) -> Iterator[tuple[FakeDobot, Commander, list[str]]]:
    """Run a fake controller, `dobot_node` on it, and a commander."""
    failures: list[Failure] = []
    fake = FakeDobot(plant, failures.append)
    path = folder / "rig.yaml"
    path.write_text(rig.to_yaml(), encoding="utf-8")
    values = {
        "rig": path,
        "host": "127.0.0.1",
        "dashboard_port": fake.ports[0],
        "feedback_port": fake.ports[1],
        "servo_hz": SERVO_HZ,
        "command_timeout_s": TIMEOUT_S,
        "gripper": "modbus",
    }
    words = [part for name, value in values.items() for part in ("-p", f"{name}:={value}")]
    node = subprocess.Popen(
        [sys.executable, "-u", "-m", "tacit_ros.dobot_node", "--ros-args", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said: list[str] = []
    assert node.stdout is not None
    lines = iter(node.stdout.readline, "")
    reader = threading.Thread(target=lambda: said.extend(lines), daemon=True)
    reader.start()
    commander = Commander(rig)
    try:
        yield fake, commander, said
    finally:
        commander.close()
        node.send_signal(2)
        node.wait(20)
        fake.close()
        for failure in [*failures, *commander.failures]:
            raise RuntimeError(str(failure))


def wave(time_s: float) -> FloatArray:
    """Where the arm is to be [rad, m]: sines of up to 1.6 rad/s, and a gripper that opens and closes."""
    amplitude = np.array([0.6, 0.25, 0.3, 0.5, 0.4, 0.8])
    hz = np.array([0.2, 0.31, 0.27, 0.4, 0.35, 0.3])
    q = START + amplitude * np.sin(2 * np.pi * hz * time_s)
    return np.append(q, 0.04 + 0.03 * np.sin(0.3 * time_s))


def wave_after(begin_s: float, time_s: float) -> FloatArray:
    """`wave`, gone on with."""
    return wave(begin_s + time_s)


def swing(start: FloatArray, time_s: float) -> FloatArray:
    """Joints and opening [rad, m] of an arm that swings about where it stood."""
    return np.append(start + 0.2 * np.sin(4 * time_s), 0.08)


def run_for(commander: Commander, seconds: float, target: Callable[[float], FloatArray]) -> float:
    """Command targets at the policy's rate, on absolute deadlines, for a while; then nothing.

    Returns:
        For how long: less where the robot has said that it is not ready [s].
    """
    begin, over = time.monotonic(), threading.Event()

    def step() -> None:
        passed = time.monotonic() - begin
        if passed < seconds and (passed < 0.5 or list(commander.status[-1][:3]) == [1.0, 0.0, 0.0]):
            commander.tick(target(passed))
        else:
            over.set()

    loop = PeriodicThread(round(1e9 * PERIOD_S), step, commander.failures.append)
    loop.start()
    over.wait(seconds + 10)
    passed = time.monotonic() - begin
    loop.stop()
    commander.rest()
    return passed


def measure_servo(args: Args, numbers: Numbers, folder: Path) -> None:
    """Ten minutes of ServoJ, then cuts in motion."""
    rig = wired_rig()
    with driven(FollowingArm(START), rig, folder) as (fake, commander, _):
        commanded = 0.0
        while (left := 60 * args.minutes - commanded) > 1.0:
            commander.enable()
            commander.begin(np.append(fake.joints(), 0.08))
            commanded += run_for(commander, left, partial(wave_after, commanded))
            numbers.stops += 1
            time.sleep(1.0)
        numbers.stops -= 1
        judge_servo(fake, rig, numbers)
        numbers.missed_share = 1 - len(fake.servo) / (commanded * SERVO_HZ)
        numbers.states = list(commander.states)
        cut_in_motion(args, numbers, fake, commander)
        numbers.zeros = sum(not q.any() for _, q in commander.joints)
        numbers.log = [f"{t:.3f} {text}" for t, text in fake.log[-40:]]


def judge_servo(fake: FakeDobot, rig: Rig, numbers: Numbers) -> None:
    """Read steps and gaps out of the controller's log."""
    times = np.array([t for t, _ in fake.servo])
    path = np.array([q for _, q in fake.servo])
    gaps, steps = np.diff(times), np.abs(np.diff(path, axis=0))
    velocity = rig.limits("velocity")[:6]
    numbers.servo_commands = len(times)
    numbers.gap_p99_ms, numbers.gap_max_ms = 1e3 * np.percentile(gaps, 99), 1e3 * gaps.max()
    numbers.largest_step = float(steps.max())
    numbers.allowed_step = float(velocity.max() / SERVO_HZ)
    numbers.excess = float((steps - velocity * np.maximum(gaps, 1 / SERVO_HZ)[:, None]).max())


def cut_in_motion(args: Args, numbers: Numbers, fake: FakeDobot, commander: Commander) -> None:
    """Cut the connections while the arm moves, again and again."""
    for _ in range(args.disconnects):
        commander.enable()
        commander.begin(np.append(fake.joints(), 0.08))
        start = fake.joints()
        run_for(commander, 0.6, partial(swing, start))
        last = time.monotonic()
        fake.drop()
        count = len(commander.joints)
        time.sleep(0.01)
        wait_until(commander.hears_after(count + 20), "joints again", 30)
        numbers.slowest_return_s = max(numbers.slowest_return_s, time.monotonic() - last)
        numbers.disconnects += 1
        numbers.reconnects += 1
        time.sleep(0.3)
        sent = [t for t, _ in fake.servo if t > last + TIMEOUT_S + 2 * PERIOD_S + 0.1]
        numbers.late_commands += len(sent)


def measure_place(args: Args, numbers: Numbers, folder: Path) -> None:
    """The scripted expert places cubes: through ROS, the node, TCP and the controller, into the cell."""
    from tacit_sim.cell import LOOK_NS, Cell
    from tacit_sim.experts import Expert
    from tacit_sim.tasks import distance_to_goal, find_task
    from tacit_sim.wired import WiredArm

    rig, console = wired_rig(), Console()
    cell = Cell(rig, "place_cube")
    cell.reset(0)
    arm, expert = WiredArm(rig, cell.state()), Expert(rig, find_task("place_cube"))
    lock = threading.Lock()

    begun_ns = time.monotonic_ns() - cell.time_ns

    def look() -> None:
        """Bring the cell up to the wall clock: on a busy machine several looks at once."""
        with lock:
            wanted = arm.take()
            if wanted is not None:
                cell.command(wanted)
            behind = (time.monotonic_ns() - begun_ns - cell.time_ns) // LOOK_NS
            for _ in range(max(0, min(behind, 50))):
                cell.step(LOOK_NS)
            arm.show(cell.state(), cell.velocity())

    with driven(arm, rig, folder) as (_, commander, _):
        world = PeriodicThread(LOOK_NS, look, commander.failures.append, priority=0)
        world.start()
        for seed in range(args.episodes):
            with lock:
                cell.reset(seed)
                arm.restart(cell.state())
                expert.start(cell.state(), cell.object_pose(), hidden=cell.hidden)
                state = cell.state()
            time.sleep(0.5)
            commander.enable()
            commander.begin(state)
            last = expert.num_ticks - 1

            def target(passed: float, last: int = last) -> FloatArray:
                return expert.target(min(round(args.pace * passed / PERIOD_S), last))

            run_for(commander, expert.num_ticks * PERIOD_S / args.pace, target)
            time.sleep(1.5)
            with lock:
                success = cell.success()
                where = f"{1e3 * distance_to_goal(cell.task, cell.truth().position):.0f} mm from the goal,"
            numbers.successes += success
            numbers.episodes += 1
            console.print(
                f"episode {seed}: {'placed' if success else 'not placed'} {where} {commander.states[-1]}"
            )
        world.stop()


def main(argv: list[str] | None = None) -> int:
    """Run the bench; 0 where every bar is met."""
    import tempfile

    from tacit_ros.wire.process import go_first

    args = parse_words(Args, argv, "tacit bench dobot")
    go_first()  # here runs the controller, which in a lab has a computer of its own
    numbers = Numbers()
    with isolated_domain(), tempfile.TemporaryDirectory() as folder:
        if args.minutes > 0:
            measure_servo(args, numbers, Path(folder))
        if args.episodes > 0:
            measure_place(args, numbers, Path(folder))
    shown = {k: v for k, v in asdict(numbers).items() if k != "log"}
    Console().print_json(json.dumps(shown, default=float))
    if args.json is not None:
        args.json.write_text(json.dumps(asdict(numbers), indent=2, default=float), encoding="utf-8")
    return 0 if is_met(args, numbers) else 1


def is_met(args: Args, numbers: Numbers) -> bool:
    """Judge the numbers against the bars."""
    servo = args.minutes <= 0 or (
        numbers.missed_share <= BAR_MISSED
        and numbers.reconnects == args.disconnects
        and numbers.late_commands == numbers.zeros == 0
        and numbers.largest_step <= numbers.allowed_step + ROUNDING_RAD
    )
    return servo and numbers.successes >= BAR_SUCCESS * numbers.episodes


if __name__ == "__main__":
    sys.exit(main())
