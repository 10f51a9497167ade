"""`tacit annotate`: serve the page until Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from tacit.config.arguments import NewFolder, Rate, Within, parse_words
from tacit_learning.annotate.session import Session
from tacit_learning.annotate.sources import open_collection

if TYPE_CHECKING:
    from tacit_learning.annotate.server import Server


@dataclass(frozen=True)
class Arguments:
    """Label the steps of two episodes on a page, bring them to all others, correct what is unsure.

    Example: tacit annotate data/place_cube --out data/steps --steps reach grasp lift place
    """

    data: Annotated[Path, tyro.conf.Positional]
    """Recorded episodes, a folder of videos, or a LeRobot data set."""
    out: NewFolder
    """Folder for annotations.json, and for the session, which a later call goes on with."""
    steps: tuple[str, ...] = ()
    """Names of the steps; keys 1 to 9 stand for them."""
    into_data: bool = False
    """Save also into the recordings, or into the subtask columns of the LeRobot set."""
    fps: Rate | None = None
    """Rate of videos whose files say another."""
    port: Annotated[int, Within(0, 65_535)] = 0
    """Port on 127.0.0.1; 0: any that is free."""


def main(argv: Sequence[str]) -> int:
    """Run `tacit annotate`; returns the exit code."""
    arguments = parse_words(Arguments, argv, "tacit annotate")
    from tacit_learning.annotate.server import Server  # its library is an extra of its own

    collection = open_collection(arguments.data, arguments.fps)
    session = Session(collection, arguments.out, arguments.into_data)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{len(session.clips)} clips at {collection.fps:g} fps, {len(session.labels)} have steps")
    asyncio.run(_serve(Server(session, arguments.steps), arguments.port, console))
    return 0


async def _serve(server: Server, port: int, console: Console) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)

    def listening(url: str) -> None:
        console.print(f"open {url}\nCtrl-C ends; everything is kept as it is set")

    await server.run(port, listening, ended)
