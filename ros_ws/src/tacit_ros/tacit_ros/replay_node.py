"""The node `replay`: does again what was commanded in an episode, on the robot or in the simulated cell.

The arm first goes slowly to where the recording begins. Limits, workspace, gates and stops are those of the
policy node; the world may be another than it was: nothing here looks at it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rclpy.parameter import Parameter

from tacit.control.controller import Controller
from tacit.control.heard import HeardStreams
from tacit.control.players import RecordedPlayer
from tacit.control.safety import Fault
from tacit.control.states import Answer
from tacit.episode import EpisodeReader
from tacit.errors import ConfigError
from tacit.geometry.transforms import FloatArray
from tacit.rig import Rig, load_rig
from tacit_ros.wire.commanding import CommandingNode, CommandParameters
from tacit_ros.wire.parameters import declare, parameter
from tacit_ros.wire.process import run_node

APPROACH_PART = 0.2
"""Part of the velocity limits that the way to the beginning of the recording may use."""


@dataclass(frozen=True)
class ReplayParameters(CommandParameters):
    """Parameters of the node; fixed once it runs."""

    rig: str = parameter("nova2_sim", "Shipped rig or path of a rig.yaml.")
    episode: str = parameter("", "The recording.")
    speed: float = parameter(1.0, "Pace, 1 as it was recorded.", above=0, high=1)
    begin: bool = parameter(False, "Begin as soon as the robot is heard; else ~/start does.")
    dry_run: bool = parameter(False, "Publish to ~/shadow_command only.")
    realtime_priority: int = parameter(
        10, "SCHED_FIFO priority of the command thread; 0 for none.", low=0, high=99
    )


class ReplayNode(CommandingNode):
    """Plays one recording.

    Services: `~/start ~/hold ~/estop ~/reset` (Trigger), `~/set_dry_run` (SetBool). Ends in HOLD with the
    reason `replayed`.

    Raises:
        TacitError: The episode is of other joints than the rig, or leads out of its limits.
    """

    def __init__(self, parameter_overrides: list[Parameter] | None = None) -> None:
        super().__init__("replay", parameter_overrides=parameter_overrides)
        self.settings = declare(self, ReplayParameters)
        rig = load_rig(self.settings.rig)
        if not self.settings.episode:
            raise ConfigError("parameter episode is empty; give the path of a recording (.hdf5)")
        with EpisodeReader(self.settings.episode) as reader:
            self._action = commanded(reader, rig)
            self._player = RecordedPlayer(reader.tick_ns, self._action, self.settings.speed)
            text = plan(reader, rig, self.settings.speed)
        period_s = 1.0 / max(spec.rate_hz for spec in rig.commands.values())
        controller = Controller(rig, self._player, period_s, self.settings.dry_run)
        simulated = True if self.is_simulated_time else None
        inputs = HeardStreams(rig, (), self._now_ns, self._age_clock(), simulated=simulated)
        self._move(rig, controller, inputs, self.settings.realtime_priority)
        self.loop = self._make_loop()
        self._approaches, self._asked = False, self.settings.begin
        self._offer(self._actions())
        self._hear()
        self.get_logger().info(text)
        self._start_loop()

    def _actions(self) -> dict[str, Callable[[], Answer]]:
        controller = self.controller
        return {
            "start": self._having_looked(self._start),
            "hold": controller.hold,
            "estop": controller.estop,
            "reset": self._having_asked(self._reset),
        }

    def _start(self) -> Answer:
        """Go to where the recording begins, then play it."""
        goal = self._action[0]
        answer = self.controller.home(self.inputs.measured(), self.inputs.person_fault(), goal)
        self._approaches = answer.success
        if answer.success:
            self.inputs.intake.uncommanded()
        return Answer(answer.success, "on the way to the beginning") if answer.success else answer

    def _reset(self) -> Answer:
        self._approaches, answer = False, self.controller.reset()
        if answer.success:
            self.inputs.forget()
        return answer

    def _command(self, now_ns: int) -> FloatArray | None:
        controller, measured = self.controller, self.inputs.measured()
        if self._approaches and controller.state == "IDLE":
            self._approaches = False
            controller.start(measured, self.inputs.person_fault())
        part = APPROACH_PART if controller.state == "HOMING" else 1.0
        controller.limiter.speed_scale = part * self.inputs.robot.speed_scale
        command = controller.step(now_ns, measured, self.inputs.steady_now_ns())
        if command is not None and not controller.dry_run:
            self.inputs.commanded(command)
        return command

    def _watch(self) -> None:
        fault = self.inputs.person_fault()
        if fault is None and self.controller.state == "RUNNING" and self._player.is_over:
            fault = Fault("replayed", "the recording is over")
        if fault is not None:
            self.controller.fail(fault)

    def _report(self) -> None:
        """Once a second: the state; begin where that was asked for."""
        super()._report()
        if self._asked and self.inputs.person_fault() is None:
            self._asked = False
            answer = self._having_looked(self._start)()
            self.get_logger().info(answer.message)


def commanded(reader: EpisodeReader, rig: Rig) -> FloatArray:
    """Return the commands (T, S) of an episode in the order of a rig.

    Raises:
        ConfigError: Another robot, no ticks, or commands outside the limits of the rig.
    """
    names = reader.rig.state_names
    if set(names) != set(rig.state_names) or not reader.num_ticks:
        raise ConfigError(
            f"{reader.path}: {reader.num_ticks} ticks of {', '.join(names)}; rig {rig.name} has "
            f"{', '.join(rig.state_names)}"
        )
    action = reader.action[:, [names.index(name) for name in rig.state_names]].astype(np.float64)
    outside = np.maximum(rig.limits("lower") - action, action - rig.limits("upper")).max(axis=0)
    worst = int(np.argmax(outside))
    if not np.isfinite(action).all() or outside[worst] > 1e-3:
        raise ConfigError(
            f"{reader.path}: {rig.state_names[worst]} is commanded {outside[worst]:.3g} outside the limits "
            f"of rig {rig.name}"
        )
    return np.clip(action, rig.limits("lower"), rig.limits("upper"))


def plan(reader: EpisodeReader, rig: Rig, speed: float) -> str:
    """Return in words what a replay would do."""
    action, seconds = commanded(reader, rig), (reader.tick_ns[-1] - reader.tick_ns[0]) / 1e9
    rates = np.abs(np.diff(action, axis=0)) * reader.fps * speed / rig.limits("velocity")
    fastest = f"{100 * rates.max():.0f} % of the velocity limits at most" if len(rates) else "one pose"
    lines = [f"{reader.path}: {reader.num_ticks} ticks, {seconds / speed:.1f} s at pace {speed:g}, {fastest}"]
    if len(rates) and rates.max() > 1:
        lines.append("faster than the limits: the robot will lag behind the recording there")
    if reader.rig.calibration_id != rig.calibration_id:
        lines.append("recorded with another calibration: the tool goes elsewhere in the room than it did")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run the node until a signal; exit code 2 where it refuses to start."""
    return run_node(ReplayNode, argv)


if __name__ == "__main__":
    sys.exit(main())
