"""URDF: axes that point anywhere, fixed and mimicking joints, what is refused, and why."""

from __future__ import annotations

import numpy as np
import pytest
from arm_urdfs import NAMES, URDF_ROWS, write_urdf
from scipy.spatial.transform import Rotation

from tacit.errors import RigError
from tacit.geometry.kinematics import fk_numpy, jacobian_numpy
from tacit.geometry.robot import Robot
from tacit.geometry.toolbox import urdf_poses
from tacit.geometry.transforms import from_translation
from tacit.geometry.urdf import chain_from_urdf, reduce_urdf


def test_angles_of_a_urdf_are_kept_as_they_stand():
    # The second and third are of a real UR's factory calibration; the last is what xacro prints.
    for angle in (1.5708, 1.5707463, 1.5707931265, -3.14159, 1.5707963267948966):
        chain = chain_from_urdf(write_urdf([((0, 0, 0), (angle, 0, 0))]), "base_link", "Link1", ["joint1"])
        expected = [np.cos(angle), np.sin(angle)]
        np.testing.assert_allclose(fk_numpy(chain, [0.0])[1:3, 1], expected, rtol=0, atol=1e-15)


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
    ("mimic", "message"), [('joint="lift"', "did you mean 'left'"), ('joint="tip"', "in a circle")]
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
