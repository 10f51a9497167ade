"""Where positions enter the network: attention alone (ACT's way), or tokens and queries too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_world import tiny_config

from tacit_learning.act_hsa.model import ActModel
from tacit_learning.data.spec import ModelSizes


def spread_over_steps(model: ActModel) -> float:
    """Largest difference between steps of a chunk when attention looks everywhere alike."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "attention" in name and ("query" in name or "key" in name or "in_proj" in name):
                weight.zero_()
        sizes = model.sizes
        state = torch.ones(1, sizes.action_dim)
        images = torch.rand(1, sizes.num_cameras, 3, *sizes.image_size)
        touch = torch.rand(1, sizes.num_sensors, 3, *sizes.touch_size)
        chunk = model.eval()(state, images, touch).chunk
    return float((chunk - chunk[:, :1]).abs().max())


def make(tmp_path: Path, positions: str) -> ActModel:
    torch.manual_seed(0)
    config = tiny_config(tmp_path, model__positions=positions).model
    return ActModel(config, ModelSizes(7, 2, 2, (32, 32), (16, 16)))


def test_steps_of_a_chunk_differ_by_attention_alone_in_act(tmp_path: Path) -> None:
    assert spread_over_steps(make(tmp_path, "attention")) == pytest.approx(0.0, abs=1e-6)


def test_steps_of_a_chunk_have_a_voice_of_their_own_with_positions_in_tokens(tmp_path: Path) -> None:
    assert spread_over_steps(make(tmp_path, "tokens")) > 1e-2
