"""Drawn sets like robot kinematics of suturing: 38 numbers a frame, step kinds with repeats, several users.

Two arms with position (3), rotation matrix (9), velocity (3), angular velocity (3) and gripper (1) each.
Users differ in speed, habit and tremor; steps follow a Markov order, with pauses, second tries and steps
that only some take. A set is written as MS-TCN's text files, split by user.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tyro.conf import Positional

from tacit.config.arguments import NewFolder, Seed, parse_words

Floats = NDArray[np.float64]
HZ = 30.0
IDLE = "background"
ARM = 7  # position, rotation vector, gripper


@dataclass(frozen=True)
class Kind:
    """One kind of task.

    start, end: steps that every trial begins and ends with. cycle: steps of one round, each with the
    chance that it is done. rounds: how many. idle: whether frames before and after carry no step.
    """

    start: tuple[str, ...]
    cycle: tuple[tuple[str, float], ...]
    end: tuple[str, ...]
    rounds: int
    idle: bool = False

    @property
    def steps(self) -> tuple[str, ...]:
        """Names of all steps."""
        return tuple(dict.fromkeys((*self.start, *(name for name, _ in self.cycle), *self.end)))


KINDS: dict[str, Kind] = {
    "suturing": Kind(
        ("G1", "G5"),
        (("G2", 1.0), ("G8", 0.3), ("G2", 0.25), ("G3", 1.0), ("G6", 1.0), ("G9", 0.15), ("G4", 0.75)),
        ("G11",),
        rounds=4,
        idle=True,
    ),
    "knots": Kind(
        ("G1",), (("G12", 1.0), ("G13", 1.0), ("G14", 0.9), ("G13", 0.2), ("G15", 1.0)), ("G11",), rounds=3
    ),
    "needles": Kind(
        ("G1", "G5"),
        (("G2", 1.0), ("G8", 0.4), ("G3", 1.0), ("G6", 0.9), ("G4", 0.6), ("G10", 0.15)),
        ("G11",),
        rounds=4,
    ),
}


@dataclass(frozen=True)
class User:
    """Who works: speed, where the hands go by habit (2, 7), tremor and the chance of a second try."""

    speed: float
    habit: Floats
    tremor: float
    retry: float


@dataclass(frozen=True)
class Trial:
    """One trial: features (T, 38) f4 and the label of each frame."""

    name: str
    user: int
    features: NDArray[np.float32]
    labels: tuple[str, ...]


def make_set(kind: str, seed: int = 0, users: int = 8, trials: int = 5) -> list[Trial]:
    """Draw all trials of a kind of task; the same seed gives the same set."""
    rng = np.random.default_rng([seed, sorted(KINDS).index(kind)])
    task = KINDS[kind]
    moves = {name: _Move.draw(rng) for name in task.steps}
    people = [_user(rng) for _ in range(users)]
    return [
        _trial(f"{kind}_{chr(66 + u)}{t + 1:03d}", u, task, moves, person, rng)
        for u, person in enumerate(people)
        for t in range(trials)
    ]


def write_mstcn(trials: Sequence[Trial], folder: Path, held_out: Sequence[int] = (2, 6)) -> Path:
    """Write a set as MS-TCN's files; trials of the users `held_out` are for test."""
    for name in ("features", "groundTruth", "splits"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    labels = sorted({label for trial in trials for label in trial.labels})
    (folder / "mapping.txt").write_text("".join(f"{i} {name}\n" for i, name in enumerate(labels)))
    for trial in trials:
        np.save(folder / "features" / f"{trial.name}.npy", trial.features.T)
        (folder / "groundTruth" / f"{trial.name}.txt").write_text("\n".join(trial.labels) + "\n")
    for split, inside in (("train", False), ("test", True)):
        chosen = [trial.name for trial in trials if (trial.user in held_out) == inside]
        (folder / "splits" / f"{split}.split1.bundle").write_text("".join(f"{n}.txt\n" for n in chosen))
    return folder


@dataclass(frozen=True)
class _Move:
    """One kind of step: where each arm goes (2, 7), which of that shifts with the round, its length [s]."""

    target: Floats
    shift: Floats
    bow: Floats
    seconds: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> _Move:
        target = np.concatenate([rng.normal(0, 0.03, (2, 3)), rng.normal(0, 0.6, (2, 3))], axis=1)
        grip = rng.choice([-0.8, 0.2, 0.9], (2, 1))
        busy = rng.random(2) < 0.65
        busy[int(rng.integers(2))] = True
        weight = np.where(busy, 1.0, 0.1)[:, None]
        shift = np.zeros((2, ARM))
        shift[:, :3] = rng.normal(0, 0.008, (1, 3))
        bow = np.concatenate([rng.normal(0, 0.015, (2, 3)), rng.normal(0, 0.3, (2, 3))], axis=1)
        arms = np.concatenate([target, grip], axis=1)
        bows = np.concatenate([bow, np.zeros((2, 1))], axis=1)
        return cls(weight * arms, weight * shift, weight * bows, float(rng.uniform(1.5, 6.0)))


def _user(rng: np.random.Generator) -> User:
    habit = np.zeros((2, ARM))
    habit[:, :3], habit[:, 3:6] = rng.normal(0, 0.008, (2, 3)), rng.normal(0, 0.15, (2, 3))
    return User(
        float(np.exp(rng.normal(0, 0.3))), habit, float(rng.uniform(0.2, 1.0)), float(rng.uniform(0, 0.35))
    )


def _order(task: Kind, rng: np.random.Generator) -> list[tuple[str, int]]:
    """Draw the steps of one trial, each with its round."""
    steps = [(name, 0) for i, name in enumerate(task.start) if i == 0 or rng.random() < 0.7]
    for number in range(task.rounds):
        steps += [(name, number) for name, chance in task.cycle if rng.random() < chance]
    return [*steps, *((name, task.rounds) for name in task.end)]


def _trial(
    name: str, number: int, task: Kind, moves: dict[str, _Move], user: User, rng: np.random.Generator
) -> Trial:
    state = rng.normal(0, 0.01, (2, ARM))
    rows, labels = [], []
    if task.idle:
        rows.append(np.repeat(state[None], int(rng.integers(20, 90)), axis=0))
        labels += [IDLE] * len(rows[-1])
    for step, turn in _order(task, rng):
        move = moves[step]
        goal = move.target + turn * move.shift + user.habit + rng.normal(0, 0.1, (2, ARM)) * _SPREAD
        path = _path(state, goal, move, user, rng)
        rows.append(path)
        labels += [step] * len(path)
        state = path[-1]
    if task.idle:
        rows.append(np.repeat(state[None], int(rng.integers(10, 60)), axis=0))
        labels += [IDLE] * len(rows[-1])
    states = np.concatenate(rows)
    return Trial(name, number, _features(states, user, rng), tuple(labels))


_SPREAD = np.array([0.05, 0.05, 0.05, 1.0, 1.0, 1.0, 0.5])


def _path(start: Floats, goal: Floats, move: _Move, user: User, rng: np.random.Generator) -> Floats:
    """Go from start to goal (2, 7) in one to three strokes, with pauses and second tries: (L, 2, 7)."""
    seconds = move.seconds / user.speed * float(np.exp(rng.normal(0, 0.35)))
    strokes = [1.0]
    while rng.random() < user.retry and len(strokes) < 3:
        strokes = [*strokes[:-1], float(rng.uniform(0.5, 0.9)), float(rng.uniform(0.1, 0.4)), 1.0]
    parts, at = [], 0.0
    for to in strokes:
        count = max(6, round(HZ * seconds * (abs(to - at) + 0.15)))
        ease = _min_jerk(count)
        parts.append(at + (to - at) * ease)
        if rng.random() < 0.25:
            parts.append(np.full(int(rng.integers(5, 40)), to))
        at = to
    along = np.concatenate(parts)[:, None, None]
    return start + (goal - start) * along + move.bow * np.sin(np.pi * along)


def _min_jerk(count: int) -> Floats:
    t = np.arange(1, count + 1) / count
    return 10 * t**3 - 15 * t**4 + 6 * t**5


def _features(states: Floats, user: User, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return what the arms report (T, 38) of states (T, 2, 7)."""
    from scipy.spatial.transform import Rotation  # slow to import

    tremor = rng.normal(0, 1, (len(states), 2, 6))
    kernel = np.ones(9) / 9
    smooth = np.apply_along_axis(lambda column: np.convolve(column, kernel, "same"), 0, tremor)
    states = states.copy()
    states[..., :6] += user.tremor * smooth * np.array([0.002, 0.002, 0.002, 0.04, 0.04, 0.04])
    columns = []
    for arm in range(2):
        position, turn, grip = np.split(states[:, arm], [3, 6], axis=1)
        rotation = Rotation.from_rotvec(turn)
        velocity = np.gradient(position, axis=0) * HZ
        spin = np.gradient(turn, axis=0) * HZ
        columns += [position, rotation.as_matrix().reshape(-1, 9), velocity, spin, grip]
    values = np.concatenate(columns, axis=1)
    return (values + rng.normal(0, 0.01, values.shape) * values.std(0)).astype(np.float32)


@dataclass(frozen=True)
class Arguments:
    """Draw a set like robot kinematics of suturing, as MS-TCN's files, with two users of eight for test.

    Then: tacit train alignment --dataset OUT train.output=runs/OUT; tacit evaluate alignment runs/OUT
    """

    out: Positional[NewFolder]
    """Folder to write."""
    kind: Literal["suturing", "knots", "needles"] = "suturing"
    """Which steps there are, and in which order they come."""
    seed: Seed = 0
    """Another seed draws another set."""


def main(argv: Sequence[str]) -> int:
    """Run `tacit simulate kinematics`; returns the exit code."""
    arguments = parse_words(Arguments, argv, "tacit simulate kinematics")
    write_mstcn(make_set(arguments.kind, arguments.seed), arguments.out)
    return 0
