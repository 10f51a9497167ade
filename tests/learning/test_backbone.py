"""Backbones: shapes, honest weights, frozen norms."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tacit.errors import ConfigError
from tacit_learning.layers.backbone import ConvSpec, build_backbone, weights_sha256


@pytest.mark.parametrize(
    ("name", "size", "channels", "grid"),
    [
        ("conv", (64, 64), 64, (4, 4)),
        ("random:resnet18", (64, 96), 512, (2, 3)),
        ("random:vit_tiny", (32, 64), 64, (2, 4)),
    ],
)
def test_features_form_the_expected_grid(
    name: str, size: tuple[int, int], channels: int, grid: tuple[int, int]
) -> None:
    backbone = build_backbone(name, ConvSpec(strides=(2, 2, 2, 2)))
    assert backbone.grid(*size) == grid
    features = backbone(torch.rand(2, 3, *size))
    assert features.shape == (2, channels, *grid)
    assert backbone.channels == channels
    assert not backbone.identity.pretrained


def test_patch_tokens_stand_where_their_patch_is() -> None:
    backbone = build_backbone("random:vit_tiny", ConvSpec()).eval()
    image = torch.rand(1, 3, 64, 64)
    changed = image.clone()
    changed[:, :, 16:32, 48:64] = 0
    with torch.no_grad():
        difference = (backbone(changed) - backbone(image)).norm(dim=1)[0]
    assert difference.argmax() == 1 * 4 + 3


def test_frozen_norms_keep_their_statistics_and_get_no_gradient() -> None:
    backbone = build_backbone("random:resnet18", ConvSpec()).train()
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [n.running_mean.clone() for n in norms]
    backbone(torch.rand(2, 3, 32, 32)).sum().backward()
    assert all(torch.equal(a, n.running_mean) for a, n in zip(before, norms, strict=True))
    assert all(not p.requires_grad for n in norms for p in n.parameters())


def test_weights_are_never_silently_random() -> None:
    with pytest.raises(ConfigError, match="random:resnet18"):
        build_backbone("nobody/no-such-model", ConvSpec())
    with pytest.raises(ConfigError, match="did you mean 'resnet18'"):
        build_backbone("random:resnet19", ConvSpec())


def test_a_local_folder_is_read_and_its_weights_recorded(tmp_path: Path) -> None:
    original = build_backbone("random:vit_tiny", ConvSpec()).body.model
    original.save_pretrained(tmp_path)
    loaded = build_backbone(str(tmp_path), ConvSpec())
    assert loaded.identity.pretrained
    assert loaded.identity.sha256 == weights_sha256(original)
    rebuilt = build_backbone(str(tmp_path / "gone"), ConvSpec(), identity=loaded.identity)
    assert rebuilt.state_dict().keys() == loaded.state_dict().keys()
