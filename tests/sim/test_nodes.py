"""The cell as a robot on topics: one lockstep demonstration through real ROS processes."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from forked import Forked

os.environ["ROS_PYTHON_CHECK_FIELDS"] = "1"  # read when the first message package is imported

pytest.importorskip("tacit_sim.rendering", reason="mujoco is not installed")
rclpy = pytest.importorskip("rclpy", reason="rclpy is not installed")

from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger

from benches.testing import isolated_domain, wait_until
from tacit.rig import Rig
from tacit_ros import messages

pytestmark = [pytest.mark.sim, pytest.mark.ros]

TICK_NS = 40_000_000
SHARE_HEARD = 0.5
"""A listener on a loaded machine loses some messages of a cell that runs faster than real time."""

STAMPED = {
    "/joint_states": JointState,
    "/gripper/state": JointState,
    "/camera/wrist/image": Image,
    "/camera/wrist/camera_info": CameraInfo,
    "/camera/top/image": Image,
    "/tactile/left/image": Image,
    "/tactile/right/image": Image,
    "/joint_command": JointState,
}
OTHERS = {"/simulator/truth": String, "/simulator/stage": JointState, "/simulator/success": Bool}


class Listener:
    """Remembers what was heard: all stamps, and the last message of each topic."""

    def __init__(self) -> None:
        self.node = rclpy.create_node("listener")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.stamps: dict[str, list[int]] = {topic: [] for topic in STAMPED}
        self.last: dict[str, Any] = {}
        for topic, kind in {**STAMPED, **OTHERS}.items():
            self.node.create_subscription(kind, topic, lambda m, t=topic: self._hear(t, m), 100)

    def _hear(self, topic: str, message: Any) -> None:
        self.last[topic] = message
        if topic in STAMPED:
            self.stamps[topic].append(messages.header_stamp_ns(message))

    @property
    def truth(self) -> dict[str, Any]:
        heard = self.last.get("/simulator/truth")
        return json.loads(heard.data) if heard else {"episode": -1, "success": False}

    def spin(self) -> None:
        end = time.monotonic() + 0.05
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)

    def until(self, fact: Any, what: str, timeout_s: float = 60.0) -> None:
        wait_until(fact, what, timeout_s, self.spin)

    def trigger(self, name: str) -> str:
        client = self.node.create_client(Trigger, name)
        self.until(client.service_is_ready, f"service {name}")
        future = client.call_async(Trigger.Request())
        self.until(future.done, f"answer of {name}")
        assert future.result().success, future.result().message
        return str(future.result().message)


@pytest.fixture(scope="module")
def heard() -> Iterator[Listener]:
    """A listener that has heard one whole lockstep demonstration of seed 2."""
    with isolated_domain():
        rclpy.init()
        listener = Listener()
        simulator = ["tacit_sim.simulator_node", "--ros-args"]
        options = {"lockstep": "true", "real_time_factor": "3.0", "seed": "2", "disturbance": "true"}
        simulator += [word for key, value in options.items() for word in ("-p", f"{key}:={value}")]
        expert = ["tacit_sim.expert_node"]
        processes = [Forked(*words) for words in (expert, simulator)]
        try:
            listener.until(lambda: "/simulator/truth" in listener.last, "the first tick")
            episode = json.loads(listener.trigger("/simulator/reset"))["episode"]
            listener.trigger("/expert/run")
            listener.until(lambda: listener.truth["episode"] == episode, "the new episode")
            listener.until(lambda: listener.truth["success"], "success")
            yield listener
        finally:
            for process in processes:
                process.send_signal(signal.SIGINT)
            codes = [process.wait(60) for process in processes]
            listener.node.destroy_node()
            rclpy.try_shutdown()
        assert codes == [0, 0]


def test_demonstration_over_topics_succeeds(heard: Listener) -> None:
    assert heard.truth["lifted"]
    assert heard.last["/simulator/stage"].position[0] >= 3
    assert 0 < heard.truth["object_xyz"][2] < 0.03
    assert json.loads(heard.trigger("/simulator/status"))["success"]


def test_images_and_commands_carry_the_stamp_of_joints(heard: Listener) -> None:
    joints = heard.stamps["/joint_states"]
    for topic in ("/camera/wrist/image", "/camera/top/image", "/tactile/left/image", "/joint_command"):
        stamps = heard.stamps[topic]
        assert len(stamps) > 100
        assert ((np.array(stamps) - joints[0]) % (TICK_NS // 4) == 0).all(), topic
        assert set(stamps) & set(joints), topic


def test_ticks_come_at_25_hz_and_joints_at_100_hz_of_simulated_time(heard: Listener) -> None:
    for topic, period_ns in (("/camera/wrist/image", TICK_NS), ("/joint_states", TICK_NS // 4)):
        steps = np.diff(heard.stamps[topic])
        assert (steps % period_ns == 0).all(), topic
        assert np.mean(steps == period_ns) > SHARE_HEARD, topic


def test_stamps_only_grow(heard: Listener) -> None:
    for topic, stamps in heard.stamps.items():
        assert all(a < b for a, b in zip(stamps, stamps[1:], strict=False)), topic


def test_a_tick_has_one_command(heard: Listener) -> None:
    commands = heard.stamps["/joint_command"]
    assert len(set(commands)) == len(commands)
    assert (np.diff(commands) % TICK_NS == 0).all()


def test_messages_speak_the_names_and_sizes_of_the_rig(heard: Listener, rig: Rig) -> None:
    assert tuple(heard.last["/joint_states"].name) == rig.streams["joints"].names
    assert list(heard.last["/gripper/state"].name) == ["gripper"]
    assert list(heard.last["/joint_command"].name) == list(rig.commands["command"].names)
    info = heard.last["/camera/wrist/camera_info"]
    assert (info.width, info.height) == (rig.cameras["wrist"].width, rig.cameras["wrist"].height)
    assert list(info.k) == pytest.approx(rig.cameras["wrist"].K.ravel())
    assert heard.last["/camera/wrist/image"].header.frame_id == "wrist_optical"
    assert len(heard.last["/joint_states"].velocity) == 6
