"""Configuration of the causal progress estimator."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from tacit.config import Config
from tacit_learning.data.clips import ClipConfig
from tacit_learning.data.episodes import DataConfig
from tacit_learning.engine.config import TrainConfig
from tacit_learning.layers.backbone import ConvSpec


class EncoderConfig(Config):
    """Frozen image features: of a trained ACT-HSA policy (`checkpoint`) or of a `backbone`.

    With a checkpoint, stream names, image sizes and touch references are the policy's. `grid`:
    each camera image is averaged over grid x grid fields; touch over the whole image.
    """

    checkpoint: str | None = None
    backbone: str | None = None
    conv: ConvSpec = ConvSpec()
    grid: int = 2

    @model_validator(mode="after")
    def _one_source(self) -> EncoderConfig:
        if (self.checkpoint is None) == (self.backbone is None):
            raise ValueError("encoder: give exactly one of checkpoint (a trained policy) and backbone")
        return self


class HeadConfig(Config):
    """Sizes of the head; elapsed time enters as log(1 + t) / log(1 + cap)."""

    width: int = 64
    hidden: int = 64
    dropout: float = 0.1
    elapsed_cap_s: float = 60.0


class ProgressConfig(Config):
    """Everything that defines one training run of a progress estimator."""

    kind: Literal["progress"] = "progress"
    data: DataConfig
    encoder: EncoderConfig
    clips: ClipConfig = ClipConfig()
    head: HeadConfig = HeadConfig()
    done_weight: float = 0.2
    train: TrainConfig
