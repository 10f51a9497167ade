"""A policy over a recorded episode: what it would have done, against what was done, by rows ahead.

The same bundle, episode and machine give the same bits. A small error here is no success in the world: an
episode never shows the states that a policy's own mistakes lead to.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from tacit.bundle.runtime import OnnxPolicy
from tacit.episode import EpisodeReader
from tacit.errors import BundleError, EpisodeError
from tacit.geometry.transforms import FloatArray
from tacit.progress.recorded import recorded_observation
from tacit.rig import Rig


@dataclass(frozen=True, eq=False)
class Replay:
    """What one policy says along one episode.

    Attributes:
        name: The bundle's file.
        bundle_sha256: Its hash.
        ticks: Where it was asked (N,).
        chunks: Its answers (N, K, S) [rad, gripper m].
        recorded: What was commanded then (N, K, S); NaN after the end of the episode.
        states: What was measured (N, S).
        median_ms: Time of one inference.
    """

    name: str
    bundle_sha256: str
    ticks: np.ndarray
    chunks: FloatArray
    recorded: FloatArray
    states: FloatArray
    median_ms: float

    @property
    def digest(self) -> str:
        """Hash of every bit of the answers."""
        return hashlib.sha256(np.ascontiguousarray(self.chunks).tobytes()).hexdigest()

    def error_by_horizon(self, columns: list[int]) -> FloatArray:
        """Return the mean absolute error (K,) of some elements, by rows ahead; NaN where nothing follows."""
        return _mean(np.abs(self.chunks - self.recorded)[:, :, columns])

    def standing_error_by_horizon(self, columns: list[int]) -> FloatArray:
        """Return the same (K,) of a policy that stays where it is."""
        return _mean(np.abs(self.states[:, None] - self.recorded)[:, :, columns])

    def inconsistency(self, columns: list[int]) -> float:
        """Return how far two answers in a row are apart where they overlap, on average."""
        apart = [
            np.abs(after[: len(before) - step] - before[step:])[:, columns].mean()
            for before, after, step in zip(self.chunks, self.chunks[1:], np.diff(self.ticks), strict=False)
            if step < len(before)
        ]
        return float(np.mean(apart)) if apart else float("nan")


def replay(policy: OnnxPolicy, reader: EpisodeReader, every: int = 1) -> Replay:
    """Ask a policy at every so many ticks of an episode.

    Args:
        policy: Bound to the episode's rig.
        reader: The episode, open.
        every: Ticks from one question to the next.

    Raises:
        BundleError: The episode lacks a stream, or its ticks come at another rate than the policy's.
        EpisodeError: It has no ticks.
    """
    manifest = policy.manifest
    if not reader.num_ticks:
        raise EpisodeError(f"{reader.path}: has no ticks")
    if abs(reader.fps / manifest.rate_hz - 1) > 0.01:
        raise BundleError(
            f"{policy.bundle.source}: acts at {manifest.rate_hz:g} Hz, but {reader.path} has "
            f"{reader.fps:g} ticks/s"
        )
    ticks = np.arange(0, reader.num_ticks, every)
    chunks = np.array([policy.act(recorded_observation(reader, manifest, int(tick))) for tick in ticks])
    index = ticks[:, None] + np.arange(manifest.chunk_size)
    action = np.append(reader.action.astype(np.float64), np.full((1, reader.action.shape[1]), np.nan), axis=0)
    return Replay(
        name=str(policy.bundle.source),
        bundle_sha256=policy.bundle.sha256,
        ticks=ticks,
        chunks=chunks.astype(np.float64),
        recorded=action[np.minimum(index, reader.num_ticks)],
        states=reader.qpos[ticks].astype(np.float64),
        median_ms=policy.stats.summary().p50_ms,
    )


def groups(rig: Rig) -> dict[str, list[int]]:
    """Return the elements of the state that are measured alike: joints [rad], grippers [m]."""
    grippers = list(rig.gripper_indices)
    joints = [i for i in range(len(rig.state_names)) if i not in grippers]
    return {"joints": joints} | ({"grippers": grippers} if grippers else {})


def _mean(errors: FloatArray) -> FloatArray:
    """Return the mean of errors (N, K, n) over all but rows (K,); NaN where there is none."""
    per_row = np.moveaxis(errors, 1, 0).reshape(errors.shape[1], -1)
    known = np.isfinite(per_row)
    total = np.where(known, per_row, 0.0).sum(axis=1)
    return np.divide(total, known.sum(axis=1), out=np.full(len(total), np.nan), where=known.any(axis=1))
