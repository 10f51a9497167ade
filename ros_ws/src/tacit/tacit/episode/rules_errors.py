"""Rules E02 to E11: what must hold in every episode. E01 is opening it, E12 looks between
episodes, E13 is in `rules_claims`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from fnmatch import fnmatch

import h5py
import numpy as np

from tacit.episode import schema
from tacit.episode.columns import datasets
from tacit.episode.findings import Audit, by_number
from tacit.episode.finish import content_sha256
from tacit.errors import ImageError
from tacit.geometry.footprint import IN_FRONT, box_area, clip_box
from tacit.images import decode_image
from tacit.images.depth import decode_depth
from tacit.images.encoded import is_complete
from tacit.rig.scene import RigGeometry, measured

Violations = Iterable[tuple[str, str]]

SAMPLED_IMAGES = 8
"""Images decoded per stream without `--full`: first, last, and six between."""
IMAGES_AT_ONCE = 64
"""Images read at a time where all are looked at: the rows of a chunk of the file."""
ROTATION_TOLERANCE = 1e-6
POSE_TOLERANCE = 1e-6
BOX_TOLERANCE_PX = 0.5
VISIBILITY_TOLERANCE = 1e-3
"""float32 boxes: areas of a pixel carry errors of 1e-4."""
LIMIT_TOLERANCE = 0.01
"""rad or m; encoders stand slightly beyond a stop."""
GAP_INTERVALS = 1.5


def lengths(audit: Audit) -> Violations:
    """E02: all per-tick datasets have the same number of rows."""
    ticks = audit.reader.num_ticks
    for path, dataset in datasets(audit.reader.file):
        if schema.axis_of(path) == "tick" and len(dataset) != ticks:
            yield path, f"{len(dataset)} rows, expected {ticks} as in /action"
    declared = audit.reader.file.attrs.get("num_ticks")
    if declared is not None and int(declared) != ticks:
        yield "num_ticks", f"attribute says {declared}, /action has {ticks} rows"


def stamps(audit: Audit) -> Violations:
    """E03: tick stamps increase, in steps within 50 % of 1/fps; noted gaps are W03's."""
    reader = audit.reader
    intervals = np.diff(reader.tick_ns)
    for i in np.flatnonzero(intervals <= 0)[:3]:
        yield f"tick {i + 1}", f"stamp {reader.tick_ns[i + 1]} is not after {reader.tick_ns[i]}"
    period = 1e9 / reader.fps
    gaps = [stamp for stamp, kind, _ in reader.events if kind == "gap"]
    short = np.flatnonzero((intervals > 0) & (intervals < 0.5 * period))
    long = [
        i for i in np.flatnonzero(intervals > GAP_INTERVALS * period) if not _noted(reader.tick_ns, i, gaps)
    ]
    for i in [*short[:3], *long[:3]]:
        yield f"tick {i + 1}", f"{intervals[i] / 1e6:.1f} ms after the last, expected {period / 1e6:.1f} ms"


def images(audit: Audit) -> Violations:
    """E04: images have their end marker, and decode to the declared size (a sample; all with `full`)."""
    for name, dataset in image_datasets(audit):
        expected = tuple(int(dataset.attrs.get(k, 0)) for k in ("height", "width", "channels"))
        count = len(dataset)
        chosen = (
            range(count) if audit.full else np.unique(np.linspace(0, count - 1, SAMPLED_IMAGES).astype(int))
        )
        index = audit.reader.timestamps(name)["index"]
        cut = _first_cut_off(dataset, index)
        if cut is not None:
            yield f"{name}, tick {cut}", "the end marker of the image is missing: it was cut off on its way"
            continue
        for i in chosen if count else ():
            if not len(dataset[i]) and index[i] < 0:
                continue  # an optional camera before its first frame
            problem = _image_problem(dataset[i], expected, name in audit.reader.depth_cameras)
            if problem:
                yield f"{name}, tick {i}", problem
                break


