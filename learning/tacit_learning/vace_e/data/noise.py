"""What is random in a step, drawn per global sample: any number of processes draws the same.

Every draw is a pure function of (seed, batch number, sample), on the CPU, so a resumed run goes on
bit for bit, and two processes with half the batch train as one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tacit_learning.engine.seeding import step_generator
from tacit_learning.losses.flow import FlowWeighting, sample_uniform, shift_sigma
from tacit_learning.vace_e.config_model import STREAMS
from tacit_learning.vace_e.model.signals import Signals

LEVELS, NOISE, CLIP_DROPOUT, FEATURE_DROPOUT, FIXED, MASKS = range(6)
ALONE = 2.0  # times as often as a whole tail is left out, one cue alone is


@dataclass(frozen=True)
class Noise:
    """Noise as the latents, and its level sigma (B,)."""

    values: Tensor
    sigma: Tensor

    def to(self, device: torch.device) -> Noise:
        """Return the noise on `device`."""
        return Noise(self.values.to(device), self.sigma.to(device))


@dataclass(frozen=True)
class Place:
    """Which part of the global batch a process holds."""

    seed: int
    rank: int = 0
    world: int = 1

    def samples(self, count: int) -> range:
        """Return the global numbers of the `count` samples of this process."""
        return range(self.rank * count, (self.rank + 1) * count)


def draw_noise(
    place: Place, batch: int, shape: tuple[int, ...], shift: float, weighting: FlowWeighting
) -> Noise:
    """Draw noise and its levels for one batch.

    Args:
        place: Seed, and which samples of the global batch are here.
        batch: Running number of the batch.
        shape: Shape of the latents (B, C, T, H, W).
        shift: Shift of the noise levels.
        weighting: `logit_normal` changes how levels are drawn.
    """
    u = sample_uniform(
        shape[0],
        generator=step_generator(place.seed, batch, LEVELS),
        rank=place.rank,
        world=place.world,
        logit_normal=weighting == "logit_normal",
    )
    rows = [
        torch.randn(shape[1:], generator=step_generator(place.seed, batch, NOISE, sample))
        for sample in place.samples(shape[0])
    ]
    return Noise(torch.stack(rows), shift_sigma(u, shift))


def drop_streams(signals: Signals, place: Place, batch: int, kind: int, probability: float) -> Signals:
    """Return signals with each stream of each sample absent by chance.

    Args:
        signals: The streams of this process.
        place: Seed, and which samples of the global batch are here.
        batch: Running number of the batch.
        kind: CLIP_DROPOUT or FEATURE_DROPOUT.
        probability: How likely a stream is left out.
    """
    if not probability:
        return signals
    generator = step_generator(place.seed, batch, kind)
    chance = torch.rand(len(signals) * place.world, len(STREAMS), generator=generator)
    own = place.samples(len(signals))
    keep = chance[own.start : own.stop] >= probability
    return replace(signals, present=signals.present & keep.to(signals.present.device))


def drop_cues(signals: Signals, place: Place, batch: int, probability: float) -> tuple[Signals, Tensor]:
    """Leave out what guidance leaves out, so that every branch it evaluates has been trained.

    Guidance adds text, motion, objects and embodiment one after the other, so `probability` of the samples
    lose all cues from one of them on, each as often; and twice as many lose one cue alone.

    Args:
        signals: The streams of this process.
        place: Seed, and which samples of the global batch are here.
        batch: Running number of the batch.
        probability: Share of the samples that lose a tail of the cues.

    Returns:
        The signals, and True where the prompt of the base model goes as well (B,) bool.
    """
    generator = step_generator(place.seed, batch, CLIP_DROPOUT)
    own = place.samples(len(signals))
    total = len(signals) * place.world
    chance = torch.rand(total, generator=generator)[own.start : own.stop, None]
    chosen = torch.randint(len(STREAMS), (total,), generator=generator)[own.start : own.stop, None]
    cue = torch.arange(len(STREAMS))
    tail = (chance < probability) & (cue >= chosen)
    alone = (chance >= probability) & (chance < (1 + ALONE) * probability) & (cue == chosen)
    gone = tail | alone
    present = signals.present & ~gone.to(signals.present.device)
    return replace(signals, present=present), gone[:, STREAMS.index("text")]


def draw_versions(place: Place, batch: int, count: int, num_versions: int) -> list[int]:
    """Return which version of its mask each sample of this process trains on; the fixed one is 0."""
    generator = step_generator(place.seed, batch, MASKS)
    drawn = torch.randint(num_versions, (count * place.world,), generator=generator).tolist()
    own = place.samples(count)
    return drawn[own.start : own.stop]


def fixed_noise(seed: int, window: int, sigma: float, shape: tuple[int, ...]) -> Noise:
    """Return the noise of one window at one level: the same at every validation."""
    generator = step_generator(seed, FIXED, window, round(sigma * 1000))
    return Noise(torch.randn((1, *shape), generator=generator), torch.tensor([sigma]))
