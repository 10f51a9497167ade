"""A person at a keyboard who places the cube: looks where tool and part are, types what a terminal sends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tacit_sim.tasks import find_task

ARROWS = {"x+": "\x1b[A", "x-": "\x1b[B", "y+": "\x1b[D", "y-": "\x1b[C", "z+": "\x1b[5~", "z-": "\x1b[6~"}
HOVER_M, NEAR_M, NEAR_RAD = 0.13, 0.007, 0.06
"""A tap of a key moves the tool by 11 mm and 0.07 rad: nearer than half of that nobody gets."""
SETTLE_S, GRIP_S = 0.35, 1.0


@dataclass(frozen=True)
class Seen:
    """What the person sees: poses (4, 4) of tool and part in the world."""

    tool: np.ndarray
    part: np.ndarray


class TypingPerson:
    """Types at each look; `text` is "" while it waits for the arm to stand."""

    def __init__(self, settle_s: float = SETTLE_S) -> None:
        self._settle_s = settle_s
        goal = find_task("place_cube").goal_xy
        self._steps = [
            ("over", None, HOVER_M), ("over", None, 0.027), ("type", "g", GRIP_S), ("over", "here", HOVER_M),
            ("over", goal, HOVER_M), ("over", goal, 0.027), ("type", "h", GRIP_S), ("over", "here", HOVER_M),
        ]  # fmt: skip
        self._waits_until, self._since = 0.0, 0.0
        self._here: np.ndarray | None = None

    @property
    def is_done(self) -> bool:
        return not self._steps

    def text(self, seen: Seen, now_s: float) -> str:
        """Return what is typed now."""
        if self.is_done or now_s < self._waits_until:
            return ""
        kind, what, value = self._steps[0]
        typed = what if kind == "type" else self._towards(seen, what, value)
        if kind == "type":
            self._since = self._since or now_s
            if now_s - self._since >= value:
                typed = ""
        if not typed:
            self._next(now_s)
        return str(typed)

    def _next(self, now_s: float) -> None:
        """Look again when the arm stands: only then is a step done."""
        if self._waits_until + self._settle_s >= now_s and self._waits_until > 0:
            self._steps.pop(0)
            self._here, self._since = None, 0.0
        self._waits_until = now_s + self._settle_s

    def _towards(self, seen: Seen, place: object, height: float) -> str:
        if place == "here":
            self._here = seen.tool[:2, 3].copy() if self._here is None else self._here
            xy = self._here
        else:
            xy = seen.part[:2, 3] if place is None else np.array(place)
        away = np.append(xy, height) - seen.tool[:3, 3]
        if abs(away[0]) + abs(away[1]) > 0.03 and seen.tool[2, 3] < HOVER_M - 0.02 and place is not None:
            away[2] = max(away[2], 0.0)
        typed = "".join(
            ARROWS[f"{axis}{'+' if away[i] > 0 else '-'}"]
            for i, axis in enumerate("xyz")
            if abs(away[i]) > NEAR_M
        )
        return typed + (self._turn(seen) if place is None else "")

    @staticmethod
    def _turn(seen: Seen) -> str:
        yaw = [np.arctan2(T[1, 0], T[0, 0]) for T in (seen.tool, seen.part)]
        away = (yaw[1] - yaw[0] + np.pi / 4) % (np.pi / 2) - np.pi / 4  # a cube is alike from four sides
        return "" if abs(away) <= NEAR_RAD else "j" if away > 0 else "l"