def finite(audit: Audit) -> Violations:
    """E05: joints, actions, poses, calibration and what taxels have said are finite numbers."""
    groups = (schema.QPOS, schema.ACTION, "action_sent", "observations/ee_pose", "camera_pose", "sensor_pose")
    for path, dataset in datasets(audit.reader.file):
        if path.startswith((*groups, "cameras/")) and not np.isfinite(dataset[()]).all():
            bad = np.argwhere(~np.isfinite(dataset[()]))[0].tolist()
            yield path, f"not finite at {bad}"
    for name in audit.reader.taxels:
        heard = audit.reader.timestamps(name)["index"] >= 0
        bad_ticks = ~np.isfinite(audit.reader.readings(name)).all(axis=(1, 2, 3)) & heard
        if bad_ticks.any():
            yield f"{schema.TAXELS}/{name}", f"not finite at tick {np.argmax(bad_ticks)}"


def rigid(audit: Audit) -> Violations:
    """E06: poses are rigid transforms."""
    file = audit.reader.file
    prefixes = ("observations/ee_pose", "camera_pose", "sensor_pose")
    poses = [(p, d[()]) for p, d in datasets(file) if p.startswith(prefixes) or fnmatch(p, "cameras/*/T")]
    poses += [
        (f"tactile/{s}", file[f"tactile/{s}"].attrs["T_mount"]) for s in measured(audit.reader.rig).sensors
    ]
    for path, T in poses:
        R = T[..., :3, :3]
        error = np.abs(np.swapaxes(R, -1, -2) @ R - np.eye(3)).max(initial=0.0)
        if not error < ROTATION_TOLERANCE:
            yield path, f"|R^T R - I| is {error:.1e}, expected below {ROTATION_TOLERANCE:.0e}"
        elif np.linalg.det(R).min(initial=1.0) < 0:
            yield path, "determinant -1, a mirror"
        elif not (T[..., 3, :] == [0, 0, 0, 1]).all():
            yield path, "last row is not [0, 0, 0, 1]"


def boxes(audit: Audit) -> Violations:
    """E07: boxes have an area exactly where the sensor is in front, and visibility follows from them."""
    reader = audit.reader
    for camera, sensor in pairs(audit):
        where = f"sensor_bbox/{camera}/{sensor}"
        box, visibility = reader.boxes(camera, sensor), reader.visibility(camera, sensor)
        whole = np.isfinite(box).all(axis=1)
        in_front = (reader.flags(camera, sensor) & IN_FRONT) > 0
        if not np.array_equal(whole, in_front):
            yield where, f"tick {np.flatnonzero(whole != in_front)[0]}: finite box and flag bit 0 disagree"
            continue
        if (box[whole, :2] >= box[whole, 2:]).any():
            yield where, "a box whose minimum is not below its maximum"
            continue
        if not ((visibility >= 0) & (visibility <= 1)).all():
            yield where, "visibility outside [0, 1]"
            continue
        spec = reader.rig.cameras[camera]
        inside = box_area(clip_box(box[whole], spec.width, spec.height))
        error = np.abs(inside / box_area(box[whole]) - visibility[whole]).max(initial=0.0)
        if error > VISIBILITY_TOLERANCE:
            yield where, f"visibility is {error:.3f} off the share of the box inside the image"


def geometry(audit: Audit) -> Violations:
    """E08: joints, K, D and T reproduce the stored poses (1e-6) and boxes (0.5 px)."""
    reader = audit.reader
    rig_geometry = RigGeometry(reader.rig)
    states = reader.qpos.astype(np.float64)
    for sensor, expected in rig_geometry.sensor_poses(states).items():
        error = np.abs(reader.sensor_pose(sensor) - expected).max(initial=0.0)
        if not error <= POSE_TOLERANCE:
            yield f"sensor_pose/{sensor}", f"{error:.1e} off the kinematics of /observations/qpos"
    for (camera, sensor), track in rig_geometry.footprint_tracks(states).items():
        stored = reader.boxes(camera, sensor)
        error = np.nanmax(np.abs(stored - track.box), initial=0.0)
        if error > BOX_TOLERANCE_PX or not np.array_equal(np.isnan(stored), np.isnan(track.box)):
            yield f"sensor_bbox/{camera}/{sensor}", f"{error:.2f} px off the projection of the sensor"


