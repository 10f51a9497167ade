"""Two processes over gloo train as one: the same losses, labels and weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from in_two_processes import in_two_processes
from vace_e_runs import losses, run, small_config, write_small_dataset
from vace_e_two_processes import train_in_turn

from tacit.config import save
from tacit_learning.engine.checkpoint import Checkpoint, load_checkpoint
from tacit_learning.vace_e.config import VaceEConfig

pytestmark = pytest.mark.slow
PLAIN: dict[str, dict[str, Any]] = {
    "feature batch": {"feature_batch": 16, "modality_dropout": 0.3},
    "in-batch": {"feature_batch": 0, "modality_dropout": 0.3},
}
VALIDATED: dict[str, Any] = {
    "validation": {"enabled": True, "held_out": 0.0, "num_samples": 2, "num_videos": 1},
    "sample_steps": 1,
}


class Pairs:
    """What was trained: every run by one process (`one`), and again by two."""

    def __init__(self, folder: Path) -> None:
        data = write_small_dataset(folder / "data")
        self.one: dict[str, VaceEConfig] = {}
        self.two: dict[str, VaceEConfig] = {}
        told = []
        for name, options in PLAIN.items():
            self.one[name] = small_config(data, folder / name / "one", batch_size=4, **options)
            self.two[name] = small_config(data, folder / name / "two", batch_size=2, **options)
            told.append(self._saved(self.two[name]))
        self.one["sharded"] = small_config(data, folder / "sharded/one", batch_size=4, **VALIDATED)
        shared: dict[str, Any] = {"batch_size": 2, "distributed": "fsdp2"}
        self.first = small_config(data, folder / "sharded/first", max_steps=5, **shared)
        again = shared | {"resume_from": self.first.output_path} | VALIDATED
        self.second = small_config(data, folder / "sharded/second", **again)
        told += [f"sharded:{self._saved(config)}" for config in (self.first, self.second)]
        self.expected: dict[str, Checkpoint] = {name: run(config) for name, config in self.one.items()}
        in_two_processes(train_in_turn, *told)

    def _saved(self, config: VaceEConfig) -> str:
        path = Path(f"{config.output_path}.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        save(config, path)
        return str(path)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    return Pairs(tmp_path_factory.mktemp("vace_e"))


@pytest.mark.parametrize("name", PLAIN)
def test_two_processes_give_the_losses_and_labels_of_one(pairs: Pairs, name: str) -> None:
    two, expected = pairs.two[name], pairs.expected[name]
    found = load_checkpoint(two.output_path)
    assert json.loads(found.texts["labels.json"]) == json.loads(expected.texts["labels.json"])
    for row, reference in zip(losses(two), losses(pairs.one[name]), strict=True):
        assert row == pytest.approx(reference, rel=1e-5, abs=1e-5)
    # Adam turns a gradient that is 0 but for rounding into a whole step (1e-3), so single weights may differ
    differences = [float((found.weights[k] - v).abs().mean()) for k, v in expected.weights.items()]
    assert max(differences) < 2e-4 and sorted(differences)[len(differences) // 2] < 1e-6


def test_a_sharded_run_and_its_resume_equal_one_process(pairs: Pairs) -> None:
    first, second, one = pairs.first, pairs.second, pairs.one["sharded"]
    for row, reference in zip(losses(first) + losses(second), losses(one), strict=True):
        balances = [key for key in reference if key.startswith("w_task")]
        reference = {key: value for key, value in reference.items() if key not in balances}
        assert row == pytest.approx(reference, rel=1e-5, abs=1e-5)
    assert set(load_checkpoint(second.output_path).weights) == set(pairs.expected["sharded"].weights)
    files = [Path(config.output_path) / "validation.json" for config in (one, second)]
    scores = [json.loads(file.read_text())["scores"] for file in files]
    assert scores[1]["flow"] == pytest.approx(scores[0]["flow"], rel=1e-4)
