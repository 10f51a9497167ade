"""Options of the training loop."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from tacit.config import Config


class TrainConfig(Config):
    """How long, how fast, with what.

    Training ends after `steps` optimiser steps or `max_seconds` of training time, whichever comes
    first; the cosine follows the same clock, so a timed run is not exactly reproducible.
    `final_lr` is the fraction of `lr` left at the end; 1 gives a constant rate after the warm-up.
    """

    output: str
    seed: int = 0
    steps: int | None = None
    max_seconds: float | None = None
    batch_size: int = 8
    accumulate: int = 1
    lr: float = 2e-5
    lr_backbone: float | None = None
    weight_decay: float = 1e-4
    warmup_steps: int = 0
    final_lr: float = 1.0
    clip_norm: float = 10.0
    ema_decay: float = 0.0
    precision: Literal["no", "bf16", "fp16"] = "no"
    device: Literal["auto", "cpu"] = "auto"
    threads: int | None = None
    log_every: int = 50
    validate_every: int | None = 500
    validate_batches: int = 8
    save_every: int | None = 10000
    tensorboard: bool = False
    resume: str | None = None

    @model_validator(mode="after")
    def _ends(self) -> TrainConfig:
        if self.steps is None and self.max_seconds is None:
            raise ValueError("train: give steps, max_seconds or both")
        return self
