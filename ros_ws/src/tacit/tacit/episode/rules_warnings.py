"""Rules W01 to W14: what is worth a look.

W08 and W11 look between episodes and are in `audit`; W15 is in `rules_claims`.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Collection, Iterable
from contextlib import suppress

import cv2
import h5py
import numpy as np

from tacit.episode.findings import Audit, by_number
from tacit.episode.rules_errors import GAP_INTERVALS, SAMPLED_IMAGES, image_datasets
from tacit.errors import ImageError
from tacit.images import decode_image
from tacit.images.depth import decode_depth
from tacit.streams.pictures import BLACK_LEVEL, BLIND_FRACTION, RING

Violations = Iterable[tuple[str, str]]

STALE_SHARE = 0.02
GAP_WARNING_MS, GAP_ERROR_MS = 100.0, 1000.0
EMPTY_BYTES, EMPTY_BYTES_PER_PIXEL = 200, 0.01
"""A depth PNG of zeros is smaller than this (1457 bytes at VGA), one of a scene is many times larger."""
BLUR_VARIANCE = 5.0
"""Variance of the Laplacian of a grey image; sharp VGA scenes are above 100, a defocused lens below 5."""
JUMP_MADS = 10.0
IDLE_RAD, IDLE_SHARE = 0.005, 0.25
GRIPPER_RANGE_M = 0.002
MAX_LAG_S = 0.5
LOST_SHARE = 0.01
"""One message in a hundred is what a wireless link or a single hiccup costs; ticks hold that."""


def skew(audit: Audit) -> Violations:
    """W01: images lie within half a period of their tick (95th percentile)."""
    for name, spec in _images_and_states(audit):
        offset = np.abs(audit.reader.timestamps(name)["stamp_ns"] - audit.reader.tick_ns)
        p95 = float(np.percentile(offset, 95)) / 1e6
        if p95 > 500.0 / spec:
            yield (
                name,
                f"95 % of stamps within {p95:.1f} ms of the tick, half a period is {500 / spec:.1f} ms",
            )


def stale(audit: Audit) -> Violations:
    """W02: at most 2 % of the ticks hold an old sample, beyond those that a slower stream leaves."""
    for name, rate_hz in _images_and_states(audit):
        share = 1.0 - float(np.mean(audit.reader.timestamps(name)["fresh"]))
        allowed = STALE_SHARE + max(0.0, 1.0 - rate_hz / audit.reader.fps)
        if share > allowed:
            yield name, f"{share:.1%} of the ticks hold an old sample, expected at most {allowed:.0%}"


def gaps(audit: Audit) -> Violations:
    """W03: no hole above 100 ms in the ticks or in a required stream (an error from 1 s)."""
    reader = audit.reader
    longest = {"ticks": float(np.diff(reader.tick_ns).max(initial=0)) / 1e6}
    for name, rate_hz in _images_and_states(audit):
        found = float(reader.drops.get(name, {}).get("longest_gap_ms", 0.0))
        if found > GAP_INTERVALS * 1e3 / rate_hz:
            longest[name] = found
    for name, gap_ms in longest.items():
        if gap_ms > GAP_WARNING_MS:
            yield name, f"longest gap {gap_ms:.0f} ms"


def pictures(audit: Audit) -> Violations:
    """W04: images are neither frozen, nor black, nor blurred."""
    for name, dataset in image_datasets(audit):
        if not len(dataset):
            continue
        frozen = _frozen_since(audit, name, dataset)
        if frozen is not None:
            count = audit.reader.rig.images[name].frozen_after
            yield name, f"the same image in {count} fresh frames from tick {frozen}"
        chosen = np.unique(np.linspace(0, len(dataset) - 1, SAMPLED_IMAGES).astype(int))
        if name in audit.reader.depth_cameras:
            empty = _first_without_depth(dataset, chosen.tolist(), audit.full)
            if empty is not None:
                yield name, f"tick {empty}: no pixel holds a distance"
            continue  # zeros in a depth image are holes, not darkness
        grey = [g for i in chosen if (g := _grey(dataset[i])) is not None]
        if grey and np.mean([np.mean(g < BLACK_LEVEL) for g in grey]) > BLIND_FRACTION:
            yield name, f"black: more than {BLIND_FRACTION:.0%} of the pixels below {BLACK_LEVEL}"
        elif grey and name in audit.reader.cameras:
            sharpness = float(np.median([cv2.Laplacian(g, cv2.CV_64F).var() for g in grey]))
            if sharpness < BLUR_VARIANCE:
                yield name, f"blurred: Laplacian variance {sharpness:.1f}, expected above {BLUR_VARIANCE}"


def constant(audit: Audit) -> Violations:
    """W05: every dimension of state and action moves."""
    reader = audit.reader
    for label, rows in (("qpos", reader.qpos), ("action", reader.action)):
        still = np.flatnonzero(np.ptp(rows, axis=0) == 0.0)
        if len(still):
            yield label, "constant: " + ", ".join(reader.state_names[i] for i in still)


def jumps(audit: Audit) -> Violations:
    """W06: no action of a joint jumps far beyond its usual step and its speed limit."""
    reader = audit.reader
    steps = np.abs(np.diff(reader.action.astype(np.float64), axis=0))
    median = np.median(steps, axis=0)
    spread = 1.4826 * np.median(np.abs(steps - median), axis=0)
    seconds = np.diff(reader.tick_ns)[:, None] / 1e9
    fast = (steps > median + JUMP_MADS * spread) & (steps > reader.rig.limits("velocity") * seconds)
    fast[:, list(reader.rig.gripper_indices)] = False  # grippers are opened and closed by steps
    for joint in np.flatnonzero(fast.any(axis=0)):
        tick = int(np.argmax(fast[:, joint]))
        step = steps[tick, joint]
        yield reader.state_names[joint], f"action jumps by {step:.3f} rad at tick {tick + 1}"


def idle(audit: Audit) -> Violations:
    """W07: the robot does not stand still for a quarter of the episode at its start or end."""
    qpos = audit.reader.qpos
    for label, rows in (("start", qpos), ("end", qpos[::-1])):
        moved = np.abs(rows - rows[0]).max(axis=1) > IDLE_RAD
        share = float(np.argmax(moved)) / len(rows) if moved.any() else 1.0
        if share > IDLE_SHARE:
            yield label, f"idle for {share:.0%} of the episode"


def labels(audit: Audit) -> Violations:
    """W09: the episode says what was to be done and whether it was."""
    if audit.reader.success is None:
        yield "success", "unlabelled"
    if not audit.reader.instruction:
        yield "language_instruction", "empty"


def references(audit: Audit) -> Violations:
    """W10: of each tactile sensor it is known what it says without contact."""
    for sensor in audit.reader.tactile:
        if audit.reader.reference(sensor) is None:
            yield sensor, "no reference without contact; record one at the start of a session"


def lag(audit: Audit) -> Violations:
    """W12: the state follows the action, by less than half a second."""
    seconds = action_lag_s(audit)
    if seconds is not None and not 0.0 <= seconds <= MAX_LAG_S:
        yield (
            "action",
            f"the state follows the action by {seconds * 1e3:.0f} ms, expected 0..{MAX_LAG_S * 1e3:.0f}",
        )


def grippers(audit: Audit) -> Violations:
    """W13: every gripper moves."""
    reader = audit.reader
    for i in reader.rig.gripper_indices:
        travel = float(np.ptp(reader.qpos[:, i]))
        if travel < GRIPPER_RANGE_M:
            yield reader.state_names[i], f"never moves ({travel * 1e3:.1f} mm)"


def losses(audit: Audit) -> Violations:
    """W14: nothing that was sent was lost on the way, or by the recorder itself."""
    for name, found in audit.reader.drops.items():
        own, way = int(found.get("lost_queue", 0)), int(found.get("lost_middleware", 0))
        if own:
            yield name, f"{own} messages lost in the recorder's own queues: the computer was too busy"
        if way > LOST_SHARE * found.get("expected", 0):
            yield (
                name,
                f"{way} of {int(found['expected'])} messages never arrived; network, or a busy computer",
            )
    absences = [data for _, kind, data in audit.reader.events if kind == "late_intake"]
    if absences:
        longest_ms = max(float(data["ms"]) for data in absences)  # type: ignore[index]
        yield "recorder", f"did not run {len(absences)} times, for up to {longest_ms:.0f} ms; a busy computer"


WARNING_RULES = by_number(
    skew, stale, gaps, pictures, constant, jumps, idle, labels, references, lag, grippers, losses
)


def action_lag_s(audit: Audit) -> float | None:
    """Return by how much the state follows the action [s]: the shift of the best correlation of
    their speeds over all joints that move; None when nothing moves or the episode is short."""
    reader = audit.reader
    most = round(MAX_LAG_S * reader.fps) + 1
    action, qpos = (np.diff(rows.astype(np.float64), axis=0) for rows in (reader.action, reader.qpos))
    moving = (action.std(axis=0) > 1e-6) & (qpos.std(axis=0) > 1e-6)
    if len(action) < 4 * most or not moving.any():
        return None
    action = action[:, moving] / action[:, moving].std(axis=0)
    qpos = qpos[:, moving] / qpos[:, moving].std(axis=0)
    span = slice(most, len(action) - most)
    scores = {
        k: float(np.mean(action[span] * qpos[most + k : len(qpos) - most + k])) for k in range(-most, most)
    }
    return max(scores, key=lambda k: scores[k]) / reader.fps


def _images_and_states(audit: Audit) -> list[tuple[str, float]]:
    """Return (stream, rate Hz) of cameras, touch sensors and states that have been seen."""
    rig = audit.reader.rig
    specs = {**rig.images, **rig.taxels, **rig.states}
    seen = [name for name in specs if (audit.reader.timestamps(name)["index"] >= 0).any()]
    return [(name, specs[name].rate_hz) for name in seen]


def _frozen_since(audit: Audit, name: str, dataset: object) -> int | None:
    """Return the first tick of so many fresh frames as are frozen, says the rig: the same few bytes in turn.

    The same for simulated sensors, which have noise; a scene that was drawn without looks frozen indeed.
    """
    frames = audit.reader.rig.images[name].frozen_after
    ticks = np.flatnonzero(audit.reader.timestamps(name)["fresh"])
    before: deque[bytes] = deque(maxlen=RING)
    run = 0
    for tick in ticks:
        digest = hashlib.sha256(dataset[tick].tobytes()).digest()  # type: ignore[index]
        run = run + 1 if digest in before else 1
        before.append(digest)
        if run >= frames:
            return int(ticks[np.searchsorted(ticks, tick) - frames + 1])
    return None


def _first_without_depth(dataset: h5py.Dataset, sampled: Collection[int], full: bool) -> int | None:
    """Return the first tick whose depth image is empty; what does not decode is E04's finding.

    An empty image has few bytes: those with few are decoded beside the sampled ones.
    """
    few = EMPTY_BYTES + EMPTY_BYTES_PER_PIXEL * int(dataset.attrs["height"]) * int(dataset.attrs["width"])
    for tick in range(len(dataset)):
        data = dataset[tick]
        if not (full or tick in sampled or len(data) < few):
            continue
        with suppress(ImageError):
            if not decode_depth(data).any():
                return tick
    return None


def _grey(data: np.ndarray) -> np.ndarray | None:
    """Return the grey image, or None where it does not decode (that is E04's finding)."""
    try:
        return cv2.cvtColor(decode_image(data), cv2.COLOR_RGB2GRAY)
    except ImageError:
        return None
