"""`tacit bench recorder`: what recording costs, for seconds or for minutes, quiet or beside busy processes.

The real recorder as a process against a synthetic robot in a process of its own; cameras that deliver raw
images (the recorder encodes) and cameras that deliver JPEG (it passes them on).
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import h5py
import numpy as np
import psutil
import tyro

from benches.load import busy
from benches.recorder_stand import RATE_HZ, Stand, bench_rig, stand
from tacit.config.arguments import parse_words
from tacit.episode import check_episode

MAX_CPU_PERCENT = {"raw": 25.0, "jpeg": 10.0}
MAX_GROWTH_MB, MAX_STOP_S = 50.0, 0.5
MAX_LOADED_STOP_S = 10.0
"""Beside busy processes: the encoders may take 5 s to finish what waits, and the disk some more."""
SETTLE_S = 10.0
"""Memory is compared with that after so many seconds: queues and caches have then had their first fill."""
Images = Literal["raw", "jpeg"]


@dataclass(frozen=True)
class RecorderBenchArgs:
    """Record with three VGA cameras, two touch sensors and joints at 100 Hz; report what it cost."""

    minutes: Annotated[float, tyro.conf.arg(help="Length of each recording [min].")] = 0.5
    images: Annotated[
        Literal["raw", "jpeg", "both"], tyro.conf.arg(help="What the cameras deliver; both: in turn.")
    ] = "both"
    load: Annotated[
        float, tyro.conf.arg(help="Busy processes beside it, as a multiple of the cores of this machine.")
    ] = 0.0


@dataclass(frozen=True)
class Recorded:
    """What one recording cost and lost.

    Attributes:
        images: What the cameras delivered.
        load: Busy processes.
        state: Of the episode: complete, or aborted for `reason`.
        seconds: Length of the recording.
        ticks, dropped_ticks, stale_ticks: Made; missing between stamps; that hold an old image or state.
        cpu_percent: Processor time of the recorder, of one core.
        growth_mb: Resident memory at the end less that after `SETTLE_S`.
        stop_s: From the request to the answer.
        lost_queue, lost_middleware: Messages.
        late_intake: How often the recorder's own intake was not run for half a second.
        errors: What `tacit check` holds against the episode.
    """

    images: Images
    load: int
    state: str
    reason: str
    seconds: float
    ticks: int
    dropped_ticks: int
    stale_ticks: int
    cpu_percent: float
    memory_mb: float
    growth_mb: float
    stop_s: float
    lost_queue: int
    lost_middleware: int
    late_intake: int
    errors: tuple[str, ...]
    megabytes: float

    @property
    def missed(self) -> list[str]:
        """Bars that were missed; under load only that the episode is sound and the stop is bounded."""
        found = [] if self.state == "complete" else [f"episode is {self.state}: {self.reason}"]
        found += self.errors
        longest_s = MAX_LOADED_STOP_S if self.load else MAX_STOP_S
        found += [f"stop took {self.stop_s:.2f} s, bar {longest_s:g}"] * (self.stop_s > longest_s)
        if self.load:
            return found
        cpu = MAX_CPU_PERCENT[self.images]
        found += [f"{self.dropped_ticks} dropped ticks, bar 0"] if self.dropped_ticks else []
        found += [f"{self.cpu_percent:.0f} % of a core, bar {cpu:.0f} %"] if self.cpu_percent > cpu else []
        found += [f"grew by {self.growth_mb:.0f} MB, bar {MAX_GROWTH_MB:.0f}"] * (
            self.growth_mb > MAX_GROWTH_MB
        )
        return found


def main(argv: list[str] | None = None) -> int:
    """Measure; 0 when every bar is kept."""
    args = parse_words(RecorderBenchArgs, argv, "tacit bench recorder")
    variants: list[Images] = ["raw", "jpeg"] if args.images == "both" else [args.images]
    missed: list[str] = []
    for images in variants:
        result = measure(images, 60.0 * args.minutes, args.load)
        missed += result.missed
        sys.stdout.write(json.dumps(vars(result), indent=2) + "\n")
        sys.stdout.write("\n".join(f"MISSED: {line}" for line in result.missed) + "\n")
        sys.stdout.flush()
    return 1 if missed else 0


def measure(images: Images, seconds: float, load: float = 0.0) -> Recorded:
    """Record for `seconds` beside `load` busy processes for each core."""
    hogs = round(load * (os.cpu_count() or 1))
    with stand(bench_rig(images == "jpeg")) as place, place.recorder() as process:
        path = place.start()
        with busy(hogs):
            began, before = time.monotonic(), process.cpu_times()
            settled_mb = _watch(process, seconds)
            after, elapsed = process.cpu_times(), time.monotonic() - began
            memory_mb = process.memory_info().rss / 1e6
            stopping = time.monotonic()
            _stop(place)
            stop_s = time.monotonic() - stopping
        return Recorded(
            images=images,
            load=hogs,
            seconds=round(elapsed, 1),
            cpu_percent=round(100 * (sum(after[:2]) - sum(before[:2])) / elapsed, 1),
            memory_mb=round(memory_mb),
            growth_mb=round(memory_mb - settled_mb, 1),
            stop_s=round(stop_s, 3),
            **_episode_facts(path),  # type: ignore[arg-type]  # by name
        )


def _watch(process: psutil.Process, seconds: float) -> float:
    """Wait while it records; returns its memory once that had settled [MB]."""
    settle_s = min(SETTLE_S, seconds / 2)
    time.sleep(settle_s)
    settled_mb = process.memory_info().rss / 1e6
    time.sleep(seconds - settle_s)
    return settled_mb


def _stop(place: Stand) -> None:
    """Finish the episode; one that ended by itself is finished already, and its reason stands in it."""
    if json.loads(place.status())["state"] == "recording":
        place.stop()


def _episode_facts(path: Path) -> dict[str, object]:
    """What a finished episode tells about losses."""
    with h5py.File(path) as file:
        ticks = file["timestamps/tick_ns"][:]
        drops = {name: dict(group.attrs) for name, group in file["drops"].items()}
        sizes = path.stat().st_size
        state, reason = str(file.attrs["state"]), str(file.attrs["outcome"])
        kinds = [kind.decode() for kind in file["events/kind"][:]]
    intervals = np.rint(np.diff(ticks) * RATE_HZ / 1e9)
    required = {name: d for name, d in drops.items() if name not in ("stage", "progress", "command")}
    return {
        "state": state,
        "reason": reason,
        "ticks": len(ticks),
        "dropped_ticks": int((intervals - 1).sum()),
        "stale_ticks": int(max(d["stale_ticks"] for d in required.values())),
        "lost_queue": int(sum(d["lost_queue"] for d in drops.values())),
        "lost_middleware": int(sum(d["lost_middleware"] for d in drops.values())),
        "late_intake": kinds.count("late_intake"),
        "errors": tuple(f"{f.rule} {f.where}: {f.message}" for f in check_episode(path).errors),
        "megabytes": round(sizes / 1e6, 1),
    }
