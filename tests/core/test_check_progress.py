"""`tacit check progress`: what hesitates, tries again or has failed comes first, and why."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.cli import main
from tacit.progress.doubts import Followed, doubts, hesitation_s, likely_failure, retries

HZ = 10.0


def followed(name: str, progress: np.ndarray, done: float = 1.0) -> Followed:
    probability = np.where(progress >= 0.99, done, 0.05)
    return Followed(name, progress, np.arange(len(progress)) / HZ, probability)


RAMP = np.linspace(0, 1, 101)
PAUSED = np.concatenate([RAMP[:50], np.full(40, RAMP[49]), RAMP[50:]])
RETRIED = np.concatenate([RAMP[:60], RAMP[30:60][::-1], RAMP[30:]])
MISSED = np.concatenate([RAMP[:70], np.full(10, 0.69)])


def test_the_worst_comes_first_and_says_why() -> None:
    plain = [followed(f"plain{i}", RAMP) for i in range(4)]
    told = [followed("paused", PAUSED), followed("retried", RETRIED), followed("missed", MISSED, 0.0)]
    ranked = doubts([*plain, *told])
    by_name = {doubt.name: doubt for doubt in ranked}
    assert ranked[0].name == "missed" and "probably failed" in ranked[0].reasons
    assert by_name["retried"].retries == 1 and "1 retry" in by_name["retried"].reasons
    assert by_name["paused"].hesitation_s == pytest.approx(4.0, abs=1.0)
    assert "hesitates for" in by_name["paused"].reasons and by_name["paused"].failure < 0.1
    assert all(by_name[f"plain{i}"].reasons == "" and by_name[f"plain{i}"].score == 0 for i in range(4))


def test_rest_after_the_task_is_no_hesitation_and_an_estimate_that_is_sure_of_nothing_has_failed() -> None:
    resting = followed("done", np.concatenate([RAMP, np.ones(50)]))
    assert hesitation_s(resting, 0.1) == 0 and likely_failure(resting) == 0
    unsure = Followed("unsure", MISSED, np.arange(len(MISSED)) / HZ)
    assert likely_failure(unsure) == pytest.approx(0.31, abs=0.01)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_a_signal_that_never_falls_has_no_retry_and_reversals_count_once(values: list[float]) -> None:
    rising = np.maximum.accumulate(np.array(values))
    assert retries(rising) == 0
    assert retries(np.array([0.0, 0.8, 0.2, 0.8, 0.9])) == 1


def test_signals_of_any_data_set_are_ranked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("good", RAMP, 1.0), ("missed", MISSED, 0.0), ("other", RAMP, 1.0)]
    table = {
        "episode": [name for name, progress, _ in rows for _ in progress],
        "timestamp": np.concatenate([np.arange(len(p)) / HZ for _, p, _ in rows]),
        "progress_sparse": np.concatenate([p for _, p, _ in rows]),
        "done": np.concatenate([np.full(len(p), done) for _, p, done in rows]),
    }
    pq.write_table(pa.table(table), tmp_path / "signals.parquet")
    words = [str(tmp_path / "signals.parquet"), "--json", str(tmp_path / "said.json")]
    assert main(["check", "progress", *words]) == 1
    said = capsys.readouterr().out
    assert "missed: " in said and "3 episodes: 1 have probably failed" in said
    assert json.loads((tmp_path / "said.json").read_text())[0]["name"] == "missed"
    assert main(["check", "progress", str(tmp_path / "model.onnx")]) == 2
    (tmp_path / "none.parquet").write_bytes(b"x")
    assert main(["check", "progress", str(tmp_path / "none.parquet")]) == 2
