"""Rigid transforms and rotations obey the group laws and agree with scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation, Slerp

from tacit.geometry import rotations as rot
from tacit.geometry import transforms as tf

components = st.floats(-1.0, 1.0, allow_subnormal=False)
lengths = st.floats(-3.0, 3.0, allow_subnormal=False)
quaternions = arrays(np.float64, 4, elements=components).filter(lambda q: np.linalg.norm(q) > 0.1)
unit_quaternions = quaternions.map(lambda q: q / np.linalg.norm(q))
vectors = arrays(np.float64, 3, elements=lengths)
poses = st.builds(tf.from_quaternion, unit_quaternions, vectors)


@given(poses)
def test_a_pose_times_its_inverse_is_the_identity(T):
    np.testing.assert_allclose(T @ tf.invert(T), np.eye(4), atol=1e-12)


@given(poses, poses, vectors)
def test_chains_cancel(T_a_b, T_b_c, p_c):
    through_b = tf.transform_points(T_a_b, tf.transform_points(T_b_c, p_c[None]))
    np.testing.assert_allclose(tf.transform_points(T_a_b @ T_b_c, p_c[None]), through_b, atol=1e-11)


@given(quaternions)
def test_matrix_of_a_quaternion_is_scipys(q):
    np.testing.assert_allclose(rot.rotation_from_quaternion(q), Rotation.from_quat(q).as_matrix(), atol=1e-12)


@given(unit_quaternions)
def test_quaternion_of_a_matrix_goes_back_and_has_w_above_zero(q):
    back = rot.rotation_to_quaternion(rot.rotation_from_quaternion(q))
    assert back[3] >= 0
    np.testing.assert_allclose(abs(back @ q), 1.0, atol=1e-12)


@pytest.mark.parametrize("axis", [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.6, 0.8, 0]])
def test_a_half_turn_keeps_its_axis_as_a_quaternion(axis):
    R = Rotation.from_rotvec(np.pi * np.array(axis)).as_matrix()
    q = rot.rotation_to_quaternion(R)
    np.testing.assert_allclose(np.abs(q), [*np.abs(axis), 0], atol=1e-12)


@given(arrays(np.float64, 3, elements=st.floats(-3.1, 3.1)))
def test_rpy_is_scipys_fixed_axes_xyz(rpy):
    np.testing.assert_allclose(
        rot.rotation_from_rpy(rpy), Rotation.from_euler("xyz", rpy).as_matrix(), atol=1e-12
    )


@given(arrays(np.float64, (5, 3), elements=st.floats(-1.7, 1.7)))
def test_rotation_vector_there_and_back(vectors_53):
    R = rot.rotation_from_vector(vectors_53)
    np.testing.assert_allclose(R, Rotation.from_rotvec(vectors_53).as_matrix(), atol=1e-12)
    np.testing.assert_allclose(rot.rotation_to_vector(R), vectors_53, atol=1e-7)


@given(st.floats(0, np.pi), unit_quaternions)
def test_angle_of_a_turn_is_the_angle_turned(angle, q):
    R = rot.rotation_from_quaternion(q)
    turned = R @ Rotation.from_rotvec([0, 0, angle]).as_matrix() @ R.T
    assert rot.rotation_angle(turned) == pytest.approx(angle, abs=1e-7)


@given(unit_quaternions, unit_quaternions, st.floats(0, 1))
def test_slerp_is_scipys_on_the_shorter_arc(a, b, t):
    between = rot.slerp(a, b, t)
    if abs(a @ b) < 1e-6:
        return  # two half circles are equally short
    expected = Slerp([0, 1], Rotation.from_quat([a, b]))(t).as_quat()
    np.testing.assert_allclose(abs(between @ expected), 1.0, atol=1e-9)


@given(unit_quaternions, unit_quaternions)
def test_slerp_ends_where_it_should_and_stays_unit(a, b):
    track = rot.slerp(a, b, np.linspace(0, 1, 7))
    np.testing.assert_allclose(np.linalg.norm(track, axis=-1), 1.0, atol=1e-12)
    np.testing.assert_allclose(abs(track[0] @ a), 1.0, atol=1e-12)
    np.testing.assert_allclose(abs(track[-1] @ b), 1.0, atol=1e-12)


def test_slerp_turns_at_constant_speed():
    a, b = np.array([0, 0, 0, 1.0]), Rotation.from_rotvec([0, 1.2, 0]).as_quat()
    angles = rot.rotation_angle(rot.rotation_from_quaternion(rot.slerp(a, b, [0, 0.25, 0.5, 1.0])))
    np.testing.assert_allclose(angles, [0, 0.3, 0.6, 1.2], atol=1e-12)


@given(unit_quaternions)
def test_six_numbers_are_the_first_two_columns(q):
    R = rot.rotation_from_quaternion(q)
    six = rot.rotation_to_6d(R)
    np.testing.assert_array_equal(six, [R[0, 0], R[1, 0], R[2, 0], R[0, 1], R[1, 1], R[2, 1]])


@given(poses, vectors, st.floats(0, np.pi))
def test_pose_error_measures_metres_and_radians(T, shift, angle):
    moved = T @ tf.from_rotation(Rotation.from_rotvec([angle, 0, 0]).as_matrix(), shift)
    error = tf.pose_error(T, moved)
    assert error.translation == pytest.approx(np.linalg.norm(shift), abs=1e-9)
    assert error.rotation == pytest.approx(angle, abs=1e-7)


@given(poses, poses)
def test_interpolated_poses_are_rigid_and_meet_the_ends(T_from, T_to):
    track = tf.interpolate(T_from, T_to, np.array([0.0, 0.3, 1.0]))
    np.testing.assert_allclose(track[0], T_from, atol=1e-9)
    np.testing.assert_allclose(track[2], T_to, atol=1e-9)
    tf.check_transform(track[1])


def test_functions_agree_on_batches_and_singles():
    q = Rotation.random(12, random_state=3).as_quat().reshape(3, 4, 4)
    R = rot.rotation_from_quaternion(q)
    singles = np.array([[rot.rotation_to_quaternion(R[i, j]) for j in range(4)] for i in range(3)])
    np.testing.assert_array_equal(rot.rotation_to_quaternion(R), singles)
    assert rot.rotation_angle(R).shape == (3, 4)
    assert tf.invert(tf.from_quaternion(q, np.zeros((3, 4, 3)))).shape == (3, 4, 4, 4)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.diag([1, 1, -1, 1]), "mirror"),
        (np.diag([1, 1, 1.001, 1]), "orthonormal"),
        ([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]], "bottom row"),
        (np.full((4, 4), np.nan), "finite"),
        (np.eye(3), "shape"),
        ({"xyz": [0, 0, 0], "rpy": [0, 0, 0], "quaternion_xyzw": [0, 0, 0, 1]}, "one of"),
        ({"xyz": [0, 0, 0], "euler": [0, 0, 0]}, "one of"),
        ({"quaternion_xyzw": [0, 0, 0, 0]}, "norm"),
    ],
)
def test_what_is_not_rigid_is_refused_with_its_reason(value, message):
    with pytest.raises(ValueError, match=message):
        tf.parse_transform(value)


def test_the_four_ways_to_write_a_rotation_agree():
    R = Rotation.from_euler("xyz", [10, -20, 30], degrees=True)
    ways = [
        {"rpy_deg": [10, -20, 30]},
        {"rpy": np.deg2rad([10, -20, 30]).tolist()},
        {"quaternion_xyzw": R.as_quat().tolist()},
        {"rotation": R.as_matrix().tolist()},
    ]
    for way in ways:
        T = tf.parse_transform({"xyz": [1, 2, 3], **way})
        np.testing.assert_allclose(T[:3, :3], R.as_matrix(), atol=1e-12)
        np.testing.assert_array_equal(T[:3, 3], [1, 2, 3])
