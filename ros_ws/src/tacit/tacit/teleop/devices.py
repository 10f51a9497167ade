"""Keys, game pads, space mice and twists: from what a device sends to a `Wish`, which goes stale in no time.

Every device needs a hand on it: a key that repeats, a button that is held, a stick that is pushed, a stream
that goes on. What ends, ends the motion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from tacit.geometry.transforms import FloatArray
from tacit.teleop.wish import Event, Frame, Wish

KEY_HELD_NS = 180_000_000
"""How long a key counts as held after it was last heard. Terminals repeat every 30 to 40 ms, a page on this
machine every 60; after the first press a terminal waits a quarter of a second or more: so does the arm."""

STREAM_HELD_NS = 200_000_000
"""The same for the messages of a pad or a twist: ten of a slow driver."""

DEAD_ZONE = 0.08
"""Part of a stick's way that means nothing: worn ones rest there."""

SPEEDS = (0.1, 0.2, 0.35, 0.6, 1.0)
"""Parts of the full speed that `+` and `-` go through."""
FIRST_SPEED = 3

UP, DOWN, LEFT, RIGHT, HIGHER, LOWER = "↑↓←→⇞⇟"
"""Arrows and page keys, as one character each."""

MOVES: dict[str, tuple[int, float]] = {
    UP: (0, 1.0),
    DOWN: (0, -1.0),
    LEFT: (1, 1.0),
    RIGHT: (1, -1.0),
    HIGHER: (2, 1.0),
    LOWER: (2, -1.0),
    "e": (2, 1.0),
    "c": (2, -1.0),
    "u": (3, 1.0),
    "o": (3, -1.0),
    "k": (4, 1.0),
    "p": (4, -1.0),
    "j": (5, 1.0),
    "l": (5, -1.0),
}
"""Key to the axis of the twist (x, y, z, about x, about y, about z) and its sign. No key of the recorder's
(`tacit record keys`) is among them, so that one keyboard does both."""
GRIPPER_KEYS = {"g": -1.0, "h": 1.0}
EVENT_KEYS = {"\r": Event.take, "\n": Event.take, "v": Event.back, ".": Event.stop, "z": Event.release}
FRAME_KEY, FASTER, SLOWER = "b", "+", "-"

HELP = (
    ("Enter", "take the robot"),
    ("arrows", "x and y of the frame"),
    ("PgUp PgDn", "up and down (or e, c)"),
    ("j l", "turn about z"),
    ("u o", "turn about x"),
    ("k p", "turn about y"),
    ("g h", "close, open the gripper"),
    ("+ -", "faster, slower"),
    ("b", "axes of the world, or of the tool"),
    ("v", "hand the robot back to the policy"),
    (".", "stop and hold"),
    ("z", "let go"),
)


class Keyboard:
    """Keys that are held, by when each was last heard.

    Attributes:
        frame: Axes of the arrows, as the frame key has chosen.
    """

    def __init__(self, frame: Frame = "world") -> None:
        self.frame: Frame = frame
        self._speed = FIRST_SPEED
        self._held_ns: dict[str, int] = {}

    @property
    def speed(self) -> float:
        """Part of the full speed that the keys ask for."""
        return SPEEDS[self._speed]

    def press(self, keys: str, now_ns: int) -> list[Event]:
        """Take the keys that are down now; "" says that none is. Returns the events among them."""
        if not keys:
            self._held_ns.clear()
        events = []
        for key in keys:
            fresh = now_ns - self._held_ns.get(key, -KEY_HELD_NS) >= KEY_HELD_NS
            self._held_ns[key] = now_ns
            if fresh and key in EVENT_KEYS:
                events.append(EVENT_KEYS[key])
            elif fresh:
                self._choose(key)
        return events

    def forget(self) -> None:
        """Count no key as held, until it is heard anew."""
        self._held_ns.clear()

    def _choose(self, key: str) -> None:
        if key == FRAME_KEY:
            self.frame = "tool" if self.frame == "world" else "world"
        elif key in (FASTER, SLOWER):
            self._speed = int(np.clip(self._speed + (1 if key == FASTER else -1), 0, len(SPEEDS) - 1))

    def wish(self, now_ns: int) -> Wish | None:
        """Return what the held keys ask for; None where none of them moves anything."""
        held = [key for key, at_ns in self._held_ns.copy().items() if now_ns - at_ns < KEY_HELD_NS]
        twist, gripper = np.zeros(6), 0.0
        for key in held:
            if key in MOVES:
                axis, sign = MOVES[key]
                twist[axis] += sign * self.speed
            gripper += GRIPPER_KEYS.get(key, 0.0)
        wish = Wish(np.clip(twist, -1, 1), float(np.clip(gripper, -1, 1)), self.frame)
        return None if wish.is_still else wish


