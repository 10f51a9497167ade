"""What a container engine is told: that a node lives, by its own status, and how fast a topic truly comes."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import rclpy
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.parameter import Parameter
from rich.console import Console
from sensor_msgs.msg import JointState
from tiny_bundles import progress_bundle

from tacit.rig import Rig
from tacit_ros import messages
from tacit_ros.demo.main import Demo
from tacit_ros.demo.settings import quick
from tacit_ros.progress_node import ProgressNode

DOCKER = Path(__file__).parents[2] / "docker"
TOPIC = "/joint_states"


@pytest.fixture(scope="module")
def health() -> ModuleType:
    spec = importlib.util.spec_from_file_location("healthcheck", DOCKER / "healthcheck.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def asker(ros: rclpy.Context) -> Iterator[Node]:
    """The node of the check; whoever publishes is on it too, by a timer."""
    node = rclpy.create_node("asker")
    yield node
    node.destroy_node()


def services() -> dict[str, dict]:
    return yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))["services"]


def test_node_is_healthy_by_its_own_status_and_not_because_another_mentions_it(
    asker: Node, health: ModuleType
) -> None:
    topic = asker.create_publisher(DiagnosticArray, "/diagnostics", 10)
    status = messages.Status("recorder: progress", "ok", "25 Hz", {})
    asker.create_timer(0.05, lambda: topic.publish(messages.diagnostics([status], 0, "")))
    problem = health.problem_of_node(asker, "progress", 0.6)
    assert problem == "no status of progress on /diagnostics within 0.6 s; heard recorder: progress"
    assert health.problem_of_node(asker, "recorder: progress", 20.0) == ""


@pytest.mark.parametrize(("stamped_hz", "is_well"), [(100.0, True), (50.0, False)])
def test_rate_is_that_of_the_stamps_however_fast_the_simulation_runs(
    asker: Node, health: ModuleType, stamped_hz: float, is_well: bool
) -> None:
    topic = asker.create_publisher(JointState, TOPIC, 10)
    count = iter(range(10**6))
    send = lambda: topic.publish(messages.joint_state(["a"], [0.0], round(next(count) * 1e9 / stamped_hz)))  # noqa: E731
    asker.create_timer(0.03, send)  # a third of real time
    problem = health.problem_of_topic(asker, TOPIC, 100.0, 1.0)
    assert (problem == "") is is_well and ("Hz, expected 100" in problem) is not is_well


def test_topic_that_nobody_publishes_is_not_healthy(asker: Node, health: ModuleType) -> None:
    assert health.problem_of_topic(asker, "/nobody", 1.0, 0.2) == "0 messages on /nobody within 0.2 s"


def test_progress_node_is_healthy_before_it_has_heard_anything(
    bench, asker: Node, health: ModuleType, tmp_path: Path, rig: Rig
) -> None:
    node = ProgressNode([Parameter("bundle", value=progress_bundle(tmp_path, rig).source)])
    bench.add(node)
    heard: list[DiagnosticArray] = []
    bench.node.create_subscription(DiagnosticArray, "/diagnostics", heard.append, 10)
    try:
        bench.until(lambda: heard, "diagnostics")
        [status] = heard[0].status
        assert status.name == "progress" and status.message.startswith("waiting")
        values = {item.key: item.value for item in status.values}
        assert values["rejected_wrist"] == "0" and values["inferences"] != ""
    finally:
        node.close()


def test_every_check_of_the_compose_file_is_one_that_the_tool_knows(health: ModuleType) -> None:
    checks = {
        name: service["healthcheck"]["test"]
        for name, service in services().items()
        if "healthcheck" in service
    }
    assert set(checks) == {"sim", "recorder", "policy", "progress"}
    for name, words in checks.items():
        args = health.arguments(words[2:])
        assert words[:2] == ["CMD", "tacit-health"] and (args.kind == "topic" or args.name == name)


def test_bundles_are_called_by_default_what_the_demo_calls_them(tmp_path: Path) -> None:
    demo = Demo(quick(tmp_path), Console(quiet=True))
    defaults = {name: " ".join(services()[name]["command"]) for name in ("policy", "progress")}
    assert f":-{demo.policy_bundle.name}}}" in defaults["policy"]
    assert f":-{demo.progress_bundle.name}}}" in defaults["progress"]
