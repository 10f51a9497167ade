"""`tacit rig new --from-dataset`: a rig file drafted from what a data set says of its robot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tacit.config.arguments import NewFile, parse_words
from tacit.convert.registry import draft_of
from tacit.errors import RigError
from tacit.rig import Rig, load_rig

HEAD = """\
# Drafted from {source}. Numbers are in the units of the data set.
# To fill in: topics and types, limits of the joints, and what `unmeasured` names. Take a part out of
# `unmeasured` once its kinematics, lens or pose are right: `tacit calibrate` measures them.
"""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Draft a rig file from a data set of others: joints, limits seen, cameras, rates.

    Example: tacit rig new --from-dataset downloads/so101_pick --out my_rig.yaml
    """

    from_dataset: Path
    """A data set that `tacit convert` reads."""
    out: NewFile
    """File to write; it must not exist yet."""


def main(argv: Sequence[str]) -> int:
    """Run `tacit rig new`; returns 0."""
    options = parse_words(Options, argv, "tacit rig new")
    if options.out.suffix not in (".yaml", ".yml"):
        raise RigError(f"{options.out}: expected a name that ends in .yaml")
    if options.out.exists():
        raise RigError(f"{options.out}: exists and is never overwritten; give another name or move it away")
    rig = draft_of(options.from_dataset)
    _write(options.out, HEAD.format(source=options.from_dataset.name) + rig.to_yaml())
    _report(options.out, load_rig(options.out))
    return 0


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as problem:
        raise RigError(f"{path}: cannot be written ({problem})") from None


def _report(path: Path, rig: Rig) -> None:
    console = Console(highlight=False, soft_wrap=True)
    pictures = ", ".join(f"{name} {spec.width}x{spec.height}" for name, spec in rig.images.items())
    console.print(f"{path}: {len(rig.state_names)} joints at {rig.alignment.rate_hz:g} Hz; {pictures}")
    if rig.unmeasured:
        console.print(f"to be measured: {', '.join(rig.unmeasured)}")
