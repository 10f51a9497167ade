"""`tacit bench <name>`: measurements on this machine, each a function `main(argv) -> exit code`.

A table of strings, as in `tacit.cli`, so a bench of another package costs nothing until it is run.
"""

from __future__ import annotations

from typing import NamedTuple

from tacit.errors import ConfigError, did_you_mean


class Bench(NamedTuple):
    """One measurement: where it lives, what it tells, and whether `tacit bench all` includes it."""

    target: str
    help: str
    in_all: bool = True


BENCHES: dict[str, Bench] = {
    "core": Bench("tacit.bench_core:main", "kinematics, footprints, images, alignment, writing, limits"),
    "fk": Bench("tacit.bench_fk:main", "forward kinematics: speed, and distance from the vendor's URDF"),
    "recorder": Bench("tacit_ros.bench:recorder", "a minute of recording: dropped ticks, CPU, skew"),
    "kill": Bench("tacit_ros.bench:kill", "kill the recorder at random instants, count what is lost"),
    "alignment": Bench("tacit_learning.alignment.bench:main", "alignment losses beside plain ones, bars"),
    "vace_e": Bench(
        "tacit_learning.vace_e.bench:main", "training steps of VACE, batched or one by one", False
    ),
    "expert": Bench("tacit_sim.cli:bench_expert", "success of the scripted experts over seeds", False),
    "calibration-sim": Bench(
        "tacit_sim.bench_calibration:main",
        "a cell calibrated through ROS: where its boxes land",
        False,
    ),
    "calibration": Bench(
        "tacit_calibration.bench:main", "hand-eye against OpenCV and bundle adjustment over seeds", False
    ),
}


def main(argv: list[str]) -> int:
    """Run one bench, or `all` that are quick; without a name list them."""
    from tacit.cli import load_target

    if not argv or argv[0] in ("-h", "--help", "list"):
        _print_list()
        return 0
    if argv[0] == "all":
        chosen = [name for name, bench in BENCHES.items() if bench.in_all]
        return max(load_target(BENCHES[name].target)(argv[1:]) for name in chosen)
    if argv[0] not in BENCHES:
        raise ConfigError(f"tacit bench {argv[0]}: no such bench; {did_you_mean(argv[0], BENCHES)}")
    return load_target(BENCHES[argv[0]].target)(argv[1:])


def _print_list() -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, bench in BENCHES.items():
        table.add_row(name, bench.help, "" if bench.in_all else "by name only")
    console = Console(highlight=False)
    console.print("usage: tacit bench <name>|all \\[options]     tacit bench <name> --help says more\n")
    console.print(table)
