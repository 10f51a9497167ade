"""`tacit rig new`: a rig file after a shipped one, from a data set, or from the topics of a running robot."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from tacit.config.arguments import NewFile, Seconds, parse_words
from tacit.convert.registry import draft_of
from tacit.errors import RigError
from tacit.rig import Rig
from tacit.rig.template import Wishes, new_from, write_new

LIVE = ("tacit_ros.run.rig_live", "draft_live")  # a string: the core imports no ROS
HEAD = """\
# Drafted from {source}. Numbers are in the units of what was heard or read.
# To fill in: topics and types, limits of the joints, and what `unmeasured` names. Take a part out of
# `unmeasured` once its kinematics, lens or pose are right: `tacit calibrate` measures them.
"""
Pairs = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Begin a rig file: after a shipped rig, from a data set of others, or from a running robot.

    Example: tacit rig new my_robot --from ur5e --cameras wrist=/cam_w/color/image_raw
    top=/cam_t/color/image_raw@world --gels left=/gel_l/image_raw right=/gel_r/image_raw
    """

    name: Annotated[str, tyro.conf.Positional] = ""
    """Name of the rig; the file is <name>.yaml where --out is left out."""
    from_: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """Shipped rig to begin with, such as ur5e or nova2; its URDF is copied too."""
    from_dataset: Path | None = None
    """A data set that `tacit convert` reads: joints, limits seen, cameras, rates."""
    from_ros: bool = False
    """Listen to the running robot: topics, types, rates, camera_info and robot_description."""
    seconds: Seconds = 5.0
    """With --from-ros: how long to listen [s]."""
    out: NewFile | None = None
    """File to write; it must not exist yet."""
    cameras: Pairs = ()
    """With --from: NAME=TOPIC of all cameras; TOPIC@world for one that stands in the cell."""
    gels: Pairs = ()
    """With --from: NAME=TOPIC of all tactile sensors."""
    serials: Pairs = ()
    """With --from: NAME=SERIAL of tactile sensors."""
    topics: Pairs = ()
    """With --from: NAME=TOPIC of streams and commands of that rig, such as joints=/my/joint_states."""


def main(argv: Sequence[str]) -> int:
    """Run `tacit rig new`; returns 0."""
    options = parse_words(Options, argv, "tacit rig new")
    if sum((options.from_ is not None, options.from_dataset is not None, options.from_ros)) != 1:
        raise RigError("tacit rig new: give one of --from RIG, --from-dataset FOLDER, --from-ros")
    if options.out is None and not options.name:
        raise RigError("tacit rig new: give the name of the rig, such as my_robot, or --out FILE.yaml")
    out = options.out or Path(f"{options.name}.yaml")
    if out.suffix not in (".yaml", ".yml"):
        raise RigError(f"{out}: expected a name that ends in .yaml")
    if out.exists():
        raise RigError(f"{out}: exists and is never overwritten; give another name or move it away")
    text, files = _made(options, options.name or out.stem)
    rig, written = write_new(out, text, files)
    _report(written, rig)
    return 0


def _made(options: Options, name: str) -> tuple[str, dict[str, str]]:
    """Return the text of the rig, and the other files it needs."""
    if options.from_ is not None:
        wishes = Wishes(*(_pairs(f"--{flag}", getattr(options, flag)) for flag in _PAIRED))
        return new_from(options.from_, name, wishes)
    for flag in _PAIRED:
        if getattr(options, flag):
            raise RigError(f"--{flag}: belongs to --from RIG; edit the drafted file instead")
    if options.from_ros:
        module, function = LIVE
        rig, files = getattr(importlib.import_module(module), function)(name, options.seconds)
        return HEAD.format(source="a running robot") + rig, files
    assert options.from_dataset is not None
    rig = draft_of(options.from_dataset)
    return HEAD.format(source=options.from_dataset.name) + rig.to_yaml(), {}


_PAIRED = ("cameras", "gels", "serials", "topics")


def _pairs(flag: str, words: Sequence[str]) -> dict[str, str]:
    """Return NAME=VALUE words as a mapping."""
    for word in words:
        if not all(word.partition("=")[::2]):
            raise RigError(f"{flag} {word}: expected NAME=VALUE, such as wrist=/camera/color/image_raw")
    pairs = {name: value for name, _, value in (word.partition("=") for word in words)}
    if len(pairs) < len(words):
        raise RigError(f"{flag} {' '.join(words)}: a name stands there twice; each has one value")
    return pairs


def _report(written: Sequence[Path], rig: Rig) -> None:
    console = Console(highlight=False, soft_wrap=True)
    pictures = ", ".join(f"{name} {spec.width}x{spec.height}" for name, spec in rig.images.items())
    path, *others = written
    beside = f" (with {', '.join(other.name for other in others)})" if others else ""
    console.print(
        f"{path}{beside}: {len(rig.state_names)} joints at {rig.alignment.rate_hz:g} Hz; {pictures}"
    )
    if rig.unmeasured:
        console.print(f"to be measured: {', '.join(rig.unmeasured)}")
    console.print(f"next: tacit rig check {path}; tacit rig show {path}")
