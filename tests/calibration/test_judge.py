"""Views left out judge a calibration, and tell a wrong arm from a noisy one."""

from __future__ import annotations

import numpy as np
import pytest
from hand_eye_scenes import CAMERA, X, joint_scene

from tacit.geometry.robot import Robot
from tacit.geometry.transforms import pose_error
from tacit.rig import Rig, load_rig, parse_rig
from tacit_calibration.commands.judge import judge
from tacit_calibration.estimation.arm_errors import geometry_errors
from tacit_calibration.estimation.increments import small_pose
from tacit_calibration.hand_eye import solve_hand_eye
from tacit_calibration.samples import RobotViews
from tacit_calibration.ways import LEARNT, MODELLED


@pytest.fixture(scope="module")
def rig() -> Rig:
    """A Nova 5 with the camera of the synthetic scenes."""
    data = load_rig("nova5").model_dump(mode="json")
    data["cameras"]["wrist"] |= {"K": CAMERA.K.tolist(), "D": list(CAMERA.D), "width": 640, "height": 480}
    return parse_rig(data, "test")


def views_of(rig: Rig, num: int, wrong_deg: float) -> RobotViews:
    """Views of an arm whose joint frames are turned by so much."""
    scene, arm = joint_scene(seed=3, num=num), next(iter(rig.arms))
    robot = Robot.from_rig(rig, arm)
    columns = geometry_errors(robot.chain, scene.joints)
    wrong = np.random.default_rng(1).normal(0, np.deg2rad(wrong_deg), columns.shape[-1])
    poses = robot.forward_batch(scene.joints) @ small_pose(columns @ wrong)
    return RobotViews(arm, poses, tuple(scene.views), (), 640, 480, scene.joints)


def judged(rig: Rig, views: RobotViews):
    solved = solve_hand_eye(views.flange_poses, views.views, CAMERA, "eye_in_hand")
    columns = geometry_errors(Robot.from_rig(rig, views.arm).chain, views.joints)
    kept, answer = judge(CAMERA, views, solved, columns)
    return kept.result, answer


def test_a_good_arm_is_judged_without_a_warning(rig, capsys):
    result, answer = judged(rig, views_of(rig, 14, 0.0))
    assert pose_error(result.T_parent_camera, X).translation < 4e-4
    assert len(answer["left_out_px"]) == 14
    assert 0.2 < answer["held_out_px"] < 0.6
    printed = capsys.readouterr().out
    assert "the camera moves most" in printed
    assert "WARNING" not in printed


def test_a_wrong_arm_is_called_wrong(rig, capsys):
    views = views_of(rig, 16, 0.08)
    plain = solve_hand_eye(views.flange_poses, views.views, CAMERA, "eye_in_hand")
    result, answer = judged(rig, views)
    assert answer["chosen"] == LEARNT
    assert answer["held_out_px"] == answer["ways"][LEARNT]["px"] < 0.7 * answer["ways"][MODELLED]["px"]
    errors = [pose_error(found.T_parent_camera, X).translation for found in (result, plain)]
    assert errors[0] < 0.5 * errors[1]
    assert result.rms_px < 0.7 * plain.rms_px
    assert "WARNING the arm's model is off" in capsys.readouterr().out


def test_eight_views_are_judged_by_fifths_though_none_can_be_spared_alone(rig, capsys):
    result, answer = judged(rig, views_of(rig, 8, 0.0))
    assert "left_out_px" not in answer
    assert answer["chosen"] in answer["ways"]
    assert pose_error(result.T_parent_camera, X).translation < 2e-3
    assert "not judged view by view" in capsys.readouterr().out
