"""First stage: the scripted expert demonstrates, the recorder writes, all as ROS 2 processes."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from tacit.episode import EpisodeReader, find_episodes
from tacit.episode.audit import check_episode
from tacit_ros.demo.processes import check_alive, running_stack
from tacit_ros.demo.settings import DemoSettings
from tacit_ros.run.scripted import record_scripted, watch_cell
from tacit_ros.wire.session import Session

ATTEMPTS = 3
"""How often a start is demonstrated until its episode is whole: a busy machine may stand still."""


def record_demonstrations(settings: DemoSettings, console: Console) -> dict[str, Any]:
    """Record what is missing of the demonstrations; the next seed follows from what is on disk.

    Returns:
        `recorded_episodes`, `successful_episodes`, `dropped_ticks`, `recording_speed` (x real time).
    """
    folder = settings.episodes / settings.task
    done = len(find_episodes(folder)) if folder.is_dir() else 0
    log = settings.output / "logs" / "record.log"
    started = time.monotonic()
    if done < settings.demonstrations:
        with (
            running_stack("record", _options(settings), log) as stack,
            Session(partial(check_alive, stack, log)) as session,
        ):
            watch_cell(session)
            for index in range(done, settings.demonstrations):
                record_whole(session, settings.first_seed + index, folder, console)
                _tell(console, index + 1, settings.demonstrations)
    seconds = time.monotonic() - started
    return _summary(folder, seconds, settings.demonstrations - done)


def record_whole(session: Session, seed: int, folder: Path, console: Console) -> None:
    """Record one demonstration; again, and the first to the trash, where `tacit check` finds errors in it.

    The last of `ATTEMPTS` stays whatever it is: the check of the data set says so.
    """
    for attempt in range(1, ATTEMPTS + 1):
        record_scripted(session, seed)
        newest = max(find_episodes(folder), key=lambda path: path.stat().st_mtime_ns)
        errors = check_episode(newest).errors
        if not errors or attempt == ATTEMPTS:
            return
        session.trigger("/recorder/delete_last")
        what = f"{errors[0].where}: {errors[0].message}"
        console.print(f"  seed {seed}: {what}; moved to the trash, and recorded again", highlight=False)


def _options(settings: DemoSettings) -> list[str]:
    """Lockstep: time in the cell waits for the expert, so a command is never late for its tick."""
    return [
        "--rig",
        settings.rig,
        "--without",
        "overlay",
        f"recorder.root={settings.episodes}",
        f"recorder.task={settings.task}",
        f"recorder.instruction={settings.instruction}",
        "recorder.operator=scripted expert",
        f"simulator.task={settings.task}",
        f"simulator.real_time_factor={settings.recording_speed}",
        "simulator.lockstep=true",
    ]


def _tell(console: Console, done: int, total: int) -> None:
    if done % 10 == 0 or done == total:
        console.print(f"  {done}/{total} demonstrations", style="dim", highlight=False)


def _summary(folder: Path, seconds: float, recorded_now: int) -> dict[str, Any]:
    paths = find_episodes(folder)
    ticks = dropped = successes = 0
    simulated = 0.0
    for path in paths:
        with EpisodeReader(path) as episode:
            ticks += episode.num_ticks
            successes += episode.success is True
            dropped += dropped_ticks(episode)
            simulated += episode.num_ticks / episode.fps
    speed = simulated * recorded_now / max(1, len(paths)) / seconds if recorded_now else 0.0
    return {
        "recorded_episodes": len(paths),
        "successful_episodes": successes,
        "recorded_ticks": ticks,
        "dropped_ticks": dropped,
        "recording_speed": round(speed, 2),
    }


def dropped_ticks(episode: EpisodeReader) -> int:
    """Return how many ticks are missing between the first and the last, by the stamps."""
    period_ns = 1e9 / episode.fps
    if episode.num_ticks < 2:
        return 0
    expected = round((episode.tick_ns[-1] - episode.tick_ns[0]) / period_ns) + 1
    return int(expected - episode.num_ticks)
