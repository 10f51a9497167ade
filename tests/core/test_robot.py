"""Kinematics: published anchors, independent DH products, URDF, Jacobian, inverse."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from arm_urdfs import NAMES, URDF_ROWS, write_urdf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tacit.errors import RigError
from tacit.geometry.kinematics import DH_MODELS, chain_from_dh, fk_numpy
from tacit.geometry.robot import Robot
from tacit.geometry.toolbox import dh_poses, urdf_poses
from tacit.geometry.transforms import pose_error
from tacit.geometry.urdf import chain_from_urdf
from tacit.rig import load_rig

LIMITS = np.array([6.28, 3.14, 2.79, 6.28, 6.28, 6.28])
joint_values = arrays(np.float64, 6, elements=st.floats(-2.7, 2.7))

# Flange positions [m] that the vendor's own model gives.
ZERO = {"nova2": (0, -0.2055, 0.8484), "nova5": (0, -0.2230, 1.0900), "cr5": (0, -0.2460, 1.0470)}
BENT = {
    "nova2": (-0.21068, -0.21684, 0.80292),
    "nova5": (-0.28274, -0.24166, 1.02927),
    "cr5": (-0.29071, -0.26348, 0.99032),
}


def urdf_robot(model: str) -> Robot:
    chain = chain_from_urdf(write_urdf(URDF_ROWS[model]), "base_link", "Link6", NAMES)
    return Robot(chain, -LIMITS, LIMITS)


def dh_robot(model: str, share: float = 1.0) -> Robot:
    return Robot(chain_from_dh(DH_MODELS[model], NAMES), -share * LIMITS, share * LIMITS)


def dh_product(model: str, q) -> np.ndarray:
    """The textbook product of A matrices, written out."""
    T = np.eye(4)
    for row, angle in zip(DH_MODELS[model], q, strict=True):
        ct, st_, ca, sa = (f(v) for v in (angle + row.offset, row.alpha) for f in (np.cos, np.sin))
        T = T @ [
            [ct, -st_ * ca, st_ * sa, row.a * ct],
            [st_, ct * ca, -ct * sa, row.a * st_],
            [0, sa, ca, row.d],
            [0, 0, 0, 1],
        ]
    return T


@pytest.mark.parametrize("model", DH_MODELS)
def test_flange_stands_where_the_vendor_says(model):
    robot = dh_robot(model)
    at_zero, bent = robot.forward(np.zeros(6)), robot.forward([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    np.testing.assert_allclose(at_zero[:3, 3], ZERO[model], atol=1e-5)
    np.testing.assert_allclose(at_zero[:3, :3], [[-1, 0, 0], [0, 0, -1], [0, -1, 0]], atol=1e-12)
    np.testing.assert_allclose(bent[:3, 3], BENT[model], atol=1e-5)


@pytest.mark.parametrize("model", DH_MODELS)
@given(q=joint_values)
def test_forward_is_the_product_of_dh_matrices(model, q):
    np.testing.assert_allclose(dh_robot(model).forward(q), dh_product(model, q), atol=1e-12)


@pytest.mark.parametrize(("model", "allowed_mm"), [("nova2", 0.02), ("nova5", 0.35), ("cr5", 0.75)])
def test_dh_and_the_vendors_urdf_agree(model, allowed_mm):
    Q = np.random.default_rng(0).uniform(-2.7, 2.7, (500, 6))
    error = pose_error(dh_robot(model).forward_batch(Q), urdf_robot(model).forward_batch(Q))
    assert error.translation.max() * 1e3 < allowed_mm
    assert np.rad2deg(error.rotation.max()) < 1e-3  # each 1.5708 is 3.7e-6 rad off a quarter turn


@pytest.mark.parametrize("model", DH_MODELS)
def test_roboticstoolbox_says_the_same_of_the_same_dh_rows(model):
    rtb = pytest.importorskip("roboticstoolbox")
    robot, Q = dh_robot(model), np.random.default_rng(1).uniform(-2.7, 2.7, (20, 6))
    np.testing.assert_allclose(dh_poses(DH_MODELS[model], Q), robot.forward_batch(Q), atol=1e-12)
    arm = rtb.DHRobot(
        [rtb.RevoluteDH(d=r.d, a=r.a, alpha=r.alpha, offset=r.offset) for r in DH_MODELS[model]]
    )
    np.testing.assert_allclose(arm.jacob0(Q[0]), robot.jacobian(Q[0]), atol=1e-12)


@pytest.mark.parametrize("model", DH_MODELS)
@pytest.mark.parametrize("axis", ["0 0 1", "0 -1 0", "1 2 -2"])
@pytest.mark.parametrize("kind", ["revolute", "prismatic"])
def test_spatialmath_says_the_same_of_the_same_urdf(model, axis, kind):
    text = write_urdf(URDF_ROWS[model], axis, kind)
    chain = chain_from_urdf(text, "base_link", "Link6", NAMES)
    Q = np.random.default_rng(2).uniform(-2.7, 2.7, (5, 6))
    np.testing.assert_allclose(urdf_poses(text, "base_link", "Link6", Q), fk_numpy(chain, Q), atol=1e-12)


def test_batch_equals_one_by_one():
    robot = dh_robot("nova2")
    Q = np.random.default_rng(2).uniform(-2.7, 2.7, (20, 6))
    np.testing.assert_allclose(robot.forward_batch(Q), [robot.forward(q) for q in Q], atol=1e-15)
    assert robot.forward_batch(np.empty((0, 6))).shape == (0, 4, 4)


@given(q=joint_values)
def test_jacobian_is_the_finite_difference_of_forward(q):
    robot, step = dh_robot("nova2"), 1e-6
    J = robot.jacobian(q)
    for i in range(6):
        plus, minus = (robot.forward(q + sign * step * np.eye(6)[i]) for sign in (1, -1))
        turn = (plus[:3, :3] @ minus[:3, :3].T - np.eye(3)) / (2 * step)
        np.testing.assert_allclose(J[:3, i], (plus - minus)[:3, 3] / (2 * step), atol=1e-8)
        np.testing.assert_allclose(J[3:, i], [turn[2, 1], turn[0, 2], turn[1, 0]], atol=1e-5)


@settings(deadline=None)
@given(q=joint_values, move=arrays(np.float64, 6, elements=st.floats(-0.03, 0.03)))
def test_inverse_follows_small_moves(q, move):
    robot = dh_robot("nova2")
    goal = robot.forward(q + move)
    result = robot.inverse(goal, q)
    if np.linalg.cond(robot.jacobian(q)) > 500:
        return  # at a singularity several joint moves give the same pose
    assert result.ok
    np.testing.assert_allclose(robot.forward(result.q), goal, atol=1e-6)


def test_inverse_tracks_a_trajectory_in_small_steps():
    robot = dh_robot("nova2")
    q = np.array([-0.3424, 0.0643, 2.0576, -0.5511, -1.5708, 1.2284])
    goal, largest = robot.forward(q), 0.0
    for _ in range(100):
        goal = goal.copy()
        goal[:3, 3] += [0.001, 0.0005, -0.0005]
        result = robot.inverse(goal, q)
        assert result.ok
        largest, q = max(largest, np.abs(result.q - q).max()), result.q
    assert largest <= 0.02


def test_inverse_stays_within_limits_and_says_when_it_fails():
    robot = dh_robot("nova2")
    unreachable, start = np.eye(4), np.full(6, 0.1)
    unreachable[:3, 3] = [2.0, 0, 0]
    result = robot.inverse(unreachable, start)
    assert not result.ok
    np.testing.assert_array_equal(result.q, start)
    tight = Robot(robot.chain, -np.full(6, 0.5), np.full(6, 0.5))
    beyond = tight.inverse(robot.forward(np.full(6, 0.8)), np.full(6, 0.9))
    assert not beyond.ok
    np.testing.assert_array_equal(beyond.q, np.full(6, 0.5))


@pytest.mark.parametrize("share", [0.4, 1.0])
def test_inverse_reaches_what_lies_within_tight_limits_too(share):
    robot, rng = dh_robot("nova2", share), np.random.default_rng(3)
    starts = rng.uniform(robot.lower, robot.upper, (100, 6))
    for start in starts:
        goal = robot.forward(np.clip(start + rng.uniform(-0.6, 0.6, 6), robot.lower, robot.upper))
        result = robot.inverse(goal, start)
        assert result.ok
        assert (result.q >= robot.lower).all() and (result.q <= robot.upper).all()
        error = pose_error(robot.forward(result.q), goal)
        assert error.translation < 1e-7 and error.rotation < 1e-7


@pytest.mark.parametrize("joint", range(6))
@pytest.mark.parametrize("side", [-1, 1])
def test_a_joint_at_its_limit_is_reached_and_the_others_stay_near(joint, side):
    robot, rng = dh_robot("nova2"), np.random.default_rng(joint)
    for _ in range(10):
        q = rng.uniform(0.3, 2.0, 6) * rng.choice([-1, 1], 6)
        q[joint] = side * LIMITS[joint]
        result = robot.inverse(robot.forward(q), q - 0.03 * side * np.eye(6)[joint])
        assert result.ok
        assert np.abs(result.q).max(initial=0, where=np.arange(6) == joint) <= LIMITS[joint]
        np.testing.assert_allclose(result.q, q, atol=1e-5)


def test_inverse_is_the_same_every_time_also_where_it_looks_around():
    robot, rng = dh_robot("nova2", 0.4), np.random.default_rng(5)
    goals, starts = (rng.uniform(robot.lower, robot.upper, (20, 6)) for _ in range(2))
    first, second = (
        [robot.inverse(robot.forward(g), s) for g, s in zip(goals, starts, strict=True)] for _ in "12"
    )
    for one, two in zip(first, second, strict=True):
        assert one.ok == two.ok
        np.testing.assert_array_equal(one.q, two.q)


def test_inverse_of_a_slide_and_of_seven_joints():
    rows = [*DH_MODELS["nova2"], DH_MODELS["nova2"][0]]
    limits = np.full(7, 2.5)
    redundant = Robot(chain_from_dh(rows, [f"j{i}" for i in range(7)]), -limits, limits)
    q = np.linspace(-1, 1.2, 7)
    found = redundant.inverse(redundant.forward(q), q + 0.1)
    assert found.ok
    np.testing.assert_allclose(redundant.forward(found.q), redundant.forward(q), atol=2e-7)
    chain = dh_robot("nova2").chain
    slide = dataclasses.replace(chain, prismatic=np.arange(6) == 1)
    arm = Robot(slide, -np.full(6, 3.0), np.full(6, 3.0))
    q = np.array([0.3, 2.999, 0.5, -0.4, 0.8, 0.1])  # no whole turns: a slide of 3 m is not one of 3 - 2 pi
    found = arm.inverse(arm.forward(q), q - 0.05)
    assert found.ok
    np.testing.assert_allclose(found.q, q, atol=1e-6)


def test_a_quarter_turn_has_no_noise_of_rounding():
    T = fk_numpy(chain_from_dh(DH_MODELS["nova2"], NAMES), np.zeros(6))
    np.testing.assert_array_equal(np.abs(T[:3, :3]), [[1, 0, 0], [0, 0, 1], [0, 1, 0]])


def test_an_arm_of_a_two_armed_rig_must_be_named():
    rig = load_rig("xtrainer")
    with pytest.raises(RigError, match="name one of left, right"):
        Robot.from_rig(rig)
    with pytest.raises(RigError, match="did you mean 'left'"):
        Robot.from_rig(rig, "lefd")
    assert Robot.from_rig(rig, "left").num_joints == 6


def test_the_gripper_is_not_a_joint_of_the_chain():
    with pytest.raises(ValueError, match="without the gripper"):
        dh_robot("nova2").forward(np.zeros(7))


def test_importing_tacit_geometry_does_not_load_roboticstoolbox():
    heavy = "{'roboticstoolbox', 'spatialmath', 'torch', 'rclpy', 'matplotlib'}"
    code = f"import sys, tacit.rig.scene; print(sorted({heavy} & set(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "[]"
