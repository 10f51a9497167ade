"""`tacit calibrate <command>`: the table of commands; each lives in a module of `commands`."""

from __future__ import annotations

from typing import Annotated, Protocol, Union

import tyro

from tacit_calibration.commands.board import BoardArgs
from tacit_calibration.commands.capture import CaptureArgs
from tacit_calibration.commands.check import CheckArgs
from tacit_calibration.commands.gripper import GripperArgs
from tacit_calibration.commands.handeye import HandEyeArgs
from tacit_calibration.commands.intrinsics import IntrinsicsArgs
from tacit_calibration.commands.sensor import SensorArgs
from tacit_calibration.commands.session import SessionArgs
from tacit_calibration.commands.verify import VerifyArgs
from tacit_calibration.commands.world import WorldArgs


class Command(Protocol):
    """One command with its arguments."""

    def run(self) -> int:
        """Carry it out and return the exit code."""


Commands = Union[  # noqa: UP007  Annotated members of X | Y need Python 3.11
    Annotated[SessionArgs, tyro.conf.subcommand("session")],
    Annotated[BoardArgs, tyro.conf.subcommand("board")],
    Annotated[CaptureArgs, tyro.conf.subcommand("capture")],
    Annotated[IntrinsicsArgs, tyro.conf.subcommand("intrinsics")],
    Annotated[HandEyeArgs, tyro.conf.subcommand("handeye")],
    Annotated[WorldArgs, tyro.conf.subcommand("world")],
    Annotated[SensorArgs, tyro.conf.subcommand("sensor")],
    Annotated[GripperArgs, tyro.conf.subcommand("gripper")],
    Annotated[VerifyArgs, tyro.conf.subcommand("verify")],
    Annotated[CheckArgs, tyro.conf.subcommand("check")],
]


def main(argv: list[str]) -> int:
    """Run `tacit calibrate <command>`; 0 done, 1 a check found something, 2 wrong arguments."""
    command: Command = tyro.cli(
        Commands,  # type: ignore[arg-type]
        args=argv,
        prog="tacit calibrate",
        description="Boards, lenses, camera poses, tactile sensors and grippers: from pictures to the rig.",
    )
    return command.run()
