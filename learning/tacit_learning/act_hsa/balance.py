"""How strongly HSA pulls at the tokens that the policy reads, beside L1, and the weight that balances both.

A weight alone says nothing: at weight 1 the gradient of HSA on shared tokens is 50 to 150 times that of L1,
and with a clipped gradient it takes the step. So both are measured where they meet, at the tokens that enter
the encoder: weight 1 then means as much pull as L1.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tacit_learning.act_hsa.model import Tokens
from tacit_learning.engine.distributed import world_size

MEASURE_EVERY = 20  # steps; one measurement costs the way back through the transformer
MEMORY = 0.8  # of the moving average, per measurement: about 100 steps
UP_SCALE = 1024.0  # fp16 cannot hold the small gradients of a mean


class GradientBalance(nn.Module):
    """Measure both gradients at the shared tokens, and scale the weight of HSA by them.

    The norms are buffers: they travel with checkpoints, so a resumed run has the same weights. With
    several processes they are those of one process with all rows.

    Args:
        kind: `gradient`: weight 1 pulls as much as L1, but never more than the raw weight does, so that
            what is learnt is not blown up again; `none`: the raw weight.
    """

    norms: Tensor

    def __init__(self, kind: Literal["gradient", "none"]) -> None:
        super().__init__()
        self.kind = kind
        self.register_buffer("norms", torch.full((2, 2), torch.nan))  # (L1, HSA) x (image, touch)

    def measure(self, l1: Tensor, hsa: Tensor, tokens: Tokens, step: int | None) -> None:
        """Take the norms of this batch into the average, every MEASURE_EVERY steps; None: now.

        A batch in which one of them does not pull, as one without a usable box, tells nothing.

        Args:
            l1: Scalar, attached to the graph.
            hsa: Scalar, attached to the graph.
            tokens: Where both meet.
            step: Optimiser step.
        """
        if (step or 0) % MEASURE_EVERY or not torch.is_grad_enabled():
            return
        shared = (tokens.image, tokens.touch)
        squares = torch.stack([_squares(l1, shared), _squares(hsa, shared)])
        if world_size() > 1:  # rows of others; both losses are means over processes, so the ratio holds
            dist.all_reduce(squares)
        norms = (squares.sqrt() / (UP_SCALE * world_size())).to(self.norms)
        tells = torch.isfinite(norms).all() & (norms.sum(1) > 0).all()
        average = torch.where(torch.isnan(self.norms), norms, MEMORY * self.norms + (1 - MEMORY) * norms)
        self.norms.copy_(torch.where(tells, average, self.norms))

    def scale(self) -> Tensor:
        """Return what the weight of HSA is multiplied by; 1 before anything was measured."""
        one = self.norms.new_ones(())
        if self.kind == "none":
            return one
        l1, hsa = self.norms.square().sum(1).sqrt()
        return torch.where(hsa > 0, (l1 / hsa).clamp(max=1.0), one)

    def metrics(self, weight: Tensor) -> dict[str, Tensor]:
        """Return the pull of HSA over that of L1 at the shared tokens.

        Args:
            weight: What HSA is multiplied by in the loss, after balancing.

        Returns:
            hsa_weight; hsa_pull (at that weight), hsa_pull_raw (at weight 1, unbalanced), and
            hsa_pull_image and hsa_pull_touch by kind of token; pulls are 0 where nothing was measured.
        """
        norms = self.norms.nan_to_num(0.0)
        l1, hsa = norms.square().sum(1).sqrt()
        raw = hsa / l1.clamp(min=1e-12)
        image, touch = norms[1] / norms[0].clamp(min=1e-12)
        pulls = {"": raw * weight, "_raw": raw, "_image": image * weight, "_touch": touch * weight}
        return {"hsa_weight": weight.detach(), **{f"hsa_pull{name}": pull for name, pull in pulls.items()}}


def _squares(loss: Tensor, shared: tuple[Tensor, Tensor]) -> Tensor:
    """Return the squared norms (2,) of the gradient of `loss` at each kind of token."""
    gradients = torch.autograd.grad(UP_SCALE * loss, shared, retain_graph=True, allow_unused=True)
    zero = loss.new_zeros((), dtype=torch.float32)
    return torch.stack([zero if g is None else g.float().square().sum() for g in gradients])
