"""Which chores, in which order, how fast, and what goes wrong: the course of one video and its events.

Ordinary videos re-order, repeat and leave out steps and idle in between. Special kinds each break one
thing that a clock would not notice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from benches.chores.world import FRAMES, IDLE, ONSET, Course, Move, Sites, play
from tacit.config import Config
from tacit.episode.steps import runs
from tacit_learning.data.annotations import Event, Segment

STALL, REGRESSION = "stall", "regression"
SPECIAL = ("paused", "rewound", "truncated", "wrong_order", "object_stays", "dropped")
FREE = ("press", "turn", "wipe")
"""Actions that may come at any time, again, or not at all."""


class ScriptConfig(Config):
    """How videos vary. Probabilities per video, but `idle` per step.

    A step lasts its mean length divided by a speed between `slowest` and `fastest` and by the pace of the
    video, which is within a factor `pace`; inside it the hand is ahead or behind by up to
    `uneven` / (2 pi) of the step. Pauses, failing objects and rewinds last
    `event_s`; a rewind loses at least `rewind_drop` of the task.
    """

    fps: float = 10.0
    reorder: float = 0.8
    repeat: float = 0.35
    omit: float = 0.3
    idle: float = 0.3
    idle_frames: tuple[int, int] = (3, 12)
    slowest: float = 0.55
    fastest: float = 1.9
    pace: float = 1.25
    uneven: float = 0.3
    jitter: float = 0.02
    event_s: tuple[float, float] = (5.0, 8.0)
    rewind_drop: float = 0.3


@dataclass(frozen=True)
class Script:
    """What happens in one video: the course with its truth, the steps as annotated, and the events."""

    course: Course
    segments: tuple[Segment, ...]
    events: tuple[Event, ...]
    num_steps: int
    sites: Sites


def draw_script(kind: str, config: ScriptConfig, rng: np.random.Generator) -> Script:
    """Draw one video.

    Args:
        kind: "ordinary" or one of `SPECIAL`.
        config: How videos vary.
        rng: The only source of chance.
    """
    sites = Sites.draw(rng, config.jitter)
    order = _draw_order(config, rng)
    if kind == "wrong_order":
        order.remove("place")
        order.insert(int(rng.integers(0, order.index("pick") + 1)), "place")
    moves = _moves(order, config, rng)
    if kind == "object_stays":
        moves = _let_object_stay(moves, config, rng)
    elif kind == "dropped":
        moves = _let_cube_slip(moves, config, rng)
    num_steps = 1 + max(move.rank for move in moves)
    course = play(moves, sites, num_steps)
    course = course.at(_frames(kind, course, config, rng))
    return Script(course, _segments(course, moves), _events(kind, course), num_steps, sites)


def _draw_order(config: ScriptConfig, rng: np.random.Generator) -> list[str]:
    """Draw the steps of one video; pick comes before place, stow is last."""
    blocks: list[tuple[str, ...]] = [("pick", "place"), *((name,) for name in FREE)]
    if rng.random() < config.omit:
        blocks.remove((str(rng.choice(FREE)),))
    if rng.random() < config.reorder:
        blocks = [blocks[i] for i in rng.permutation(len(blocks))]
    if rng.random() < config.repeat:
        blocks.insert(int(rng.integers(1, len(blocks) + 1)), (str(rng.choice(FREE)),))
    return [*(name for block in blocks for name in block), "stow"]


def _moves(order: list[str], config: ScriptConfig, rng: np.random.Generator) -> list[Move]:
    moves = []
    pace = _spread_evenly(1 / config.pace, config.pace, rng)
    for rank, action in enumerate(order):
        if rng.random() < config.idle:
            moves.append(_idle(int(rng.integers(*config.idle_frames)), rank))
        speed = pace * _spread_evenly(config.slowest, config.fastest, rng)
        length = max(3, round(FRAMES[action] / speed))
        truth = np.arange(1, length + 1) / length
        uneven = rng.uniform(-config.uneven, config.uneven)
        phase = truth + uneven * np.sin(2 * np.pi * truth) / (2 * np.pi)
        moves.append(Move(action, phase, truth, rank, np.ones(length, bool)))
    return [*moves, _idle(int(rng.integers(*config.idle_frames)), len(order) - 1)]


def _idle(length: int, rank: int) -> Move:
    phase = np.arange(1, length + 1) / length
    return Move(IDLE, phase, np.zeros(length), rank, np.ones(length, bool))


def _let_object_stay(moves: list[Move], config: ScriptConfig, rng: np.random.Generator) -> list[Move]:
    """Make the hand go on without the object in one step, again and again, before it succeeds."""
    names = [move.action for move in moves]
    number = int(rng.choice([i for i, name in enumerate(names) if name in ONSET and name not in names[:i]]))
    move = moves[number]
    onset = int(np.argmax(move.phase >= ONSET[move.action]))
    there = move.phase[onset:]
    frames = _event_frames(config, rng)
    loops = 1 + frames // (2 * len(there))
    in_vain = np.tile(np.concatenate([there, there[::-1]]), loops)
    held = np.full(len(in_vain), move.truth[onset - 1] if onset else 0.0)
    works = np.concatenate([np.ones(onset, bool), np.zeros(len(in_vain), bool), np.ones(len(there), bool)])
    phase = np.concatenate([move.phase[:onset], in_vain, there])
    truth = np.concatenate([move.truth[:onset], held, move.truth[onset:]])
    failing = replace(move, phase=phase, truth=truth, works=works)
    return [*moves[:number], failing, *moves[number + 1 :]]


def _let_cube_slip(moves: list[Move], config: ScriptConfig, rng: np.random.Generator) -> list[Move]:
    """Let the cube fall back while it is carried; it is then picked and placed again."""
    number = next(i for i, move in enumerate(moves) if move.action == "place")
    place = moves[number]
    pick = next(move for move in moves if move.action == "pick")
    cut = max(2, int(rng.uniform(0.6, 0.8) * np.argmax(place.phase >= 0.7)))
    failed = replace(
        place, phase=place.phase[:cut], truth=place.truth[:cut], works=place.works[:cut], slips=True
    )
    pause = _idle(int(rng.integers(*config.idle_frames)), place.rank)
    again = replace(pick, rank=place.rank - 1)
    return [*moves[:number], failed, pause, again, *moves[number:]]


def _frames(kind: str, course: Course, config: ScriptConfig, rng: np.random.Generator) -> np.ndarray:
    """Return which frames of the course the video shows, in order."""
    total = len(course)
    every = np.arange(total)
    if kind == "truncated":
        return every[: int(rng.uniform(0.3, 0.8) * total)]
    if kind == "paused":
        at = int(rng.uniform(0.15, 0.8) * total)
        return np.concatenate([every[:at], np.full(_event_frames(config, rng), at), every[at:]])
    if kind == "rewound":
        far = np.flatnonzero(course.video_progress >= config.rewind_drop + 0.1)
        turn = int(rng.choice(far[: max(1, int(0.9 * len(far)))]))
        lost = config.rewind_drop + rng.uniform(0, 0.1)
        reached = np.maximum(course.video_progress[turn] - lost, 0)
        back = int(np.searchsorted(course.video_progress, reached))
        return np.concatenate([every[: turn + 1], every[back:turn][::-1], every[back + 1 :]])
    return every


def _segments(course: Course, moves: list[Move]) -> tuple[Segment, ...]:
    return tuple(Segment(moves[number].action, first, last) for number, first, last in runs(course.step))


def _events(kind: str, course: Course) -> tuple[Event, ...]:
    """Read from the truth where the task stood still or fell back: a whole span per event.

    A stall lasts while progress holds during a step; a regression from the fall until the loss is made
    good. Idling between steps is neither.
    """
    progress = course.video_progress
    highest = np.maximum.accumulate(progress)
    fallen = progress < highest - 1e-9
    events = [Event(kind, 0, len(course) - 1)] if kind in ("truncated", "wrong_order") else []
    if kind in ("rewound", "dropped"):
        events += [Event(REGRESSION, first, last) for value, first, last in runs(fallen.astype(int)) if value]
    if kind in ("paused", "object_stays"):
        still = np.diff(progress, prepend=-1.0) <= 1e-9
        longest = max(runs(still.astype(int)), key=lambda run: run[0] * (run[2] - run[1]))
        events.append(Event(STALL, longest[1], longest[2]))
    return tuple(events)


def _spread_evenly(low: float, high: float, rng: np.random.Generator) -> float:
    """Draw a factor between two bounds, as often above their geometric mean as below."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _event_frames(config: ScriptConfig, rng: np.random.Generator) -> int:
    return round(config.fps * rng.uniform(*config.event_s))
