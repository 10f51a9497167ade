"""The bench of forward kinematics: right numbers, bars that bite."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benches import fk as bench_fk
from tacit.geometry.kinematics import Chain, fk_numpy, motions
from tacit.tools.bench import load_bench


def test_nova2_lies_within_a_fiftieth_of_a_millimetre_of_its_urdf() -> None:
    distance = bench_fk.distance_to_urdf("nova2")
    assert distance.max() < 2e-5
    assert distance.min() > 1e-6  # two descriptions are compared, not one with itself


def test_one_pose_and_a_batch_go_through_different_code_to_the_same_place() -> None:
    rng = np.random.default_rng(3)
    origins = bench_fk.dh_robot("cr5").chain.origins
    chain = Chain(tuple("abcdef"), origins, np.array([0, 1, 0, 0, 1, 0], bool), origins[2])
    Q = rng.uniform(-2, 2, (4, 3, 6))
    expected = np.eye(4)
    for origin, motion in zip(origins, motions(chain, Q[1, 2]), strict=True):
        expected = expected @ origin @ motion
    np.testing.assert_allclose(fk_numpy(chain, Q[1, 2]), expected @ chain.end, atol=1e-14)
    np.testing.assert_allclose(fk_numpy(chain, Q)[1, 2], expected @ chain.end, atol=1e-14)
    assert fk_numpy(chain, np.empty((0, 6))).shape == (0, 4, 4)


def test_a_missed_bar_is_said_and_ends_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_fk, "CALLS", 10)
    monkeypatch.setattr(bench_fk, "MAX_NOVA2_MM", 0.001)
    path = tmp_path / "fk.json"
    assert load_bench("fk")(["--json", str(path)]) == 1
    assert "MISSED" in capsys.readouterr().out
    numbers = json.loads(path.read_text())
    assert 0 < numbers["one pose [us]"] < 1000
    assert numbers["nova2 against the vendor's URDF [mm]"] == pytest.approx(0.016, abs=0.004)
