"""`tacit calibrate session`: begin a session, or see how far it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from tacit.config.arguments import NewFolder
from tacit_calibration.board import Board
from tacit_calibration.commands.place import BoardFile, Flat, board_of, say, say_next
from tacit_calibration.session import FILE_NAME, Session


@dataclass(frozen=True)
class SessionArgs:
    """Begin a calibration session in a folder, or show what it holds and what comes next."""

    folder: Annotated[tyro.conf.Positional[NewFolder], tyro.conf.arg(help="Folder of the session.")]
    rig: Annotated[
        str | None, tyro.conf.arg(help="Rig, by name or path, to calibrate; begins a session.")
    ] = None
    board: Annotated[Board, Flat] = field(default_factory=Board)
    board_file: BoardFile = None

    def run(self) -> int:
        """Create if a rig is given and nothing is there yet, then show."""
        begins = self.rig is not None and not (self.folder / FILE_NAME).exists()
        if begins and self.rig is not None:
            session = Session.create(self.folder, self.rig, board_of(self.board, self.board_file))
        else:
            session = Session.open(self.folder)
        _show(session)
        return 0


def _show(session: Session) -> None:
    rig = session.rig
    say(f"{session.folder}: rig {session.file.rig}, begun {session.file.created}")
    for name, count in session.sample_counts().items():
        say(f"  samples {name}: {count}")
    for path, record in rig.calibrations.items():
        error = f", RMS {record.rms_px:.2f} px" if record.rms_px is not None else ""
        say(f"  done    {path}: {record.date}{error}")
    say_next(session)
