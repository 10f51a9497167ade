"""Shared by the commands: the session or single files they work on, where results go, lines for people."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tacit.config.arguments import NewFile
from tacit.errors import CalibrationError
from tacit.geometry.transforms import FloatArray
from tacit.images import Image, encode_png
from tacit.rig import Rig, is_depth, load_rig
from tacit_calibration.board import Board
from tacit_calibration.kalibr import board_of_target
from tacit_calibration.rig_update import write_rig
from tacit_calibration.session import Session
from tacit_calibration.touch.gel_search import outlines_of_arm
from tacit_calibration.touch.outline import Outline

Flat = tyro.conf.OmitArgPrefixes
BoardFile = Annotated[
    Path | None,
    tyro.conf.arg(
        help="Target file of Kalibr (aprilgrid, checkerboard, circlegrid) instead of board options."
    ),
]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Where:
    """A session, or the single files that stand for one."""

    session: Annotated[
        Path | None, tyro.conf.arg(help="Session folder: rig, board and samples come from it.")
    ] = None
    rig: Annotated[str | None, tyro.conf.arg(help="Rig, by name or path, where there is no session.")] = None
    rig_out: Annotated[NewFile | None, tyro.conf.arg(help="File for the new rig; comments are lost.")] = None
    board: Annotated[Board, Flat] = field(default_factory=Board)
    board_file: BoardFile = None

    @property
    def given_board(self) -> Board:
        """The board of the file, else of the options."""
        return board_of(self.board, self.board_file)

    def open(self) -> Workplace:
        """Return the rig, the board, and where results go.

        Raises:
            CalibrationError: Both a session and a rig, or neither.
        """
        if (self.session is None) == (self.rig is None):
            raise CalibrationError("give either --session, or --rig (and --rig-out to write the new one)")
        if self.session is None:
            assert self.rig is not None
            return Workplace(load_rig(self.rig), self.given_board, None, self.rig_out)
        session = Session.open(self.session)
        return Workplace(session.rig, session.board, session, self.rig_out)


@dataclass(frozen=True)
class Workplace:
    """The rig as it is now, the board, and where results go."""

    rig: Rig
    board: Board
    session: Session | None
    rig_out: Path | None

    def samples(self, given: Path | None, name: str) -> Path:
        """Return the folder of samples: the given one, else that of the session.

        Raises:
            CalibrationError: Neither.
        """
        if given is not None:
            return given
        if self.session is None:
            raise CalibrationError(
                "--samples is missing: give the folder that holds samples.yaml, or --session"
            )
        folder = self.session.samples(name)
        if not folder.is_dir():
            taken = ", ".join(self.session.sample_counts()) or "none"
            raise CalibrationError(
                f"{folder}: no such samples; take some with `tacit calibrate capture --session "
                f"{self.session.folder} --camera ...` (there are: {taken})"
            )
        return folder

    def keep(
        self, name: str, data: Mapping[str, Any], picture: Image, picture_path: Path | None = None
    ) -> None:
        """Write a result that does not change the rig, and say where."""
        if self.session is not None:
            path = self.session.write_result(name, data, picture)
            say(f"wrote {path} and {path.with_suffix('.png').name}")
        if picture_path is not None:
            picture_path.write_bytes(encode_png(picture).tobytes())
            say(f"wrote {picture_path}")

    def finish(self, rig: Rig, name: str, data: Mapping[str, Any], picture: Image | None = None) -> None:
        """Write the new rig and the result, and say where."""
        if self.session is not None:
            path = self.session.write_result(name, data, picture)
            say(f"wrote {path}" + (f" and {path.with_suffix('.png').name}" if picture is not None else ""))
            write_rig(rig, self.session.rig_path)
        if self.rig_out is not None:
            write_rig(rig, self.rig_out)
        written = self.rig_out or (self.session.rig_path if self.session is not None else None)
        if written is not None:
            say(
                f"wrote {written}; calibration_id {self.rig.calibration_id[:12]} -> {rig.calibration_id[:12]}"
            )
        if self.session is not None:
            say_next(self.session)
        elif self.rig_out is not None:
            say(f"  next    tacit calibrate check {self.rig_out}, then verify with pictures not used here")
        else:
            say("nothing written; --rig-out FILE writes the rig with it")


def board_of(options: Board, file: Path | None) -> Board:
    """Return the board of a target file where one is given, else that of the options."""
    return options if file is None else board_of_target(file)


def say(line: str = "") -> None:
    """Write one line to standard output, at once also where that is a file."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def track(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """Yield each of so many items, with a bar on a terminal that goes when all are done."""
    # On stderr: what is piped into a file stays a report.
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield from progress.track(items, total, description=what)


def say_next(session: Session) -> None:
    """Say what is not done yet, in the order in which it is best done."""
    for command in next_commands(session):
        say(f"  next    tacit calibrate {command} --session {session.folder}")


def say_pose(key: str, T: FloatArray) -> None:
    """Write a transform as the lines of a rig."""
    say(f"    {key}:")
    for row in T:
        say(f"    - [{', '.join(f'{value:.9f}' for value in row)}]")


def say_outlines(rig: Rig, camera: str, folder: Path, *, fit_size: bool = True) -> dict[str, list[Outline]]:
    """Return {sensor: its outlines} of those that were found, after saying why others were not."""
    found, problems = outlines_of_arm(rig, camera, folder, fit_size=fit_size)
    for problem in problems:
        say(f"skipped {problem}")
    return found


def next_commands(session: Session) -> list[str]:
    """Return what is not done yet, in the order in which it is best done."""
    rig = session.rig
    done, taken = set(rig.calibrations), session.sample_counts()
    commands = []
    cameras = {name: spec for name, spec in rig.cameras.items() if not is_depth(spec)}  # depth shows no board
    for name in cameras:
        if not {f"cameras.{name}.lens", f"cameras.{name}.pose"} <= done and name not in taken:
            commands.append(f"capture --camera {name}")
        commands += [
            f"{word} --camera {name}"
            for word, part in (("intrinsics", "lens"), ("handeye", "pose"))
            if f"cameras.{name}.{part}" not in done
        ]
    if any(f"tactile.{name}.pose" not in done for name in rig.tactile):
        camera = next((n for n, c in cameras.items() if c.parent != "world"), next(iter(cameras)))
        commands += [f"capture --camera {camera} --name openings", f"gripper --camera {camera}"]
        commands.append(f"sensor --camera {camera}")
    return commands or ["verify --camera " + name for name in cameras]
