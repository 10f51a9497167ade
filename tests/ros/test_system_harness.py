"""The acceptance test's own parts: what it listens for, and that every way knows every process by name.

The whole of it is `make test-system`: a minute or two of real time for each way, and so no part of the suite.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from system import places, scenario
from system.acceptance import run
from system.director import converse
from system.lines import Row
from system.places import Compose, Namespaces, Plain, What, node_commands, piped
from system.witness import Command, Witness

from tacit.rig import Rig
from tacit_ros import messages

DOCKER = Path(__file__).parents[2] / "docker"
MS = 1_000_000


def asked() -> set[str]:
    """Every process that the scenario names."""
    text = Path(scenario.__file__).read_text(encoding="utf-8")
    named = re.findall(r'(?:ask\("\w+", |_again\()"(\w+)"', text)
    return {*named, "simulator", "camera", "recorder", "progress", "policy_lockstep", "expert"}


def test_every_process_has_a_command_and_a_service_whose_module_exists(tmp_path: Path) -> None:
    commands = node_commands(What("nova2_sim", tmp_path / "p.onnx", tmp_path / "q.onnx", tmp_path))
    assert asked() <= set(commands)
    services: dict[str, dict] = {}
    for name in ("compose.yaml", "compose.system.yaml"):
        for service, spec in yaml.safe_load((DOCKER / name).read_text(encoding="utf-8"))["services"].items():
            services[service] = services.get(service, {}) | spec
    assert {Compose.SERVICES.get(name, name) for name in asked()} | {"test"} <= set(services)
    modules = [spec["command"][2] for spec in services.values() if spec.get("command", [""])[0] == "python"]
    assert len(modules) >= 8 and all(map(importlib.util.find_spec, modules))


def test_director_does_what_the_scenario_asks_and_takes_its_rows() -> None:
    class Fake(Plain):
        def start(self, node: str) -> None:
            done.append(f"start {node}")

        def kill(self, node: str) -> None:
            raise RuntimeError("no such process")

    done: list[str] = []
    script = (
        "from system.lines import *; print('a line of something else'); ask('start', 'camera')\n"
        "try: ask('kill', 'ghost')\n"
        "except RuntimeError as e: report(Row('killed', 'FAILED', str(e)))"
    )
    with piped([sys.executable, "-c", script], Plain().environment()) as child:
        rows = converse(Fake(), child)
    assert done == ["start camera"]
    assert rows == [Row("killed", "FAILED", "kill ghost: RuntimeError: no such process")]


def test_way_that_this_machine_lacks_is_skipped_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from system.acceptance import Args

    monkeypatch.setattr(places.shutil, "which", lambda name: None)
    rows = run(Args(ways=("compose", "namespaces"), bundle=tmp_path, progress=tmp_path), tmp_path)
    assert [row.verdict for found in rows.values() for row in found] == ["skipped", "skipped"]
    assert "docker is not installed; podman-compose is not installed" in rows["compose"][0].found
    assert "ip (iproute2)" in rows["namespaces"][0].found


@pytest.mark.skipif(bool(Namespaces().missing()), reason=Namespaces().missing() or "possible")
def test_cable_between_two_namespaces_carries_what_is_sent() -> None:
    code = (
        "import socket, subprocess, sys; from system.places import Namespaces; n = Namespaces()\n"
        "with n.network():\n"
        "    listener = socket.create_server(('10.77.0.1', 5000)); listener.settimeout(20)\n"
        '    talk = \'import socket; socket.create_connection(("10.77.0.1", 5000)).sendall(b"hello")\'\n'
        "    with subprocess.Popen([*n.prefix('camera'), sys.executable, '-c', talk]):\n"
        "        sys.stdout.write(listener.accept()[0].recv(5).decode())\n"
        "assert n.prefix('policy') == []"
    )
    command = [*Namespaces.UNSHARED, sys.executable, "-c", code]
    done = subprocess.run(command, env=Plain().environment(), capture_output=True, text=True, timeout=60)
    assert done.stdout == "hello", done.stderr


@pytest.fixture
def witness(bench, rig: Rig) -> Witness:
    return Witness(bench.node, rig, "wrist")


def hear(witness: Witness, rig: Rig, stamp_ms: int, values: np.ndarray, late_ms: int = 0) -> None:
    """A command of sender 1, which leaves as long after the one before as their stamps say, or later."""
    commands = witness.commands["command", b"1"]
    sent_ns = stamp_ms * MS + late_ms * MS
    commands.append(Command(stamp_ms * MS, sent_ns, np.array(values)))


def test_command_beyond_a_limit_is_found_and_a_new_start_of_the_cell_is_no_motion(
    witness: Witness, rig: Rig
) -> None:
    start, step = np.array([0.0] * 6 + [0.02]), np.array([2.356 * 0.04] + [0.0] * 6)
    hear(witness, rig, 40, start)
    hear(witness, rig, 80, start + step)
    hear(witness, rig, 100, start + 2 * step, late_ms=20)  # its stamp shrank the gap, its sending did not
    witness._on_truth(messages.string('{"stamp_ns": 130000000, "episode": 1}'))
    hear(witness, rig, 160, start - 3 * step)  # the cell was set up anew in between
    hear(witness, rig, 1000, start + step)  # after a pause
    assert witness.excess() == (0.0, 0.0, "")
    hear(witness, rig, 1040, start + 3 * step)
    found = witness.excess()
    assert found.speed == pytest.approx(2 * 2.356 * 0.04 / 0.045 - 2.356)
    assert found.worst == "0.188 in 0.040 s by stamps, 0.040 s as sent"
    hear(witness, rig, 2000, np.array([7.0] + [0.0] * 6))
    assert witness.excess().position == pytest.approx(7.0 - 6.28)
    hear(witness, rig, 3000, np.full(7, np.nan))
    assert witness.excess().position == np.inf


def test_command_is_heard_by_its_topic_and_sender(bench, witness: Witness, rig: Rig) -> None:
    spec = rig.commands["command"]
    topic = bench.node.create_publisher(messages.message_class(spec.type), spec.topic, 10)
    message = messages.joint_state(spec.names[::-1], [0.07, 6, 5, 4, 3, 2, 1], 5 * MS)
    bench.until(lambda: topic.publish(message) or witness.num_commands(), "a command")
    [heard] = witness.commands.values()
    assert heard[0].stamp_ns == 5 * MS and heard[0].values.tolist() == [1, 2, 3, 4, 5, 6, 0.07]
