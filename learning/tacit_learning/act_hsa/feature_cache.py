"""What a frozen backbone makes of each frame, computed once and kept in memory.

Legend: B batch, N cameras, C channels, h w cells.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tacit_learning.act_hsa.model import ActModel
from tacit_learning.data import keys
from tacit_learning.data.windows import Batch
from tacit_learning.layers.inputs import prepare_images


class FeatureCache:
    """Adds the features of the cameras to batches; frames are told apart by episode and number.

    Kept as float16, and rounded so also where they were just computed: a resumed run, which begins without
    any, learns from the same numbers.

    Args:
        model: Its backbone is frozen.
    """

    def __init__(self, model: ActModel) -> None:
        self.model = model
        self._kept: dict[tuple[int, int], Tensor] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def __call__(self, batch: Batch) -> Batch:
        """Return the batch with its features (B, N, C, h, w) f4."""
        frames = list(zip(batch[keys.EPISODE].tolist(), batch[keys.FRAME].tolist(), strict=True))
        fresh = {frame: row for row, frame in enumerate(frames) if frame not in self._kept}
        if fresh:
            images = prepare_images(batch[keys.IMAGES][list(fresh.values())])
            self._kept |= zip(fresh, self._features(images), strict=True)
        found = torch.stack([self._kept[frame] for frame in frames])
        return {**batch, keys.FEATURES: found.to(batch[keys.IMAGES].device, non_blocking=True).float()}

    @torch.no_grad()
    def _features(self, images: Tensor) -> list[Tensor]:
        """Map images (B, N, 3, H, W) to what is kept of each."""
        backbone = self.model.backbone
        was_training = backbone.training
        grid = backbone.eval()(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        backbone.train(was_training)
        return [each.clone() for each in grid.half().cpu()]
