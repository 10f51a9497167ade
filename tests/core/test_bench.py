"""Benches: found by name, and what they feed the core is what a robot would send."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benches import control_loop
from benches import core as bench_core
from tacit.errors import ConfigError
from tacit.rig import load_rig
from tacit.streams import Aligner, align
from tacit.tools import bench


def test_a_misspelt_bench_is_answered_with_the_close_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'core'"):
        bench.main(["cor"])


def test_without_a_name_the_benches_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main([]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in bench.BENCHES)


def test_the_bench_of_the_core_is_found_by_its_name() -> None:
    assert bench.load_bench("core") is bench_core.main


def test_an_installed_package_says_where_its_benches_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "find_tests", lambda: None)
    with pytest.raises(ConfigError, match="clone the repository"):
        bench.main(["core"])


@pytest.mark.parametrize("name", ["nova2_sim", "xtrainer"])
def test_synthetic_streams_of_a_rig_give_a_tick_per_frame(name: str) -> None:
    rig = load_rig(name)
    ticks = align(Aligner.from_rig(rig), bench_core.synthetic_arrivals(rig, 1.0))
    assert abs(len(ticks) - rig.alignment.rate_hz) <= 1
    assert set(rig.cameras) <= set(ticks[-1].samples)


def test_numbers_are_written_with_their_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_core, "ROUNDS", 1)
    monkeypatch.setattr(bench_core, "RECORDED_S", 1)
    assert bench_core.main(["--json", str(tmp_path / "numbers.json")]) == 0
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert "motion limiter [us]" in numbers
    assert np.all(np.array(list(numbers.values())) > 0)
    assert "motion limiter" in capsys.readouterr().out


def test_bench_of_the_command_loop_finds_what_is_outside_the_limits() -> None:
    rig = load_rig("nova2_sim")
    fastest = rig.limits("velocity")
    stamps = np.array([0, 20, 40, 60]) * 1_000_000
    ramp = np.array([0.0, 0.1, 0.3, 0.6])[:, None] * rig.limits("acceleration") * 0.02**2
    assert control_loop.excess(rig, stamps, ramp, 20_000_000) < 1e-9
    early = np.array([0, 20, 40, 41]) * 1_000_000  # the last one came too early for how far it goes
    assert control_loop.excess(rig, early, ramp, 20_000_000) > 1.0
    leap = np.array([0.0, 0.0, 0.0, 0.021])[:, None] * fastest
    assert control_loop.excess(rig, stamps, leap, 20_000_000) > 0.01


def test_bench_of_the_command_loop_measures_every_command() -> None:
    run = control_loop.measure(control_loop.Args(rate_hz=200.0, seconds=0.5, hogs=0), priority=0)
    assert run.steps > 20 and run.shortest_gap >= 0.5 and run.excess <= 1e-6
    assert run.steps + run.skipped == pytest.approx(100, abs=15)


def test_bench_of_a_command_loop_that_dies_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, calls = control_loop.Controller.step, iter(range(8))

    def step(*arguments: object) -> object:
        if next(calls, None) is None:
            raise ZeroDivisionError("planted")
        return whole(*arguments)

    monkeypatch.setattr(control_loop.Controller, "step", step)
    with pytest.raises(RuntimeError, match="ended before its time: .*planted"):
        control_loop.measure(control_loop.Args(rate_hz=200.0, seconds=0.3, hogs=0), priority=0)
