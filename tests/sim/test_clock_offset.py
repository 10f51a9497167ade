"""`tacit doctor --rig nova2_sim` on the running cell: a clock that is off is named, with the number."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

pytest.importorskip("tacit_sim.rendering", reason="mujoco is not installed")
pytest.importorskip("rclpy", reason="rclpy is not installed")

from benches.testing import isolated_domain
from tacit.rig import load_rig

pytestmark = [pytest.mark.sim, pytest.mark.ros, pytest.mark.slow]

OFFSET_S = 0.3


def test_clock_of_the_cell_that_is_moved_is_named_within_20_ms() -> None:
    options = ["-p", "clock_offset_stream:=top", "-p", f"clock_offset_s:={OFFSET_S}"]
    simulator = [sys.executable, "-m", "tacit_sim.simulator_node", "--ros-args", *options]
    doctor = [sys.executable, "-m", "tacit.cli", "doctor", "--rig", "nova2_sim", "--seconds", "8"]
    with isolated_domain(), subprocess.Popen(simulator) as process:
        try:
            done = subprocess.run(doctor, capture_output=True, text=True, timeout=120)
        finally:
            process.send_signal(signal.SIGINT)
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.strip()}
    assert done.returncode == 1, done.stdout + done.stderr
    assert float(rows["top"][7]) == pytest.approx(OFFSET_S, abs=0.02)
    for name in {*load_rig("nova2_sim").images, "joints", "gripper_state"} - {"top"}:
        assert abs(float(rows[name][7])) < 0.05
    assert "top: clock_offset: its stamps are 0.3" in done.stdout and "chrony" in done.stdout
    assert "cameras:\n  top:\n    stamps: receive" in done.stdout
