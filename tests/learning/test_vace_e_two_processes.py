"""Two processes over gloo train as one: the same losses, labels and weights, whole or sharded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from in_two_processes import in_two_processes
from vace_e_runs import changed, losses, run, small_config, weights, write_small_dataset
from vace_e_two_processes import KILLED_AFTER, train_in_turn

from tacit.config import save
from tacit_learning.engine.checkpoint import load_checkpoint
from tacit_learning.vace_e.config import VaceEConfig
from tacit_learning.vace_e.model.folder import load_model

pytestmark = pytest.mark.slow
PLAIN: dict[str, dict[str, Any]] = {
    "feature batch": {"feature_batch": 16, "modality_dropout": 0.3},
    "in-batch": {"feature_batch": 0, "modality_dropout": 0.3, "max_steps": 2},
}
SHARDED: dict[str, Any] = {"distributed": "fsdp2", "mixed_precision": "bf16"}
VALIDATED: dict[str, Any] = {
    "validation": {"enabled": True, "held_out": 0.0, "num_samples": 2, "num_videos": 1},
    "sample_steps": 1,
}
SAVED = KILLED_AFTER - 1


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
        half = {"mixed_precision": "bf16"} | VALIDATED
        self.one["sharded"] = small_config(data, folder / "sharded/one", batch_size=4, **half)
        self.two["sharded"] = small_config(data, folder / "sharded/two", **SHARDED, **VALIDATED)
        self.killed = small_config(data, folder / "sharded/killed", **SHARDED, save_every=SAVED)
        again: dict[str, Any] = {"resume_from": self.killed.output_path, **SHARDED, **VALIDATED}
        self.resumed = small_config(data, folder / "sharded/resumed", **again)
        told += [f"sharded:{self._saved(config)}" for config in (self.two["sharded"], self.resumed)]
        for config in self.one.values():
            run(config)
        in_two_processes(train_in_turn, *told, killed=f"killed:{self._saved(self.killed)}")

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
    one, two = (load_checkpoint(each[name].output_path) for each in (pairs.one, pairs.two))
    assert json.loads(two.texts["labels.json"]) == json.loads(one.texts["labels.json"])
    for row, reference in zip(losses(pairs.two[name]), losses(pairs.one[name]), strict=True):
        assert row == pytest.approx(reference, rel=1e-5, abs=1e-5)
    # Adam turns a gradient that is 0 but for rounding into a whole step (1e-3), so single weights may differ
    differences = [float((two.weights[k] - v).abs().mean()) for k, v in one.weights.items()]
    assert max(differences) < 2e-4 and sorted(differences)[len(differences) // 2] < 1e-6


def test_two_sharded_stages_in_bf16_equal_one_process(pairs: Pairs) -> None:
    one, two = pairs.one["sharded"], pairs.two["sharded"]
    for row, reference in zip(losses(two), losses(one), strict=True):
        assert row == pytest.approx(reference, rel=1e-2, abs=1e-3)
    scores = [
        json.loads((Path(each.output_path) / "validation.json").read_text())["scores"] for each in (one, two)
    ]
    assert scores[1]["flow"] == pytest.approx(scores[0]["flow"], rel=1e-2)


def test_a_sharded_run_that_was_killed_goes_on_bit_for_bit(pairs: Pairs) -> None:
    whole, resumed = (load_checkpoint(each.output_path) for each in (pairs.two["sharded"], pairs.resumed))
    assert load_checkpoint(pairs.killed.output_path).position.step == SAVED
    assert losses(pairs.resumed) == losses(pairs.two["sharded"])[SAVED:]
    assert changed(weights(whole), weights(resumed)) == set()


def test_a_sharded_run_leaves_a_model_that_other_programs_read(pairs: Pairs) -> None:
    output = Path(pairs.resumed.output_path)
    exported = dict(load_model(output / "model").state_dict())
    assert changed(weights(load_checkpoint(output)), exported) == set()
