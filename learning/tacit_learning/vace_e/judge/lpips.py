"""LPIPS: distance of two pictures in the features of VGG16, when its weights are at hand.

Zhang et al. 2018, arXiv:1801.03924, version 0.1 of richzhang/PerceptualSimilarity. No weights are
shipped: `lpips_vgg.safetensors` is the state of `lpips.LPIPS(net="vgg")`, saved by safetensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from tacit.errors import ConfigError

FILE = "lpips_vgg.safetensors"
SLICES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
"""Places of the convolutions in the list of VGG16; slices but the first begin by halving the picture."""
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
EPS = 1e-10


class Lpips:
    """Distances of pictures.

    Args:
        weights: `net.slice<k>.<place>.{weight,bias}` and `lin<k>.model.1.weight`.
        where: Names the file in messages.

    Raises:
        ConfigError: A weight is missing.
    """

    def __init__(self, weights: Mapping[str, Tensor], where: str = FILE) -> None:
        wanted = [f"lin{k}.model.1.weight" for k in range(len(SLICES))]
        for k, places in enumerate(SLICES, 1):
            wanted += [f"net.slice{k}.{place}.{part}" for place in places for part in ("weight", "bias")]
        missing = [name for name in wanted if name not in weights]
        if missing:
            raise ConfigError(
                f"{where}: {len(missing)} weights are missing, the first is {missing[0]}; expected the "
                'state of lpips.LPIPS(net="vgg")'
            )
        self.weights = {name: weights[name].float() for name in wanted}

    @torch.no_grad()
    def __call__(self, first: np.ndarray, second: np.ndarray) -> float:
        """Return the mean distance of two videos (F, H, W, 3) u1."""
        distances = [self._distance(_signed(a), _signed(b)) for a, b in zip(first, second, strict=True)]
        return float(np.mean(distances))

    def _distance(self, first: Tensor, second: Tensor) -> float:
        total = 0.0
        for k, (a, b) in enumerate(zip(self._features(first), self._features(second), strict=True)):
            difference = (_unit(a) - _unit(b)).square()
            total += float(F.conv2d(difference, self.weights[f"lin{k}.model.1.weight"]).mean())
        return total

    def _features(self, picture: Tensor) -> list[Tensor]:
        shift, scale = (torch.tensor(each).view(1, 3, 1, 1) for each in (SHIFT, SCALE))
        x = (picture - shift) / scale
        found = []
        for k, places in enumerate(SLICES, 1):
            x = x if k == 1 else F.max_pool2d(x, 2)
            for place in places:
                name = f"net.slice{k}.{place}"
                x = F.relu(
                    F.conv2d(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], padding=1)
                )
            found.append(x)
        return found


def load_lpips(folder: str | Path) -> Lpips | None:
    """Return the distance of a folder of weights; None where it holds none."""
    path = Path(folder) / FILE
    return Lpips(load_file(path), str(path)) if path.is_file() else None


def _signed(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(1, keepdim=True).sqrt() + EPS)
