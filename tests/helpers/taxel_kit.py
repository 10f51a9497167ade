"""Makes episodes of the simulated cell's rig with taxels, without a simulator: pressure waves at 50 Hz."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from episode_kit import START_NS, camera_bytes, joints_at, opening_at

from tacit.episode import EpisodeWriter
from tacit.record.recording import Recording
from tacit.rig import Rig, load_rig
from tacit.streams import Arrival

STEP_NS = 10_000_000


@functools.cache
def taxel_rig() -> Rig:
    return load_rig("nova2_sim_taxels")


def reading_at(name: str, stamp_ns: int) -> np.ndarray:
    """A bump that wanders over the face, a little above what the sensor says at rest."""
    rows, columns, channels = taxel_rig().taxels[name].array.shape
    r, c, k = np.meshgrid(np.arange(rows), np.arange(columns), np.arange(channels), indexing="ij")
    t = (stamp_ns - START_NS) / 1e9
    bump = np.exp(-((r - rows * (0.5 + 0.4 * np.sin(t))) ** 2) - (c - columns / 2) ** 2)
    return (0.1 + 0.5 * bump * (k + 1) / channels + 1e-3 * np.sin(37 * t + r + 2 * c)).astype(np.float32)


def value_at(name: str, i: int, stamp_ns: int) -> object:
    """What a stream says 10 ms times i after the start."""
    if name in taxel_rig().taxels:
        return reading_at(name, stamp_ns)
    if name in taxel_rig().cameras:
        return camera_bytes(i // 4)
    state = np.append(joints_at(i // 4), opening_at(i // 4))
    parts = {"joints": state[:6], "gripper_state": state[6:], "command": state, "stage": 0, "progress": 0.0}
    return parts[name]


def write_taxel_episode(root: Path, num_ticks: int = 40, references: bool = True) -> Path:
    """Record an episode as a recorder does: every stream at its own rate, through the aligner."""
    return record_taxels(root, num_ticks, references).finish(True)


def record_taxels(root: Path, num_ticks: int, references: bool = True) -> Recording:
    """The same, still in the making."""
    rig = taxel_rig()
    given = {name: np.full(spec.array.shape, 0.1, np.float32) for name, spec in rig.taxels.items()}
    told = {"task": "press", "instruction": "press", "sim": True, "references": given if references else None}
    recording = Recording(rig, EpisodeWriter(root, rig, **told))  # type: ignore[arg-type]
    for i in range(4 * num_ticks):
        stamp_ns = START_NS + i * STEP_NS
        for name, spec in rig.specs.items():
            if i % round(100 / spec.rate_hz) == 0:
                recording.push(Arrival(name, stamp_ns, stamp_ns + 1_000_000, value_at(name, i, stamp_ns)))
        recording.advance(stamp_ns, stamp_ns, heard=True)
    return recording
