"""Noise sizes and small motions: against dense algebra, sampling, and the definition of an adjoint."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.geometry.rotations import rotation_from_vector
from tacit.geometry.transforms import from_rotation, invert, pose_error
from tacit_calibration.estimation.increments import (
    UncertainPose,
    adjoint,
    exact,
    increment_of,
    skew,
    small_pose,
)
from tacit_calibration.estimation.noise import LinearViews, NoiseScale, infer, surprise

vectors = st.lists(st.floats(-1, 1), min_size=6, max_size=6).map(np.array)


@given(vectors, vectors)
@settings(max_examples=25, deadline=None)
def test_an_adjoint_carries_an_increment_through_a_pose(pose, direction):
    T, d = small_pose(pose), 1e-6 * direction
    moved = small_pose(adjoint(T) @ d) @ T
    np.testing.assert_allclose(T @ small_pose(d), moved, atol=1e-11)


@given(vectors)
@settings(max_examples=25, deadline=None)
def test_increments_are_given_back(pose):
    np.testing.assert_allclose(increment_of(small_pose(pose)), pose, atol=1e-12)
    np.testing.assert_allclose(skew(pose[:3]) @ pose[3:], np.cross(pose[:3], pose[3:]), atol=1e-12)


def random_pose(rng: np.random.Generator) -> np.ndarray:
    return from_rotation(rotation_from_vector(rng.normal(0, 1, 3)), rng.normal(0, 0.5, 3))


def random_covariance(rng: np.random.Generator) -> np.ndarray:
    A = rng.normal(0, 1e-3, (6, 6))
    return A @ A.T


def test_covariances_of_chains_and_inverses_are_those_of_samples():
    rng = np.random.default_rng(0)
    first, second = (UncertainPose(random_pose(rng), random_covariance(rng)) for _ in range(2))
    chain = first @ second.inverse()
    samples = []
    for _ in range(2500):
        a, b = (p.T @ small_pose(rng.multivariate_normal(np.zeros(6), p.covariance)) for p in (first, second))
        samples.append(increment_of(invert(chain.T) @ a @ invert(b)))
    sampled = np.cov(np.array(samples).T)
    scale = np.sqrt(np.outer(np.diag(sampled), np.diag(sampled)))
    np.testing.assert_allclose(chain.covariance / scale, sampled / scale, atol=0.1)
    assert (exact(first.T) @ second).sigma_translation == pytest.approx(second.sigma_translation)


def linear_problem(seed: int, num: int, rotation: float, translation: float):
    """A linear problem of `num` views with a known truth (12,) and known robot noise."""
    rng = np.random.default_rng(seed)
    lever = np.array([-adjoint(random_pose(rng)) for _ in range(num)])
    design = np.concatenate(
        [-np.array([adjoint(random_pose(rng)) for _ in range(num)]), np.broadcast_to(np.eye(6), (num, 6, 6))],
        axis=-1,
    )
    pixel = np.array([1e-2 * random_covariance(rng) + 1e-10 * np.eye(6) for _ in range(num)])
    truth = rng.normal(0, 1e-3, 12)
    robot = rng.normal(0, 1, (num, 6)) * np.repeat([rotation, translation], 3)
    noise = np.array([rng.multivariate_normal(np.zeros(6), p) for p in pixel])
    y = design @ truth + np.einsum("nij,nj->ni", lever, robot) + noise
    return LinearViews(y, pixel, design, lever), truth, robot


def test_with_known_noise_it_is_generalised_least_squares():
    linear, _, _ = linear_problem(0, 9, 1e-3, 3e-4)
    noise = NoiseScale(0.3, 1e-3, 3e-4)
    found = infer(linear, 0.3, fixed=noise)
    A = linear.design.reshape(-1, 12)
    V = np.zeros((54, 54))
    for i in range(9):
        S = np.diag([1e-6] * 3 + [9e-8] * 3)
        V[6 * i : 6 * i + 6, 6 * i : 6 * i + 6] = (
            linear.pixel_covariance[i] + linear.lever[i] @ S @ linear.lever[i].T
        )
    covariance = np.linalg.inv(A.T @ np.linalg.solve(V, A))
    mean = covariance @ A.T @ np.linalg.solve(V, linear.y.ravel())
    np.testing.assert_allclose(found.mean, mean, rtol=1e-6, atol=1e-10)
    np.testing.assert_allclose(found.covariance, covariance, rtol=1e-5, atol=1e-15)
    assert found.noise.rotation == pytest.approx(noise.rotation)


def test_shared_errors_of_known_size_are_noise_that_views_have_in_common():
    """Dense algebra: they widen the covariance of all views together, and leave twelve unknowns."""
    linear, _, _ = linear_problem(4, 9, 1e-3, 3e-4)
    columns, A = np.random.default_rng(6).normal(0, 1, (9, 6, 5)), linear.design.reshape(-1, 12)
    design = np.concatenate([linear.design, columns], axis=-1)
    shared = LinearViews(linear.y, linear.pixel_covariance, design, linear.lever, 5)
    found, expected = [], []
    for size in (1e-3, 4e-3):
        noise = NoiseScale(0.3, 1e-3, 3e-4, size)
        found.append(infer(shared, 0.3, fixed=noise))
        K = columns.reshape(-1, 5)
        V = size**2 * K @ K.T
        for i, spread in enumerate(linear.covariance(noise)):
            V[6 * i : 6 * i + 6, 6 * i : 6 * i + 6] += spread
        information = A.T @ np.linalg.solve(V, A)
        mean = np.linalg.solve(information, A.T @ np.linalg.solve(V, linear.y.ravel()))
        np.testing.assert_allclose(found[-1].mean[:12], mean, rtol=1e-6, atol=1e-10)
        np.testing.assert_allclose(found[-1].covariance[:12, :12], np.linalg.inv(information), rtol=1e-5)
        left = linear.y.ravel() - A @ mean
        sizes = np.linalg.slogdet(V)[1] + np.linalg.slogdet(information)[1]
        expected.append(-0.5 * (sizes + left @ np.linalg.solve(V, left)))
    gain = found[1].likelihood - found[0].likelihood
    assert gain == pytest.approx(expected[1] - expected[0], rel=1e-6)


@pytest.mark.parametrize(("rotation", "translation"), [(1e-3, 5e-4), (3e-4, 2e-3)])
def test_sizes_of_robot_noise_are_found_in_many_views(rotation, translation):
    linear, truth, robot = linear_problem(1, 60, rotation, translation)
    found = infer(linear, 0.3)
    assert found.noise.rotation == pytest.approx(rotation, rel=0.25)
    assert found.noise.translation == pytest.approx(translation, rel=0.25)
    score = (found.mean - truth) @ np.linalg.solve(found.covariance, found.mean - truth)
    assert 2 < score < 30  # chi-square with 12 degrees
    assert np.corrcoef(found.corrections.ravel(), robot.ravel())[0, 1] > 0.8


def test_surprise_of_good_views_is_chi_square_and_of_a_wrong_one_is_not():
    values = []
    for seed in range(20):
        linear, _, _ = linear_problem(seed, 20, 1e-3, 5e-4)
        used = np.arange(20) < 16
        values.append(surprise(linear, infer(linear.of(used), 0.3), used))
    fresh, seen = np.array(values)[:, 16:], np.array(values)[:, :16]
    assert np.mean(fresh) == pytest.approx(6, rel=0.25)
    assert np.mean(seen) == pytest.approx(6, rel=0.35)
    shifted = linear._replace(y=linear.y + np.where(np.arange(20) == 18, 0.02, 0.0)[:, None])
    posterior = infer(shifted.of(used), 0.3)
    assert surprise(shifted, posterior, used)[18] > 100


def test_shared_errors_are_told_from_noise():
    linear, truth, _ = linear_problem(3, 30, 1e-4, 5e-5)
    rng = np.random.default_rng(5)
    columns, size = rng.normal(0, 1, (30, 6, 8)), 2e-3
    shared = rng.normal(0, size, 8)
    design = np.concatenate([linear.design, columns], axis=-1)
    wrong = LinearViews(linear.y + columns @ shared, linear.pixel_covariance, design, linear.lever, 8)
    found = infer(wrong, 0.3)
    assert found.noise.joint == pytest.approx(size, rel=0.5)
    np.testing.assert_allclose(found.mean[12:], shared, atol=3e-4)
    assert pose_error(small_pose(found.mean[:6]), small_pose(truth[:6])).translation < 3e-4
