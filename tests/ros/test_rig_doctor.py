"""`tacit doctor --rig` on a running robot: what is wrong is named, with the number and the cure."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

pytest.importorskip("rclpy", reason="rclpy is not installed")

from rclpy.context import Context
from rclpy.node import Node

from benches.synthetic import Faults, SyntheticRobot
from tacit.cli import main as tacit
from tacit.rig import Rig, load_rig, parse_rig

SECONDS = "5"


def rig_file(folder: Path, **streams: dict) -> tuple[Rig, Path]:
    """The rig of the cell as a real one, with other values for some streams."""
    data = load_rig("nova2_sim").model_dump(mode="json") | {"simulation": None}
    for name, changes in streams.items():
        part = next(part for part in ("cameras", "tactile", "streams") if name in data[part])
        data[part][name] |= changes
    path = folder / "rig.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return parse_rig(data, "test"), path


@contextmanager
def robot(rig: Rig, faults: Faults | None = None) -> Iterator[None]:
    """A synthetic robot in a context of its own: the command ends the default one."""
    context = Context()
    context.init()
    node = Node("driver", context=context)
    done = threading.Event()
    made = SyntheticRobot(node, rig, faults=faults)
    thread = threading.Thread(target=made.run, args=(done.is_set,))
    thread.start()
    try:
        yield
    finally:  # a test that fails must not leave a thread that keeps the whole run from ending
        done.set()
        thread.join()
        node.destroy_node()
        context.try_shutdown()


def answer(path: Path, capsys: pytest.CaptureFixture) -> tuple[int, str]:
    code = tacit(["doctor", "--rig", str(path), "--seconds", SECONDS])
    return code, capsys.readouterr().out


def row(text: str, stream: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [stream])


def test_healthy_robot_may_be_recorded_and_is_measured(
    domain: int, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    rig, path = rig_file(tmp_path)
    with robot(rig):
        code, text = answer(path, capsys)
    assert code == 0 and "Nothing speaks against a recording." in text and "to change" not in text, text
    joints = row(text, "joints")
    assert joints[1:3] == ["/joint_states", "/driver"] and float(joints[3]) == pytest.approx(100, rel=0.03)
    assert abs(float(joints[7])) < 0.05


def test_faults_are_named_with_numbers_and_lines_to_paste(
    domain: int, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """One run, five faults: a clock ahead, one behind, empty stamps, another rate, another size."""
    said, path = rig_file(tmp_path, right={"rate_hz": 50.0})
    rig = said.model_copy(
        update={"tactile": said.tactile | {"right": load_rig("nova2_sim").tactile["right"]}}
    )
    offsets_ns = {"top": 300_000_000, "gripper_state": -500_000_000}

    def stamp(name: str, stamp_ns: int) -> int:
        return 0 if name == "left" else stamp_ns + offsets_ns.get(name, 0)

    with robot(rig, Faults(stamp=stamp, sizes={"wrist": (80, 60)})):
        code, text = answer(path, capsys)
    assert code == 1, text
    for name, offset_ns in offsets_ns.items():
        assert float(row(text, name)[7]) == pytest.approx(offset_ns / 1e9, abs=0.02)
        assert f"{name}: clock_offset" in text
    assert "chrony" in text and "wrist: size:" in text and "left: no_stamp:" in text
    proposed = re.search(r"not the rig:\n(.*?)\n\n", text, re.DOTALL)
    assert proposed is not None
    lines = yaml.safe_load(proposed[1])
    assert lines["cameras"]["top"] == {"stamps": "receive"}
    assert lines["streams"]["gripper_state"] == {"stamps": "receive"}
    assert "latency_ms: 50" in proposed[1]  # 500 ms and the way
    assert lines["tactile"]["left"]["stamps"] == "receive"
    assert lines["tactile"]["right"] == {"rate_hz": 25.0}
    assert {line.split()[1].rstrip(":") for line in text.splitlines() if line.startswith("- ")} >= {
        "top",
        "gripper_state",
        "left",
        "right",
        "wrist",
    }


def test_robot_that_is_off_is_told_from_one_with_faults(
    domain: int, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tacit_ros.run.rig_doctor.DISCOVERY_S", 0.5)
    began = time.monotonic()
    assert tacit(["doctor", "--rig", "nova2_sim", "--seconds", "1"]) == 1
    assert time.monotonic() - began < 10
    text = capsys.readouterr().out
    assert "nobody publishes /joint_states" in text and row(text, "joints")[2] == "nobody"
