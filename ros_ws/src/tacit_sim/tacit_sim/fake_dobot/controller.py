"""What the controller knows, answers and says of itself. No socket here: time goes on as it is told."""

from __future__ import annotations

import math
import re
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tacit.geometry.transforms import FloatArray
from tacit_sim.fake_dobot.plant import Plant

PACKET_S = 0.008
PACKET_BYTES = 1440
NOVA2 = 101
FASTEST = np.deg2rad(135.0)
"""Of every joint [rad/s]: ServoJ cannot go faster, however it is called."""

_CALL = re.compile(r"\s*(\w+)\((.*)\)\s*")
_OPTIONS = {"t": (0.004, 3600.0), "aheadtime": (20.0, 100.0), "gain": (200.0, 1000.0)}


@dataclass
class Faults:
    """What may be wrong with a controller; set by a test while it runs.

    Attributes:
        latency_s: Between a command and its answer.
        gripper_silent: The gripper does not answer: Modbus commands fail.
        is_mute: Feedback stops, the connection stays.
        repeats: The last feedback is sent again and again.
        is_zero: Feedback says zero for all joints.
        clock_offset_s: Its time of day is off.
        is_offline: Nobody may connect.
    """

    latency_s: float = 0.001
    gripper_silent: bool = False
    is_mute: bool = False
    repeats: bool = False
    clock_offset_s: float = 0.0
    is_offline: bool = False


@dataclass
class _Motion:
    """A target of ServoJ and when it is to be reached."""

    q: FloatArray
    until: float


@dataclass
class _State:
    """What the controller knows of its arm."""

    is_enabled: bool = False
    is_powered: bool = True
    is_dragged: bool = False
    is_stopped: bool = False
    collided: bool = False
    speed: int = 100
    alarms: list[int] = field(default_factory=list)
    masters: set[int] = field(default_factory=set)
    motion: _Motion | None = None


