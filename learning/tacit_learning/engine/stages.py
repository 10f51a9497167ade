"""Stages of a training run: which groups of parameters train, for how long, how fast.

Every stage sets `requires_grad` of all parameters exactly and starts with a fresh optimiser.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field, field_validator
from torch import nn

from tacit.config import Config
from tacit.errors import ConfigError, did_you_mean

GROUPS = ("vace_e", "vace", "dit", "lora:dit", "lora:vace")


class StageConfig(Config):
    """One stage; `trainable_models` is a list or a string such as `dit,vace_e`.

    `epochs` are passes over the data (`dataset_repeat` times). Without `learning_rate` or
    `epochs` those of the run hold.
    """

    description: str = ""
    epochs: int | None = Field(default=None, ge=1)
    trainable_models: tuple[str, ...] = ("vace_e",)
    learning_rate: float | None = Field(default=None, gt=0)

    @field_validator("trainable_models", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [name.strip() for name in value.split(",")] if isinstance(value, str) else value

    @field_validator("trainable_models")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names:
            raise ValueError(f"trains nothing; name at least one of {', '.join(GROUPS)}")
        for name in names:
            if name not in GROUPS:
                raise ValueError(f"{name!r} is no group of parameters; {did_you_mean(name, GROUPS)}")
        return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class Stage:
    """A stage with everything resolved.

    Attributes:
        name: Key in `training_stages`.
        groups: Groups of parameters that train.
        learning_rate: Of AdamW.
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
    stages: Mapping[str, StageConfig],
    steps_in_epoch: Callable[[int], int],
    epochs: int,
    learning_rate: float,
) -> tuple[Stage, ...]:
    """Lay the stages one after another.

    Args:
        stages: In the order of the file.
        steps_in_epoch: Optimiser steps of epoch 0, 1, ... of the run.
        epochs: Of stages that name none.
        learning_rate: Of stages that name none.
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


def set_trainable(
    groups: Mapping[str, Sequence[nn.Parameter]], chosen: Iterable[str], everything: nn.Module
) -> list[nn.Parameter]:
    """Let exactly the chosen groups of `everything` train.

    Returns:
        The parameters that train, in the order of the module.

    Raises:
        ConfigError: The model has no such group, or the group is empty.
    """
    wanted: set[int] = set()
    for name in chosen:
        if not groups.get(name):
            raise ConfigError(
                f"training_stages: this model has no parameters in group {name!r}; "
                f"{did_you_mean(name, (key for key, members in groups.items() if members))}"
            )
        wanted |= {id(parameter) for parameter in groups[name]}
    for parameter in everything.parameters():
        parameter.requires_grad_(id(parameter) in wanted)
    return [parameter for parameter in everything.parameters() if parameter.requires_grad]
