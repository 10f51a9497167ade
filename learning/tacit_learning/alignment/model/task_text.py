"""What is to be done, as text: a frozen embedding of each task, narrowed for the head.

One model can so follow several tasks, and one that it was never trained on by its text.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TaskText(nn.Module):
    """A linear map of the embedding of a task's text.

    Args:
        num_tasks: Known tasks.
        text_width: E of the text encoder.
        width: What the head sees of it.
    """

    texts: Tensor

    def __init__(self, num_tasks: int, text_width: int, width: int) -> None:
        super().__init__()
        self.register_buffer("texts", torch.zeros(num_tasks, text_width))
        self.narrow = nn.Linear(text_width, width)

    def forward(self, task: Tensor, like: Tensor) -> Tensor:
        """Return what is said of the tasks (B,), repeated for every frame of `like` (B, ..., D)."""
        said = self.narrow(self.texts[task])
        return said.view(len(said), *[1] * (like.dim() - 2), -1).expand(*like.shape[:-1], -1)
