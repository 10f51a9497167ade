"""Policy and progress as processes: exit codes, signals during inference, and what they never import."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_robot import FakeRobot, lenient_rig
from policy_cell import WIDE
from std_srvs.srv import Trigger
from tiny_bundles import policy_bundle, progress_bundle, slow_bundle

from tacit.rig import load_rig
from tacit_ros.wire.environment import child_environment

NODES = ("policy_node", "progress_node")


def start(module: str, **parameters: object) -> subprocess.Popen:
    arguments = [part for key, value in parameters.items() for part in ("-p", f"{key}:={value}")]
    command = [sys.executable, "-m", f"tacit_ros.{module}", "--ros-args", *arguments]
    return subprocess.Popen(command, env=child_environment(), stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("module", NODES)
def test_refusal_is_exit_code_2_with_the_reason(domain: int, tmp_path: Path, module: str) -> None:
    process = start(module, bundle=tmp_path / "absent.onnx")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "refused to start" in errors and "no such bundle" in errors and "Traceback" not in errors


@pytest.mark.parametrize("module", NODES)
def test_signal_ends_an_idle_node_with_exit_code_0(bench, tmp_path: Path, module: str) -> None:
    make = policy_bundle if module == "policy_node" else progress_bundle
    process = start(module, bundle=make(tmp_path, load_rig("nova2_sim")).source)
    name = module.removesuffix("_node")
    try:
        bench.until(lambda: name in bench.node.get_node_names(), "node", 60)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors
    finally:
        process.kill()


def test_signal_during_inference_ends_the_node_with_exit_code_0(bench, tmp_path: Path) -> None:
    rig_path = lenient_rig(tmp_path, tracking_error=1e9)
    rig = load_rig(rig_path)
    bundle = slow_bundle(tmp_path, rig, **WIDE).source
    process = start("policy_node", rig=rig_path, bundle=bundle, lockstep="true", mode="replace")
    robot = FakeRobot(bench.node, rig)
    robot.follows = False
    try:
        client = bench.node.create_client(Trigger, "/policy/start")
        bench.until(client.service_is_ready, "service", 60)
        answers: list = []

        def started() -> bool:
            if not answers or answers[-1].done() and not answers[-1].result().success:
                answers.append(client.call_async(Trigger.Request()))
            return len(robot.commands) > 3

        bench.until(started, "commands", 60)
        robot.glide(0.8)
        quiet = [len(robot.commands), time.monotonic()]

        def stuck() -> bool:
            if len(robot.commands) != quiet[0]:
                quiet[:] = [len(robot.commands), time.monotonic()]
            return time.monotonic() - quiet[1] > 0.5

        bench.until(stuck, "inference to get stuck")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    finally:
        robot.stop()
        process.kill()


CHECK = """
import sys, rclpy
from rclpy.parameter import Parameter
from tacit_ros.wire.environment import prepare
from tacit_ros.policy_node import PolicyNode
from tacit_ros.progress_node import ProgressNode
prepare()
rclpy.init()
policy, progress = sys.argv[1:]
nodes = [PolicyNode([Parameter("bundle", value=policy)]), ProgressNode([Parameter("bundle", value=progress)])]
for node in nodes:
    node.close()
    node.destroy_node()
rclpy.shutdown()
heavy = {'torch', 'onnx', 'tacit_learning', 'tacit_sim', 'roboticstoolbox'} & set(sys.modules)
sys.exit(f'imported {heavy}' if heavy else 0)
"""


def test_running_nodes_import_neither_torch_nor_the_training_code(domain: int, tmp_path: Path) -> None:
    rig = load_rig("nova2_sim")
    paths = [policy_bundle(tmp_path, rig).source, progress_bundle(tmp_path, rig).source]
    done = subprocess.run(
        [sys.executable, "-c", CHECK, *paths],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
