"""Fingers of linkage grippers: pads on an arc, located by the opening alone."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import yaml

from tacit.errors import RigError
from tacit.geometry.toolbox import urdf_poses
from tacit.geometry.transforms import transform_points
from tacit.rig import RIGS_FOLDER, Rig, parse_rig
from tacit.rig.frames import frames_of, robot_description
from tacit_calibration.touch.clicks import Click
from tacit_calibration.touch.touch_views import view_of_state

BASE, BAR, PAD = 0.0127, 0.0573, 0.0475
"""A parallelogram: the knuckle swings by q, the pad hangs from its end and turns back by as much [m]."""
OPEN_Q = np.arcsin(0.0425 / BAR) - 0.05


def _finger(side: str, turn: float, follows: str) -> str:
    return f"""
  <joint name="{side}_knuckle" type="revolute"><parent link="tool"/><child link="{side}_bar"/>
    <origin xyz="{turn * BASE} 0 0.06" rpy="0 0 {0 if turn > 0 else np.pi}"/><axis xyz="0 -1 0"/>
    <limit lower="0" upper="1.02" effort="1" velocity="1"/>{follows}</joint>
  <joint name="{side}_tip" type="revolute"><parent link="{side}_bar"/><child link="{side}_pad"/>
    <origin xyz="{BAR * np.sin(OPEN_Q)} 0 {BAR * np.cos(OPEN_Q)}"/><axis xyz="0 1 0"/>
    <limit lower="-1" upper="1" effort="1" velocity="1"/><mimic joint="left_knuckle"/></joint>
  <joint name="{side}_face" type="fixed"><parent link="{side}_pad"/><child link="{side}_face"/>
    <origin xyz="0 0 {PAD}"/></joint>"""


ARM = (
    '<robot name="arm"><joint name="joint1" type="revolute"><parent link="base"/><child link="tool"/>'
    '<axis xyz="0 0 1"/></joint>'
    + _finger("left", 1.0, "")
    + _finger("right", -1.0, '<mimic joint="left_knuckle"/>')
    + "</robot>"
)
LINKS = {"finger_left": "left_face", "finger_right": "right_face"}
OPEN_M = 2 * (BASE + BAR * np.sin(OPEN_Q))


def rig_of(urdf: str = ARM, **gripper: object) -> Rig:
    """A rig of one joint with such a gripper."""
    data = yaml.safe_load((RIGS_FOLDER / "nova2.yaml").read_text())
    arm = data["arms"]["arm"]
    arm["joints"], arm["home"] = arm["joints"][:1], None
    del arm["model"]
    arm |= {"urdf": urdf, "base_link": "base", "tip_link": "tool"}
    arm["joints"][0]["name"] = "joint1"
    grip = {"upper": OPEN_M, "axis": [1, 0, 0], "links": LINKS, "urdf_joint": "left_knuckle"}
    arm["gripper"] |= grip | gripper
    for stream in itertools.chain(data["streams"].values(), data["commands"].values()):
        if "names" in stream:
            stream["names"] = [n for n in stream["names"] if n == "joint1" or n == arm["gripper"]["name"]]
    return parse_rig(data, "linked")


def angle_of(opening: float) -> float:
    """The angle of the knuckle, in closed form [rad]."""
    return float(OPEN_Q - np.arcsin((opening / 2 - BASE) / BAR))


@pytest.mark.parametrize("opening", [0.0, 0.03, OPEN_M])
def test_pads_go_along_the_arc_of_the_linkage(opening: float) -> None:
    rig = rig_of()
    q = np.array([0.4, opening])
    poses, flange = rig.geometry.sensor_poses(q), rig.geometry.flange_poses(q)["arm"]
    height = 0.06 + BAR * np.cos(OPEN_Q - angle_of(opening)) + PAD
    for sensor, sign in (("left", 1.0), ("right", -1.0)):
        mounted = rig.tactile[sensor].T_mount_sensor
        link = np.linalg.inv(flange) @ poses[sensor] @ np.linalg.inv(mounted)
        np.testing.assert_allclose(link[:3, 3], [sign * opening / 2, 0.0, height], atol=2e-7)
        np.testing.assert_allclose(link[:3, 2], [0.0, 0.0, 1.0], atol=1e-12)  # a parallelogram does not tilt
        independent = urdf_poses(ARM, "tool", LINKS[f"finger_{sensor}"], [[angle_of(opening)]])[0]
        np.testing.assert_allclose(link, independent, atol=2e-7)
    many = rig.geometry.sensor_poses(np.array([q, q + [0.1, 0.0]]))
    np.testing.assert_allclose(many["left"][0], poses["left"], atol=1e-12)


def test_the_arc_matters_and_boxes_follow_it() -> None:
    linked, slid = rig_of(), rig_of(links=None)
    heights = [linked.geometry.sensor_poses([0.0, m])["left"][2, 3] for m in (0.0, OPEN_M)]
    flat = [slid.geometry.sensor_poses([0.0, m])["left"][2, 3] for m in (0.0, OPEN_M)]
    assert abs(heights[1] - heights[0]) > 0.005 and abs(flat[1] - flat[0]) < 1e-12
    assert linked.rig_id != slid.rig_id and linked.calibration_id != slid.calibration_id


def test_tf_says_where_a_linked_finger_is_and_the_description_leaves_it_free() -> None:
    rig = rig_of()
    frame = next(f for f in frames_of(rig) if f.name == "arm_finger_left")
    opening = 0.02
    mounted = rig.tactile["left"].T_mount_sensor
    world = rig.geometry.flange_poses([0.0, opening])["arm"] @ frame.at(opening) @ mounted
    np.testing.assert_allclose(world, rig.geometry.sensor_poses([0.0, opening])["left"], atol=1e-12)
    joints = {j.get("name"): j for j in ElementTree.fromstring(robot_description(rig)).iter("joint")}
    assert joints["arm_finger_left_joint"].get("type") == "floating"
    assert joints["arm_finger_left_joint"].find("axis") is None


def test_clicked_corners_are_read_in_the_frame_of_the_link() -> None:
    rig = rig_of()
    state, sensor = np.array([0.2, 0.02]), rig.tactile["left"]
    size = np.array(sensor.size_m[:2])
    view = view_of_state(rig, "wrist", Click("a.png", "left", np.zeros((4, 2))), state)
    seen = view.project(rig.geometry.camera("wrist"), np.asarray(sensor.T_mount_sensor), size)
    face = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) / 2 * [*size, 1.0]
    T = np.linalg.inv(rig.geometry.camera_poses(state)["wrist"]) @ rig.geometry.sensor_poses(state)["left"]
    expected = rig.geometry.camera("wrist").project(transform_points(T, face))
    np.testing.assert_allclose(seen, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("gripper", "message"),
    [
        ({"links": {"finger_left": "left_face"}}, "expected a link for each of finger_left, finger_right"),
        ({"links": LINKS | {"finger_left": "left_fce"}}, "left_fce.*left_face"),
        ({"urdf_joint": "left_knukle"}, "left_knukle"),
        ({"upper": 0.14}, r"by \d+\.\d mm along .* the rig by 140\.0 mm"),
        ({"axis": [0, 1, 0]}, "0.0 mm along .*the axis in the flange frame"),
    ],
)
def test_links_that_do_not_fit_are_named(gripper: dict[str, object], message: str) -> None:
    with pytest.raises(RigError, match=f"(?s){message}"):
        rig_of(ARM, **gripper)


def test_links_without_a_urdf_and_joints_without_a_range_are_named() -> None:
    with pytest.raises(RigError, match="expected <limit> of a range"):
        rig_of(ARM.replace('lower="0" upper="1.02"', ""))
    data = yaml.safe_load((RIGS_FOLDER / "nova2.yaml").read_text())
    data["arms"]["arm"]["gripper"] |= {"links": LINKS}
    with pytest.raises(RigError, match="links of a URDF, and this arm has none"):
        parse_rig(data, "nova2")
