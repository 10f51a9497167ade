"""`tacit calibrate <command>`: the table of commands; each lives in a module of `commands`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import tyro

from tacit.config.arguments import check
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


COMMANDS: dict[str, Callable[..., Command]] = {
    "session": SessionArgs,
    "board": BoardArgs,
    "capture": CaptureArgs,
    "intrinsics": IntrinsicsArgs,
    "handeye": HandEyeArgs,
    "world": WorldArgs,
    "sensor": SensorArgs,
    "gripper": GripperArgs,
    "verify": VerifyArgs,
    "check": CheckArgs,
}


def main(argv: list[str]) -> int:
    """Run `tacit calibrate <command>`; 0 done, 1 a check found something, 2 wrong arguments."""
    chosen: Command = tyro.extras.subcommand_cli_from_dict(
        COMMANDS,
        args=argv,
        prog="tacit calibrate",
        description="Boards, lenses, camera poses, tactile sensors and grippers: from pictures to the rig.",
        sort_subcommands=False,
    )
    check(chosen, f"tacit calibrate {argv[0]}")
    return chosen.run()