@dataclass(frozen=True)
class PadMap:
    """Which axis and button of a `sensor_msgs/Joy` does what.

    Attributes:
        axes: For x, y, z, about x, y, z: index of the axis and its sign; None for none.
        deadman: Button that must be held for any motion; None where letting go of the device centres it.
        open, close: Buttons of the gripper.
        events: Button to what it asks for, when it is pressed.
        tool_frame: Button that is held for the axes of the tool.
    """

    axes: tuple[tuple[int, float] | None, ...]
    deadman: int | None
    open: int | None
    close: int | None
    events: Mapping[int, Event] = field(default_factory=dict)
    tool_frame: int | None = None


PADS: dict[str, PadMap] = {
    # joy_node with an Xbox-like pad: left stick x, y; right stick z, about z; cross pad about x, y.
    "gamepad": PadMap(
        axes=((1, 1.0), (0, 1.0), (4, 1.0), (6, -1.0), (7, 1.0), (3, 1.0)),
        deadman=4,
        open=1,
        close=0,
        events={7: Event.take, 6: Event.back, 3: Event.stop, 8: Event.release},
        tool_frame=5,
    ),
    # spacenav_node: six axes as they are, two buttons. It rests at 0 by its springs: no other dead man.
    # The buttons are the gripper's; the robot is taken and given back at the desk, or by the services.
    "spacemouse": PadMap(
        axes=((0, 1.0), (1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0), (5, 1.0)), deadman=None, open=1, close=0
    ),
}


class Pad:
    """A game pad or a space mouse.

    Args:
        layout: What its axes and buttons do.
    """

    def __init__(self, layout: PadMap) -> None:
        self._layout = layout
        self._axes: Sequence[float] = ()
        self._buttons: Sequence[int] = ()
        self._heard_ns: int | None = None

    def hear(self, axes: Sequence[float], buttons: Sequence[int], now_ns: int) -> list[Event]:
        """Take a message; returns what the buttons pressed since the one before ask for."""
        before, is_first = self._buttons, self._heard_ns is None
        self._axes, self._buttons, self._heard_ns = tuple(axes), tuple(buttons), now_ns
        if is_first:  # a button that is down at the start was not pressed for us
            return []
        pressed = [i for i in self._layout.events if self._is_down(i) and not (i < len(before) and before[i])]
        return [self._layout.events[i] for i in pressed]

    def wish(self, now_ns: int) -> Wish | None:
        """Return what sticks and buttons ask for; None where it is silent or no hand is on it."""
        if self._heard_ns is None or now_ns - self._heard_ns >= STREAM_HELD_NS:
            return None
        if self._layout.deadman is not None and not self._is_down(self._layout.deadman):
            return None
        twist = np.array([self._axis(entry) for entry in self._layout.axes])
        gripper = float(self._is_down(self._layout.open)) - float(self._is_down(self._layout.close))
        frame: Frame | None = "tool" if self._is_down(self._layout.tool_frame) else None
        wish = Wish(twist, gripper, frame)
        return None if wish.is_still else wish

    def _is_down(self, button: int | None) -> bool:
        return button is not None and button < len(self._buttons) and bool(self._buttons[button])

    def _axis(self, entry: tuple[int, float] | None) -> float:
        if entry is None or entry[0] >= len(self._axes):
            return 0.0
        value = float(self._axes[entry[0]])
        if not np.isfinite(value) or abs(value) <= DEAD_ZONE:
            return 0.0
        past = (min(abs(value), 1.0) - DEAD_ZONE) / (1 - DEAD_ZONE)
        return entry[1] * float(np.copysign(past, value))


class TwistStream:
    """Twists of another program or device, in m/s and rad/s.

    Args:
        full_speed: What counts as 1 (6,) [m/s, rad/s].
    """

    def __init__(self, full_speed: FloatArray) -> None:
        self._full_speed = full_speed
        self._wish: Wish | None = None
        self._heard_ns = 0

    def hear(self, twist: ArrayLike, frame: Frame, now_ns: int) -> bool:
        """Take a twist (6,) in the axes of `frame`; False where it is not finite: then it counts as silence.

        Faster ones are slowed down as a whole, so that they keep their direction.
        """
        values = np.asarray(twist, dtype=np.float64)
        if values.shape != (6,) or not np.isfinite(values).all():
            self._wish = None
            return False
        part = values / self._full_speed
        self._wish, self._heard_ns = Wish(part / max(1.0, float(np.abs(part).max())), frame=frame), now_ns
        return True

    def wish(self, now_ns: int) -> Wish | None:
        """Return the newest twist; None where it is 0 or old."""
        if self._wish is None or self._wish.is_still or now_ns - self._heard_ns >= STREAM_HELD_NS:
            return None
        return self._wish
