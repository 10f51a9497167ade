"""Options of the training loop."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tacit.config import Config

LearningRate = Annotated[float, Field(ge=0, le=10)]


class TrainConfig(Config):
    """How long, how fast, with what.

    Training ends after `steps` optimiser steps or `max_seconds` of training time, whichever comes
    first; the cosine follows the same clock, so a timed run is not exactly reproducible.
    `final_lr` is the fraction of `lr` left at the end; 1 gives a constant rate after the warm-up.
    """

    output: str
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    steps: Annotated[int, Field(ge=1)] | None = None
    max_seconds: Annotated[float, Field(gt=0)] | None = None
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 8
    accumulate: Annotated[int, Field(ge=1)] = 1
    lr: LearningRate = 2e-5
    lr_backbone: LearningRate | None = None
    weight_decay: float = 1e-4
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    final_lr: float = 1.0
    clip_norm: float = 10.0
    ema_decay: float = 0.0
    precision: Literal["no", "bf16", "fp16"] = "no"
    device: Literal["auto", "cpu"] = "auto"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    log_every: Annotated[int, Field(ge=1)] = 50
    validate_every: Annotated[int, Field(ge=1)] | None = 500
    validate_batches: int = 8
    save_every: Annotated[int, Field(ge=1)] | None = 10000
    tensorboard: bool = False
    wandb: Literal["disabled", "offline", "online"] = "disabled"
    resume: str | None = None

    @model_validator(mode="after")
    def _ends(self) -> TrainConfig:
        if self.steps is None and self.max_seconds is None:
            raise ValueError("train: give steps, max_seconds or both")
        return self
