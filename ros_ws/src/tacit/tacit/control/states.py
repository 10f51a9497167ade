"""What may move the robot now: IDLE, RUNNING, HOMING, PERSON, HOLD (with a reason), ESTOP (latched).

Pure and small enough to read whole; `controller` moves it, the node's services ask it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from tacit.control.safety import Fault

State = Literal["IDLE", "RUNNING", "HOMING", "PERSON", "HOLD", "ESTOP"]
MOVING: tuple[State, ...] = ("RUNNING", "HOMING", "PERSON")

LEVELS = {"IDLE": "ok", "RUNNING": "ok", "HOMING": "ok", "PERSON": "ok", "HOLD": "warn", "ESTOP": "error"}
"""How a state stands in diagnostics."""


class Answer(NamedTuple):
    """What a service replies."""

    success: bool
    message: str


CLOSED = Answer(False, "the node is ending; start it anew")


class PolicyMachine:
    """The states of a node that moves the robot: by a policy, or as a person says.

    Faults and `hold` end RUNNING, HOMING and PERSON only: a fault in IDLE changes nothing. `estop` works
    from everywhere and stays until `reset`. The stop is software: it is not safety-rated.
    """

    def __init__(self) -> None:
        self.state: State = "IDLE"
        self.fault: Fault | None = None
        self.is_closed = False

    def __str__(self) -> str:
        return self.state if self.fault is None else f"{self.state} ({self.fault})"

    def close(self, fault: Fault) -> None:
        """Hold what moves, for good: the node ends, and nothing begins any more."""
        self.is_closed = True
        self.hold(fault)

    def start(self) -> Answer:
        """IDLE or HOLD to RUNNING."""
        if self.is_closed:
            return CLOSED
        if self.state == "ESTOP":
            return Answer(False, "emergency stop is latched; call ~/reset first")
        if self.state in MOVING:
            hint = "call ~/hand_back" if self.state == "PERSON" else "wait, or call ~/hold"
            return Answer(False, f"already {self.state.lower()}; {hint}")
        self.state, self.fault = "RUNNING", None
        return Answer(True, "running")

    def home(self) -> Answer:
        """IDLE or HOLD to HOMING."""
        if self.is_closed:
            return CLOSED
        if self.state == "ESTOP":
            return Answer(False, "emergency stop is latched; call ~/reset first")
        if self.state in MOVING:
            return Answer(False, f"{self.state.lower()}; call ~/hold first")
        self.state, self.fault = "HOMING", None
        return Answer(True, "homing")

    def take_over(self) -> Answer:
        """Anything but ESTOP to PERSON."""
        if self.is_closed:
            return CLOSED
        if self.state == "ESTOP":
            return Answer(False, "emergency stop is latched; call ~/reset first")
        if self.state == "PERSON":
            return Answer(False, "a person has the robot already")
        self.state, self.fault = "PERSON", None
        return Answer(True, "the robot is yours")

    def hand_back(self) -> Answer:
        """PERSON to RUNNING."""
        if self.is_closed:
            return CLOSED
        if self.state != "PERSON":
            return Answer(False, f"{self.state.lower()}: nobody has taken over; call ~/start")
        self.state = "RUNNING"
        return Answer(True, "running")

    def release(self) -> Answer:
        """PERSON to IDLE."""
        if self.state != "PERSON":
            return Answer(False, f"{self.state.lower()}: nobody has taken over")
        self.state = "IDLE"
        return Answer(True, "idle")

    def arrive(self) -> None:
        """HOMING to IDLE."""
        if self.state == "HOMING":
            self.state = "IDLE"

    def hold(self, fault: Fault) -> Answer:
        """RUNNING, HOMING or PERSON to HOLD, or ESTOP for a fault that latches; elsewhere nothing."""
        if self.state not in MOVING:
            return Answer(self.state != "IDLE", f"not running: {self}")
        self.state, self.fault = "ESTOP" if fault.latches else "HOLD", fault
        return Answer(True, str(self))

    def estop(self, fault: Fault | None = None) -> Answer:
        """Anything to ESTOP, for `fault` or because somebody called it; the first reason stays."""
        if self.state != "ESTOP":
            self.state, self.fault = "ESTOP", fault or Fault("estop", "emergency stop was called")
        return Answer(True, "stopped; ~/reset releases the latch")

    def reset(self) -> Answer:
        """HOLD or ESTOP to IDLE; a running policy must be held first."""
        if self.is_closed:
            return CLOSED
        if self.state in MOVING:
            return Answer(False, f"{self.state.lower()}; call ~/hold first")
        self.state, self.fault = "IDLE", None
        return Answer(True, "idle")
