"""`tacit bench <name>`: measurements on this machine, and the generated data sets that they use.

The benches live in `tests/benches` of a checkout and are not shipped; each is a function
`main(argv) -> exit code` behind a string, so it costs nothing until it is run.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import tacit
from tacit.errors import ConfigError, did_you_mean

HELP = {"-h", "--help"}


class Bench(NamedTuple):
    """One measurement: where it lives, what it tells, and whether `tacit bench all` includes it."""

    target: str
    help: str
    in_all: bool = True


BENCHES: dict[str, Bench] = {
    "core": Bench("core:main", "kinematics, footprints, images, alignment, writing, limits"),
    "fk": Bench("fk:main", "forward kinematics: speed, and distance from the vendor's URDF"),
    "control": Bench("control_loop:main", "the command loop beside busy cores: gaps, skips, limits"),
    "load": Bench("loader:main", "reading episodes for training beside video of the same frames", False),
    "recorder": Bench("recorder:main", "recordings of raw and JPEG images: dropped ticks, CPU, memory, stop"),
    "kill": Bench("kill:main", "kill the recorder at its worst instants, count what is lost"),
    "faults": Bench("faults:main", "50 kinds of fault against policy and recorder, in virtual time", False),
    "dobot": Bench("dobot:main", "a Dobot arm through its wire: periods, disconnects, place_cube", False),
    "wire": Bench("wire:main", "a Dobot's wire: demonstrate by typing, train, act in the cell", False),
    "hostile": Bench("hostile:main", "files made to hurt: how long, how much memory, what is said"),
    "act_hsa": Bench(
        "act_hsa:main",
        "training steps of ACT: vision, touch, HSA, beside LeRobot's where there is one",
        False,
    ),
    "alignment": Bench("alignment:main", "alignment losses beside plain ones, with bars"),
    "vace_e": Bench("vace_e:main", "training steps of VACE, in batches or one by one", False),
    "expert": Bench("expert:main", "success of the scripted experts over seeds", False),
    "calibration-sim": Bench(
        "calibration_sim:main", "a cell calibrated through ROS: where its boxes land", False
    ),
    "calibration": Bench("calibration:main", "hand-eye against OpenCV and bundle adjustment", False),
    "calibration-real": Bench("calibration_real:main", "real arms, views left out, against OpenCV", False),
    "calibration-mistakes": Bench(
        "calibration_mistakes:main", "mistakes that hand-eye names, and accusations", False
    ),
}


def main(argv: list[str]) -> int:
    """Run one bench, or `all` that are quick; without a name list them."""
    if not argv or argv[0] in ("-h", "--help", "list"):
        _print_list()
        return 0
    if argv[0] == "all":
        chosen = [name for name, bench in BENCHES.items() if bench.in_all]
        return max(load_bench(name)(argv[1:]) for name in chosen)
    return load_bench(argv[0])(argv[1:])


def load_bench(name: str) -> Callable[[list[str]], int]:
    """Return the function of one bench.

    Raises:
        ConfigError: No such bench, or tacit was installed without its checkout.
    """
    if name not in BENCHES:
        raise ConfigError(f"tacit bench {name}: no such bench; {did_you_mean(name, BENCHES)}")
    return load_from_checkout(BENCHES[name].target, f"tacit bench {name}")


def simulate_alignment(argv: list[str]) -> int:
    """Run `tacit simulate alignment`: the set that the figures of alignment and progress are measured on."""
    return load_from_checkout("chores.dataset:main", "tacit simulate alignment")(argv)


def simulate_kinematics(argv: list[str]) -> int:
    """Run `tacit simulate kinematics`: a drawn set like robot kinematics of suturing, as MS-TCN's files."""
    return load_from_checkout("kinematics:main", "tacit simulate kinematics")(argv)


def simulate_vace_e(argv: list[str]) -> int:
    """Run `tacit simulate vace_e`: drawn clips, for trying VACE-E without any data."""
    return load_from_checkout("drawn_clips:main", "tacit simulate vace_e")(argv)


def simulate_videos(argv: list[str]) -> int:
    """Run `tacit simulate videos`: the experts of the simulated cell, filmed in the format of VACE-E."""
    return load_from_checkout("cell_videos:main", "tacit simulate videos")(argv)


def study_control(argv: list[str]) -> int:
    """Run `tacit study control`: VACE-E trained and measured on clips of a hand with true paths."""
    target = "control_options:read" if set(argv) & HELP else "control:main"  # the study itself imports torch
    return load_from_checkout(target, "tacit study control")(argv)


def load_from_checkout(target: str, command: str) -> Callable[[list[str]], int]:
    """Return `module:function` of `tests/benches`.

    Raises:
        ConfigError: tacit was installed without its checkout.
    """
    tests = find_tests()
    if tests is None:
        raise ConfigError(
            f"{command}: benches and their generated data sets are not part of the installed package; clone "
            f"the repository, install it with `pip install -e .` and run `{command}` there"
        )
    for folder in (tests, tests / "helpers"):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    module, _, function = target.partition(":")
    return getattr(importlib.import_module(f"benches.{module}"), function)


def find_tests() -> Path | None:
    """Return the `tests` folder of the checkout that tacit runs from, or that this is called in."""
    places = [*Path(tacit.__file__).parents, Path.cwd(), *Path.cwd().parents]
    return next((place / "tests" for place in places if (place / "tests" / "benches").is_dir()), None)


def _print_list() -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, bench in BENCHES.items():
        table.add_row(name, bench.help, "" if bench.in_all else "by name only")
    console = Console(highlight=False)
    console.print("usage: tacit bench <name>|all \\[options]     tacit bench <name> --help says more\n")
    console.print(table)