def identifiers(audit: Audit) -> Violations:
    """E09: identifiers are the hashes of what they identify (contents too with `full`)."""
    reader = audit.reader
    text = str(reader.attribute("calibration_yaml"))
    found = hashlib.sha256(text.encode()).hexdigest()
    declared = reader.attribute("calibration_id")
    if found != declared:
        yield "calibration_yaml", f"sha256 is {found[:12]}..., calibration_id says {str(declared)[:12]}..."
    if reader.rig.calibration_id != declared:
        yield "contract_yaml", "its geometric part is not the calibration of calibration_id"
    if audit.full and content_sha256(reader.file) != reader.attribute("content_sha256"):
        yield "content_sha256", "contents have changed since the episode was closed"


def limits(audit: Audit) -> Violations:
    """E10: joints stay within the limits of the rig."""
    reader = audit.reader
    lower, upper = reader.rig.limits("lower"), reader.rig.limits("upper")
    low, high = reader.qpos.min(axis=0, initial=np.inf), reader.qpos.max(axis=0, initial=-np.inf)
    for i in np.flatnonzero((low < lower - LIMIT_TOLERANCE) | (high > upper + LIMIT_TOLERANCE)):
        yield (
            reader.state_names[i],
            f"range {low[i]:.3f}..{high[i]:.3f}, limits {lower[i]:.3f}..{upper[i]:.3f}",
        )


def freshness(audit: Audit) -> Violations:
    """E11: sample indices never go back, and a fresh image or command is a new one."""
    reader = audit.reader
    for name in reader.file["timestamps"]:
        if name == "tick_ns":
            continue
        fields = reader.timestamps(name)
        steps = np.diff(fields["index"])
        fresh = fields["fresh"].astype(bool)
        if (steps < 0).any():
            yield name, f"tick {np.argmax(steps < 0) + 1}: the sample index goes back"
        elif name not in reader.rig.states and (fresh[1:] & (steps == 0)).any():
            yield name, f"tick {np.argmax(fresh[1:] & (steps == 0)) + 1}: a repeated sample is called fresh"


ERROR_RULES = by_number(
    lengths, stamps, images, finite, rigid, boxes, geometry, identifiers, limits, freshness
)


def pairs(audit: Audit) -> list[tuple[str, str]]:
    """Return every (camera, sensor) whose geometry is known."""
    known = measured(audit.reader.rig)
    return [(camera, sensor) for camera in known.cameras for sensor in known.sensors]


def image_datasets(audit: Audit) -> list[tuple[str, h5py.Dataset]]:
    """Return the encoded images by stream: cameras of colour and of depth, and tactile sensors."""
    reader, file = audit.reader, audit.reader.file
    cameras = [(name, file[f"{schema.IMAGES}/{name}"]) for name in reader.cameras]
    cameras += [(name, file[f"{schema.DEPTH}/{name}"]) for name in reader.depth_cameras]
    return cameras + [(name, file[f"observations/{name}"]) for name in reader.gels]


def _noted(tick_ns: np.ndarray, i: int | np.signedinteger, gaps: list[int]) -> bool:
    return any(tick_ns[i] < stamp <= tick_ns[i + 1] for stamp in gaps)


def _first_cut_off(dataset: h5py.Dataset, index: np.ndarray) -> int | None:
    """Return the first tick whose encoded image is not all there; None where all are, or are stored raw.

    Looking at the end of every image costs no decoding, and one such image stops a training.
    """
    if dataset.ndim > 1:
        return None
    for start in range(0, len(dataset), IMAGES_AT_ONCE):
        for tick, data in enumerate(dataset[start : start + IMAGES_AT_ONCE], start=start):
            if not is_complete(data) and (len(data) or index[tick] >= 0):
                return tick
    return None


def _image_problem(data: np.ndarray, expected: tuple[int, ...], depth: bool) -> str:
    try:
        shape = (*decode_depth(data).shape, 1) if depth else decode_image(data).shape
    except ImageError as problem:
        return str(problem)
    return "" if shape == expected else f"decodes to {shape}, declared {expected}"
