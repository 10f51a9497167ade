"""Calibration pictures: taken when arm and picture are still, once per pose, with what the driver said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tacit.errors import CalibrationError
from tacit.images import decode_image
from tacit.record.capture import Capture
from tacit.record.samples import load_samples
from tacit.rig import Rig, load_rig, parse_rig

MS = 1_000_000
HOME = np.array([-0.34, 0.06, 2.06, -0.55, -1.57, 1.23])
SCENE = np.random.default_rng(0).integers(0, 255, (120, 160, 3)).astype(np.uint8)


class Robot:
    """Feeds a `Capture` with joints at 100 Hz and pictures at 25 Hz of a robot that does as it is told."""

    def __init__(self, capture: Capture) -> None:
        self.capture, self.now_ns = capture, 1_000 * MS
        self.q, self.opening = HOME.copy(), 0.05
        self.verdicts: list[str] = []

    def stand(self, seconds: float, scene: np.ndarray = SCENE, speed: float = 0.0) -> list[str]:
        """Let time pass; returns the verdicts on the pictures meanwhile."""
        found: list[str] = []
        for i in range(round(seconds * 100)):
            self.q[0] += speed * 0.01
            self.capture.add_state("joints", self.now_ns, self.q)
            self.capture.add_state("gripper_state", self.now_ns, np.array([self.opening]))
            if i % 4 == 0:
                found.append(self.capture.add_image(self.now_ns, scene))
            self.now_ns += 10 * MS
        return found


def made(folder: Path, rig: Rig | None = None) -> Robot:
    return Robot(Capture(rig or load_rig("nova2_sim"), "arm", "wrist", folder))


def test_one_picture_is_taken_in_each_pose_and_none_on_the_way(tmp_path: Path) -> None:
    robot = made(tmp_path)
    for _ in range(3):
        assert robot.stand(1.0).count("saved") == 1
        assert "saved" not in robot.stand(0.5, speed=0.4)
    listed = load_samples(tmp_path)
    assert len(listed.samples) == 3 and listed.camera == "wrist"
    np.testing.assert_array_equal(decode_image((tmp_path / "000.png").read_bytes()), SCENE)
    np.testing.assert_allclose(listed.samples[0].q, HOME, atol=1e-12)
    assert listed.samples[1].q[0] == pytest.approx(HOME[0] + 0.2)


def test_a_pose_seen_before_is_refused_also_after_a_restart(tmp_path: Path) -> None:
    robot = made(tmp_path)
    robot.stand(1.0)
    robot.stand(0.5, speed=0.4)
    robot.stand(0.5, speed=-0.4)
    assert set(robot.stand(1.0)) == {"moving", "duplicate"}
    again = made(tmp_path)
    assert set(again.stand(1.0)) == {"moving", "duplicate"}
    assert len(load_samples(tmp_path).samples) == 1


def test_another_opening_is_another_pose_and_raw_is_what_the_driver_said(tmp_path: Path) -> None:
    data = load_rig("nova2_sim").model_dump(mode="json")
    data["arms"]["arm"]["gripper"] |= {"scale": -0.0003, "offset": 0.08}
    robot = made(tmp_path, parse_rig(data, "raw"))
    for opening in (0.02, 0.05):
        robot.opening = opening
        robot.stand(1.0)
    raws = [sample.gripper_raw for sample in load_samples(tmp_path).samples]
    assert raws == pytest.approx([200.0, 100.0])


def test_a_scene_that_changes_is_waited_for(tmp_path: Path) -> None:
    robot = made(tmp_path)
    other = 255 - SCENE // 2
    flicker = [robot.stand(0.04, scene=(SCENE, other)[i % 2]) for i in range(30)]
    assert {verdict for part in flicker for verdict in part} == {"moving", "changing"}
    assert robot.stand(0.2).count("saved") == 1


def test_nothing_is_taken_before_joints_and_gripper_were_heard(tmp_path: Path) -> None:
    robot = made(tmp_path)
    assert robot.capture.add_image(robot.now_ns, SCENE) == "waiting"
    assert not tmp_path.joinpath("samples.yaml").exists()


@pytest.mark.parametrize("shift_ns", [-3_000 * MS, 3_000 * MS])
def test_clocks_that_differ_are_named(tmp_path: Path, shift_ns: int) -> None:
    robot = made(tmp_path)
    robot.stand(0.8, scene=255 - SCENE)
    assert robot.capture.add_image(robot.now_ns + shift_ns, SCENE) == "apart"
    assert robot.capture.add_image(0, SCENE) == "apart"


def test_nothing_is_taken_while_something_is_wrong_and_it_goes_on_afterwards(tmp_path: Path) -> None:
    robot = made(tmp_path)
    robot.stand(0.5, speed=0.4)
    robot.stand(0.8, scene=255 - SCENE, speed=0.0)
    robot.verdicts = [robot.capture.add_image(robot.now_ns, SCENE, doubted=True) for _ in range(20)]
    assert set(robot.verdicts) == {"doubted"} and robot.capture.verdicts["doubted"] == 20
    before = len(robot.capture.samples.content.samples)
    robot.stand(0.5, speed=0.4)
    assert robot.stand(1.0).count("saved") == 1
    assert len(robot.capture.samples.content.samples) == before + 1


def test_unknown_arm_and_camera_are_named(tmp_path: Path) -> None:
    rig = load_rig("nova2_sim")
    with pytest.raises(CalibrationError, match="did you mean 'wrist'"):
        Capture(rig, "arm", "wirst", tmp_path)
    with pytest.raises(CalibrationError, match="valid: arm"):
        Capture(rig, "left", "wrist", tmp_path)


def test_node_captures_a_standing_robot_and_answers(bench: Any, tmp_path: Path) -> None:
    from fake_robot import FakeRobot
    from rclpy.node import Node
    from rclpy.parameter import Parameter

    from tacit_ros.capture_node import CaptureNode, arm_of

    rig = load_rig("nova2_sim")
    robot = FakeRobot(bench.add(Node("robot")), rig)
    parameters = {"rig": "nova2_sim", "camera": "top", "out": str(tmp_path / "out")}
    overrides = [Parameter(name, value=value) for name, value in parameters.items()]
    node = bench.add(CaptureNode(overrides))
    bench.until(lambda: (tmp_path / "out" / "000.png").is_file(), "a picture")
    answers = {name: bench.call(f"/capture/{name}") for name in ("status", "drop_last")}
    robot.stop()
    assert json.loads(answers["status"].message)["samples"] == 1
    assert answers["drop_last"].success and answers["drop_last"].message == "dropped 000.png"
    assert node.get_name() == "capture" and arm_of(load_rig("xtrainer"), "left_wrist") == "left"
    with pytest.raises(CalibrationError, match="left, right"):
        arm_of(load_rig("xtrainer"), "top")


def test_node_takes_no_picture_while_two_nodes_publish_the_joints(bench: Any, tmp_path: Path) -> None:
    from fake_robot import FakeRobot
    from rclpy.node import Node
    from rclpy.parameter import Parameter
    from sensor_msgs.msg import JointState

    from tacit_ros.capture_node import CaptureNode

    rig = load_rig("nova2_sim")
    second = bench.add(Node("joint_state_publisher"))
    second.create_publisher(JointState, rig.streams["joints"].topic, 10)
    parameters = {"rig": "nova2_sim", "camera": "top", "out": str(tmp_path / "out")}
    node = bench.add(CaptureNode([Parameter(name, value=value) for name, value in parameters.items()]))
    robot = FakeRobot(bench.add(Node("robot")), rig)
    bench.until(lambda: node._capture.verdicts["doubted"] > 20, "pictures that are refused")
    assert not (tmp_path / "out" / "000.png").exists()
    assert any("two_publishers" in text and "/joint_state_publisher" in text for text in node._doubts())
    robot.stop()
