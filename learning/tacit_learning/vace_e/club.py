"""CLUB inside training: an estimator with its own optimiser, equal on every process.

It learns on the features of all processes, cut from their graph; they are equal everywhere, so it stays
equal without an exchange of gradients, which `check_equal` proves.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from tacit_learning.engine.distributed import broadcast_module, equal_over_processes
from tacit_learning.engine.seeding import seeded
from tacit_learning.losses.club import ClubEstimator, fit_club
from tacit_learning.vace_e.config import VaceEConfig

HIDDEN = 256  # width of q, twice that of each of its two layers


class Estimate(NamedTuple):
    """Mutual information with gradient in the features, and how well q fits, without."""

    information: Tensor
    learning_loss: Tensor


class ClubTrainer:
    """q(z_emb | z_task) and its Adam."""

    def __init__(self, config: VaceEConfig, feature_dim: int, device: torch.device) -> None:
        self.config = config
        with seeded(config.seed):
            self.estimator = ClubEstimator(feature_dim, feature_dim, HIDDEN)
        self.estimator.to(device)
        broadcast_module(self.estimator)
        self.optimizer = torch.optim.Adam(self.estimator.parameters(), lr=config.club_lr)
        self._learning_loss = torch.zeros((), device=device)

    def step(self, z_task: Tensor, z_emb: Tensor, step: int) -> Estimate:
        """Let q learn where its schedule says so, then estimate with q frozen.

        Args:
            z_task: Live features of all processes (B, D).
            z_emb: Live features of all processes (B, D).
            step: Optimiser step.
        """
        x, y = z_task.float(), z_emb.float()
        if step % self.config.club_update_freq == 0:
            steps = self.config.club_training_steps
            self._learning_loss = fit_club(self.estimator, self.optimizer, x, y, steps)
        return Estimate(self.estimator.mutual_information(x, y), self._learning_loss)

    def check_equal(self) -> None:
        """Raise where processes hold different estimators: their features were not the same.

        Raises:
            RuntimeError: On every process.
        """
        if not equal_over_processes(self.estimator):
            raise RuntimeError("CLUB differs between processes: they saw different features")

    def state(self) -> dict[str, Any]:
        """Return a copy of parameters and optimiser state as flat tensors and values."""
        optimizer = self.optimizer.state_dict()
        flat = {f"q.{name}": value for name, value in self.estimator.state_dict().items()}
        for index, values in optimizer["state"].items():
            flat |= {f"adam.{index}.{key}": value for key, value in values.items()}
        copies: dict[str, Any] = {name: value.detach().clone() for name, value in flat.items()}
        learning_loss = self._learning_loss.clone()
        return copies | {"param_groups": optimizer["param_groups"], "learning_loss": learning_loss}

    def restore(self, flat: dict[str, Any]) -> None:
        """Put a state back."""
        own = {name.removeprefix("q."): value for name, value in flat.items() if name.startswith("q.")}
        self.estimator.load_state_dict(own)
        states: dict[int, dict[str, Tensor]] = {}
        for name, value in flat.items():
            if name.startswith("adam."):
                _, index, key = name.split(".", 2)
                states.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({"state": states, "param_groups": flat["param_groups"]})
        self._learning_loss = flat["learning_loss"].to(self._learning_loss.device)
