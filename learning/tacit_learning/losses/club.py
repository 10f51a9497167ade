"""CLUB: a contrastive log-ratio estimate of the mutual information of two features.

Source: Cheng et al. 2020, arXiv:2006.12013; Linear95/CLUB@57b4ad7. It bounds the information from
above only when q(y|x) is close to p(y|x), so a falling value proves nothing by itself: report the
likelihood of q and held-out probes beside it. Legend: B rows, X Y features, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call


class ClubEstimator(nn.Module):
    """q(y|x) = N(mu(x), exp v(x)) and the estimate it gives.

    mu: Linear(X, h/2), ReLU, Linear(h/2, Y); v likewise, bounded by tanh as in the source.
    """

    def __init__(self, x_dim: int, y_dim: int, hidden: int) -> None:
        super().__init__()
        self.mean = nn.Sequential(*_layers(x_dim, y_dim, hidden))
        self.log_variance = nn.Sequential(*_layers(x_dim, y_dim, hidden), nn.Tanh())

    def mutual_information(self, x: Tensor, y: Tensor) -> Tensor:
        """Estimate I(x; y) = mean_i sum_d [log q(y_i|x_i) - mean_j log q(y_j|x_i)].

        Gradients reach x and y, never q: q must not learn to lower its own estimate.

        Args:
            x: Features (B, X), B >= 2.
            y: Features (B, Y).

        Returns:
            Scalar [nat]; can be negative when q is poor.
        """
        _check(x, y)
        with torch.autocast(x.device.type, enabled=False):
            x, y = _full(x), _full(y)
            mean, log_variance = self._frozen(x)
            # mean_j (y_j - mu_i)^2 without the (B, B, Y) table
            spread = (y - y.mean(0)).square().mean(0) + (y.mean(0) - mean).square()
            difference = (spread - (mean - y).square()) / (2 * log_variance.exp())
            return difference.sum(1).mean()

    def learning_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Compute mean_i sum_d [(mu_i - y_i)^2 / exp(v_i) + v_i]: 2 NLL without its constant."""
        _check(x, y)
        mean, log_variance = self.mean(x), self.log_variance(x)
        return ((mean - y).square() / log_variance.exp() + log_variance).sum(1).mean()

    def _frozen(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = functional_call(self.mean, _detached(self.mean), (x,))
        return mean, functional_call(self.log_variance, _detached(self.log_variance), (x,))


def fit_club(
    club: ClubEstimator, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, steps: int
) -> Tensor:
    """Take `steps` of the optimiser of q on features that are cut from their graph.

    Args:
        club: The estimator.
        optimizer: Over its parameters alone.
        x: Features (B, X); of all processes, so that q stays equal on each.
        y: Features (B, Y).
        steps: How many.

    Returns:
        The learning loss before the last step, cut from its graph.
    """
    x, y = x.detach().float(), y.detach().float()
    loss = x.new_zeros(())
    with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            loss = club.learning_loss(x, y)
            loss.backward()
            optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()


def _layers(inputs: int, outputs: int, hidden: int) -> list[nn.Module]:
    return [nn.Linear(inputs, hidden // 2), nn.ReLU(), nn.Linear(hidden // 2, outputs)]


def _detached(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in module.named_parameters()}


def _full(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _check(x: Tensor, y: Tensor) -> None:
    if x.ndim != 2 or len(x) != len(y):
        raise ValueError(f"club: x {tuple(x.shape)}, y {tuple(y.shape)}; expected equal numbers of rows")
    if len(x) < 2:
        raise ValueError("club: one row has no other row to compare with (the estimate is exactly 0)")
