"""Seeds and the state of all random number generators, without pickle."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let torch draw from `seed` inside, and leave its generators as they were.

    `torch.manual_seed` reseeds every device, so all of them are put back, not the CPU's alone: else
    each validation would start the dropout of a GPU from the same seed again.
    """
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def rng_state() -> dict[str, Any]:
    """Return the generators' states by name: tensors (torch) and JSON values (Python, numpy)."""
    state: dict[str, Any] = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state |= {f"cuda.{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    version, internal, gauss = random.getstate()
    name, values, position, has_gauss, cached = np.random.get_state()
    numpy_state = [str(name), np.asarray(values).tolist(), int(position), int(has_gauss), float(cached)]
    return state | {"python": [version, list(internal), gauss], "numpy": numpy_state}


def set_rng_state(state: dict[str, Any]) -> None:
    """Restore what `rng_state` returned; CUDA states only where that many devices exist."""
    torch.set_rng_state(state["torch"])
    for i in range(torch.cuda.device_count()):
        if f"cuda.{i}" in state:
            torch.cuda.set_rng_state(state[f"cuda.{i}"], i)
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(tuple(state["numpy"]))


def step_generator(seed: int, *position: int) -> torch.Generator:
    """Return a CPU generator that depends only on the seed and a position (step, rank, ...)."""
    mixed = np.random.SeedSequence([seed, *position]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed) % 2**63)
