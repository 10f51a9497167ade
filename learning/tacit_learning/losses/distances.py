"""Distances between the frames of two sequences, by one matrix product, and the precision of losses.

All alignment losses stand on these. Legend: B batch, N and M frames, D features.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec

import torch
from torch import Tensor

P = ParamSpec("P")
ROOT_EPS = 1e-12  # under the root: the gradient of a distance stays finite where two frames coincide


def full_precision(loss: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Make a loss cast half-precision tensors to float32 and ignore autocast: exponents need the range."""

    @functools.wraps(loss)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        device = _device(args)
        with torch.autocast(device, enabled=False):
            return loss(*(_widen(a) for a in args), **{k: _widen(a) for k, a in kwargs.items()})  # type: ignore[arg-type]

    return wrapped


@full_precision
def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Compute |x_i - y_j|^2 ([B,] N, M) of frames x ([B,] N, D) and y ([B,] M, D), never below 0.

    Both are shifted by the mean of y first: distances do not change, and what all frames have in common
    does not swallow them when norms are added and products subtracted.
    """
    shift = y.detach().mean(-2, keepdim=True)
    x, y = x - shift, y - shift
    norms = x.square().sum(-1).unsqueeze(-1) + y.square().sum(-1).unsqueeze(-2)
    add_product = torch.addmm if x.ndim == 2 else torch.baddbmm
    return add_product(norms, x, y.transpose(-1, -2), alpha=-2).clamp(min=0)


def euclidean_distances(x: Tensor, y: Tensor) -> Tensor:
    """Compute |x_i - y_j| ([B,] N, M); squares below the rounding of their mean have no gradient."""
    squared = squared_distances(x, y)
    rounding = torch.finfo(squared.dtype).eps * squared.detach().mean()
    return (torch.maximum(squared, rounding) + ROOT_EPS).sqrt()


def check_pair(name: str, x: Tensor, y: Tensor) -> None:
    """Raise ValueError unless x is (N, D) and y (M, D) with at least one frame each."""
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or 0 in (*x.shape, *y.shape):
        raise ValueError(f"{name}: x {tuple(x.shape)}, y {tuple(y.shape)}; expected (N, D) and (M, D)")


def existing_frames(name: str, x: Tensor, mask: Tensor | None) -> Tensor:
    """Return the frames of x (N, D) where mask (N,) is True; all of them without a mask."""
    if mask is None:
        return x
    if mask.shape != x.shape[:1] or not bool(mask.any()):
        raise ValueError(f"{name}: mask {tuple(mask.shape)}, expected ({len(x)},) with a frame that exists")
    return x[mask]


def _device(args: tuple[object, ...]) -> str:
    for argument in args:
        if isinstance(argument, Tensor):
            return argument.device.type
        if isinstance(argument, (list, tuple)) and argument and isinstance(argument[0], Tensor):
            return argument[0].device.type
    return "cpu"


def _widen(argument: object) -> object:
    if isinstance(argument, Tensor):
        return argument.float() if argument.dtype in (torch.float16, torch.bfloat16) else argument
    if isinstance(argument, (list, tuple)):
        return [_widen(a) for a in argument]
    return argument
