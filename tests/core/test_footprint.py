"""A sensor's box in an image: where the pinhole puts it, cut at the near plane, NaN when behind."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tacit.geometry.camera import FisheyeCamera, PinholeCamera
from tacit.geometry.footprint import (
    EDGES,
    FACES,
    IN_FRONT,
    INTERSECTS,
    NEAR_PLANE_M,
    box_area,
    box_corners,
    project_box,
    project_boxes,
    valid_for_alignment,
)
from tacit.geometry.rotations import rotation_from_rpy
from tacit.geometry.transforms import from_quaternion, from_rotation, from_translation

K = np.array([[300.0, 0, 159.5], [0, 300.0, 119.5], [0, 0, 1]])
PINHOLE = PinholeCamera(K, (), 320, 240)
BARREL = PinholeCamera(K, (-0.35, 0, 0, 0), 320, 240)
SIZE = (0.02, 0.024, 0.008)
TOWARDS_CAMERA = rotation_from_rpy([np.pi, 0, 0])  # z out of the gel = -z of the optical frame

unit_quaternions = (
    arrays(np.float64, 4, elements=st.floats(-1, 1))
    .filter(lambda q: np.linalg.norm(q) > 0.1)
    .map(lambda q: q / np.linalg.norm(q))
)
places = st.tuples(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3), st.floats(-0.3, 0.6))
poses = st.builds(from_quaternion, unit_quaternions, places)
sizes = st.tuples(*[st.floats(0.003, 0.06)] * 3)


def seen(T_camera_sensor, size=SIZE, camera=PINHOLE):
    return project_box(T_camera_sensor, size, np.eye(4), camera)


def dense_box(T_camera_sensor, size, camera) -> np.ndarray:
    """Another route: 4000 points per edge, those before the near plane dropped."""
    corners = box_corners(size) @ T_camera_sensor[:3, :3].T + T_camera_sensor[:3, 3]
    t = np.linspace(0, 1, 4000)[:, None]
    points = np.concatenate([corners[a] + t * (corners[b] - corners[a]) for a, b in EDGES])
    pixels = camera.project(points[points[:, 2] >= NEAR_PLANE_M])
    return np.concatenate([np.nanmin(pixels, axis=0), np.nanmax(pixels, axis=0)])


def test_a_flat_face_lies_where_the_pinhole_says():
    print_ = seen(from_rotation(TOWARDS_CAMERA, [0.01, -0.02, 0.2]), (0.02, 0.024, 1e-9))
    u, v = 159.5 + 300 * np.array([0.0, 0.02]) / 0.2, 119.5 + 300 * np.array([-0.032, -0.008]) / 0.2
    np.testing.assert_allclose(print_.box, [u[0], v[0], u[1], v[1]], atol=1e-5)
    # Corners follow the sensor's own axes: its y points up in this image.
    np.testing.assert_allclose(
        print_.corners, [[u[0], v[1]], [u[1], v[1]], [u[1], v[0]], [u[0], v[0]]], atol=1e-9
    )
    assert print_.flags == IN_FRONT | INTERSECTS | FACES
    assert print_.visibility == 1.0
    assert print_.status == "ok"


def test_the_box_lies_behind_its_face():
    corners = box_corners(SIZE)
    np.testing.assert_array_equal(corners[:4, 2], 0)
    np.testing.assert_array_equal(corners[4:, 2], -0.008)
    assert np.ptp(corners[:, 0]) == pytest.approx(0.02)
    assert np.ptp(corners[:, 1]) == pytest.approx(0.024)


def test_box_is_empty_when_sensor_is_behind_camera():
    print_ = seen(from_translation([0, 0, -0.2]))
    assert np.isnan(print_.box).all()
    assert np.isnan(print_.corners).all()
    assert (print_.flags, print_.visibility, print_.status) == (0, 0.0, "behind")


def test_a_box_across_the_camera_plane_is_cut_and_stays_bounded():
    upright = from_rotation(rotation_from_rpy([np.pi / 2, 0, 0]), [0.004, 0, 0.0])
    print_ = seen(upright)
    assert print_.flags & IN_FRONT
    assert np.isfinite(print_.box).all()
    assert np.isnan(print_.corners).any(axis=-1).sum() == 2  # two face corners are behind
    # Cut at 5 mm: nothing can lie further out than the largest |x| / 5 mm.
    assert np.abs(print_.box[[0, 2]] - 159.5).max() <= 300 * 0.014 / NEAR_PLANE_M + 1e-6


def test_half_a_box_outside_is_half_visible():
    half_out = from_rotation(TOWARDS_CAMERA, [-160 * 0.2 / 300, 0, 0.2])
    print_ = seen(half_out, (0.02, 0.024, 1e-9))
    assert print_.visibility == pytest.approx(0.5, abs=1e-6)
    assert print_.status == "clipped"


def test_a_box_beside_the_image_does_not_intersect():
    print_ = seen(from_rotation(TOWARDS_CAMERA, [0.3, 0, 0.2]))
    assert print_.flags == IN_FRONT | FACES
    assert (print_.visibility, print_.status) == (0.0, "outside")
    assert print_.box[0] > 320  # unclipped


def test_a_gel_that_looks_away_does_not_face_the_camera():
    away = seen(from_translation([0, 0, 0.2]))
    assert not away.flags & FACES
    assert away.flags & IN_FRONT


@settings(max_examples=60, deadline=None)
@given(poses, sizes)
def test_box_is_that_of_thousands_of_points(T, size):
    print_ = seen(T, size)
    corners = box_corners(size) @ T[:3, :3].T + T[:3, 3]
    if corners[:, 2].max() < NEAR_PLANE_M + 1e-6:
        return
    # The dense route misses the near-plane crossing by up to one step of z.
    step = np.ptp(corners[:, 2]) / 4000
    extent = 2 * (np.nanmax(np.abs(print_.box)) + 320)
    np.testing.assert_allclose(
        print_.box, dense_box(T, size, PINHOLE), atol=1e-6 + extent * step / NEAR_PLANE_M
    )


@settings(max_examples=60, deadline=None)
@given(poses, sizes)
def test_flags_visibility_and_box_tell_one_story(T, size):
    for camera in (PINHOLE, BARREL):
        print_ = seen(T, size, camera)
        assert np.isfinite(print_.box).all() == bool(print_.flags & IN_FRONT)
        assert 0.0 <= print_.visibility <= 1.0
        assert (print_.visibility > 0) <= bool(print_.flags & INTERSECTS)
        if print_.flags & IN_FRONT:
            assert print_.box[0] <= print_.box[2]
            assert print_.box[1] <= print_.box[3]
            inside = print_.corners[np.isfinite(print_.corners).all(axis=-1)]
            assert (inside >= print_.box[:2] - 1e-6).all()
            assert (inside <= print_.box[2:] + 1e-6).all()


@given(poses, unit_quaternions, places)
def test_moving_camera_and_sensor_together_changes_nothing(T_camera_sensor, q, xyz):
    T_base_camera = from_quaternion(q, xyz)
    moved = project_box(T_base_camera @ T_camera_sensor, SIZE, T_base_camera, PINHOLE)
    here = seen(T_camera_sensor)
    corners = box_corners(SIZE) @ T_camera_sensor[:3, :3].T + T_camera_sensor[:3, 3]
    if np.abs(corners[:, 2] - NEAR_PLANE_M).min() < 1e-6:
        return  # a corner on the near plane may fall to either side
    np.testing.assert_allclose(moved.box, here.box, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(moved.corners, here.corners, rtol=1e-6, atol=1e-6)


def test_bent_edges_are_followed_to_a_tenth_of_a_pixel():
    T = from_rotation(TOWARDS_CAMERA, [0.06, 0.05, 0.2])
    np.testing.assert_allclose(
        seen(T, (0.05, 0.05, 0.01), BARREL).box, dense_box(T, (0.05, 0.05, 0.01), BARREL), atol=0.1
    )


def test_points_beyond_the_fold_do_not_come_back_into_the_image():
    far_out = from_rotation(TOWARDS_CAMERA, [0.6, 0, 0.2])  # 72 degrees off; this lens folds at 44
    assert seen(far_out, camera=BARREL).status == "behind"
    assert seen(far_out).status == "outside"


def test_fisheye_sees_wider():
    wide = FisheyeCamera(np.array([[80.0, 0, 159.5], [0, 80.0, 119.5], [0, 0, 1]]), (), 320, 240)
    print_ = seen(from_rotation(TOWARDS_CAMERA, [0.4, 0, 0.2]), (0.01, 0.01, 1e-9), wide)
    assert print_.box[0] == pytest.approx(159.5 + 80 * np.arctan(0.395 / 0.2), abs=0.2)


def test_batch_equals_one_by_one():
    rng = np.random.default_rng(0)
    T = np.stack([from_quaternion(rng.normal(size=4), rng.uniform(-0.3, 0.4, 3)) for _ in range(50)])
    corners = box_corners(SIZE) @ np.swapaxes(T[:, :3, :3], 1, 2) + T[:, None, :3, 3]
    batch = project_boxes(corners, BARREL)
    for i in range(50):
        one = project_box(corners[i], np.eye(4), BARREL)
        np.testing.assert_array_equal(batch.box[i], one.box)
        np.testing.assert_array_equal(batch.corners[i], one.corners)
        assert (batch.visibility[i], batch.flags[i]) == (one.visibility, one.flags)


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        ({}, True),
        ({"flags": INTERSECTS | FACES}, False),
        ({"corners": np.full((4, 2), np.nan)}, False),
        ({"visibility": 0.24}, False),
        ({"visibility": 0.25}, True),
        ({"box": [10, 10, 13.9, 14]}, False),
        ({"box": [10, 10, 14, 14]}, True),
        ({"box": [-100, 10, 2, 14]}, False),  # 2.5 x 4 px are left inside
    ],
)
def test_alignment_asks_for_a_quarter_and_sixteen_pixels(change, valid):
    good = {"box": [10, 10, 30, 40], "corners": np.ones((4, 2)), "visibility": 0.5, "flags": 7}
    assert bool(valid_for_alignment(**(good | change), width=320, height=240)) is valid


def test_each_row_of_a_batch_is_judged_by_itself():
    corners = np.zeros((3, 4, 2))
    corners[1, 2, 0] = np.nan
    boxes = [[100.0, 100, 140, 140]] * 3
    found = valid_for_alignment(boxes, corners, [1.0] * 3, [IN_FRONT, IN_FRONT, 0], 320, 240)
    np.testing.assert_array_equal(found, [True, False, False])


def test_an_unseen_or_inverted_box_has_no_area():
    boxes = [[np.nan] * 4, [5.0, 0, 2, 4], [0.0, 0, 2, 4]]
    np.testing.assert_array_equal(box_area(boxes), [0.0, 0.0, 8.0])


def test_pose_and_corners_are_two_ways_to_say_one_box():
    T, T_camera = from_rotation(TOWARDS_CAMERA, [0.01, 0, 0.3]), from_translation([0, 0.02, -0.1])
    corners = box_corners(SIZE) @ T[:3, :3].T + T[:3, 3]
    by_pose = project_box(T, SIZE, T_camera, PINHOLE)
    for found in (
        project_box(corners, T_camera, PINHOLE),
        project_box(corners_base=corners, T_base_camera=T_camera, camera=PINHOLE),
        project_box(T_base_sensor=T, size_m=SIZE, T_base_camera=T_camera, camera=PINHOLE),
        project_box(T, SIZE, T_base_camera=T_camera, camera=PINHOLE),
    ):
        np.testing.assert_array_equal(found.box, by_pose.box)


def test_half_a_description_is_refused():
    with pytest.raises(ValueError, match=r"expected \(8, 3\)"):
        project_box(np.zeros((4, 3)), np.eye(4), PINHOLE)
    for arguments in ((np.eye(4), SIZE), (np.eye(4), SIZE, np.eye(4), PINHOLE, 1)):
        with pytest.raises(TypeError, match="T_base_sensor, size_m"):
            project_box(*arguments)
    with pytest.raises(TypeError, match="corners_base"):
        project_box(np.eye(4), SIZE, camera=PINHOLE)
