"""A planar two-link arm that does six chores: where hand and objects are at every frame, and the truth.

Pure numpy, no images (`synthetic_images`). The truth is the state of the task, not a clock: it holds
while a video is paused or an object does not follow the hand, and falls when a video runs backwards or
an object slips. Legend: T frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ACTIONS = ("pick", "place", "press", "turn", "wipe", "stow")
IDLE = "background"
FRAMES = {"pick": 20.0, "place": 20.0, "press": 13.0, "turn": 18.0, "wipe": 23.0, "stow": 13.0}
"""Mean length of each action."""
ONSET = {"pick": 0.75, "press": 0.6, "turn": 0.4, "wipe": 0.3}
"""Phase at which the object begins to follow, for the actions that may fail."""
PICKED, RELEASED = 0.75, 0.8
BASE, UPPER, LOWER = np.array([0.5, 0.02]), 0.5, 0.45
KNOB_RADIUS = 0.07
WIPE_SIZE = np.array([0.26, 0.14])
LEVER = 0.12
"""How far above an object the hand approaches and leaves."""


@dataclass(frozen=True)
class Sites:
    """Where things are in one video, in units of the image (x right, y up)."""

    cube: Array
    bin: Array
    button: Array
    knob: Array
    board: Array
    stow: Array

    @classmethod
    def draw(cls, rng: np.random.Generator, jitter: float) -> Sites:
        """Place everything near its usual site."""
        usual = ((0.2, 0.38), (0.85, 0.35), (0.15, 0.68), (0.8, 0.72), (0.48, 0.62), (0.5, 0.28))
        return cls(*(np.array(site) + rng.uniform(-jitter, jitter, 2) for site in usual))


@dataclass(frozen=True)
class Move:
    """A stretch of motion along the path of one action, or idling.

    Args:
        action: One of ACTIONS, or IDLE.
        phase: Where the hand is on its path at each frame (L,) in 0..1.
        truth: Progress of the step at each frame (L,) in 0..1.
        rank: Steps of the task done before this one.
        works: Whether the object follows (L,).
        slips: The cube falls back to where it was at first, after the last frame.
    """

    action: str
    phase: Array
    truth: Array
    rank: int
    works: NDArray[np.bool_]
    slips: bool = False


@dataclass(frozen=True)
class Course:
    """Everything that happens in one video, per frame (T, ...)."""

    hand: Array
    grip: Array
    cube: Array
    knob: Array
    lit: Array
    wiped: Array
    step: NDArray[np.int64]
    action: NDArray[np.int64]
    action_progress: Array
    video_progress: Array

    def __len__(self) -> int:
        return len(self.hand)

    def at(self, frames: np.ndarray) -> Course:
        """Return the course made of `frames` (N,) of this one, in any order."""
        return Course(*(getattr(self, field.name)[frames] for field in fields(self)))


def play(moves: Sequence[Move], sites: Sites, num_steps: int) -> Course:
    """Carry out `moves` one after the other.

    Args:
        moves: In order.
        sites: Where things are.
        num_steps: Steps A of the whole task; video progress is (rank + truth) / A, held while idling.
    """
    world = _World(sites)
    rows: dict[str, list[object]] = {field.name: [] for field in fields(Course)}
    progress = 0.0
    for number, move in enumerate(moves):
        start = world.hand.copy()
        for phase, truth, works in zip(move.phase, move.truth, move.works, strict=True):
            world.advance(move.action, float(phase), start, bool(works))
            is_action = move.action != IDLE
            progress = (move.rank + truth) / num_steps if is_action else progress
            for name in ("hand", "grip", "cube", "knob", "lit", "wiped"):
                rows[name].append(np.copy(getattr(world, name)))
            rows["step"].append(number)
            rows["action"].append(ACTIONS.index(move.action) if is_action else -1)
            rows["action_progress"].append(truth if is_action else 0.0)
            rows["video_progress"].append(progress)
        world.finish(move)
        progress = move.rank / num_steps - 1 / num_steps if move.slips else progress
    return Course(**{name: np.asarray(values) for name, values in rows.items()})  # type: ignore[arg-type]


def joints(hand: Array) -> tuple[Array, Array]:
    """Return the joint angles (T, 2) [rad] and the elbow (T, 2) of the arm that reaches `hand` (T, 2)."""
    reach = hand - BASE
    distance = np.clip(np.linalg.norm(reach, axis=-1), abs(UPPER - LOWER) + 1e-6, UPPER + LOWER - 1e-6)
    bend = np.arccos((distance**2 - UPPER**2 - LOWER**2) / (2 * UPPER * LOWER))
    shoulder = np.arctan2(reach[..., 1], reach[..., 0]) - np.arctan2(
        LOWER * np.sin(bend), UPPER + LOWER * np.cos(bend)
    )
    elbow = BASE + UPPER * np.stack([np.cos(shoulder), np.sin(shoulder)], axis=-1)
    return np.stack([shoulder, bend], axis=-1), elbow


class _World:
    """Hand and objects while the moves run."""

    def __init__(self, sites: Sites) -> None:
        self.sites = sites
        self.hand = sites.stow.copy()
        self.cube = sites.cube.copy()
        self.grip, self.knob, self.lit, self.wiped = 1.0, 0.0, 0.0, 0.0
        self._knob_before = 0.0
        self._holds = False

    def advance(self, action: str, phase: float, start: Array, works: bool) -> None:
        """Move to one phase of an action that began at `start`."""
        self.hand = PATHS[action](phase, start, self.sites)
        if action == "pick":
            self.grip = 1 - _ramp(phase, 0.6, PICKED)
            self._holds = works and phase >= PICKED
        elif action == "place":
            self.grip = _ramp(phase, 0.7, RELEASED)
            self._holds = self._holds and phase < RELEASED
        if self._holds:
            self.cube = self.hand.copy()
        if works and action == "press":
            self.lit = max(self.lit, _ramp(phase, ONSET["press"], 0.75))
        if works and action == "turn":
            self.knob = self._knob_before + np.pi * _ramp(phase, ONSET["turn"], 1)
        if works and action == "wipe":
            self.wiped = max(self.wiped, _ramp(phase, ONSET["wipe"], 1))

    def finish(self, move: Move) -> None:
        """Close a move."""
        self._knob_before = self.knob
        if move.slips:
            self.cube, self._holds, self.grip = self.sites.cube.copy(), False, 1.0


def _pick(phase: float, start: Array, sites: Sites) -> Array:
    above = sites.cube + (0, LEVER)
    return _through(phase, (0, 0.45, 0.6, PICKED, 1), (start, above, sites.cube, sites.cube, above))


def _place(phase: float, start: Array, sites: Sites) -> Array:
    above = sites.bin + (0, LEVER)
    return _through(phase, (0, 0.5, 0.7, RELEASED, 1), (start, above, sites.bin, sites.bin, above))


def _press(phase: float, start: Array, sites: Sites) -> Array:
    above = sites.button + (LEVER, 0)
    return _through(phase, (0, 0.5, 0.75, 1), (start, above, sites.button, above))


def _turn(phase: float, start: Array, sites: Sites) -> Array:
    begin = ONSET["turn"]
    angle = np.pi * _ramp(phase, begin, 1)
    rim = sites.knob + KNOB_RADIUS * np.array([np.cos(angle), np.sin(angle)])
    return rim if phase >= begin else _through(phase, (0, begin), (start, rim))


def _wipe(phase: float, start: Array, sites: Sites) -> Array:
    corner, size = sites.board - WIPE_SIZE / 2, WIPE_SIZE
    strokes = [corner + size * np.array([x, y]) for x, y in ((0, 0), (0.33, 1), (0.67, 0), (1, 1))]
    return _through(phase, (0, ONSET["wipe"], 0.53, 0.77, 1), (start, *strokes))


def _stow(phase: float, start: Array, sites: Sites) -> Array:
    return _through(phase, (0, 1), (start, sites.stow))


def _idle(phase: float, start: Array, sites: Sites) -> Array:
    angle = 2 * np.pi * phase
    return start + 0.05 * np.array([np.sin(angle), (1 - np.cos(angle)) / 2])


PATHS: Mapping[str, Callable[[float, Array, Sites], Array]] = {
    "pick": _pick,
    "place": _place,
    "press": _press,
    "turn": _turn,
    "wipe": _wipe,
    "stow": _stow,
    IDLE: _idle,
}


def _through(phase: float, times: Sequence[float], points: Sequence[Array]) -> Array:
    """Interpolate linearly between points that are passed at `times`."""
    table = np.asarray(points)
    return np.array([np.interp(phase, times, table[:, 0]), np.interp(phase, times, table[:, 1])])


def _ramp(phase: float, begin: float, end: float) -> float:
    return float(np.clip((phase - begin) / (end - begin), 0, 1))
