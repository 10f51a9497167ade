"""Makes small synthetic episodes for tests: smooth joints, drawn images, every stream of nova2_sim."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from tacit.episode import EpisodeWriter
from tacit.images import encode_jpeg
from tacit.rig import Rig, load_rig
from tacit.streams import Sample, Tick

START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 40_000_000


@functools.cache
def rig() -> Rig:
    return load_rig("nova2_sim")


def joints_at(i: int) -> np.ndarray:
    """A slow wave around a pose with the gripper over the table (6,) [rad]."""
    return np.array([0.0, -0.3, 1.2, 0.3, -1.57, 0.0]) + 0.2 * np.sin(0.05 * i + np.arange(6))


def opening_at(i: int) -> float:
    return 0.04 + 0.03 * float(np.sin(0.07 * i))


def drawn_image(i: int, height: int, width: int) -> np.ndarray:
    """A colour gradient with a bright bar that moves with i."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[..., 0] = np.linspace(40, 220, width, dtype=np.uint8)
    image[..., 1] = np.linspace(200, 60, height, dtype=np.uint8)[:, None]
    image[..., 2] = 90
    image[:, (3 * i) % width : (3 * i) % width + 6] = 255
    return image


@functools.cache
def camera_bytes(i: int) -> np.ndarray:
    return encode_jpeg(drawn_image(i % 50, 120, 160))


@functools.cache
def touch_bytes(i: int) -> np.ndarray:
    return encode_jpeg(drawn_image(i % 50, 60, 80), 95)


def tick_at(i: int, *, stage: bool = True, stamp_ns: int | None = None) -> Tick:
    """Tick number i with every stream fresh; the command runs one tick ahead of the joints."""
    stamp = START_NS + i * PERIOD_NS if stamp_ns is None else stamp_ns

    def fresh(value: object) -> Sample:
        return Sample(value, stamp, stamp + 5_000_000, i, True)

    samples = {name: fresh(camera_bytes(i)) for name in ("wrist", "top")}
    samples |= {name: fresh(touch_bytes(i)) for name in ("left", "right")}
    samples["joints"] = fresh(joints_at(i))
    samples["gripper_state"] = fresh(np.array([opening_at(i)]))
    samples["command"] = fresh(np.append(joints_at(i + 1), opening_at(i + 1)))
    if stage:
        samples["stage"] = fresh(min(i // 10, 4))
    return Tick(stamp, i, samples)


def writer_at(path: Path, **options: object) -> EpisodeWriter:
    defaults = {
        "task": "place_cube",
        "instruction": "put the cube on the plate",
        "sim": True,
        "references": {name: drawn_image(0, 60, 80) for name in ("left", "right")},
    }
    return EpisodeWriter(path, rig(), **(defaults | options))  # type: ignore[arg-type]


def append_native(writer: EpisodeWriter, i: int) -> None:
    """The native samples that belong to tick i: joints at four times the tick rate."""
    for k in range(4):
        stamp = START_NS + i * PERIOD_NS + k * PERIOD_NS // 4
        writer.append_stream("joints", stamp, stamp + 3_000_000, {"position": joints_at(i)})


def write_episode(root: Path, num_ticks: int = 50, success: bool | None = True, **options: object) -> Path:
    writer = writer_at(root, **options)
    for i in range(num_ticks):
        append_native(writer, i)
        writer.append(tick_at(i))
    return writer.close(success, outcome="placed")
