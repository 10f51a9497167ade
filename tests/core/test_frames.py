"""The tree of frames of a rig: equal to the rig's own poses, and to kinematics that share no code with it."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from tacit.geometry.kinematics import DH_MODELS
from tacit.geometry.rotations import rotation_from_rpy, rotation_to_rpy
from tacit.geometry.toolbox import dh_poses, urdf_poses
from tacit.geometry.urdf import chain_from_urdf
from tacit.rig import Rig, load_rig, shipped_rigs
from tacit.rig.frames import frames_of, robot_description


def states(rig: Rig, number: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.uniform(rig.limits("lower"), rig.limits("upper"), (number, len(rig.state_names)))


def in_world(rig: Rig, q: np.ndarray) -> dict[str, np.ndarray]:
    """Go through the tree by hand, as tf does."""
    value, poses = dict(zip(rig.state_names, q, strict=True)), {"world": np.eye(4)}
    for frame in frames_of(rig):
        poses[frame.name] = poses[frame.parent] @ frame.at(value.get(frame.state, 0.0))
    return poses


@pytest.mark.parametrize("name", shipped_rigs())
def test_tree_puts_flanges_cameras_and_sensors_where_the_rig_does(name: str) -> None:
    rig = load_rig(name)
    for q in states(rig, 5):
        poses = in_world(rig, q)
        own = {f"{arm}_flange": T for arm, T in rig.geometry.flange_poses(q).items()}
        own |= {rig.cameras[n].frame_id or n: T for n, T in rig.geometry.camera_poses(q).items()}
        own |= rig.geometry.sensor_poses(q)
        assert own
        for frame, T in own.items():
            np.testing.assert_allclose(poses[frame], T, atol=1e-12, err_msg=frame)


@pytest.mark.parametrize("name", ["nova2_sim", "xtrainer", "nova5"])
def test_flange_of_an_arm_by_dh_is_where_roboticstoolbox_puts_it(name: str) -> None:
    rig = load_rig(name)
    for arm, spec in rig.arms.items():
        for q in states(rig, 4, seed=1):
            [T_base_flange] = dh_poses(DH_MODELS[spec.model], [q[rig.arm_slice(arm)]])
            expected = spec.T_world_base @ T_base_flange
            np.testing.assert_allclose(in_world(rig, q)[f"{arm}_flange"], expected, atol=1e-9)


@pytest.mark.parametrize("name", ["nova2_sim", "ur5e"])
def test_description_is_a_urdf_that_spatialmath_reads_to_the_same_poses(name: str) -> None:
    rig = load_rig(name)
    text, [arm] = robot_description(rig), rig.arms
    for q in states(rig, 3, seed=2):
        poses = in_world(rig, q)
        [flange] = urdf_poses(text, "world", f"{arm}_flange", [q[rig.arm_slice(arm)]])
        np.testing.assert_allclose(poses[f"{arm}_flange"], flange, atol=1e-9)


def test_fingers_follow_half_the_opening_in_the_description_too() -> None:
    rig = load_rig("nova2_sim")
    text = robot_description(rig)
    q = states(rig, 1)[0]
    for name, sensor in rig.tactile.items():
        [T] = urdf_poses(text, "world", name, [q])
        np.testing.assert_allclose(T, rig.sensor_poses(q)[name], atol=1e-9, err_msg=sensor.mount)
    chain = chain_from_urdf(text, "arm_base", "arm_flange", [f"joint{i}" for i in range(1, 7)])
    assert chain.coupling is None


@pytest.mark.parametrize("name", shipped_rigs())
def test_every_frame_has_one_parent_that_came_before_and_every_link_a_joint(name: str) -> None:
    rig = load_rig(name)
    seen = {"world"}
    for frame in frames_of(rig):
        assert frame.parent in seen and frame.name not in seen
        seen.add(frame.name)
    robot = ElementTree.fromstring(robot_description(rig))
    links = {link.get("name") for link in robot.iter("link")}
    children = [joint.find("child").get("link") for joint in robot.iter("joint")]  # type: ignore[union-attr]
    assert seen <= links and sorted(children) == sorted(links - {"world"})
    joints = [joint.get("name") for joint in robot.iter("joint")]
    assert len(set(joints)) == len(joints) and set(rig.state_names) <= set(joints)


@pytest.mark.parametrize(
    "rpy", [(0.3, -0.4, 2.9), (0.0, np.pi / 2, 0.7), (0.5, -np.pi / 2, 0.1), (3.0, 0.0, -3.1)]
)
def test_roll_pitch_yaw_give_their_rotation_back(rpy: tuple[float, float, float]) -> None:
    R = rotation_from_rpy(rpy)
    np.testing.assert_allclose(rotation_from_rpy(rotation_to_rpy(R)), R, atol=1e-12)
