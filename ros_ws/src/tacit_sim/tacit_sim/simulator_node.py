"""Node `simulator`: the cell as a robot on the rig's own topics, with a reset and the truth.

The executor's thread stores commands and takes requests; one thread of our own owns the cell, its
GL contexts and the pace, on absolute deadlines.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import rclpy
from rclpy._rclpy_pybind11 import RCLError
from std_srvs.srv import Trigger

from tacit.errors import ConfigError, TacitError, did_you_mean
from tacit.rig import Rig, load_rig
from tacit.threads import Requests, WatchedThread
from tacit_ros.wire.parameters import declare, parameter, read
from tacit_ros.wire.process import WatchedNode, run_node
from tacit_sim.as_built import JointError, as_built
from tacit_sim.cell import LOOK_NS, Cell
from tacit_sim.model import only_arm
from tacit_sim.topics import CommandInbox, RobotTopics, TruthTopics, truth
from tacit_sim.wired import WiredArm, serve_driver

FALL_BEHIND_S = 0.5
"""Later than this, the pace starts anew instead of rushing to catch up."""


@dataclass(frozen=True)
class SimulatorParameters:
    """Parameters of the node; those that may change take effect at the next reset."""

    rig: str = parameter("nova2_sim", "Shipped rig or path of a rig.yaml.")
    task: str = parameter("", "Task of the cell, such as sort_by_feel; the rig's own when empty.", live=True)
    seed: int = parameter(0, "Decides start positions and disturbance.", low=0, live=True)
    disturbance: bool = parameter(False, "Push the executed (not the published) target about.", live=True)
    real_time_factor: float = parameter(1.0, "Simulated per real seconds; 0 is as fast as possible.", low=0)
    lockstep: bool = parameter(False, "Wait at each tick for a command that carries its stamp.", live=True)
    lockstep_timeout_s: float = parameter(
        1.0, "Longest wait in lockstep [s of wall time]; then step on.", low=0, live=True
    )
    command_timeout_s: float = parameter(
        0.2, "Hold position when commands stop for so long [simulated s].", above=0, live=True
    )
    publish_clock: bool = parameter(False, "Publish simulated time on /clock.")
    segmentation: bool = parameter(False, "Add boxes of the visible pads to /simulator/truth.")
    board: str = parameter("", "Calibration board.", choices=("", "table", "gripper"))
    hidden_seed: int = parameter(
        0, "Not 0: lenses, mounts and gripper differ from the rig, as in a lab.", low=0
    )
    joint_error_deg: float = parameter(
        0.0, "Measured joints are off by this, depending on the pose [deg].", low=0
    )
    zero_error_deg: float = parameter(0.0, "Measured joints are off by a constant of this size [deg].", low=0)
    clock_offset_stream: str = parameter("", "A stream whose clock is off, as of another computer.")
    clock_offset_s: float = parameter(0.0, "Its stamps are ahead of the others by this [s].")
    wire_log: str = parameter("", "With drivers: write here, at the end, what their controller was asked.")


class Pacer:
    """Keeps simulated time at a multiple of wall time by absolute deadlines.

    Args:
        factor: Simulated per real seconds; 0 never waits.
    """

    def __init__(self, factor: float) -> None:
        self._factor = factor
        self._deadline = time.monotonic()
        self.restarts = 0

    def wait(self, simulated_ns: int) -> None:
        """Return when the wall clock has caught up with `simulated_ns` more of simulated time."""
        if self._factor <= 0:
            return
        self._deadline += simulated_ns * 1e-9 / self._factor
        left = self._deadline - time.monotonic()
        if left > 0:
            time.sleep(left)
        elif left < -FALL_BEHIND_S:
            self._deadline = time.monotonic()
            self.restarts += 1


class SimulatorNode(WatchedNode):
    """The shell around one cell."""

    def __init__(self) -> None:
        """Build the cell and start stepping.

        Raises:
            TacitError: The rig, the task or a parameter is wrong.
        """
        super().__init__("simulator")
        self._settings = declare(self, SimulatorParameters)
        rig = as_built(load_rig(self._settings.rig), self._settings.hidden_seed)
        self._cell = Cell(
            rig,
            self._settings.task or None,
            disturbed=self._settings.disturbance,
            board_at=self._settings.board,  # type: ignore[arg-type]  # one of the parameter's choices
        )
        self._cell.reset(self._settings.seed)
        self._tick_ns = round(1e9 / rig.alignment.rate_hz)
        self._joint_ns = round(1e9 / max(stream.rate_hz for stream in rig.states.values()))
        self._arm: WiredArm | None = None
        if rig.drivers:  # what moves the arm comes through its driver, and what it measures goes there
            _require_pace(self._settings)
            self._joint_ns, self._arm = LOOK_NS, WiredArm(rig, self._cell.state())
            self._controller = serve_driver(rig, self._arm, self.thread_failed)
        self._robot = RobotTopics(
            self, self._cell, _joint_error(rig, self._settings), _clock_offsets(rig, self._settings)
        )
        self._truth = TruthTopics(
            self, self._cell, segmentation=self._settings.segmentation, clock=self._settings.publish_clock
        )
        self._inbox = CommandInbox(self, rig)
        self._episode = 0
        self._commanded_ns: int | None = None
        self._pacer = Pacer(self._settings.real_time_factor)
        self._requests = Requests("the cell", ConfigError, self._inbox.wake)
        self.create_service(Trigger, "/simulator/reset", self._reset)
        self.create_service(Trigger, "/simulator/status", self._status)
        self._thread = WatchedThread("cell", self._run, self.thread_failed)
        self._thread.start()
        self.get_logger().info(f"rig {rig.name}, task {self._cell.task.name}: reset by /simulator/reset")

    def close(self) -> None:
        """Stop the stepping thread and free the GL contexts."""
        self._thread.stop(nudge=self._inbox.wake)
        if self._arm is not None:
            self._controller.close()
            if self._settings.wire_log:
                self._controller.write_log(Path(self._settings.wire_log))

    def _reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Hand a reset to the stepping thread and answer with the new truth."""
        try:
            settings = read(self, SimulatorParameters)
            response.message = self._requests.ask(lambda: self._start_episode(settings))
            response.success = True
        except TacitError as error:
            response.message = str(error)
        return response

    def _status(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Answer with the truth of the last tick."""
        response.message, response.success = self._truth.newest, True
        return response

    def _run(self) -> None:
        """Step the cell until the node closes."""
        try:
            while not self._thread.stopping.is_set() and rclpy.ok():
                self._requests.serve()
                self._tick()
        except RCLError:
            if rclpy.ok():  # else the context was ended in the middle of a tick
                raise
        finally:
            self._requests.refuse("its stepping thread has ended")
            self._cell.close()

    def _start_episode(self, settings: SimulatorParameters) -> str:
        """Set the cell up anew; return its truth and the seed as JSON."""
        before_ns = self._cell.time_ns
        self._cell.disturbed = settings.disturbance
        self._cell.reset(settings.seed, settings.task or None)
        self._settings = settings
        self._episode += 1
        self._commanded_ns = None
        self._inbox.clear()
        if self._arm is not None:
            self._arm.restart(self._cell.state())
        self._pacer.wait(self._cell.time_ns - before_ns)
        return json.dumps(truth(self._cell, self._episode) | {"seed": settings.seed})

    def _tick(self) -> None:
        """Show one tick, take its command, and step to the next; joints go out on the way."""
        self._truth.publish_clock()
        self._show_joints()
        self._robot.publish_frame()
        self._truth.publish(self._episode)
        if self._settings.lockstep:
            self._await_command()
        for passed in range(self._joint_ns, self._tick_ns + 1, self._joint_ns):
            if not self._settings.lockstep:
                self._obey_newest()
            self._cell.step(self._joint_ns)
            self._pacer.wait(self._joint_ns)
            if passed < self._tick_ns:
                self._truth.publish_clock()
                self._show_joints()

    def _show_joints(self) -> None:
        if self._arm is not None:
            self._arm.show(self._cell.state(), self._cell.velocity())
        else:
            self._robot.publish_joints()

    def _await_command(self) -> None:
        """Lockstep: time stands still until the command of this tick is there."""
        timeout_s = self._settings.lockstep_timeout_s
        target = self._inbox.wait(self._cell.state(), self._cell.time_ns, timeout_s)
        if target is not None:
            self._cell.command(target)
        elif not self._requests.are_waiting and not self._thread.stopping.is_set():
            self.get_logger().warning(
                f"lockstep: no command for tick {self._cell.time_ns} within {timeout_s:g} s, stepping on",
                throttle_duration_sec=5.0,
            )

    def _obey_newest(self) -> None:
        """Free running: execute what came since the last look; hold when commands have stopped."""
        target = self._inbox.take(self._cell.state()) if self._arm is None else self._arm.take()
        if target is not None:
            self._commanded_ns = self._cell.time_ns
            self._cell.command(target)
        elif self._commanded_ns is not None:
            age_s = (self._cell.time_ns - self._commanded_ns) * 1e-9
            if age_s > self._settings.command_timeout_s:
                self._commanded_ns = None
                self._cell.hold()
                self.get_logger().warning(f"no command for {age_s:.2f} s: holding position")


def _require_pace(settings: SimulatorParameters) -> None:
    """Refuse to be faster than the wall clock, or to wait: a controller behind a wire waits for nobody.

    Raises:
        ConfigError: Lockstep, or a factor above 1.
    """
    if settings.lockstep or not 0 < settings.real_time_factor <= 1:
        raise ConfigError(
            "a rig with drivers is simulated in real time or slower: lockstep:=false real_time_factor:=1"
        )


def _joint_error(rig: Rig, settings: SimulatorParameters) -> JointError:
    joints = len(only_arm(rig)[1].joints)
    sizes = (settings.zero_error_deg, settings.joint_error_deg)
    return JointError.draw(joints, *sizes, seed=settings.hidden_seed)


def _clock_offsets(rig: Rig, settings: SimulatorParameters) -> dict[str, int]:
    name = settings.clock_offset_stream
    if name and name not in rig.specs:
        raise ConfigError(f"clock_offset_stream: {name!r} in rig {rig.name}; {did_you_mean(name, rig.specs)}")
    return {name: round(settings.clock_offset_s * 1e9)} if name else {}


def main(argv: list[str] | None = None) -> int:
    """Run the node `simulator`; returns 0, or 2 when it refused to start."""
    return run_node(SimulatorNode, argv)


if __name__ == "__main__":
    raise SystemExit(main())
