"""Kinematics: published anchors, independent DH products, URDF, Jacobian, inverse."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from tacit.errors import RigError
from tacit.geometry.kinematics import DH_MODELS, chain_from_dh, fk_numpy, jacobian_numpy
from tacit.geometry.robot import Robot
from tacit.geometry.toolbox import dh_poses, urdf_poses
from tacit.geometry.transforms import from_translation, pose_error
from tacit.geometry.urdf import chain_from_urdf, reduce_urdf
from tacit.rig import load_rig

NAMES = tuple(f"joint{i}" for i in range(1, 7))
LIMITS = np.array([6.28, 3.14, 2.79, 6.28, 6.28, 6.28])
joint_values = arrays(np.float64, 6, elements=st.floats(-2.7, 2.7))

# Flange positions [m] that the vendor's own model gives.
ZERO = {"nova2": (0, -0.2055, 0.8484), "nova5": (0, -0.2230, 1.0900), "cr5": (0, -0.2460, 1.0470)}
BENT = {
    "nova2": (-0.21068, -0.21684, 0.80292),
    "nova5": (-0.28274, -0.24166, 1.02927),
    "cr5": (-0.29071, -0.26348, 0.99032),
}
# (xyz, rpy) of the vendor's URDF files, with their own rounding of pi/2.
URDF_ROWS = {
    "nova2": [
        ((0, 0, 0.2234), (0, 0, 0)),
        ((0, 0, 0), (1.5708, 1.5708, 0)),
        ((-0.28, 0, 0), (0, 0, 0)),
        ((-0.22501, 0, 0.1175), (0, 0, -1.5708)),
        ((0, -0.12, 0), (1.5708, 0, 0)),
        ((0, 0.088004, 0), (-1.5708, 0, 0)),
    ],
    "nova5": [
        ((0, 0, 0.24), (0, 0, 0)),
        ((0, 0, 0), (-1.570803, 1.535866, 3.141593)),
        ((-0.399756, -0.013969, 0), (0, 0, 0)),
        ((-0.329799, -0.011524, 0.135), (0, 0, -1.535866)),
        ((0, -0.12, 0), (1.5708, 0, 0)),
        ((0, 0.088328, 0), (-1.5708, 0, 0)),
    ],
    "cr5": [
        ((0, 0, 0.147), (0, 0, 0)),
        ((0, 0, 0), (1.5708, 1.5708, 0)),
        ((-0.427, -0.00034866, 0), (0, 0, 0)),
        ((-0.357, 0.00034866, 0.141), (0, 0, -1.5708)),
        ((0, -0.116, 0), (1.5708, 0, 0)),
        ((0, 0.105, 0), (-1.5708, 0, 0)),
    ],
}


def write_urdf(rows, axis="0 0 1", kind="revolute") -> str:
    joints = []
    for i, (xyz, rpy) in enumerate(rows):
        parent = "base_link" if i == 0 else f"Link{i}"
        joints.append(
            f'<joint name="joint{i + 1}" type="{kind}"><parent link="{parent}"/><child link="Link{i + 1}"/>'
            f'<origin xyz="{" ".join(map(str, xyz))}" rpy="{" ".join(map(str, rpy))}"/>'
            f'<axis xyz="{axis}"/></joint>'
        )
    links = "".join(f'<link name="{n}"/>' for n in ["base_link", *(f"Link{i}" for i in range(1, 7))])
    return f'<robot name="arm">{links}{"".join(joints)}</robot>'


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


def test_angles_of_a_urdf_are_kept_as_they_stand():
    # The second and third are of a real UR's factory calibration; the last is what xacro prints.
    for angle in (1.5708, 1.5707463, 1.5707931265, -3.14159, 1.5707963267948966):
        chain = chain_from_urdf(write_urdf([((0, 0, 0), (angle, 0, 0))]), "base_link", "Link1", ["joint1"])
        expected = [np.cos(angle), np.sin(angle)]
        np.testing.assert_allclose(fk_numpy(chain, [0.0])[1:3, 1], expected, rtol=0, atol=1e-15)


def test_a_quarter_turn_has_no_noise_of_rounding():
    T = fk_numpy(chain_from_dh(DH_MODELS["nova2"], NAMES), np.zeros(6))
    np.testing.assert_array_equal(np.abs(T[:3, :3]), [[1, 0, 0], [0, 0, 1], [0, 1, 0]])


@pytest.mark.parametrize("axis", ["1 0 0", "0 1 0", "0 0 -1", "-1 0 0", "1 2 -2"])
@pytest.mark.parametrize("kind", ["revolute", "continuous", "prismatic"])
def test_urdf_axes_may_point_anywhere(axis, kind):
    text = write_urdf([((0.1, 0.2, 0.3), (0, 0, 0))], axis, kind)
    chain = chain_from_urdf(text, "base_link", "Link1", ["joint1"])
    direction = np.array([float(a) for a in axis.split()])
    direction /= np.linalg.norm(direction)
    T = fk_numpy(chain, [0.7])
    if kind == "prismatic":
        np.testing.assert_allclose(T[:3, 3], [0.1, 0.2, 0.3] + 0.7 * direction, atol=1e-12)
        np.testing.assert_allclose(T[:3, :3], np.eye(3), atol=1e-12)
        np.testing.assert_allclose(jacobian_numpy(chain, [0.7])[:, 0], [*direction, 0, 0, 0], atol=1e-12)
    else:
        expected = Rotation.from_rotvec(0.7 * direction).as_matrix()
        np.testing.assert_allclose(T[:3, :3], expected, atol=1e-12)
        np.testing.assert_allclose(T[:3, 3], [0.1, 0.2, 0.3], atol=1e-12)


def test_fixed_joints_before_between_and_after_count():
    text = """<robot name="r">
      <joint name="f0" type="fixed"><parent link="world"/><child link="base"/><origin xyz="0 0 0.03"/></joint>
      <joint name="j" type="revolute"><parent link="base"/><child link="arm"/><axis xyz="0 0 1"/></joint>
      <joint name="f1" type="fixed"><parent link="arm"/><child link="tool"/><origin xyz="0.5 0 0"/></joint>
    </robot>"""
    T = fk_numpy(chain_from_urdf(text, "world", "tool", ["j"]), [np.pi / 2])
    np.testing.assert_allclose(T[:3, 3], [0, 0.5, 0.03], atol=1e-12)


def test_a_fixed_joint_may_have_a_zero_axis_but_a_moving_one_on_the_way_may_not():
    text = write_urdf(URDF_ROWS["nova2"])
    fixed = (
        '<joint name="tool" type="fixed"><parent link="Link6"/><child link="tool"/>'
        '<origin xyz="0 0 0.1"/><axis xyz="0 0 0"/></joint>'
        '<joint name="side" type="floating"><parent link="Link6"/><child link="dust"/>'
        '<axis xyz="0 0"/></joint>'
        '<joint name="claw" type="revolute"><parent link="tool"/><child link="claw"/>'
        '<axis xyz="0 0 0"/></joint>'
    )
    chain = chain_from_urdf(text.replace("</robot>", f"{fixed}</robot>"), "base_link", "tool", NAMES)
    before = chain_from_urdf(text, "base_link", "Link6", NAMES)
    along = fk_numpy(before, np.full(6, 0.3)) @ from_translation([0, 0, 0.1])
    np.testing.assert_allclose(fk_numpy(chain, np.full(6, 0.3)), along, atol=1e-12)
    with pytest.raises(RigError, match="'claw': axis is zero, expected the direction"):
        chain_from_urdf(text.replace("</robot>", f"{fixed}</robot>"), "base_link", "claw", [*NAMES, "claw"])


HAND = """<robot name="hand">
  <joint name="turn" type="revolute"><parent link="base"/><child link="palm"/><axis xyz="0 1 0"/></joint>
  <joint name="left" type="prismatic"><parent link="palm"/><child link="left_pad"/><axis xyz="0 0 1"/></joint>
  <joint name="right" type="prismatic"><parent link="palm"/><child link="right_pad"/>
    <axis xyz="0 0 -1"/><mimic joint="left" multiplier="2" offset="0.01"/></joint>
  <joint name="tip" type="revolute"><parent link="right_pad"/><child link="tip"/><origin xyz="0.1 0 0"/>
    <axis xyz="0 0 1"/><mimic joint="right" multiplier="-1.5" offset="0.3"/></joint>
  <joint name="end" type="fixed"><parent link="tip"/><child link="end"/><origin xyz="0.05 0 0"/></joint>
