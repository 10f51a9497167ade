"""`tacit bench calibration-mistakes`: how often `handeye` names what is wrong, and accuses what is right.

The whole procedure is run on synthetic robots, views left out included, and what it says is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple

import numpy as np
import tyro

from benches.calibration_scenes import CAMERA, CASES, Pictures, make_scene
from tacit.config.arguments import NewFile, parse_words
from tacit.errors import CalibrationError
from tacit.geometry.rotations import rotation_from_vector
from tacit.geometry.transforms import from_rotation, invert
from tacit_calibration.commands.place import say, track
from tacit_calibration.estimation.degeneracy import Mounting
from tacit_calibration.estimation.unsure import TYPICAL
from tacit_calibration.hand_eye import HandEyeData
from tacit_calibration.held_out import solve_by_held_out

LEFT_OUT = "left out"
LINK_TURN_RAD = 2.0
"""How far a joint turns between the poses of a link before it and the flange."""


@dataclass(frozen=True)
class Args:
    """Make the usual mistakes on synthetic robots, and count how often they are named."""

    seeds: Annotated[int, tyro.conf.arg(help="Robots per mistake and case.")] = 20
    clean: Annotated[
        int | None, tyro.conf.arg(help="Robots per case without a mistake; as --seeds if left out.")
    ] = None
    kinds: Annotated[tuple[str, ...], tyro.conf.arg(help="Which mistakes; all if left out.")] = ()
    json: Annotated[NewFile | None, tyro.conf.arg(help="Write the numbers to this file too.")] = None


class Kind(NamedTuple):
    """A mistake: what it does to pictures, what a user must read, in which cases of `calibration_scenes`."""

    made: Callable[[Pictures, np.random.Generator], Pictures]
    said: str
    cases: str


class Count(NamedTuple):
    """How many of how many robots were named, and what was read instead where one was not."""

    kind: str
    case: str
    named: int
    total: int
    instead: str


def _resized(factor: float) -> Kind:
    def made(taken: Pictures, _: np.random.Generator) -> Pictures:
        return taken._replace(views=[replace(v, points_m=factor * v.points_m) for v in taken.views])

    return Kind(made, "squares are", "BCE" if abs(factor - 1) > 0.009 else "BE")


def _shuffled(taken: Pictures, rng: np.random.Generator) -> Pictures:
    order = rng.permutation(len(taken.views))
    return taken._replace(flange_poses=taken.flange_poses[order])


def _link_before(taken: Pictures, rng: np.random.Generator) -> Pictures:
    turns = rng.uniform(-LINK_TURN_RAD, LINK_TURN_RAD, len(taken.views))
    back = from_rotation(rotation_from_vector(turns[:, None] * np.array([0.0, 0.0, 1.0])))
    return taken._replace(flange_poses=taken.flange_poses @ back)


KINDS = {
    "smooth arm error, joints known": Kind(lambda taken, _: taken, "arm's model is off", "G"),
    "smooth arm error, poses alone": Kind(
        lambda taken, _: taken._replace(arm_errors=None), "arm's model is off", "G"
    ),
    "shuffled poses": Kind(_shuffled, "other pictures", "BCE"),
    "inverted poses": Kind(
        lambda taken, _: taken._replace(flange_poses=invert(taken.flange_poses)), "swapped frames", "BCE"
    ),
    "poses of the link before the flange": Kind(_link_before, "wrong flange frame", "BCE"),
    "squares 4 % too small": _resized(0.96),
    "squares 2 % too large": _resized(1.02),
    "squares 1 % too small": _resized(0.99),
    "squares 1 % too large": _resized(1.01),
    "squares .5 % too large": _resized(1.005),
}
BELOW_NOISE = {"": (" .5 %",), "C": (" .5 %", " 1 %")}
"""Sizes that need not be named: in case C, with noise of .5 mm, 15 views tell squares to .25 %."""
CLEAN = "nothing wrong"
CLEAN_CASES = "BCEF"
ACCUSATIONS = "squares are", "arm's model is off", "takes the robot as exact", LEFT_OUT, "refused"


def main(argv: list[str]) -> int:
    """Count and print; 0 when every mistake of a percent and more is named always, and nothing else."""
    args = parse_words(Args, argv, "tacit bench calibration-mistakes")
    unknown = [name for name in args.kinds if name not in (*KINDS, CLEAN)]
    if unknown:
        raise CalibrationError(f"--kinds: no mistake {unknown[0]!r}; there are {', '.join((*KINDS, CLEAN))}")
    counts = []
    for name, kind in KINDS.items():
        if name in (args.kinds or KINDS):
            counts += [_counted(name, kind, case, args.seeds) for case in kind.cases]
    if CLEAN in (args.kinds or (CLEAN,)):
        clean = args.seeds if args.clean is None else args.clean
        counts += [_accused(case, clean) for case in CLEAN_CASES]
    if args.json is not None:
        args.json.write_text(json.dumps([count._asdict() for count in counts], indent=2))
    return 0 if all(_as_wanted(count) for count in counts) else 1


def _as_wanted(count: Count) -> bool:
    if count.kind == CLEAN:
        return count.named == 0
    below_noise = any(size in count.kind for size in BELOW_NOISE.get(count.case, BELOW_NOISE[""]))
    return count.named == count.total or below_noise


def _counted(name: str, kind: Kind, case: str, seeds: int) -> Count:
    said = []
    for seed in track(range(seeds), f"{name}, case {case}"):
        taken, mounting = _mounted(make_scene(CASES[case], seed).taken, seed)
        said.append(heard(kind.made(taken, np.random.default_rng(1000 + seed)), mounting))
    return _said(Count(name, case, *_split(said, lambda line: kind.said in line)))


def _accused(case: str, seeds: int) -> Count:
    said = []
    for seed in track(range(seeds), f"{CLEAN}, case {case}"):
        said.append(heard(*_mounted(make_scene(CASES[case], seed).taken, seed)))
    found = [line for line in said if any(word in line for word in ACCUSATIONS)]
    return _said(Count(CLEAN, case, len(found), seeds, found[0] if found else ""))


def _said(count: Count) -> Count:
    instead = f"; else: {count.instead[:160] or 'nothing'}" if _odd(count) else ""
    say(f"{count.kind}, case {count.case}: named {count.named} of {count.total}{instead}")
    return count


def _odd(count: Count) -> bool:
    return count.named > 0 if count.kind == CLEAN else count.named < count.total


def _split(said: Sequence[str], is_named: Callable[[str], bool]) -> tuple[int, int, str]:
    others = [line for line in said if not is_named(line)]
    return len(said) - len(others), len(said), others[0] if others else ""


def _mounted(taken: Pictures, seed: int) -> tuple[Pictures, Mounting]:
    """Return every other robot carrying the board instead of the camera, unless its joints are known."""
    if seed % 2 == 0 or taken.arm_errors is not None:
        return taken, "eye_in_hand"
    return taken._replace(flange_poses=invert(taken.flange_poses)), "eye_to_hand"


def heard(taken: Pictures, mounting: Mounting) -> str:
    """Return what a user reads of a calibration, apart from its numbers."""
    data = HandEyeData(taken.flange_poses, taken.views, CAMERA, mounting, TYPICAL)
    try:
        kept = solve_by_held_out(data, taken.arm_errors)
    except CalibrationError as problem:
        return f"refused: {problem}"
    dropped = [f"{name} {LEFT_OUT}" for name in kept.result.dropped]
    return " | ".join([*kept.contradictions, *kept.warnings, *dropped])
