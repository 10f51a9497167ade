"""What an episode is like in numbers that can be held against others of its task: `measure`.

Pictures are measured at a few ticks, spread evenly; everything else over the whole episode.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.episode.findings import Audit
from tacit.episode.reader import EpisodeReader
from tacit.episode.rules_warnings import action_lag_s
from tacit.errors import ImageError, TacitError
from tacit.images import decode_image

PICTURES = 6
CONTACT_TICKS = 24
PATH_POINTS = 32
THUMBNAIL = (24, 32)
STILL_RAD_S, STILL_M_S = 0.01, 0.002
"""Slower than this nothing moves: encoders and servos of small arms alone show as much."""
CONTACT_LEVELS = 6.0
"""Change of a hundredth of the touch image from no contact [grey levels]; sensors at rest show 1 to 3."""
CONTACT_PERCENTILE = 99.0
CONTACT_SHARE = 0.05
"""Change of a taxel from no contact, as a part of its range; those at rest show a hundredth."""


@dataclass(frozen=True)
class Measures:
    """What one episode is like.

    Attributes:
        values: Single numbers by name: seconds, jerk [rad/s^3], pauses, contact and unboxed (shares of the
            ticks), lag [ms]; brightness and sharpness of each camera. What it does not have is absent.
        path: State at `PATH_POINTS` even times (P, S) [rad, m].
        begin: Small grey pictures of the cameras at the first tick, in a row (n,).
        end: The same at the last tick.
        touched: Whether something is touched at `CONTACT_TICKS` even times (n,), without sensors (0,).
        steps: Names of the annotated steps, in order.
        stamps_ns: First and last tick.
    """

    values: dict[str, float]
    path: NDArray[np.float32]
    begin: NDArray[np.float32]
    end: NDArray[np.float32]
    touched: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    steps: tuple[str, ...] = ()
    stamps_ns: tuple[int, int] = (0, 0)


def measure(path: str | Path) -> Measures | None:
    """Measure an episode; None where it cannot be read, or is none of ours (that is E01's finding)."""
    try:
        with EpisodeReader(path) as reader:
            if reader.is_foreign or reader.num_ticks < 2:
                return None
            return _measure(reader)
    except (TacitError, KeyError, ValueError, OSError):
        return None


def _measure(reader: EpisodeReader) -> Measures:
    touched = _touched(reader)
    values = dict(_motion(reader)) | dict(_pictures(reader))
    if len(touched):
        values["contact"] = float(touched.mean())
    boxed = _boxed(reader)
    if boxed is not None:
        values["unboxed"] = 1.0 - float(boxed.mean())
    lag_s = action_lag_s(Audit(reader))
    if lag_s is not None:
        values["lag"] = 1e3 * lag_s
    points = np.linspace(0, reader.num_ticks - 1, PATH_POINTS).round().astype(int)
    return Measures(
        values=values,
        path=reader.qpos[points],
        begin=_thumbnails(reader, 0),
        end=_thumbnails(reader, reader.num_ticks - 1),
        touched=touched,
        steps=tuple(dict.fromkeys(step.name for step in reader.steps)),
        stamps_ns=(int(reader.tick_ns[0]), int(reader.tick_ns[-1])),
    )


def _motion(reader: EpisodeReader) -> Iterator[tuple[str, float]]:
    """How long, how smooth, how often it stands still."""
    q, fps = reader.qpos.astype(np.float64), reader.fps
    yield "seconds", float(np.ptp(reader.tick_ns)) / 1e9
    grippers = list(reader.rig.gripper_indices)
    joints = [i for i in range(q.shape[1]) if i not in grippers]
    if len(q) > 3 and joints:
        jerk = np.diff(q[:, joints], n=3, axis=0) * fps**3
        yield "jerk", float(np.sqrt(np.mean(jerk**2)))
    limits = np.full(q.shape[1], STILL_RAD_S)
    limits[grippers] = STILL_M_S
    yield "pauses", float((np.abs(np.diff(q, axis=0)) * fps < limits).all(axis=1).mean())


def _pictures(reader: EpisodeReader) -> Iterator[tuple[str, float]]:
    """How bright and how sharp each camera is, in the median of a few pictures."""
    ticks = np.unique(np.linspace(0, reader.num_ticks - 1, PICTURES).astype(int))
    for camera in reader.cameras:
        grey = [g for tick in ticks if (g := _grey(reader, camera, int(tick))) is not None]
        if grey:
            yield f"brightness of {camera}", float(np.median([g.mean() for g in grey]))
            sharp = np.median([cv2.Laplacian(g, cv2.CV_64F).var() for g in grey])
            yield f"sharpness of {camera}", float(sharp)


def _touched(reader: EpisodeReader) -> NDArray[np.float32]:
    """Whether any sensor differs from what it says without contact, at a few ticks."""
    ticks = np.linspace(0, reader.num_ticks - 1, CONTACT_TICKS).round().astype(int)
    contacts = [
        [_change(reader.touch(name, int(tick)), image) > CONTACT_LEVELS for tick in ticks]
        for name in reader.gels
        if (image := reader.reference(name)) is not None
    ]
    for name in reader.taxels:
        offset, array = reader.reference(name), reader.rig.taxels[name].array
        if offset is not None:
            change = np.abs(reader.readings(name)[ticks] - offset) / (array.high - array.low)
            contacts.append((change.max(axis=(1, 2, 3)) > CONTACT_SHARE).tolist())
    return np.any(contacts, axis=0).astype(np.float32) if contacts else np.zeros(0, np.float32)


def _change(image: NDArray[np.uint8], reference: NDArray[np.uint8]) -> float:
    """Return how much the most changed hundredth of a touch image differs [grey levels]."""
    change = cv2.blur(cv2.absdiff(image, reference), (5, 5))  # JPEG noise is not contact
    return float(np.percentile(change, CONTACT_PERCENTILE))


def _boxed(reader: EpisodeReader) -> NDArray[np.bool_] | None:
    """Whether any sensor has a box in any camera (T,); None of a robot without touch."""
    pairs = [
        np.isfinite(reader.boxes(camera, sensor)).all(axis=1) & (reader.visibility(camera, sensor) > 0)
        for camera in (*reader.cameras, *reader.depth_cameras)
        for sensor in reader.tactile
        if reader.is_located(camera, sensor)
    ]
    return np.any(pairs, axis=0) if pairs else None


def _thumbnails(reader: EpisodeReader, tick: int) -> NDArray[np.float32]:
    """Return all cameras at a tick as small grey pictures in a row (n,); mid grey where one is damaged."""
    height, width = THUMBNAIL
    rows = []
    for camera in reader.cameras:
        grey = _grey(reader, camera, tick)
        blank = np.full(THUMBNAIL, 128, np.uint8)
        small = blank if grey is None else cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
        rows.append(np.asarray(small, np.float32).reshape(-1))
    return np.concatenate(rows) if rows else np.zeros(0, np.float32)


def _grey(reader: EpisodeReader, camera: str, tick: int) -> NDArray[np.uint8] | None:
    """Return the grey image, or None where it does not decode (that is E04's finding)."""
    try:
        (image,) = reader.pictures(camera, slice(tick, tick + 1), decode_image)
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    except (TacitError, ImageError):
        return None