</robot>"""


def test_a_fingertip_follows_the_joint_that_its_own_joints_mimic():
    chain = chain_from_urdf(HAND, "base", "end", ["turn", "left"])
    q = np.array([0.4, 0.02])
    right = 2 * 0.02 + 0.01
    tip = -1.5 * right + 0.3
    in_palm = [0.1 + 0.05 * np.cos(tip), 0.05 * np.sin(tip), -right]
    T = fk_numpy(chain, q)
    np.testing.assert_allclose(T[:3, 3], Rotation.from_rotvec([0, 0.4, 0]).apply(in_palm), atol=1e-12)
    np.testing.assert_allclose(fk_numpy(chain, [q, 2 * q])[0], T, atol=1e-12)
    np.testing.assert_allclose(urdf_poses(HAND, "base", "end", [q])[0], T, atol=1e-12)
    step = 1e-6
    slopes = [
        (fk_numpy(chain, q + e)[:3, 3] - fk_numpy(chain, q - e)[:3, 3]) / (2 * step) for e in step * np.eye(2)
    ]
    np.testing.assert_allclose(jacobian_numpy(chain, q)[:3].T, slopes, atol=1e-9)
    with pytest.raises(RigError, match="end the chain at the flange"):
        Robot(chain, -np.ones(2), np.ones(2)).inverse(T, q)


@pytest.mark.parametrize(
    ("mimic", "message"),
    [('joint="lift"', "did you mean 'left'"), ('joint="tip"', "in a circle")],
)
def test_a_mimic_that_leads_nowhere_is_named(mimic, message):
    with pytest.raises(RigError, match=message):
        chain_from_urdf(HAND.replace('joint="left"', mimic), "base", "end", ["turn", "left"])


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("<robot", '<robot xmlns="http://www.ros.org"'),
        lambda text: text.replace("</robot>", '<gazebo:x ros:y="1"/></robot>'),
        lambda text: "\n\n<?xml version='1.0' encoding='latin-1'?>\n<!DOCTYPE robot>\n" + text,
        lambda text: text.replace("</robot>", "<!-- ---- <!ENTITY> --></robot>"),
        lambda text: text.replace('rpy="0 0 0"', 'quat_xyzw="0 0 0 1"'),
    ],
)
def test_what_urdfdom_reads_is_read_too(change):
    text, q = write_urdf(URDF_ROWS["cr5"]), np.linspace(-1, 1, 6)
    assert change(text) != text
    one, other = (fk_numpy(chain_from_urdf(t, "base_link", "Link6", NAMES), q) for t in (text, change(text)))
    np.testing.assert_array_equal(one, other)
    reduce_urdf(change(text))


def test_a_urdf_whose_doctype_declares_entities_is_refused():
    text = '<!DOCTYPE robot [<!ENTITY a "aaaa">]>' + write_urdf(URDF_ROWS["cr5"])
    with pytest.raises(RigError, match="declares entities"):
        reduce_urdf(text)


def test_reducing_a_urdf_keeps_its_kinematics_and_is_stable():
    text = write_urdf(URDF_ROWS["cr5"]).replace(
        '<link name="Link1"/>',
        '<!-- a mesh --><link name="Link1"><visual><geometry><mesh filename="package://x/y.stl"/></geometry>'
        "</visual></link><gazebo/>",
    )
    reduced = reduce_urdf(text)
    assert "mesh" not in reduced
    assert reduce_urdf(reduced) == reduced == reduce_urdf(write_urdf(URDF_ROWS["cr5"]))
    q = np.linspace(-1, 1, 6)
    one, other = (fk_numpy(chain_from_urdf(t, "base_link", "Link6", NAMES), q) for t in (text, reduced))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": "<robot"}, "not valid XML"),
        ({"text": "<sdf/>"}, "expected <robot>"),
        ({"base_link": "base"}, "did you mean 'base_link'"),
        ({"tip_link": "link6"}, "did you mean 'Link"),
        ({"base_link": "Link6", "tip_link": "base_link"}, "no path"),
        ({"names": ["joint1", "joint2", "joint3", "joint4", "joint5", "joint7"]}, "'joint7'"),
        ({"names": NAMES[::-1]}, "joint1, joint2"),
        ({"text": write_urdf(URDF_ROWS["cr5"], axis="0 0 0")}, "axis is zero"),
        ({"text": write_urdf(URDF_ROWS["cr5"], axis="0 0")}, "three numbers"),
        ({"text": write_urdf(URDF_ROWS["cr5"], kind="floating")}, "'floating'"),
    ],
)
def test_a_urdf_that_does_not_fit_is_refused_with_its_reason(change, message):
    call = {
        "text": write_urdf(URDF_ROWS["cr5"]),
        "base_link": "base_link",
        "tip_link": "Link6",
        "names": NAMES,
    }
    with pytest.raises(RigError, match=message):
        chain_from_urdf(**(call | change))


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
