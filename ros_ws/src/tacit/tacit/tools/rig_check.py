"""`tacit rig check`: everything that is wrong in a rig file, by line; with --live, held against its robot."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from tacit.config.arguments import Seconds, parse_words
from tacit.rig import load_rig
from tacit.rig.review import review

LIVE = ("tacit_ros.run.rig_live", "held_against")  # a string: the core imports no ROS


@dataclass(frozen=True)
class Options:
    """Say what is wrong in a rig file, by line, each with what to write instead.

    Degrees, millimetres, misspelt topics and types, what stands twice, files not found, placeholders.
    Exit code 1 when there is something. Whether lenses and mounts are plausible: `tacit calibrate check`;
    rates and clocks of the robot: `tacit doctor --rig`.
    """

    rig: Annotated[str, tyro.conf.Positional]
    """Shipped rig, or a rig.yaml."""
    live: bool = False
    """Listen to the running robot as well: are the joints named and ordered as it names them?"""
    seconds: Seconds = 3.0
    """With --live: how long to listen [s]."""


def main(argv: list[str]) -> int:
    """Run `tacit rig check`; 0 nothing is wrong, 1 something is."""
    options = parse_words(Options, argv, "tacit rig check")
    found = [str(remark) for remark in review(options.rig)]
    if options.live:
        module, function = LIVE
        found += getattr(importlib.import_module(module), function)(load_rig(options.rig), options.seconds)
    sys.stdout.writelines(f"{line}\n" for line in found)
    sys.stdout.write(
        f"{options.rig}: {len(found)} to mend\n" if found else f"{options.rig}: nothing is wrong\n"
    )
    return 1 if found else 0
