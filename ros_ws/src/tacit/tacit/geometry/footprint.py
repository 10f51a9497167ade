"""Where a tactile sensor shows in an image: its 3-D box to a pixel box, visibility and flags.

The sensor frame sits in the centre of the gel face, z out of the gel; the box spans +-w/2, +-h/2
and z from -thickness to 0. `tacit.rig.scene` supplies poses, the recorder stores the result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tacit.geometry.camera import Camera
from tacit.geometry.transforms import FloatArray, invert, transform_points

IN_FRONT, INTERSECTS, FACES, FRESH = 1, 2, 4, 8
"""Bits of `flags`: any part beyond the near plane; box meets the image; gel faces the camera;
joints were fresh (set by the recorder)."""
NEAR_PLANE_M = 0.005
"""No lens focuses closer; 1/z of a box that straddles the camera plane would blow up."""
POINTS_PER_EDGE = 5
"""Distortion bends edges: five points follow a lens of k1 = -.35 to below a tenth of a pixel."""
EDGES = np.array(
    [[0, 1], [1, 2], [2, 3], [3, 0], [4, 5], [5, 6], [6, 7], [7, 4], [0, 4], [1, 5], [2, 6], [3, 7]]
)
MIN_VISIBILITY = 0.25
MIN_AREA_PX2 = 16.0
_BY_POSE = ("T_base_sensor", "size_m", "T_base_camera", "camera")
_BY_CORNERS = ("corners_base", "T_base_camera", "camera")
_ALONG = np.linspace(0.0, 1.0, POINTS_PER_EDGE)[:, None]


class Footprints(NamedTuple):
    """Footprints of N boxes: box (N, 4) f8, corners (N, 4, 2) f8, visibility (N,) f8, flags (N,) u1."""

    box: FloatArray
    corners: FloatArray
    visibility: FloatArray
    flags: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Footprint:
    """One sensor in one image.

    Attributes:
        box: (4,) x_min, y_min, x_max, y_max [px], NOT clipped to the image; NaN when nothing is in
            front of the camera.
        corners: (4, 2) pixels of the sensing face: (-x,-y), (+x,-y), (+x,+y), (-x,+y) in the sensor
            frame; NaN each when behind.
        visibility: Area of the box inside the image, divided by its area; 0 when behind.
        flags: `IN_FRONT | INTERSECTS | FACES`.
    """

    box: FloatArray
    corners: FloatArray
    visibility: float
    flags: int

    @property
    def status(self) -> str:
        """One of "behind", "outside", "clipped", "ok"."""
        if not self.flags & IN_FRONT:
            return "behind"
        if not self.flags & INTERSECTS:
            return "outside"
        return "ok" if self.visibility > 1 - 1e-9 else "clipped"


def box_corners(size_m: ArrayLike) -> FloatArray:
    """Return the corners (8, 3) of a sensor box in its own frame [m].

    Args:
        size_m: (width, height, thickness).

    Returns:
        Rows 0-3: sensing face at z = 0 in the order of `Footprint.corners`; rows 4-7: the same at
        z = -thickness.
    """
    width, height, thickness = np.asarray(size_m, dtype=np.float64)
    x, y = width / 2, height / 2
    face = np.array([[-x, -y, 0.0], [x, -y, 0.0], [x, y, 0.0], [-x, y, 0.0]])
    return np.vstack([face, face - [0.0, 0.0, thickness]])


@overload
def project_box(
    T_base_sensor: ArrayLike, size_m: ArrayLike, T_base_camera: ArrayLike, camera: Camera
) -> Footprint: ...


@overload
def project_box(corners_base: ArrayLike, T_base_camera: ArrayLike, camera: Camera) -> Footprint: ...


def project_box(*positional: Any, **named: Any) -> Footprint:
    """Return the footprint of one sensor, given by pose and size, or by its eight corners.

    Args:
        T_base_sensor: Sensor pose (4, 4).
        size_m: (width, height, thickness) [m].
        corners_base: Instead of both: corners (8, 3) in the order of `box_corners` [m].
        T_base_camera: Pose (4, 4) of the optical frame.
        camera: The lens.

    Raises:
        TypeError: Neither of the two forms.
        ValueError: Corners of another shape.
    """
    by_corners = "corners_base" in named or np.shape(positional[:1])[-1:] == (3,)
    form = _BY_CORNERS if by_corners else _BY_POSE
    given: dict[str, Any] = {**dict(zip(form, positional, strict=False)), **named}
    if len(positional) > len(form) or set(given) != set(form) or len(given) < len(positional) + len(named):
        raise TypeError(f"project_box: expected ({', '.join(_BY_POSE)}) or ({', '.join(_BY_CORNERS)})")
    if by_corners:
        corners = np.asarray(given["corners_base"], dtype=np.float64)
    else:
        corners = transform_points(given["T_base_sensor"], box_corners(given["size_m"]))
    if corners.shape != (8, 3):
        raise ValueError(f"corners_base of shape {corners.shape}, expected (8, 3)")
    seen = transform_points(invert(given["T_base_camera"]), corners)
    return footprint_at(project_boxes(seen[None], given["camera"]), 0)


def footprint_at(batch: Footprints, i: int) -> Footprint:
    """Return element `i` of a batch."""
    return Footprint(batch.box[i], batch.corners[i], float(batch.visibility[i]), int(batch.flags[i]))


def project_boxes(corners_camera: ArrayLike, camera: Camera) -> Footprints:
    """Return the footprints of N boxes at once.

    The 12 edges are cut at the near plane, five points of what is left of each are projected, those
    beyond the lens's fold-over are dropped, and min/max of the rest is the box.

    Args:
        corners_camera: Corners (N, 8, 3) in the optical frame [m], ordered as in `box_corners`.
        camera: The lens.
    """
    corners = np.asarray(corners_camera, dtype=np.float64)
    pixels = camera.project(points_in_front(corners, EDGES, NEAR_PLANE_M, _ALONG))
    box = _bounds(pixels.reshape(len(corners), math.prod(pixels.shape[1:-1]), 2))  # also of no boxes
    clipped = clip_box(box, camera.width, camera.height)
    area, inside = box_area(box), box_area(clipped)
    # Beyond the near plane at least one point is finite, unless all lie beyond the lens's fold: not in front.
    front = np.isfinite(box).all(axis=-1)
    visibility = np.divide(inside, area, out=np.zeros(len(corners)), where=front & (area > 0))
    flags = front * IN_FRONT + (front & (inside > 0)) * INTERSECTS + (front & _faces(corners)) * FACES
    # Edge k of the first four starts at corner k of the face.
    face = np.where(corners[:, :4, 2:] >= NEAR_PLANE_M, pixels[:, :4, 0], np.nan)
    return Footprints(box, face, np.minimum(visibility, 1.0), flags.astype(np.uint8))


def clip_box(box: ArrayLike, width: int, height: int) -> FloatArray:
    """Return boxes (..., 4) cut to the image, which spans -.5 .. width-.5 and -.5 .. height-.5."""
    box = np.asarray(box, dtype=np.float64)
    high = np.array([width, height, width, height]) - 0.5
    return np.minimum(np.maximum(box, -0.5), high)


def box_area(box: ArrayLike) -> FloatArray:
    """Return areas (...) [px^2] of boxes (..., 4); 0 for NaN."""
    box = np.asarray(box, dtype=np.float64)
    area = (box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1])
    return np.where(np.isfinite(area), np.maximum(area, 0.0), 0.0)


def valid_for_alignment(
    box: ArrayLike, corners: ArrayLike, visibility: ArrayLike, flags: ArrayLike, width: int, height: int
) -> np.bool_ | NDArray[np.bool_]:
    """Say whether a footprint is good enough to align touch with vision (HSA).

    Args:
        box: (..., 4) unclipped boxes.
        corners: (..., 4, 2) of the sensing face.
        visibility: (...).
        flags: (...) of integers.
        width: Width of the image [px].
        height: Height of the image [px].

    Returns:
        (...) True where part is in front, all corners are finite, at least a quarter is visible and
        the clipped area is at least 16 px^2.
    """
    in_front = (np.asarray(flags) & IN_FRONT) != 0
    finite = np.isfinite(np.asarray(corners, dtype=np.float64)).all(axis=(-1, -2))
    large = box_area(clip_box(box, width, height)) >= MIN_AREA_PX2
    return in_front & finite & (np.asarray(visibility) >= MIN_VISIBILITY) & large


def points_in_front(
    corners: FloatArray, edges: NDArray[np.intp], near_m: float, along: FloatArray
) -> FloatArray:
    """Return points (N, E, P, 3) on the parts of edges with z >= near; z = 0 where there is none.

    Args:
        corners: (N, C, 3) in the optical frame [m].
        edges: Which corners each edge joins (E, 2).
        near_m: The near plane [m].
        along: Where the points lie on what is left of an edge (P, 1), 0..1.
    """
    start, stop = corners[:, edges[:, 0]], corners[:, edges[:, 1]]
    z0, z1 = start[..., 2:], stop[..., 2:]
    # An edge parallel to the image plane never crosses it; any span other than 0 will do.
    span = np.where(z1 == z0, 1.0, z1 - z0)
    crossing = (near_m - z0) / span
    first = np.where(z0 >= near_m, 0.0, crossing)[..., None, :]
    last = np.where(z1 >= near_m, 1.0, crossing)[..., None, :]
    points = start[..., None, :] + (stop - start)[..., None, :] * (first + (last - first) * along)
    hidden = (np.maximum(z0, z1) < near_m)[..., None, :]
    return np.where(hidden, 0.0, points)


def _bounds(pixels: FloatArray) -> FloatArray:
    """Return min/max boxes (N, 4) of pixels (N, M, 2), ignoring NaN; NaN where nothing is left."""
    missing = np.isnan(pixels)
    low = np.where(missing, np.inf, pixels).min(axis=1)
    high = np.where(missing, -np.inf, pixels).max(axis=1)
    box = np.concatenate([low, high], axis=-1)
    return np.where(np.isfinite(box).all(axis=-1, keepdims=True), box, np.nan)


def _faces(corners: FloatArray) -> NDArray[np.bool_]:
    """Say (N,) whether the outward normal of the sensing face points to the camera's centre.

    The triple product of two face edges and a face corner: normal times corner.
    """
    origin = corners[:, 0]
    # Corners are ordered counter-clockwise about the outward normal; it faces us when it points against
    # the ray to the face, whose dot product is then negative.
    sides = np.stack([corners[:, 1] - origin, corners[:, 3] - origin, origin], axis=1)
    return np.linalg.det(sides) < 0
