"""Poses and boxes of a whole rig: frames cancel where they must, fingers move by half the opening."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tacit.errors import RigError
from tacit.geometry.footprint import project_box
from tacit.geometry.robot import Robot
from tacit.rig import Rig, load_rig, shipped_rigs
from tacit.rig.scene import camera_from_spec

READY = [-0.3424, 0.0643, 2.0576, -0.5511, -1.5708, 1.2284]
SIM = load_rig("nova2_sim")
joint_values = arrays(np.float64, 6, elements=st.floats(-2.7, 2.7))
openings = st.floats(0, 0.08)


def ready_state(rig: Rig, opening: float = 0.05) -> np.ndarray:
    return np.concatenate([READY + [opening] * (arm.gripper is not None) for arm in rig.arms.values()])


def changed(rig: Rig, **sections) -> Rig:
    return Rig.model_validate(rig.model_dump(mode="json") | sections)


def test_ready_pose_of_the_cell_points_down_above_the_table():
    T = SIM.geometry.flange_poses(ready_state(SIM))["arm"]
    np.testing.assert_allclose(T[:3, :3], np.diag([1, -1, -1]), atol=1e-4)
    np.testing.assert_allclose(T[:3, 3], [-0.350, 0, 0.297], atol=1e-4)


@given(joint_values, openings)
def test_pads_part_by_the_opening_along_the_gripper_axis(q, opening):
    state = [*q, opening]
    poses = SIM.sensor_poses(state)
    flange = SIM.geometry.flange_poses(state)["arm"]
    apart = poses["left"][:3, 3] - poses["right"][:3, 3]
    np.testing.assert_allclose(apart, opening * flange[:3, 0], atol=1e-12)
    middle = (poses["left"] + poses["right"])[:3, 3] / 2
    np.testing.assert_allclose(middle, (flange @ [0, 0, 0.197, 1])[:3], atol=1e-12)


def test_gels_look_at_each_other():
    poses = SIM.sensor_poses(ready_state(SIM))
    between = poses["right"][:3, 3] - poses["left"][:3, 3]
    assert poses["left"][:3, 2] @ between == pytest.approx(0.05)
    assert poses["right"][:3, 2] @ between == pytest.approx(-0.05)


@given(joint_values, joint_values, openings)
def test_joints_cancel_in_the_wrist_camera(q, other, opening):
    for sensor in ("left", "right"):
        here = SIM.sensor_boxes([*q, opening], "wrist")[sensor]
        there = SIM.sensor_boxes([*other, opening], "wrist")[sensor]
        np.testing.assert_array_equal(here.box, there.box)


def test_the_opening_moves_the_wrist_box_by_more_than_its_width():
    closed, opened = (SIM.sensor_boxes([*READY, g], "wrist")["left"].box for g in (0.0, 0.08))
    assert opened[0] - closed[0] > closed[2] - closed[0]


@settings(deadline=None)
@given(joint_values, openings)
def test_footprints_are_those_of_the_poses(q, opening):
    state = [*q, opening]
    sensors, cameras = SIM.sensor_poses(state), SIM.geometry.camera_poses(state)
    for (camera, sensor), found in SIM.geometry.footprints(state).items():
        lens = camera_from_spec(SIM.cameras[camera])
        expected = project_box(sensors[sensor], SIM.tactile[sensor].size_m, cameras[camera], lens)
        np.testing.assert_allclose(found.box, expected.box, rtol=1e-6, atol=1e-5)
        assert found.visibility == pytest.approx(expected.visibility, abs=1e-5)


def test_a_wrist_camera_rides_on_the_flange_and_a_world_camera_stays():
    moved = ready_state(SIM) + [0.3, 0, 0, 0, 0, 0, 0]
    before, after = (SIM.geometry.camera_poses(q) for q in (ready_state(SIM), moved))
    np.testing.assert_array_equal(before["top"], after["top"])
    flange = SIM.geometry.flange_poses(moved)["arm"]
    np.testing.assert_allclose(after["wrist"], flange @ SIM.cameras["wrist"].T_parent_camera)


def test_all_boxes_are_nan_when_the_sensors_are_behind():
    turned = SIM.model_dump(mode="json")["cameras"]
    turned["wrist"]["T_parent_camera"] = {"xyz": [0, -0.075, 0.0], "rpy_deg": [180, 0, 0]}
    rig = changed(SIM, cameras=turned)
    for found in rig.sensor_boxes(ready_state(rig), "wrist").values():
        assert np.isnan(found.box).all()
        assert (found.flags, found.visibility) == (0, 0.0)


def test_a_track_of_states_equals_state_by_state():
    rig = load_rig("xtrainer")
    rng = np.random.default_rng(0)
    Q = ready_state(rig) + rng.normal(0, 0.2, (15, 14)) * ([1] * 6 + [0.02] + [1] * 6 + [0.02])
    tracks, poses = rig.geometry.footprint_tracks(Q), rig.geometry.sensor_poses(Q)
    assert len(tracks) == 6
    for i, q in enumerate(Q):
        for key, found in rig.geometry.footprints(q).items():
            np.testing.assert_allclose(tracks[key].box[i], found.box, rtol=1e-9)
            assert tracks[key].flags[i] == found.flags
        np.testing.assert_allclose(poses["tactile_left"][i], rig.sensor_poses(q)["tactile_left"], atol=1e-15)


def test_second_arm_stands_where_the_world_says_and_moves_alone():
    rig = load_rig("xtrainer")
    state = ready_state(rig)
    poses = rig.geometry.flange_poses(state)
    np.testing.assert_allclose(poses["left"][:3, 3] - poses["right"][:3, 3], [0, 0.6, 0], atol=1e-12)
    state[rig.arm_slice("right")] += 0.2
    moved = rig.geometry.flange_poses(state)
    np.testing.assert_array_equal(moved["left"], poses["left"])
    assert not np.allclose(moved["right"], poses["right"])
    np.testing.assert_allclose(
        moved["right"],
        rig.arms["right"].T_world_base @ Robot.from_rig(rig, "right").forward(np.array(READY) + 0.2),
    )


@pytest.mark.parametrize("name", shipped_rigs())
def test_each_shipped_rig_sees_its_own_sensors(name):
    rig = load_rig(name)
    state = ready_state(rig)
    assert (rig.limits("lower") <= state).all()
    assert (state <= rig.limits("upper")).all()
    found = rig.geometry.footprints(state)
    assert set(found) == {(camera, sensor) for camera in rig.cameras for sensor in rig.tactile}
    for sensor in rig.tactile:
        assert max(found[camera, sensor].visibility for camera in rig.cameras) > 0.9
        carrier = rig.tactile[sensor].mount.split(".")[0]
        own = [c for c, spec in rig.cameras.items() if spec.parent == f"{carrier}.flange"]
        assert all(found[camera, sensor].status == "ok" for camera in own)
    for pose in rig.sensor_poses(state).values():
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(1.0)


def test_wrong_shapes_and_names_are_refused():
    with pytest.raises(ValueError, match="joint1, joint2"):
        SIM.geometry.footprints(np.zeros(6))
    with pytest.raises(ValueError, match="footprint_tracks"):
        SIM.geometry.footprints(np.zeros((2, 7)))
    with pytest.raises(RigError, match="did you mean 'wrist'"):
        SIM.sensor_boxes(ready_state(SIM), "wrsit")
