"""What RViz and tf hear of a rig: a description that stays, transforms that lead to the rig's own poses."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from std_msgs.msg import String

from tacit.errors import MissingDependencyError
from tacit.geometry.rotations import rotation_from_quaternion
from tacit.rig import Rig
from tacit.rig.frames import frames_of, robot_description
from tacit_ros import messages
from tacit_ros.description_node import DescriptionNode, transforms
from tacit_ros.wire import qos

STATE = np.array([0.3, -0.2, 1.1, 0.4, -1.2, 0.7, 0.05])


def test_transform_messages_lead_to_the_poses_of_the_rig(rig: Rig) -> None:
    values = dict(zip(rig.state_names, STATE.tolist(), strict=True))
    poses = {"world": np.eye(4)}
    for told in transforms(list(frames_of(rig)), values, 1_500_000_000):
        at, turn = told.transform.translation, told.transform.rotation
        T = np.eye(4)
        T[:3, :3] = rotation_from_quaternion([turn.x, turn.y, turn.z, turn.w])
        T[:3, 3] = at.x, at.y, at.z
        poses[told.child_frame_id] = poses[told.header.frame_id] @ T
        assert messages.header_stamp_ns(told) == 1_500_000_000
    for name, T in {**rig.geometry.camera_poses(STATE), **rig.sensor_poses(STATE)}.items():
        frame = rig.cameras[name].frame_id if name in rig.cameras else name
        np.testing.assert_allclose(poses[frame], T, atol=1e-9, err_msg=name)


def test_description_is_there_for_who_comes_later(bench, rig: Rig) -> None:
    bench.add(DescriptionNode())
    heard: list[String] = []
    bench.node.create_subscription(String, "/robot_description", heard.append, qos.latched())
    bench.until(lambda: heard, "the description")
    assert heard[0].data == robot_description(rig)


@pytest.mark.skipif(importlib.util.find_spec("tf2_msgs") is not None, reason="tf2_msgs is here")
def test_missing_tf_says_where_it_comes_from() -> None:
    with pytest.raises(MissingDependencyError, match="ROS 2 installation"):
        messages.tf_message_class()


def test_tf_tells_the_measured_state(bench, rig: Rig) -> None:
    pytest.importorskip("tf2_msgs", reason="no wheel of tf2_msgs; with a ROS installation this runs")
    from fake_robot import FakeRobot

    robot, heard = FakeRobot(bench.node, rig, STATE), {}
    bench.add(DescriptionNode())
    take = lambda m: heard.update({t.child_frame_id: t for t in m.transforms})  # noqa: E731
    bench.node.create_subscription(messages.tf_message_class(), "/tf", take, 100)
    bench.node.create_subscription(messages.tf_message_class(), "/tf_static", take, qos.latched())
    try:
        bench.until(lambda: len(heard) == len(frames_of(rig)), "all frames")
    finally:
        robot.stop()
