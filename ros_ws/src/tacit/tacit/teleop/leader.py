"""A leader arm: a small arm of the same build that a person moves; the robot follows it joint by joint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tacit.errors import ConfigError, did_you_mean
from tacit.geometry.transforms import FloatArray
from tacit.rig import Rig

LEADER_HELD_NS = 200_000_000
"""A leader that is silent for longer has been let go of, or unplugged."""

TAKE_UP_PER_S = 0.15
"""How fast the difference that was left when the leader was engaged is taken up [rad/s, m/s]."""


@dataclass(frozen=True, eq=False)
class LeaderMap:
    """Which joint of the leader moves which of ours: ours = scale * theirs + offset.

    Attributes:
        names: Joints of the leader (K,), as it names them.
        index: Places in the rig's state (K,); the others keep still.
        scale: Mirrored joints have -1, a gripper's handle its metres per radian (K,).
        offset: Ours where theirs is 0 (K,) [rad, m].
    """

    names: tuple[str, ...]
    index: FloatArray
    scale: FloatArray
    offset: FloatArray

    @classmethod
    def parse(cls, rig: Rig, text: str) -> LeaderMap:
        """Read `joint1=lead1*-1+0.5, gripper=handle*0.04`; an empty text maps every state name to itself.

        Raises:
            ConfigError: Not such a text, or a joint that the rig does not have.
        """
        words = [word.strip() for word in text.split(",") if word.strip()] or list(rig.state_names)
        ours, names, scales, offsets = [], [], [], []
        for word in words:
            own, _, theirs = word.partition("=")
            name, scale, offset = _parts(word, theirs or own)
            if own.strip() not in rig.state_names:
                raise ConfigError(f"leader: {word!r}: {did_you_mean(own.strip(), rig.state_names)}")
            ours.append(own.strip())
            names.append(name)
            scales.append(scale)
            offsets.append(offset)
        if len(set(ours)) < len(ours):
            raise ConfigError(f"leader: {text!r} gives one joint of ours two leaders")
        return cls(tuple(names), np.array(rig.index_of(ours)), np.array(scales), np.array(offsets))

    def ours(self, theirs: FloatArray) -> FloatArray:
        """Return our joints (K,) for the leader's (K,)."""
        return self.scale * theirs + self.offset


class Leader:
    """Follows a leader arm, once it has been brought into the robot's pose.

    Args:
        rig: Names and limits.
        leads: The joints.
        tolerance: Largest difference of each joint at which the leader may take over [rad, m].
    """

    def __init__(self, rig: Rig, leads: LeaderMap, tolerance: float) -> None:
        self.map, self._tolerance = leads, tolerance
        self._names = [rig.state_names[i] for i in leads.index]
        self._ours: FloatArray | None = None
        self._heard_ns = 0
        self._offset: FloatArray | None = None

    def hear(self, theirs: Sequence[float], now_ns: int) -> bool:
        """Take the leader's joints (K,) in the order of the map; False where they are not finite."""
        values = np.asarray(theirs, dtype=np.float64)
        if not np.isfinite(values).all():
            self._ours = None
            return False
        self._ours, self._heard_ns = self.map.ours(values), now_ns
        return True

    def is_heard(self, now_ns: int) -> bool:
        """Whether the leader is there now."""
        return self._ours is not None and now_ns - self._heard_ns < LEADER_HELD_NS

    def disengage(self) -> None:
        """Follow no more, until the poses match anew."""
        self._offset = None

    def mismatch(self, position: FloatArray, now_ns: int) -> str:
        """Return what keeps the leader from taking over at the state `position` (S,); "" where it may."""
        if not self.is_heard(now_ns) or self._ours is None:
            return ""
        apart = position[self.map.index] - self._ours
        worst = int(np.argmax(np.abs(apart)))
        if abs(apart[worst]) <= self._tolerance:
            return ""
        return (
            f"the leader's {self.map.names[worst]} is {apart[worst]:+.2f} away from {self._names[worst]}, "
            f"allowed {self._tolerance:.2f}; bring the leader into the robot's pose"
        )

    def target(self, position: FloatArray, dt: float, now_ns: int) -> FloatArray | None:
        """Return the state (S,) that the leader asks for; None while it is silent or elsewhere.

        Args:
            position: The last command (S,).
            dt: Time to the next one [s].
            now_ns: The present, on the clock of `hear`.
        """
        if not self.is_heard(now_ns) or self._ours is None:
            self.disengage()
            return None
        if self._offset is None:
            if self.mismatch(position, now_ns):
                return None
            self._offset = position[self.map.index] - self._ours
        self._offset = self._offset - np.clip(self._offset, -TAKE_UP_PER_S * dt, TAKE_UP_PER_S * dt)
        target = position.copy()
        target[self.map.index] = self._ours + self._offset
        return target


def _parts(word: str, text: str) -> tuple[str, float, float]:
    """Return name, scale and offset of `name*scale+offset`; a joint's name may hold a dash, but no star."""
    name, star, rest = text.strip().partition("*")
    try:
        if not star:
            return name.strip(), 1.0, 0.0
        cut = max(rest.rfind("+", 1), rest.rfind("-", 1))
        scale, offset = (rest, "0") if cut < 0 or rest[cut - 1] in "eE" else (rest[:cut], rest[cut:])
        return name.strip(), float(scale), float(offset)
    except ValueError:
        raise ConfigError(
            f"leader: {word!r}, expected ours=theirs, or ours=theirs*scale+offset, separated by commas"
        ) from None
