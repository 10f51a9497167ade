"""`tacit bench act_hsa`: every way takes a step, and one step of twenty of HSA measures its balance."""

from __future__ import annotations

import pytest

from benches import act_hsa as bench
from tacit.tools.bench import load_bench


def test_every_way_is_timed_and_a_measuring_step_counts_as_one_of_twenty() -> None:
    assert load_bench("act_hsa") is bench.main
    seconds = bench.measure("tiny", 2)
    assert set(seconds) == {"vision", "touch", "hsa", "hsa, measuring"}
    assert all(len(values) == 2 and min(values) > 0 for values in seconds.values())
    assert set(bench.ratios_of(seconds)) == {"hsa"}
    made = {"vision": [3.0], "touch": [4.0], "hsa": [4.2], "hsa, measuring": [8.2], "lerobot": [6.0]}
    assert bench.ratios_of(made) == pytest.approx({"hsa": (19 * 4.2 + 8.2) / 20 / 4.0, "lerobot": 0.5})