class FakeController:
    """One controller with its arm.

    Args:
        plant: The arm behind it.

    Attributes:
        faults: What is wrong with it.
        log: (time [s], text) of every command with its answer, and of every event.
        servo: (time [s], target (6,) [rad]) of every ServoJ that was accepted.
    """

    def __init__(self, plant: Plant) -> None:
        self._plant, self._state, self.faults = plant, _State(), Faults()
        self.log: list[tuple[float, str]] = []
        self.servo: list[tuple[float, FloatArray]] = []
        self._lock = threading.RLock()
        self._began = time.monotonic()
        self._num_commands = 0
        self._packet = b""

    def collide(self) -> None:
        """Let the arm meet something: it stops itself."""
        self._set("collision", collided=True, alarms=[117], motion=None)

    def alarm(self, number: int) -> None:
        """Raise an alarm."""
        self._set(f"alarm {number}", alarms=[number], motion=None)

    def disable(self) -> None:
        """Disable the arm, as its button does."""
        self._set("disabled", is_enabled=False, motion=None)

    def drag(self, dragged: bool = True) -> None:
        """Let somebody lead the arm by hand."""
        self._set("dragged" if dragged else "not dragged", is_dragged=dragged, motion=None)

    @property
    def mode(self) -> int:
        """RobotMode, by rank."""
        s = self._state
        ranked = (
            (s.collided, 11),
            (bool(s.alarms) or s.is_stopped, 9),
            (not s.is_powered, 3),
            (s.is_dragged, 6),
            (not s.is_enabled, 4),
            (s.motion is not None, 7),
        )
        return next((mode for holds, mode in ranked if holds), 5)

    def joints(self) -> FloatArray:
        """Return where the arm is (6,) [rad]."""
        with self._lock:
            return self._plant.joints()[0].copy()

    def note(self, text: str) -> None:
        """Write into the log."""
        self.log.append((time.monotonic() - self._began, text))

    def write_log(self, path: Path) -> None:
        """Write the log to a file, a line for each command and event."""
        path.write_text("".join(f"{when:.3f} {text}\n" for when, text in self.log), encoding="utf-8")

    def forget_client(self) -> None:
        """A dashboard connection has ended, and its Modbus masters with it."""
        with self._lock:
            self._state.masters = set()

    def advance(self) -> bytes:
        """Let one period pass; return the packet that is then sent."""
        with self._lock:
            self._move()
            if not self.faults.repeats or not self._packet:
                self._packet = self._feedback()
            return self._packet

    def _set(self, event: str, **values: object) -> None:
        with self._lock:
            for name, value in values.items():
                setattr(self._state, name, value)
            self.note(event)

    def answer(self, command: str) -> str:
        """Return the reply to one command, without its semicolon."""
        match = _CALL.fullmatch(command)
        name, arguments = match.groups() if match else (command, "")
        with self._lock:
            handler = self._handlers().get(name.lower())
            error, values = handler(_split(arguments)) if handler else (-10000, "")
            reply = f"{error},{{{values}}},{command.strip()}"
            self.note(reply)
            return reply

    def _handlers(self) -> dict[str, Callable[[list[str]], tuple[int, str]]]:
        return {
            "enablerobot": self._enable,
            "disablerobot": lambda _: self._do(is_enabled=False, motion=None),
            "clearerror": self._clear,
            "geterrorid": lambda _: (0, f"[{self._state.alarms},[],[],[],[],[],[]]".replace(" ", "")),
            "robotmode": lambda _: (0, str(self.mode)),
            "emergencystop": self._emergency,
            "speedfactor": self._speed,
            "servoj": self._servo,
            "stop": lambda _: self._do(motion=None),
            "modbusrtucreate": self._create,
            "modbusclose": lambda a: self._do(masters=self._state.masters - {int(a[0])}),
            "setholdregs": self._set_register,
            "getholdregs": self._get_register,
        }

    def _do(self, **values: object) -> tuple[int, str]:
        for name, value in values.items():
            setattr(self._state, name, value)
        return 0, ""

    def _blocked(self) -> int:
        """The error code that any motion meets now; 0 for none."""
        s = self._state
        if s.is_stopped:
            return -3
        if s.alarms or s.collided:
            return -2
        if not s.is_powered:
            return -4
        return 0

    def _enable(self, arguments: list[str]) -> tuple[int, str]:
        if len(arguments) not in (0, 1, 4, 5):
            return -20000, ""
        if error := self._blocked():
            return error, ""
        return self._do(is_enabled=True)

    def _clear(self, _: list[str]) -> tuple[int, str]:
        if self._state.is_stopped:
            return -3, ""
        return self._do(alarms=[], collided=False, is_enabled=self._state.is_enabled)

    def _emergency(self, arguments: list[str]) -> tuple[int, str]:
        if arguments not in (["0"], ["1"]):
            return (-40001 if len(arguments) == 1 else -20000), ""
        if arguments == ["1"]:
            return self._do(is_stopped=True, is_enabled=False, alarms=[118], motion=None)
        return self._do(is_stopped=False)

    def _speed(self, arguments: list[str]) -> tuple[int, str]:
        if len(arguments) != 1 or not arguments[0].isdigit():
            return (-30001 if arguments else -20000), ""
        if not 1 <= int(arguments[0]) <= 100:
            return -40001, ""
        return self._do(speed=int(arguments[0]))

    def _servo(self, arguments: list[str]) -> tuple[int, str]:
        if len(arguments) < 6:
            return -20000, ""
        try:
            q = np.deg2rad([float(text) for text in arguments[:6]])
        except ValueError:
            return -30001, ""
        if not np.isfinite(q).all() or np.abs(q).max() > 2 * math.pi:
            return -40001, ""
        options = {"t": 0.1}
        error = _read_options(arguments[6:], options) or self._blocked()
        if error or self.mode not in (5, 7):
            return error or -1, ""
        now = time.monotonic()
        self._state.motion = _Motion(q, now + options["t"])
        self.servo.append((now, q))
        self._num_commands += 1
        return 0, str(self._num_commands)

    def _create(self, arguments: list[str]) -> tuple[int, str]:
        if self.faults.gripper_silent or len(self._state.masters) >= 5:
            return -1, ""
        index = next(i for i in range(5) if i not in self._state.masters)
        self._state.masters = self._state.masters | {index}
        return 0, str(index)

    def _set_register(self, arguments: list[str]) -> tuple[int, str]:
        if error := self._modbus(arguments):
            return error, ""
        if int(arguments[1]) == 0x0103:
            self._plant.grip(float(arguments[3].strip("{}")))
        return 0, ""

    def _get_register(self, arguments: list[str]) -> tuple[int, str]:
        if error := self._modbus(arguments):
            return error, ""
        return 0, f"{round(self._plant.opening())}"

    def _modbus(self, arguments: list[str]) -> int:
        if len(arguments) < 3:
            return -20000
        return -1 if self.faults.gripper_silent or int(arguments[0]) not in self._state.masters else 0

    def _move(self) -> None:
        """One period on the way to the target, at limited speed."""
        motion = self._state.motion
        if motion is not None:
            q = self._plant.joints()[0]
            left = max(motion.until - time.monotonic(), PACKET_S)
            rate = np.clip((motion.q - q) / left, -FASTEST, FASTEST)
            self._plant.follow(q + rate * PACKET_S)
            if np.abs(motion.q - q).max() < 1e-6 and motion.until < time.monotonic():
                self._state.motion = None
        self._plant.step(PACKET_S)

    def _feedback(self) -> bytes:
        q, qd = self._plant.joints()
        now_ms = int(1e3 * (time.time() + self.faults.clock_offset_s))
        packet = bytearray(PACKET_BYTES)
        struct.pack_into("<H", packet, 0, PACKET_BYTES)
        struct.pack_into("<Q", packet, 24, self.mode)
        struct.pack_into("<QQQ", packet, 32, now_ms, int(1e3 * (time.monotonic() - self._began)), 0)
        struct.pack_into("<Q", packet, 48, 0x0123456789ABCDEF)
        struct.pack_into("<d", packet, 64, float(self._state.speed))
        struct.pack_into("<6d", packet, 432, *np.rad2deg(q))
        struct.pack_into("<6d", packet, 480, *np.rad2deg(qd))
        packet[1026] = self._state.is_enabled
        packet[1027] = self._state.is_dragged
        packet[1029] = bool(self._state.alarms)
        packet[1031] = NOVA2
        packet[1038] = self._state.collided
        return bytes(packet)


def _split(arguments: str) -> list[str]:
    """Split at commas that stand in no brace."""
    return [part.strip() for part in re.split(r",(?![^{]*\})", arguments) if part.strip()]


def _read_options(arguments: list[str], options: dict[str, float]) -> int:
    """Read `name=number` into `options`; return the error code, 0 for none."""
    for index, argument in enumerate(arguments, start=1):
        name, _, text = argument.partition("=")
        low, high = _OPTIONS.get(name, (math.inf, -math.inf))
        try:
            options[name] = float(text)
        except ValueError:
            return -50000 - index
        if not low <= options[name] <= high:
            return -60000 - index
    return 0
