"""Features of a frozen backbone: computed once for each frame, the same numbers each time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_world import tiny_config, tiny_table

from tacit_learning.act_hsa.feature_cache import FeatureCache
from tacit_learning.act_hsa.policy import ActHsaPolicy
from tacit_learning.act_hsa.train import Tables, train_on_tables
from tacit_learning.data import keys
from tacit_learning.data.spec import make_spec
from tacit_learning.data.windows import ChunkWindows
from tacit_learning.engine.tracking import SilentReporter

FROZEN = {
    "model__backbone": "random:vit_tiny",
    "model__train_backbone": "frozen",
    "model__feature_cache": "ram",
    "augment__shift": 0.0,
}


def test_each_frame_passes_once_and_the_policy_reads_what_it_would_have_computed(tmp_path: Path) -> None:
    table = tiny_table(2)
    policy = ActHsaPolicy(tiny_config(tmp_path, **FROZEN), make_spec(table)).train()
    cache, passed = FeatureCache(policy.model), []
    policy.model.backbone.register_forward_hook(lambda _, given, __: passed.append(len(given[0])))
    windows = ChunkWindows(table, 5)
    for rows in ([0, 31, 5], [5, 40, 0], [31, 5, 40]):
        batch = cache(windows.__getitems__(rows))
    assert passed == [6, 2] and len(cache) == 4, "two cameras of three frames, then of the one that is new"
    assert policy.model.backbone.training
    features = batch.pop(keys.FEATURES)
    passed.clear()
    tokens = policy.run({**batch, keys.FEATURES: features})[0].tokens.image
    assert passed == []
    torch.testing.assert_close(tokens, policy.run(batch)[0].tokens.image, rtol=2e-3, atol=2e-3)


def test_a_run_with_kept_features_resumes_bit_for_bit(tmp_path: Path) -> None:
    def run(folder: Path, **changes: object) -> dict[str, torch.Tensor]:
        config = tiny_config(folder, train__steps=4, **FROZEN, **changes)
        train_on_tables(config, Tables(tiny_table(1, length=12), None), SilentReporter())
        return load_file(folder / "checkpoints" / "last" / "model.safetensors")

    whole = run(tmp_path / "whole", train__save_every=2)
    middle = tmp_path / "whole" / "checkpoints" / "step_2"
    resumed = run(tmp_path / "resumed", train__resume=str(middle))
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"augment__shift": 0.03}, "set augment.shift, brightness, contrast to 0"),
        ({"model__train_backbone": "last:1"}, "only what a frozen backbone"),
        ({"model__backbone": "conv"}, "only what a frozen backbone"),
    ],
)
def test_what_does_not_stay_is_not_kept(tmp_path: Path, changes: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        tiny_config(tmp_path, **(FROZEN | changes))
