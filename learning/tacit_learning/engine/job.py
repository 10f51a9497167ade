"""What a training run is made of, for the loop: a module, batches, a validation, and its course."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from tacit_learning.engine.checkpoint import Flat
from tacit_learning.engine.stages import Stage

M = TypeVar("M")


class Movable(Protocol):
    """A batch that is more than a dictionary of tensors."""

    def to(self: M, device: torch.device) -> M:
        """Return the batch on `device`."""


B = TypeVar("B", bound="dict[str, Tensor] | Movable")
Validation = Callable[[nn.Module, torch.device, int], dict[str, float]]
"""(module in evaluation mode, its device, finished steps) -> metrics; {}: nothing to measure."""


class Course:
    """How a run goes on beside its steps. These are the usual ways; a model overrides what differs.

    Attributes:
        stages: One after another; empty: one stage in which everything trains.
        keeps_steps: Every regular checkpoint stays (`step_<n>`), beside `last`.
        keeps_stages: A checkpoint stays at the end of every stage (`stage_<name>`).
        shares_validation: Every process takes part in a validation, and they tell each other the result.
        advice: What to do where the loss is not finite.
    """

    stages: tuple[Stage, ...] = ()
    keeps_steps = True
    keeps_stages = False
    shares_validation = False
    advice = "lower train.lr, or look for broken values in the data"

    def group_of(self, name: str) -> str:
        """Return the group of parameters that stages choose from, by a parameter's name."""
        return ""

    def clip_group(self, name: str) -> str:
        """Return which parameters share one limit of the gradient's norm; by default all."""
        return ""

    def decay_share(self, step: int, share: float) -> float:
        """Return how far the decay of the learning rate is, 0..1, when `share` of this run is over."""
        return share

    def is_saved(self, name: str) -> bool:
        """Whether a checkpoint holds this weight; the others come from where the model came from."""
        return True

    def validates_after(self, step: int, every: int | None) -> bool:
        """Whether to validate after `step` steps; `every` is the option of the run."""
        return every is not None and step % every == 0

    def validated(self) -> None:
        """Called on the main process when the metrics of a validation are written."""

    def finished(self, weights: Mapping[str, Tensor]) -> None:
        """Called on the main process at the end, with the whole weights (the average where one is kept)."""

    def gauges(self) -> Mapping[str, float]:
        """Return further values to log beside the metrics of training steps."""
        return {}

    def remark(self, step: int, means: Mapping[str, float]) -> str | None:
        """Return what a person should know about the means of the last training steps; None: nothing."""
        return None

    def state(self) -> Flat:
        """Return what must be saved beside module and optimiser; called on every process."""
        return {}

    def restore(self, state: Flat) -> None:
        """Put a state back; {} where the checkpoint has none."""


@dataclass(frozen=True)
class Job(Generic[B]):
    """What one training run does, beside its options.

    Attributes:
        module: `forward(batch, step) -> (loss, metrics)`; metrics are detached scalars.
        batches: (first micro-batch, rank, number of processes) -> endless batches. What a batch holds
            depends on seed and number alone, so that a resumed run equals one that was not interrupted.
        validate: Called on the main process, or on all where they share it or parameters are sharded.
        texts: File name -> content, kept in every checkpoint.
        transform: (batch on its device, micro-batch number, rank) -> augmented batch.
        best: Name of a checkpoint -> the metric whose lowest value it keeps.
        course: Stages, and what is kept and logged on the way.
    """

    module: nn.Module
    batches: Callable[[int, int, int], Iterator[B]]
    validate: Validation
    texts: Mapping[str, str]
    transform: Callable[[B, int, int], B] = lambda batch, number, rank: batch
    best: Mapping[str, str] = field(default_factory=lambda: {"best": "loss"})
    course: Course = field(default_factory=Course)


def to_device(batch: B, device: torch.device) -> B:
    """Return the batch on `device`."""
    if isinstance(batch, dict):
        return {key: value.to(device, non_blocking=True) for key, value in batch.items()}  # type: ignore[return-value]
    return batch.to(device)  # type: ignore[return-value]
