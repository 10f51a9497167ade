"""`tacit up`: starts what the stack says, and nothing survives it, however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from benches.testing import wait_until
from tacit.errors import ConfigError
from tacit_ros.run.stacks import NodeSpec, Stack
from tacit_ros.run.up import Supervisor, command_of, describe, main, parse_options
from tacit_ros.wire.environment import (
    DISCOVERY,
    LEASE_PROFILE,
    PROFILES,
    SHARED_MEMORY_PROFILE,
    child_environment,
    prepare,
)

SLEEPER = "import sys, time; print('ready', flush=True); time.sleep(60)"
UP = """
import sys
from tacit_ros.run import up
from tacit_ros.run.stacks import NodeSpec, Stack
up.command_of = lambda node: [sys.executable, "-c", node.module]
nodes = tuple(NodeSpec(f"n{i}", "p", module) for i, module in enumerate(sys.argv[1:]))
sys.exit(up.supervise(Stack("test", "r", nodes)))
"""


@contextmanager
def running(*modules: str) -> Iterator[subprocess.Popen]:
    """A supervisor process over children that run the given code."""
    process = subprocess.Popen(
        [sys.executable, "-c", UP, *modules], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(timeout=10)


def children_ready(process: subprocess.Popen, count: int) -> list[psutil.Process]:
    """Wait until every child has printed, then return them."""
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(count)]
    assert all("ready" in line for line in lines), lines
    return psutil.Process(process.pid).children(recursive=True)


def all_gone(children: list[psutil.Process]) -> bool:
    return not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_every_child_and_is_no_failure(signum: int) -> None:
    with running(SLEEPER, SLEEPER) as process:
        children = children_ready(process, 2)
        process.send_signal(signum)
        assert process.wait(timeout=20) == 0
        assert len(children) == 2 and all_gone(children)


def test_killed_supervisor_leaves_no_orphans() -> None:
    with running(SLEEPER, SLEEPER) as process:
        children = children_ready(process, 2)
        process.kill()
        wait_until(lambda: all_gone(children), "end of the children")


def test_child_that_ends_takes_the_others_down_and_fails_the_stack() -> None:
    with running(SLEEPER, "raise SystemExit(3)") as process:
        out, _ = process.communicate(timeout=20)
        assert process.returncode == 1
        assert "node n1 ended with code 3" in out


def test_child_that_ignores_the_gentle_signals_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    stubborn = (
        "trap '' INT TERM; exec sleep 60"  # a shell: Python may be interrupted before it ignores anything
    )
    monkeypatch.setattr("tacit_ros.run.up.GRACE_S", 0.3)
    monkeypatch.setattr("tacit_ros.run.up.command_of", lambda node: ["sh", "-c", node.module])
    supervisor = Supervisor(emit=lambda line: None)
    supervisor.stop()
    assert supervisor.run(Stack("test", "r", (NodeSpec("n", "p", stubborn),))) == 0
    assert supervisor.children["n"].returncode in (-signal.SIGKILL, -signal.SIGINT)


def test_lines_of_nodes_carry_their_name() -> None:
    with running(SLEEPER, SLEEPER) as process:
        assert process.stdout is not None
        assert {process.stdout.readline() for _ in range(2)} == {"n0 | ready\n", "n1 | ready\n"}
        process.terminate()
        process.wait(timeout=20)


def test_text_parameter_stays_a_text_on_the_command_line() -> None:
    node = NodeSpec("recorder", "p", "m", {"task": "3", "instruction": 'say "hi"', "seed": 3, "on": True})
    words = command_of(node)
    values = dict(word.split(":=", 1) for word in words if ":=" in word and not word.startswith("__"))
    assert {key: json.loads(value) for key, value in values.items()} == dict(node.parameters)


@pytest.mark.parametrize("word", ["task", "=x"])
def test_option_without_key_or_value_is_refused(word: str) -> None:
    with pytest.raises(ConfigError, match="key=value"):
        parse_options((word,))


def test_list_names_nodes_and_options(capsys: pytest.CaptureFixture) -> None:
    assert main(["record", "--list"]) == 0
    out = capsys.readouterr().out
    assert out.strip() == describe("record") and "simulator" in out and "root=data" in out


def test_discovery_stays_on_this_machine_unless_the_user_widened_it() -> None:
    fresh: dict[str, str] = {}
    prepare(fresh)
    assert fresh == {DISCOVERY: "LOCALHOST", PROFILES: str(SHARED_MEMORY_PROFILE)}
    assert Path(fresh[PROFILES]).is_file()
    wide = {DISCOVERY: "SUBNET"}
    prepare(wide)
    assert wide == {DISCOVERY: "SUBNET", PROFILES: str(LEASE_PROFILE)}  # no transport that cuts others off
    assert "transport" not in LEASE_PROFILE.read_text().partition("<dds")[2]
    own = {PROFILES: "/mine.xml"}
    prepare(own)
    assert own[PROFILES] == "/mine.xml"


def test_python_of_another_environment_inherits_no_bootstrap() -> None:
    environ = {"_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1", "LD_LIBRARY_PATH": "/x", "HOME": "/h"}
    assert "LD_LIBRARY_PATH" in child_environment(sys.executable, environ)
    other = child_environment("/opt/other/bin/python", environ)
    assert "LD_LIBRARY_PATH" not in other and "_ROS_WHEELS_BOOTSTRAP_COMPLETE" not in other
    assert other["HOME"] == "/h"
    assert environ["LD_LIBRARY_PATH"] == "/x" and os.environ is not environ


def test_names_and_managed_nodes_are_told_to_the_process() -> None:
    plain = NodeSpec("recorder", "tacit_ros", "tacit_ros.recorder_node")
    [node] = Stack("s", "r", (plain,)).arranged("/left/", ["/a:=/b"], lifecycle=True).nodes
    words = " ".join(command_of(node))
    assert "tacit_ros.managed_node recorder --ros-args -r __node:=recorder -r __ns:=/left -r /a:=/b" in words
    assert "__ns" not in " ".join(command_of(plain))
