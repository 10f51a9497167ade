"""First stage: the scripted expert demonstrates, the recorder writes, all as ROS 2 processes."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from tacit.episode import EpisodeReader, find_episodes
from tacit_ros.demo.processes import check_alive, running_stack
from tacit_ros.demo.settings import DemoSettings
from tacit_ros.run.scripted import record_scripted, watch_cell
from tacit_ros.wire.session import Session


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
                record_scripted(session, settings.first_seed + index)
                _tell(console, index + 1, settings.demonstrations)
    seconds = time.monotonic() - started
    return _summary(folder, seconds, settings.demonstrations - done)


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
