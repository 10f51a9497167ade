"""The node `teleop`: a person moves the robot with keys, a game pad, a space mouse, twists or a leader arm.

It is the policy node without a policy: the same states, limiter, workspace, gates and end. Where a policy
runs, its own node hears the devices instead (`teleop:=true`), so that one alone commands the robot.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.parameter import Parameter

from tacit.control.controller import Controller
from tacit.control.heard import HeardStreams
from tacit.control.states import LEVELS, Answer
from tacit.geometry.transforms import FloatArray
from tacit.rig import load_rig
from tacit_ros import messages
from tacit_ros.wire.commanding import CommandingNode, CommandParameters
from tacit_ros.wire.parameters import declare, parameter
from tacit_ros.wire.person import PersonParameters, PersonTopics
from tacit_ros.wire.process import run_node


@dataclass(frozen=True)
class TeleopParameters(PersonParameters, CommandParameters):
    """Parameters of the node; fixed once it runs."""

    rig: str = parameter("nova2_sim", "Shipped rig or path of a rig.yaml.")
    command_hz: float = parameter(
        0.0, "Commands per second; 0: as the rig says of its fastest command topic.", low=0, high=1000
    )
    dry_run: bool = parameter(False, "Publish to ~/shadow_command only.")
    realtime_priority: int = parameter(
        10, "SCHED_FIFO priority of the command thread; 0 for none.", low=0, high=99
    )


class TeleopNode(CommandingNode):
    """Lets a person move one rig.

    Services: `~/take_over ~/release ~/home ~/hold ~/estop ~/reset` (Trigger), `~/set_dry_run` (SetBool).
    Topics out: the rig's commands (or `~/shadow_command`), `~/state`, `/diagnostics`.

    Raises:
        TacitError: Rig or parameters are not fit to run: the node refuses to start.
    """

    patience_s = 3.0

    def __init__(self, parameter_overrides: list[Parameter] | None = None) -> None:
        super().__init__("teleop", parameter_overrides=parameter_overrides)
        self.settings = declare(self, TeleopParameters)
        rig = load_rig(self.settings.rig)
        rate_hz = self.settings.command_hz or max(spec.rate_hz for spec in rig.commands.values())
        self.person = PersonTopics(self, rig, self.settings.teleop_settings, self._on_event)
        controller = Controller(rig, None, 1.0 / rate_hz, self.settings.dry_run, self.person)
        simulated = True if self.is_simulated_time else None
        inputs = HeardStreams(rig, (), self._now_ns, self._age_clock(), simulated=simulated)
        self._move(rig, controller, inputs, self.settings.realtime_priority)
        self.loop = self._make_loop()
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._offer(self._actions())
        self._hear()
        self.get_logger().info(f"rig {rig.name}: {rate_hz:g} commands/s; `tacit teleop keys`, Enter to begin")
        self._start_loop()

    def _actions(self) -> dict[str, Callable[[], Answer]]:
        controller = self.controller
        return {
            "take_over": self._having_looked(self._take_over),
            "hand_back": lambda: controller.hand_back(None, None),
            "home": self._having_looked(self._go_home),
            "release": controller.release,
            "hold": controller.hold,
            "estop": controller.estop,
            "reset": self._having_asked(self._reset),
        }

    def _take_over(self) -> Answer:
        answer = self.controller.take_over(self.inputs.measured(), self.inputs.person_fault())
        if answer.success:
            self.inputs.intake.uncommanded()
        return answer

    def _go_home(self) -> Answer:
        answer = self.controller.home(self.inputs.measured(), self.inputs.person_fault())
        if answer.success:
            self.inputs.intake.uncommanded()
        return answer

    def _reset(self) -> Answer:
        """Back to idle; what was heard is forgotten: the cure after a clock that was set anew."""
        answer = self.controller.reset()
        if answer.success:
            self.inputs.forget()
        return answer

    def _command(self, now_ns: int) -> FloatArray | None:
        self.controller.limiter.speed_scale = self.inputs.robot.speed_scale
        measured = self.inputs.measured()
        command = self.controller.step(now_ns, measured, self.inputs.steady_now_ns())
        if command is not None and not self.controller.dry_run:
            self.inputs.commanded(command)
        return command

    def _watch(self) -> None:
        fault = self.inputs.person_fault()
        if fault is not None:
            self.controller.fail(fault)

    def _report(self) -> None:
        """Once a second: state, diagnostics, and what keeps the robot from following."""
        super()._report()
        controller, jitter = self.controller, self.loop.jitter() if self.loop else None
        refused = self.person.person.refused if controller.state == "PERSON" else ""
        text = refused or str(controller.blocked or "")
        if text:
            self.get_logger().warning(text)
        values: dict[str, object] = {
            "state": controller.state,
            "blocked": text,
            "dry_run": controller.dry_run,
        }
        if jitter is not None:
            values |= {"ticks": jitter.steps, "missed_ticks": jitter.missed}
            values |= {"period_error_p99_ms": f"{jitter.p99_ms:.3f}"}
        level = "warn" if text and LEVELS[controller.state] == "ok" else LEVELS[controller.state]
        status = messages.Status("teleop", level, str(controller), values)
        self._diagnostics.publish(messages.diagnostics([status], self._now_ns()))


def main(argv: list[str] | None = None) -> int:
    """Run the node until a signal; exit code 2 where it refuses to start."""
    return run_node(TeleopNode, argv)


if __name__ == "__main__":
    sys.exit(main())
