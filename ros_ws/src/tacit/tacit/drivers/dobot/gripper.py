"""A gripper on the tool's RS485, spoken to by Modbus through the controller: one register in, one out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from tacit.drivers.dobot.dashboard import Dashboard
from tacit.drivers.dobot.protocol import DobotError, Reply

ANSWER_S = 0.5
"""How long a Modbus command may take [s]. The arm's commands wait behind it in the controller."""

SILENT_AFTER = 3
"""Failures in a row after which the master is made anew: one lost frame on a serial line means nothing."""


@dataclass(frozen=True)
class GripperSettings:
    """Where a gripper's numbers stand; the defaults are those of the DH-Robotics AG and PGE series.

    Attributes:
        slave, baud, parity: Of the serial line.
        target, position: Holding registers of the wanted and the measured opening.
        start: Register that is set to 1 after connecting (homing); -1 for none.
        low, high: Least and greatest value of the target register.
    """

    slave: int = 1
    baud: int = 115200
    parity: str = "N"
    target: int = 0x0103
    position: int = 0x0202
    start: int = 0x0100
    low: float = 0.0
    high: float = 1000.0


class Gripper:
    """Sends the newest target and reads the position, a step at a time.

    Args:
        settings: Of the gripper.
        hear: Told every measured position, in the gripper's own unit.
        log: Told in words what changes.

    Attributes:
        problem: Why the gripper is not heard; "" while it is.
    """

    def __init__(
        self, settings: GripperSettings, hear: Callable[[float], None], log: Callable[[str], None]
    ) -> None:
        self._settings, self._hear, self._log = settings, hear, log
        self._master: int | None = None
        self._target: int | None = None
        self._sent: int | None = None
        self._failures = 0
        self.problem = "not connected yet"

    def take(self, target: float) -> None:
        """Want an opening, in the gripper's own unit."""
        self._target = round(min(max(target, self._settings.low), self._settings.high))

    def forget(self) -> None:
        """The connection is gone, and with it the Modbus master."""
        self._master = self._sent = None
        self._target = None  # what was wanted before a break is not what is wanted after it
        self.problem = "the controller is not connected"

    def step(self, dashboard: Dashboard) -> None:
        """Send what is new, then read where it is."""
        try:
            if self._master is None:
                self._open(dashboard)
            if self._target is not None and self._target != self._sent:
                target = self._target
                self._ask(
                    dashboard, f"SetHoldRegs({self._master},{self._settings.target},1,{{{target}}},U16)"
                )
                self._sent = target
            reply = self._ask(dashboard, f"GetHoldRegs({self._master},{self._settings.position},1,U16)")
            values = reply.numbers()
            if len(values) != 1:
                raise DobotError(f"{reply.command} answered {{{reply.values}}}, expected one number")
        except DobotError as error:
            self._fail(dashboard, str(error))
            return
        if self.problem:
            self._log("the gripper answers")
        self._failures, self.problem = 0, ""
        self._hear(values[0])

    def _open(self, dashboard: Dashboard) -> None:
        s = self._settings
        reply = self._ask(dashboard, f"ModbusRTUCreate({s.slave},{s.baud},{s.parity},8,1)")
        self._master, self._sent = int(reply.numbers()[0]), None
        if s.start >= 0:
            self._ask(dashboard, f"SetHoldRegs({self._master},{s.start},1,{{1}},U16)")

    def _ask(self, dashboard: Dashboard, command: str) -> Reply:
        reply = dashboard.ask(command, ANSWER_S)
        if reply.problem:
            raise DobotError(reply.problem)
        return reply

    def _fail(self, dashboard: Dashboard, problem: str) -> None:
        self._failures += 1
        if self._failures < SILENT_AFTER:
            return
        if not self.problem or self._failures == SILENT_AFTER:
            self._log(f"the gripper does not answer: {problem}")
        self.problem, self._failures = problem, 0
        master, self._master = self._master, None
        if master is not None:
            with contextlib.suppress(DobotError):  # the connection may be what is gone
                dashboard.send(f"ModbusClose({master})")
