"""What travels: commands and their replies as text, feedback as 1440 bytes, and both in words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tacit.errors import TacitError
from tacit.geometry.transforms import FloatArray

DASHBOARD_PORT, FEEDBACK_PORT = 29999, 30004
NUM_JOINTS = 6
PACKET_BYTES = 1440
TEST_VALUE = 0x0123456789ABCDEF
"""Stands in every packet at byte 48: a stream that has slipped is noticed."""

MODES = {
    1: "initialising",
    2: "a brake is open",
    3: "powered off",
    4: "disabled",
    5: "enabled",
    6: "led by hand (drag mode)",
    7: "running",
    8: "jogging",
    9: "in alarm",
    10: "paused",
    11: "stopped by a collision",
}
READY_MODES = (5, 7)
"""Modes in which ServoJ moves the arm."""
ALARM, COLLISION, DISABLED, ENABLED, RUNNING = 9, 11, 4, 5, 7

ERRORS = {
    -1: "the command was received and failed",
    -2: "in alarm: clear it first",
    -3: "in emergency stop: release it and clear the alarm",
    -4: "powered off",
    -5: "a script is running or paused: stop it first",
    -10000: "no such command: is this controller of protocol V4?",
    -20000: "wrong number of parameters",
}
PARAMETER_ERRORS = {3: "type of a required", 4: "range of a required", 5: "type of an optional"}
PARAMETER_ERRORS |= {6: "range of an optional"}
COLLISION_ALARM = 117

_REPLY = re.compile(r"\s*(-?\d+),\{(.*)\},(\w+)\((.*)\)\s*", re.DOTALL)

FEEDBACK = np.dtype(
    {
        "names": [
            "size",
            "mode",
            "stamp_ms",
            "run_ms",
            "test",
            "speed_percent",
            "q_target",
            "q",
            "qd",
            "enabled",
            "dragged",
            "in_error",
            "robot_type",
            "collision",
        ],
        "formats": ["<u2", *["<u8"] * 4, "<f8", *["(6,)<f8"] * 3, *["u1"] * 5],
        "offsets": [0, 24, 32, 40, 48, 64, 192, 432, 480, 1026, 1027, 1029, 1031, 1038],
        "itemsize": PACKET_BYTES,
    }
)
"""The part of a packet that is read here: degrees, little-endian."""


class DobotError(TacitError):
    """The controller refused a command, cannot be reached, or says what we do not understand."""


@dataclass(frozen=True)
class Reply:
    """What the controller answers: `error` 0 is well; `values` as text between the braces."""

    error: int
    values: str
    command: str

    @property
    def problem(self) -> str:
        """What is wrong, in words; "" if nothing is."""
        return "" if self.error == 0 else f"{self.command}: {error_text(self.error)}"

    def numbers(self) -> list[float]:
        """Return the values as numbers.

        Raises:
            DobotError: They are none.
        """
        try:
            return [float(part) for part in self.values.split(",") if part.strip()]
        except ValueError:
            raise DobotError(f"{self.command} answered {{{self.values}}}, expected numbers") from None


class Feedback(NamedTuple):
    """One packet: q (6,) [rad], qd (6,) [rad/s], mode, speed 0 to 1, uptime [ms], alarm, collision."""

    q: FloatArray
    qd: FloatArray
    mode: int
    speed: float
    run_ms: int
    in_error: bool
    collision: bool


def parse_reply(text: str) -> Reply:
    """Read `ErrorID,{values},Name(arguments)`, without the semicolon.

    Raises:
        DobotError: It is not of that form.
    """
    match = _REPLY.fullmatch(text)
    if match is None:
        raise DobotError(f"the controller answered {text[:80]!r}, expected `ErrorID,{{...}},Name(...)`")
    error, values, name, arguments = match.groups()
    return Reply(int(error), values, f"{name}({arguments})")


def error_text(error: int) -> str:
    """Return an error code in words."""
    kind, index = divmod(-error, 10000)
    if error in ERRORS:
        return f"{ERRORS[error]} ({error})"
    if kind in PARAMETER_ERRORS and index:
        return f"{PARAMETER_ERRORS[kind]} parameter is wrong, number {index} ({error})"
    return f"error {error}"


def alarm_text(alarms: list[int]) -> str:
    """Return alarms of `GetErrorID` in words; "" for none."""
    named = {COLLISION_ALARM: "collision detected (117)"}
    return ", ".join(named.get(alarm, f"alarm {alarm} (see DobotStudio)") for alarm in alarms)


def parse_alarms(values: str) -> list[int]:
    """Read `[[id,...],[id],...]` of `GetErrorID`."""
    return [int(number) for number in re.findall(r"-?\d+", values)]


def parse_feedback(packet: bytes) -> Feedback:
    """Read one packet of 1440 bytes.

    Raises:
        DobotError: Another size, another test value, or angles that are no numbers.
    """
    if len(packet) != PACKET_BYTES:
        raise DobotError(f"a feedback packet of {len(packet)} bytes, expected {PACKET_BYTES}")
    row: NDArray[np.void] = np.frombuffer(packet, dtype=FEEDBACK)[0]
    if int(row["test"]) != TEST_VALUE or int(row["size"]) != PACKET_BYTES:
        raise DobotError("a feedback packet without its test value: another protocol, or the stream slipped")
    q, qd = np.deg2rad(row["q"]), np.deg2rad(row["qd"])
    if not (np.isfinite(q).all() and np.isfinite(qd).all()):
        raise DobotError("feedback with joints that are not numbers")
    speed = float(np.clip(row["speed_percent"] / 100, 0.0, 1.0))
    alarm = bool(row["in_error"]) or int(row["mode"]) == ALARM
    return Feedback(q, qd, int(row["mode"]), speed, int(row["run_ms"]), alarm, bool(row["collision"]))


def servo_j(q: FloatArray, seconds: float, ahead: float, gain: float) -> str:
    """Return the command to be at `q` (6,) [rad] in `seconds`."""
    angles = ",".join(f"{angle:.4f}" for angle in np.rad2deg(q))
    return f"ServoJ({angles},t={seconds:.4g},aheadtime={ahead:g},gain={gain:g})"
