"""An emergency stop topic and a heartbeat: heard from every kind of writer, latched, and told apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake_robot import FakeRobot, lenient_rig
from policy_cell import WIDE
from rclpy.parameter import Parameter
from std_msgs.msg import Bool, Empty
from tiny_bundles import policy_bundle

from tacit.control.heartbeat import Heartbeat
from tacit.control.safety import Fault
from tacit.control.states import PolicyMachine
from tacit.rig import HeartbeatSpec, QosSpec, SafetySpec, load_rig
from tacit_ros import messages
from tacit_ros.policy_node import PolicyNode
from tacit_ros.wire import qos
from tacit_ros.wire.stop_topics import EVERY_WRITER, StopTopics

MS = 1_000_000


def test_heartbeat_is_lost_by_silence_and_by_its_own_word() -> None:
    heart = Heartbeat(HeartbeatSpec(topic="/pedal", timeout_ms=200.0))
    assert "nothing heard on /pedal" in heart.fault(0).detail
    heart.beat(0)
    assert heart.fault(200 * MS) is None
    assert "/pedal is 201 ms old, allowed 200 ms" in heart.fault(201 * MS).detail
    heart.beat(300 * MS, well=False)
    assert heart.fault(300 * MS) == Fault("heartbeat", "/pedal says false")
    heart.beat(301 * MS)
    assert heart.fault(310 * MS) is None


def test_fault_that_latches_stops_what_moves_and_nothing_else() -> None:
    lost = Heartbeat(HeartbeatSpec(on_loss="estop")).fault(0)
    machine = PolicyMachine()
    machine.hold(lost)
    assert machine.state == "IDLE"  # a node that was started before its heartbeat is not stuck
    machine.start()
    machine.hold(lost)
    assert machine.state == "ESTOP" and not machine.start().success
    assert machine.reset().success and machine.start().success
    machine.hold(Fault("stale", "a camera is silent"))
    assert machine.state == "HOLD"


@pytest.mark.parametrize("offered", EVERY_WRITER, ids=lambda spec: f"{spec.reliability}-{spec.durability}")
def test_stop_is_heard_from_every_kind_of_writer(bench, offered: QosSpec) -> None:
    heard: list[Fault] = []
    stops = StopTopics(bench.node, SafetySpec(), heard.append)
    button = bench.node.create_publisher(Bool, "estop", qos.profile(offered))
    bench.until(lambda: button.get_subscription_count() >= 1, "the reader")
    # Sent until heard: what is sent before both sides know each other may be lost.
    bench.until(lambda: button.publish(messages.boolean(True)) or heard, "the stop")
    assert heard[0] == Fault("estop", "true came on /estop")
    name = bench.node.get_name()
    bench.until(lambda: name in stops.pressed(), "the one who holds it")
    bench.until(lambda: button.publish(messages.boolean(False)) or not stops.pressed(), "the release")


def test_button_pressed_before_the_node_came_counts_until_its_sender_is_gone(bench) -> None:
    button = bench.node.create_publisher(Bool, "estop", qos.latched())
    button.publish(messages.boolean(True))
    heard: list[Fault] = []
    stops = StopTopics(bench.node, SafetySpec(), heard.append)
    bench.until(lambda: heard, "what was said before")
    assert stops.pressed()
    bench.node.destroy_publisher(button)  # as `ros2 topic pub --once` ends
    bench.until(lambda: not stops.pressed(), "nobody who says stop")


def test_policy_stops_by_topic_and_by_a_lost_heartbeat(bench, tmp_path: Path) -> None:
    heartbeat = {"timeout_ms": 1000.0, "on_loss": "estop"}
    rig = load_rig(lenient_rig(tmp_path, tracking_error=1e9, heartbeat=heartbeat))
    bundle = policy_bundle(tmp_path, rig, **WIDE).source
    node = PolicyNode([Parameter("rig", value=str(tmp_path / "rig.yaml")), Parameter("bundle", value=bundle)])
    bench.add(node)
    robot = FakeRobot(bench.node, rig)
    button = bench.node.create_publisher(Bool, "/estop", qos.latched())
    heart = bench.node.create_publisher(Empty, "/heartbeat", 1)
    beating = bench.node.create_timer(0.02, lambda: heart.publish(Empty()))
    controller = node.controller

    def run() -> None:
        bench.until(lambda: node.acting.readiness() is None, "input")
        answer, count = bench.call("/policy/start"), len(robot.commands)
        assert answer.success, answer.message
        bench.until(lambda: len(robot.commands) > count + 3, "commands")

    try:
        run()
        button.publish(messages.boolean(True))
        bench.until(lambda: controller.state == "ESTOP", "the stop")
        assert controller.fault.detail == "true came on /estop"
        bench.until(lambda: controller.limiter.is_at_rest, "rest")
        answer = bench.call("/policy/reset")
        assert not answer.success and "publish false" in answer.message
        button.publish(messages.boolean(False))
        bench.until(lambda: bench.call("/policy/reset").success, "a reset once the button is free")

        run()
        beating.cancel()
        bench.until(lambda: controller.state != "RUNNING", "the stop")
        assert controller.state == "ESTOP" and controller.fault.reason == "heartbeat"
        bench.until(lambda: controller.limiter.is_at_rest, "rest")
        assert bench.call("/policy/reset").success
        bench.until(lambda: "heartbeat" in bench.call("/policy/start").message, "a refusal for its silence")
        low, high = rig.limits("lower"), rig.limits("upper")
        assert all(((c >= low) & (c <= high)).all() for _, c in robot.commands)
        assert np.isfinite([c for _, c in robot.commands]).all()
    finally:
        robot.stop()
        node.close()
