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
COMMON: dict[str, Any] = {"dataset_repeat": 2, "modality_dropout": 0.3, "masks": "tight"}
HALF: dict[str, Any] = {"mixed_precision": "bf16", "feature_batch": 0}  # the features are those of the clips
SHARDED: dict[str, Any] = {"distributed": "fsdp2", **HALF}
VALIDATED: dict[str, Any] = {
    "validation": {"enabled": True, "held_out": 0.0, "num_samples": 2, "num_videos": 1},
    "sample_steps": 1,
}
SAVED = KILLED_AFTER - 1


class Pairs:
    """What was trained: every run by one process (`one`), and again by two."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, write_small_dataset(folder / "data", episodes=1)
        self.one = {"plain": self._run("one", batch_size=4)}
        self.one["sharded"] = self._run("one_half", batch_size=4, **HALF, **VALIDATED)
        self.two = {"plain": self._run("two"), "sharded": self._run("sharded", **SHARDED, **VALIDATED)}
        self.killed = self._run("killed", **SHARDED, save_every=SAVED)
        self.resumed = self._run("resumed", **SHARDED, resume_from=self.killed.output_path)
        for config in self.one.values():
            run(config)
        sharded = [f"sharded:{self._saved(each)}" for each in (self.two["sharded"], self.resumed)]
        killed = f"killed:{self._saved(self.killed)}"
        in_two_processes(train_in_turn, self._saved(self.two["plain"]), *sharded, killed=killed)

    def _run(self, name: str, **options: Any) -> VaceEConfig:
        return small_config(self.data, self.folder / name, **COMMON, **options)

    def _saved(self, config: VaceEConfig) -> str:
        path = Path(f"{config.output_path}.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        save(config, path)
        return str(path)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    return Pairs(tmp_path_factory.mktemp("vace_e"))


def test_two_processes_give_the_losses_and_labels_of_one(pairs: Pairs) -> None:
    one, two = (load_checkpoint(each["plain"].output_path) for each in (pairs.one, pairs.two))
    assert json.loads(two.texts["labels.json"]) == json.loads(one.texts["labels.json"])
    for row, reference in zip(losses(pairs.two["plain"]), losses(pairs.one["plain"]), strict=True):
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
