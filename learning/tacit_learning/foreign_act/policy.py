"""A policy of others with its normalisation: bytes and units of the rig in, chunks in its units out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tacit.bundle.player import PlaySpec
from tacit.errors import ConfigError
from tacit_learning.foreign_act.network import ActNetwork

EPSILON = 1e-8
"""LeRobot adds it to a deviation, and takes it for a range of zero."""
DEVIATIONS = 3
"""Around the mean: the range of the state where the statistics hold none."""
PAIRS = {"MIN_MAX": ("min", "max"), "QUANTILES": ("q01", "q99"), "QUANTILE10": ("q10", "q90")}
"""Statistics that become -1 and 1."""


@dataclass(frozen=True)
class Scale:
    """x becomes (x - offset) / divisor, and back by y * factor + offset."""

    offset: Tensor
    divisor: Tensor
    factor: Tensor


@dataclass(frozen=True)
class Imported:
    """A policy of others.

    Attributes:
        network: It.
        state, action: Normalisation (S,) and (A,).
        pictures: Normalisation (3, 1, 1) and (height, width) that the network reads [px], by camera.
        state_min, state_max: Range of the state in training (S,).
        play: How its chunks were played where it was trained.
        told: What else is known, for the manifest.
    """

    network: ActNetwork
    state: Scale
    action: Scale
    pictures: Mapping[str, tuple[Scale, tuple[int, int]]]
    state_min: Tensor
    state_max: Tensor
    play: PlaySpec
    told: Mapping[str, object]


def scale_of(mode: str, stats: Mapping[str, Tensor], where: str) -> Scale:
    """Return a normalisation as LeRobot computes it.

    Args:
        mode: IDENTITY, MEAN_STD, MIN_MAX, QUANTILES or QUANTILE10.
        stats: Statistics of the feature by name.
        where: Names the feature in messages.

    Raises:
        ConfigError: Another mode, or statistics that are missing or not finite.
    """
    if mode == "IDENTITY":
        one = torch.ones(1)
        return Scale(torch.zeros(1), one, one)
    needed = ("mean", "std") if mode == "MEAN_STD" else PAIRS.get(mode)
    if needed is None:
        raise ConfigError(
            f"{where}: normalisation {mode[:40]!r}; known: IDENTITY, MEAN_STD, {', '.join(PAIRS)}"
        )
    lacking = [name for name in needed if name not in stats]
    if lacking:
        raise ConfigError(f"{where}: no {', '.join(lacking)} for {mode}; its processor files are missing")
    low, high = (stats[name].float() for name in needed)
    if not (torch.isfinite(low).all() and torch.isfinite(high).all()):
        raise ConfigError(f"{where}: statistics that are not finite; the policy cannot act with them")
    if mode == "MEAN_STD":
        return Scale(low, high + EPSILON, high)
    half = torch.where(high == low, torch.tensor(EPSILON), high - low) / 2
    return Scale(low + half, half, half)


class ForeignPolicy(nn.Module):
    """The graph of a bundle: state and pictures as stored, chunk in units of the rig."""

    def __init__(self, policy: Imported) -> None:
        super().__init__()
        self.network = policy.network
        self._scale("state", policy.state)
        self._scale("action", policy.action)
        self.num_pictures = len(policy.pictures)
        for index, (scale, _) in enumerate(policy.pictures.values()):
            self._scale(f"picture{index}", scale)

    def forward(self, state: Tensor, *pictures: Tensor) -> Tensor:
        """Map state (1, S) and pictures (1, H, W, 3) u1 to a chunk (1, K, A)."""
        scaled = []
        for index, picture in enumerate(pictures):
            colours = picture.movedim(-1, 1).float() / 255
            scaled.append(self._normalised(f"picture{index}", colours))
        chunk = self.network(self._normalised("state", state), scaled)
        return chunk * self.get_buffer("action_factor") + self.get_buffer("action_offset")

    def _normalised(self, name: str, values: Tensor) -> Tensor:
        return (values - self.get_buffer(f"{name}_offset")) / self.get_buffer(f"{name}_divisor")

    def _scale(self, name: str, scale: Scale) -> None:
        for part in ("offset", "divisor", "factor"):
            self.register_buffer(f"{name}_{part}", getattr(scale, part).clone())
