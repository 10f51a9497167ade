"""`tacit bench core`: what every recording and every control tick pays for, on this machine.

Streams are synthetic, made from the rig alone: smooth joints and drawn images at the rates it states.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tacit.config.arguments import NewFile, parse_words
from tacit.control.safety import MotionLimiter
from tacit.episode import EpisodeWriter
from tacit.images import ImageTransform, decode_image, encode_jpeg
from tacit.rig import Rig, load_rig
from tacit.rig.scene import RigGeometry
from tacit.rig.topics import CameraSpec, CommandSpec, GelSpec, StreamSpec
from tacit.streams import Aligner, Arrival, Tick, align, plans_of

ROUNDS = 5
RECORDED_S = 4
START_NS = 1_000_000_000


@dataclass(frozen=True)
class Args:
    """Measure the core on this machine: the best of five rounds."""

    rig: str = "nova2_sim"
    """Shipped rig or path of a rig.yaml."""
    json: NewFile | None = None
    """Write the numbers to this file too."""


class Measurement(NamedTuple):
    """One row of the result: a value with its unit."""

    name: str
    value: float
    unit: str


def main(argv: list[str]) -> int:
    """Measure, print a table and return 0."""

    args = parse_words(Args, argv, "tacit bench core")
    rows = measure(load_rig(args.rig))
    _print_rows(rows)
    if args.json is not None:
        args.json.write_text(json.dumps({f"{row.name} [{row.unit}]": row.value for row in rows}, indent=2))
    return 0


def measure(rig: Rig) -> list[Measurement]:
    """Return one row per part of the core."""
    arrivals = synthetic_arrivals(rig, RECORDED_S)
    ticks = align(Aligner.from_rig(rig), arrivals)
    return [*_geometry(rig), *_images(), _alignment(rig, arrivals), _writing(rig, ticks), _limits(rig)]


def best_seconds(action: Callable[[], object], count: int) -> float:
    """Return the least time of one call [s], over rounds of `count` calls."""
    spent = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for _ in range(count):
            action()
        spent.append((time.perf_counter() - begin) / count)
    return min(spent)


def synthetic_arrivals(rig: Rig, seconds: float) -> list[Arrival]:
    """Return what the drivers of `rig` would send, in order of reception, images as JPEG."""
    imaging: dict[str, CameraSpec | GelSpec] = rig.images
    pictures = {n: encode_jpeg(drawn_image(spec.height, spec.width)) for n, spec in imaging.items()}
    low_dim: dict[str, StreamSpec | CommandSpec] = {**rig.streams, **rig.commands}
    arrivals = []
    for plan in plans_of(rig):
        for index in range(int(seconds * 1e9) // plan.period_ns):
            stamp_ns = START_NS + index * plan.period_ns
            value: object = pictures.get(plan.name)
            if value is None:
                value = np.full(len(low_dim[plan.name].names), 0.01 * np.sin(0.1 * index))
            if plan.kind == "hold" and not plan.required:
                value = index // 40 % 5
            arrivals.append(Arrival(plan.name, stamp_ns, stamp_ns + 1_000_000, value))
    return sorted(arrivals, key=lambda arrival: arrival.recv_ns)


def drawn_image(height: int, width: int) -> np.ndarray:
    """Return a gradient with a grid of edges (H, W, 3) uint8, so that JPEG has work to do."""
    rows, columns = np.mgrid[0:height, 0:width]
    image = np.stack([rows % 256, columns % 256, (rows // 8 + columns // 8) % 2 * 200], axis=-1)
    return image.astype(np.uint8)


def _geometry(rig: Rig) -> list[Measurement]:
    geometry = RigGeometry(rig)
    q = (rig.limits("lower") + rig.limits("upper")) / 2
    batch = np.tile(q, (100, 1))
    robot = next(iter(geometry.robots.values()))
    joints = q[: robot.num_joints]
    return [
        Measurement("forward kinematics", 1e6 * best_seconds(lambda: robot.forward(joints), 200), "us"),
        Measurement("all footprints of a tick", 1e6 * best_seconds(lambda: geometry.footprints(q), 50), "us"),
        Measurement(
            "the same in batches of 100",
            1e4 * best_seconds(lambda: geometry.footprint_tracks(batch), 5),
            "us",
        ),
    ]


def _images() -> list[Measurement]:
    image = drawn_image(480, 640)
    data = encode_jpeg(image)
    shrink = ImageTransform(480, 640, 240, 320)
    return [
        Measurement("JPEG encode 640x480", 1e3 * best_seconds(lambda: encode_jpeg(image), 20), "ms"),
        Measurement("JPEG decode 640x480", 1e3 * best_seconds(lambda: decode_image(data), 20), "ms"),
        Measurement("resize 640x480 to 320x240", 1e3 * best_seconds(lambda: shrink.image(image), 50), "ms"),
    ]


def _alignment(rig: Rig, arrivals: list[Arrival]) -> Measurement:
    spent = best_seconds(lambda: align(Aligner.from_rig(rig), arrivals), 1)
    return Measurement("alignment", RECORDED_S / spent, "x real time")


def _writing(rig: Rig, ticks: list[Tick]) -> Measurement:
    def write() -> None:
        with tempfile.TemporaryDirectory() as folder:
            writer = EpisodeWriter(Path(folder), rig, task="bench", sim=True, sync=False)
            for tick in ticks:
                writer.append(tick)
            writer.close(True)

    return Measurement("write an episode", 1e3 * best_seconds(write, 1) / len(ticks), "ms per tick")


def _limits(rig: Rig) -> Measurement:
    limiter = MotionLimiter.from_rig(rig, 0.02)
    target = limiter.position + 0.1
    return Measurement("motion limiter", 1e6 * best_seconds(lambda: limiter.step(target), 500), "us")


def _print_rows(rows: list[Measurement]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="tacit bench core", title_justify="left", box=None, show_header=False)
    for row in rows:
        table.add_row(row.name, f"{row.value:.3g}", row.unit)
    Console(highlight=False).print(table)
