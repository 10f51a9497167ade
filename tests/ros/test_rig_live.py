"""A rig drafted from a running graph: topics, types, sizes, lens and the robot's own description."""

from __future__ import annotations

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")

from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String

from tacit.rig import RIGS_FOLDER
from tacit_ros.run import rig_live

pytestmark = pytest.mark.ros
URDF = (RIGS_FOLDER / "ur5e.urdf").read_text()
JOINTS = [
    f"{name}_joint" for name in ("shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3")
]


def test_a_running_robot_gives_a_rig(domain: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The listening loop publishes between its looks: one thread, nothing depends on timing."""
    heard: list[rig_live.Ears] = []

    def listen(seconds: float) -> rig_live.Ears:
        ears, robot = rig_live.Ears(), Node("robot")
        heard.append(ears)
        late = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        describe = robot.create_publisher(String, "/robot_description", late)
        describe.publish(String(data=URDF))
        senders = {
            "/joint_states": robot.create_publisher(JointState, "/joint_states", 10),
            "/cam/color/image_raw": robot.create_publisher(Image, "/cam/color/image_raw", 10),
            "/cam/color/camera_info": robot.create_publisher(CameraInfo, "/cam/color/camera_info", 10),
        }
        for step in range(400):
            ears.listen(0.05)
            counts = {connection.topic: connection.msgcount for connection in ears.connections}
            if ears.description and all(counts.get(topic, 0) > 3 for topic in senders):
                break
            stamp = 0.1 * np.sin(0.1 * step)
            senders["/joint_states"].publish(JointState(name=JOINTS, position=[stamp] * 6))
            picture = Image(height=48, width=64, encoding="rgb8", step=192, data=bytes(48 * 192))
            senders["/cam/color/image_raw"].publish(picture)
            lens = CameraInfo(height=48, width=64, distortion_model="plumb_bob", d=[0.0] * 5)
            lens.k = [50.0, 0.0, 31.5, 0.0, 50.0, 23.5, 0.0, 0.0, 1.0]
            senders["/cam/color/camera_info"].publish(lens)
        robot.destroy_node()
        return ears

    monkeypatch.setattr(rig_live, "_listen", listen)
    rclpy.init(domain_id=domain)
    try:
        text, files = rig_live.draft_live("mine", 1.0)
        heard[0].destroy_node()
    finally:
        rclpy.try_shutdown()
    assert files == {"mine.urdf": URDF}
    assert "    urdf: mine.urdf\n" in text
    assert "tip_link: wrist_3_link" in text and "topic: /cam/color/image_raw" in text
    assert "- - 50.0" in text  # K, of the camera_info
    assert "arms.arm" not in text  # measured: the robot described itself
