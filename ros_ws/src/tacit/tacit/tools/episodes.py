"""`tacit episodes <command>`: the table of commands; looking is done here, changing in `episodes_change`."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import tyro

from tacit.config.arguments import parse_words
from tacit.episode.files import find_parts, find_trashed
from tacit.episode.index import Listed
from tacit.errors import EpisodeError, did_you_mean
from tacit.tools.episodes_choice import Choice, console, listed, success_word

if TYPE_CHECKING:
    from tacit.episode import EpisodeReader

WORDS_SHOWN = 40
ATTRIBUTES = (
    *(
        "task",
        "language_instruction",
        "success",
        "outcome",
        "state",
        "termination_reason",
        "fps",
        "num_ticks",
    ),
    *("wall_start_iso", "operator", "session_id", "embodiment", "episode_uuid", "content_sha256"),
    *("calibration_id", "software_version"),
)
COUNTS = ("received", "lost_middleware", "lost_queue", "stale_ticks", "hz_mean")


@dataclass(frozen=True)
class List(Choice):
    """List the episodes of a data set, from its index; what has changed since is read again."""

    trash: bool = False
    """List what `tacit episodes restore` can bring back instead."""
    json: bool = False
    """One JSON object per line, with everything the index knows."""

    def run(self) -> int:
        """Print the table."""
        out = console()
        if self.trash:
            for root in self.paths:
                found = find_trashed(root)
                for path in found:
                    out.print(str(path), markup=False)
                if not found:
                    say(f"{root}: nothing in its trash")
            return 0
        items = self.chosen()
        if not items:
            say(self._why_none())
            return 1
        for item in items if self.json else ():
            fields = {"path": item.place, "size": item.size, **item.entry._asdict()}
            out.print(json.dumps(fields), markup=False)
        if not self.json:
            # A line at a time: a table of ten thousand rows would take rich ten seconds.
            sys.stdout.writelines(f"{line}\n" for line in _table(items))
        return 0

    def _why_none(self) -> str:
        """Say why nothing is listed, and what there is instead."""
        here = ", ".join(map(str, self.paths))
        if every := len(listed(self.paths)):
            return f"{here}: none of {every} episodes is as --only says"
        parts = sum(len(find_parts(root)) for root in self.paths if root.is_dir())
        trashed = sum(len(find_trashed(root)) for root in self.paths)
        told = f"{here}: no episode (*.hdf5) in it"
        told += f"; {parts} interrupted ones: finish them with `tacit recover`" if parts else ""
        return told + (f"; {trashed} in its trash: tacit episodes ls --trash" if trashed else "")


def say(text: str) -> None:
    """Say on stderr what is no row of a listing."""
    sys.stderr.write(f"{text}\n")


def _table(items: list[Listed]) -> list[str]:
    header = ("episode", "ticks", "s", "success", "outcome", "steps", "edits", "MB", "instruction")
    rows = [header, *(_row(item) for item in items)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    known = [item.entry for item in items if item.entry.kind != "damaged"]
    counts = [sum(entry.success is label for entry in known) for label in (True, False, None)]
    total = (
        f"{len(items)} episodes, {sum(e.seconds for e in known) / 60:.1f} min, "
        f"{sum(item.size for item in items) / 1e6:.0f} MB: {counts[0]} successes, {counts[1]} failures, "
        f"{counts[2]} unlabelled"
    )
    damaged = [f"damaged {item.place}: {item.entry.problem}" for item in items if item.entry.problem]
    return [*(line.rstrip() for line in lines), *damaged, total]


def _row(item: Listed) -> tuple[str, ...]:
    entry = item.entry
    words = " ".join(entry.instruction.split())  # of one line
    state = "" if entry.state in ("complete", "") else f" [{entry.state}]"
    kind = "" if entry.kind == "tacit" else f" [{entry.kind}]"
    return (
        f"{item.place}{state}{kind}",
        str(entry.ticks),
        f"{entry.seconds:.1f}",
        success_word(entry.success),
        entry.outcome,
        str(len(entry.steps) or ""),
        str(entry.edits or ""),
        f"{item.size / 1e6:.1f}",
        words if len(words) <= WORDS_SHOWN else words[:WORDS_SHOWN] + "...",
    )


@dataclass(frozen=True)
class Info:
    """Say everything about one episode: labels, streams, losses, steps, and what was done to it since."""

    path: Annotated[Path, tyro.conf.Positional]
    """The episode."""

    def run(self) -> int:
        """Print it."""
        from tacit.episode import EpisodeReader

        with EpisodeReader(self.path) as reader:
            lines = [str(self.path), *_identity(reader), *_parts(reader), *_past(reader)]
        console().print("\n  ".join(lines), markup=False)
        return 0


def _identity(reader: EpisodeReader) -> list[str]:
    values = ((name, reader.attribute(name)) for name in ATTRIBUTES)
    return [f"{name}: {value}" for name, value in values if value != ""]


def _parts(reader: EpisodeReader) -> list[str]:
    """What it holds: names, steps, and the counts of every stream."""
    names = (
        ("joints", reader.state_names),
        ("cameras", (*reader.cameras, *reader.depth_cameras)),
        ("touch", reader.tactile),
    )
    lines = [f"{label}: {', '.join(members) or '-'}" for label, members in names]
    lines += [f"steps of the task: {', '.join(reader.task_steps)}"] if reader.task_steps else []
    lines += [f"step {step.name}: {step.start_frame}-{step.end_frame}" for step in reader.steps]
    lines += [f"failure {kind}: {first}-{last}" for kind, first, last in reader.failures]
    for name, counts in reader.drops.items():
        lines.append(f"{name}: " + ", ".join(f"{key} {counts[key]:g}" for key in COUNTS if key in counts))
    return lines


def _past(reader: EpisodeReader) -> list[str]:
    """What was done to it since it was recorded."""
    from tacit.episode.edit import history_of

    return [
        f"{change.pop('date', '')} {change.pop('change', 'recalibrated')}: {json.dumps(change)}"
        for change in history_of(reader.file)
    ]


class Command(Protocol):
    """One command with its arguments."""

    def run(self) -> int:
        """Carry it out and return the exit code."""


HERE, CHANGE = __name__, "tacit.tools.episodes_change"
COMMANDS = {
    "ls": (HERE, "List"),
    "info": (HERE, "Info"),
    "label": (CHANGE, "Label"),
    "delete": (CHANGE, "Delete"),
    "restore": (CHANGE, "Restore"),
    "trim": (CHANGE, "Trim"),
    "split": (CHANGE, "Split"),
    "merge": (CHANGE, "Join"),
    "copy": (CHANGE, "Copy"),
    "dedupe": (CHANGE, "Dedupe"),
}
"""Module and class of each, imported when called: `ls` is to answer at once."""


def _command(name: str) -> type[Command]:
    module, member = COMMANDS[name]
    found: type[Command] = getattr(importlib.import_module(module), member)
    return found


def main(argv: list[str]) -> int:
    """Run `tacit episodes <command>`; 0 done, 1 some could not be done."""
    name, rest = (argv[0], argv[1:]) if argv else ("", [])
    if name in ("-h", "--help"):
        console().print(f"usage: tacit episodes <command> [options]\n\n{_help()}", markup=False)
        return 0
    if name not in COMMANDS:
        raise EpisodeError(
            f"tacit episodes {name}: no such command; {did_you_mean(name, COMMANDS)}\n{_help()}"
        )
    return parse_words(_command(name), rest, f"tacit episodes {name}").run()


def _help() -> str:
    first = {name: (_command(name).__doc__ or "").strip().partition("\n")[0] for name in COMMANDS}
    lines = [f"  {name:<9}{words}" for name, words in first.items()]
    return "\n".join([*lines, "Originals go to trash/; nothing is deleted. <command> --help says more."])
