"""Stages of a training run: which groups of parameters train, for how long, how fast.

Every stage sets `requires_grad` of all parameters exactly and starts with a fresh optimiser. A run
without stages is one stage that leaves the switches of its module as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator
from torch import nn

from tacit.config import Config
from tacit.errors import ConfigError, did_you_mean


def _split(value: object) -> object:
    """Accept `a,b` or one number for a list, and nothing for an empty one."""
    if isinstance(value, str):
        return [word.strip() for word in value.split(",") if word.strip()]
    return () if value is None else [value] if isinstance(value, int) else value


SPLIT = BeforeValidator(_split)
"""Of options that are lists: on the command line they are words with commas between."""


class StageConfig(Config):
    """One stage; `trainable_models` is a list of groups of parameters, or a string such as `dit,vace_e`.

    `epochs` are passes over the data. Without `learning_rate` or `epochs` those of the run hold.
    """

    description: str = ""
    epochs: int | None = Field(default=None, ge=1)
    trainable_models: Annotated[tuple[str, ...], SPLIT]
    learning_rate: float | None = Field(default=None, gt=0)

    @field_validator("trainable_models")
    @classmethod
    def _some(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names:
            raise ValueError("trains nothing; name at least one group of parameters")
        return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class Stage:
    """A stage with everything resolved.

    Attributes:
        name: Key in `training_stages`.
        groups: Groups of parameters that train; empty: all, as the module has them.
        learning_rate: Learning rate of AdamW.
        first_epoch: Epochs of all stages before.
        epochs: Passes over the data.
        first_step: Optimiser steps of all stages before.
        steps: Optimiser steps.
    """

    name: str
    groups: tuple[str, ...]
    learning_rate: float
    first_epoch: int
    epochs: int
    first_step: int
    steps: int

    @property
    def end(self) -> int:
        """The first step after this stage."""
        return self.first_step + self.steps


def plan_stages(
    stages: Mapping[str, StageConfig], steps_in_epoch: Callable[[int], int], epochs: int, learning_rate: float
) -> tuple[Stage, ...]:
    """Lay the stages one after another.

    Args:
        stages: In the order of the file.
        steps_in_epoch: Optimiser steps of epoch 0, 1, ... of the run.
        epochs: Epochs of stages that name none.
        learning_rate: Learning rate of stages that name none.
    """
    planned: list[Stage] = []
    epoch = step = 0
    for name, stage in stages.items():
        count = stage.epochs or epochs
        steps = sum(steps_in_epoch(epoch + i) for i in range(count))
        rate = stage.learning_rate or learning_rate
        planned.append(Stage(name, stage.trainable_models, rate, epoch, count, step, steps))
        epoch, step = epoch + count, step + steps
    return tuple(planned)


def stage_at(stages: Sequence[Stage], step: int) -> int:
    """Return the index of the stage that does optimiser step `step`; their number after the last."""
    return next((index for index, stage in enumerate(stages) if step < stage.end), len(stages))


def one_stage(learning_rate: float, steps: int | None) -> Stage:
    """Return the stage of a run that has no others; without `steps` it has no end of its own."""
    return Stage("all", (), learning_rate, 0, 1, 0, steps or sys.maxsize)


def set_trainable(group_of: Callable[[str], str], chosen: Collection[str], module: nn.Module) -> int:
    """Let exactly the chosen groups of parameters train.

    Args:
        group_of: Name of a parameter -> its group.
        chosen: Groups that train.
        module: All of whose parameters are set.

    Returns:
        How many numbers train.

    Raises:
        ConfigError: The model has no such group.
    """
    groups = {name: group_of(name) for name, _ in module.named_parameters()}
    for group in chosen:
        if group not in groups.values():
            raise ConfigError(
                f"training_stages: this model has no parameters in group {group!r}; "
                f"{did_you_mean(group, set(groups.values()))}"
            )
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(groups[name] in chosen)
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
