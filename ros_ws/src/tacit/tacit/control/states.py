"""What the policy node may do now: IDLE, RUNNING, HOMING, HOLD (with a reason), ESTOP (latched).

Pure and small enough to read whole; `controller` moves it, the node's services ask it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from tacit.control.safety import Fault

State = Literal["IDLE", "RUNNING", "HOMING", "HOLD", "ESTOP"]
MOVING: tuple[State, ...] = ("RUNNING", "HOMING")


class Answer(NamedTuple):
    """What a service replies."""

    success: bool
    message: str


CLOSED = Answer(False, "the node is ending; start it anew")


class PolicyMachine:
    """The states of a policy node.

    Faults and `hold` end RUNNING and HOMING only: a fault in IDLE changes nothing. `estop` works
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
            return Answer(False, f"already {self.state.lower()}")
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

    def arrive(self) -> None:
        """HOMING to IDLE."""
        if self.state == "HOMING":
            self.state = "IDLE"

    def hold(self, fault: Fault) -> Answer:
        """RUNNING or HOMING to HOLD, or to ESTOP for a fault that latches; elsewhere the state and the first
        reason stay."""
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
