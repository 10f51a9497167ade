"""Every alignment loss teaches a small network to align videos of the same thing at other speeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from tacit_learning.losses.gtcc import gtcc_loss
from tacit_learning.losses.lav import lav_loss
from tacit_learning.losses.tcc import tcc_loss
from tacit_learning.losses.vava import vava_loss

STEPS = 120
LENGTHS = (36, 40, 44, 48, 52, 56)


class Video(NamedTuple):
    """Features (T, 48) and the phase of every frame in 0..1 (T,)."""

    features: Tensor
    phase: Tensor


def video(num_frames: int, seed: int) -> Video:
    """Half of the features follow the phase, which moves at varying speed; half belong to the video."""
    generator = torch.Generator().manual_seed(seed)
    waves = torch.Generator().manual_seed(0)
    frequency, start = 6 * torch.randn(24, generator=waves), 6 * torch.rand(24, generator=waves)
    travelled = (torch.rand(num_frames, generator=generator) * 2 + 0.1).cumsum(0)
    phase = (travelled - travelled[0]) / (travelled[-1] - travelled[0])
    told = torch.cos(phase.unsqueeze(1) * frequency + start)
    told = told + 0.3 * torch.randn(told.shape, generator=generator)
    own = torch.randn(24, generator=generator) + 0.2 * torch.randn(told.shape, generator=generator)
    return Video(torch.cat((told, own), dim=1), phase)


def misalignment(network: torch.nn.Module, videos: list[Video]) -> float:
    """Mean gap of phase between a frame and its nearest neighbour in another video."""
    gaps = []
    with torch.no_grad():
        embedded = [embed(network, item.features) for item in videos]
    for a, here in zip(embedded, videos, strict=True):
        for b, there in zip(embedded, videos, strict=True):
            if a is not b:
                gaps.append((there.phase[torch.cdist(a, b).argmin(1)] - here.phase).abs().mean())
    return float(torch.stack(gaps).mean())


def embed(network: torch.nn.Module, features: Tensor) -> Tensor:
    return torch.nn.functional.normalize(network(features), dim=-1)


def tcc(x: Tensor, y: Tensor, _: int) -> Tensor:
    batch = torch.nn.utils.rnn.pad_sequence([x, y], batch_first=True)
    mask = torch.arange(batch.shape[1]) < torch.tensor([[len(x)], [len(y)]])
    return tcc_loss(batch, mask=mask, scale_by_dim=False, variance_floor=50**-2)


def gtcc(x: Tensor, y: Tensor, step: int) -> Tensor:
    return gtcc_loss([x, y], None, epoch=0, generator=torch.Generator().manual_seed(step))


LOSSES: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "tcc": tcc,
    "gtcc": gtcc,
    "lav": lambda x, y, _: lav_loss(x, y),
    "vava": lambda x, y, step: vava_loss(x, y, step=step),
}


@pytest.mark.parametrize("name", LOSSES)
def test_unseen_videos_are_aligned_better_after_training(name: str) -> None:
    training, unseen = (
        [video(n, seed) for seed, n in enumerate(LENGTHS)],
        [video(60, 100 + i) for i in range(4)],
    )
    network = torch.nn.Sequential(torch.nn.Linear(48, 64), torch.nn.ReLU(), torch.nn.Linear(64, 32))
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    before, draws = misalignment(network, unseen), torch.Generator().manual_seed(1)
    for step in range(STEPS):
        i, j = torch.randperm(len(training), generator=draws)[:2].tolist()
        loss = LOSSES[name](embed(network, training[i].features), embed(network, training[j].features), step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert misalignment(network, unseen) < 0.6 * before
