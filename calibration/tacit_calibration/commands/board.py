"""`tacit calibrate board`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from tacit.config.arguments import NewFolder
from tacit_calibration.board import Board
from tacit_calibration.board_files import page_size_mm, write_board
from tacit_calibration.commands.place import Flat, say


@dataclass(frozen=True)
class BoardArgs:
    """Write a ChArUco board as PDF, SVG and PNG in exact millimetres."""

    out: Annotated[NewFolder, tyro.conf.arg(help="Folder for the files.")] = Path(".")
    board: Annotated[Board, Flat] = field(default_factory=Board)

    def run(self) -> int:
        """Write the files."""
        for path in write_board(self.board, self.out):
            say(str(path))
        width, height = page_size_mm(self.board)
        say(f"page {width:g} x {height:g} mm; print at 100 %, measure the bar, glue to something flat")
        say("  next    tacit calibrate session FOLDER --rig RIG, or intrinsics --images PICTURES")
        return 0
