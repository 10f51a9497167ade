"""`tacit doctor --rig nova2_sim` on the running cell: a clock that is off is named, with the number."""

from __future__ import annotations

import signal

import pytest
from forked import Forked

pytest.importorskip("tacit_sim.rendering", reason="mujoco is not installed")
pytest.importorskip("rclpy", reason="rclpy is not installed")

from benches.testing import isolated_domain
from tacit.cli import main
from tacit.rig import load_rig

pytestmark = [pytest.mark.sim, pytest.mark.ros, pytest.mark.slow]

OFFSET_S = 0.3


def test_clock_of_the_cell_that_is_moved_is_named_within_20_ms(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["-p", "clock_offset_stream:=top", "-p", f"clock_offset_s:={OFFSET_S}"]
    with isolated_domain():
        process = Forked("tacit_sim.simulator_node", "--ros-args", *options)
        try:
            code = main(["doctor", "--rig", "nova2_sim", "--seconds", "4"])
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)
    said = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in said.splitlines() if line.strip()}
    assert code == 1, said
    assert float(rows["top"][7]) == pytest.approx(OFFSET_S, abs=0.02)
    for name in {*load_rig("nova2_sim").images, "joints", "gripper_state"} - {"top"}:
        assert abs(float(rows[name][7])) < 0.05
    assert "top: clock_offset: its stamps are 0.3" in said and "chrony" in said
    assert "cameras:\n  top:\n    stamps: receive" in said
