"""The training loop: accelerate for devices, precision, accumulation and processes.

A model is anything with `forward(batch, step) -> (loss, metrics)`. The batch of a step depends on
seed and step alone, so 2N steps equal N steps, a resume and N steps, bit for bit on one device.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch import Tensor, nn

from tacit.errors import ConfigError
from tacit_learning.data.windows import Batch
from tacit_learning.engine.checkpoint import Position, resume, save_checkpoint
from tacit_learning.engine.config import TrainConfig
from tacit_learning.engine.ema import Ema
from tacit_learning.engine.optimizer import make_optimizer, set_learning_rate
from tacit_learning.engine.tracking import Reporter, Tracker

BatchSource = Callable[[int, int, int], Iterator[Batch]]
"""(first micro-batch, rank, number of processes) -> endless batches."""
Transform = Callable[[Batch, int, int], Batch]
"""(batch on its device, micro-batch number, rank) -> augmented batch."""
Validation = Callable[[nn.Module, torch.device], dict[str, float]]


@dataclass(frozen=True)
class Job:
    """What one training run does, beside its options.

    `best`: name of a checkpoint -> the metric whose lowest value it keeps; None: `best` by `best_metric`.
    """

    module: nn.Module
    batches: BatchSource
    validate: Validation
    texts: Mapping[str, str]
    transform: Transform = lambda batch, step, rank: batch
    best_metric: str = "loss"
    best: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    folder: Path
    step: int
    seconds: float
    samples_per_second: float
    metrics: dict[str, float]


@dataclass
class Clock:
    """Training time [s], without validation and saving."""

    seconds: float
    _started: float | None = field(default_factory=lambda: time.monotonic())

    def read(self) -> float:
        """Return the time so far."""
        return self.seconds + (0.0 if self._started is None else time.monotonic() - self._started)

    def pause(self) -> None:
        """Stop counting."""
        self.seconds, self._started = self.read(), None

    def go(self) -> None:
        """Count again."""
        self.seconds, self._started = self.read(), time.monotonic()


def fit(job: Job, config: TrainConfig, reporter: Reporter) -> Result:
    """Train until `config.steps` or `config.max_seconds`, validating and saving on the way.

    Returns:
        The result; checkpoints `last`, `best` and `step_<n>` lie under `<output>/checkpoints`.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    return _Run(job, config, reporter).train()


class _Run:
    """One run of `fit`."""

    def __init__(self, job: Job, config: TrainConfig, reporter: Reporter) -> None:
        self.job = job
        self.config = config
        self.folder = Path(config.output)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.accelerator = make_accelerator(config)
        if self.accelerator.num_processes > 1 and config.max_seconds:
            raise ConfigError("train.max_seconds: several processes have several clocks; give train.steps")
        optimizer = make_optimizer(job.module, config)
        job.module.to(self.accelerator.device)
        self.ema = Ema(job.module, config.ema_decay) if config.ema_decay > 0 else None
        average = self.ema.module if self.ema else None
        self.position = resume(config.resume, job.module, average, optimizer) if config.resume else Position()
        self.model, self.optimizer = self.accelerator.prepare(job.module, optimizer)
        chief = self.accelerator.is_main_process
        self.tracker = Tracker(self.folder, reporter, config.tensorboard) if chief else None
        self.clock = Clock(self.position.seconds)
        self.best = dict(self.position.best)
        self.metrics: dict[str, float] = {}
        self.validated_at = -1

    def train(self) -> Result:
        config, step = self.config, self.position.step
        batches = self._batches(step)
        window: list[dict[str, Tensor]] = []
        self.model.train()
        started, first_step = self.clock.read(), step
        while (share := self._share(step)) < 1:
            factor = set_learning_rate(self.optimizer.optimizer, config, step, share)
            window.append(self._step(step, batches))
            step += 1
            if step % config.log_every == 0:
                rate = (step - first_step) * self._samples / (self.clock.read() - started)
                values = self._over_processes(_average(window))
                self._log("train", step, values | {"lr": config.lr * factor, "samples_per_s": rate})
                window = []
            self._visit(step)
        rate = (step - first_step) * self._samples / max(self.clock.read() - started, 1e-9)
        self.clock.pause()
        self._validate(step)
        self._save("last", step)
        if self.tracker is not None:
            self.tracker.close()
        return Result(self.folder, step, self.clock.seconds, rate, self.metrics)

    @property
    def _samples(self) -> int:
        return self.config.batch_size * self.config.accumulate * self.accelerator.num_processes

    def _share(self, step: int) -> float:
        """Return the part of the training that is over, by steps or by the clock."""
        shares = [step / self.config.steps] if self.config.steps else []
        if self.config.max_seconds:
            shares.append(self.clock.read() / self.config.max_seconds)
        return max(shares)

    def _batches(self, step: int) -> Iterator[tuple[int, Batch]]:
        first = step * self.config.accumulate
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        return enumerate(self.job.batches(first, rank, world), start=first)

    def _step(self, step: int, batches: Iterator[tuple[int, Batch]]) -> dict[str, Tensor]:
        """Do one optimiser step over `accumulate` micro-batches."""
        collected = []
        for _ in range(self.config.accumulate):
            number, batch = next(batches)
            batch = to_device(batch, self.accelerator.device)
            batch = self.job.transform(batch, number, self.accelerator.process_index)
            with self.accelerator.accumulate(self.model):
                with self.accelerator.autocast():
                    loss, metrics = self.model(batch, step)
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients and self.config.clip_norm > 0:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()
            collected.append(metrics)
        if self.ema is not None:
            self.ema.update(self.accelerator.unwrap_model(self.model))
        return {key: torch.stack([m[key] for m in collected]).mean() for key in collected[0]}

    def _over_processes(self, values: dict[str, float]) -> dict[str, float]:
        """Average over the processes: what is logged is of the whole batch."""
        if self.accelerator.num_processes == 1:
            return values
        means = torch.tensor(list(values.values()), dtype=torch.float32, device=self.accelerator.device)
        return dict(zip(values, self.accelerator.reduce(means, "mean").tolist(), strict=True))

    def _log(self, kind: str, step: int, values: dict[str, float]) -> None:
        """Record metrics once, whatever the number of processes."""
        if self.tracker is not None:
            self.tracker.log(kind, step, self._share(step), values)

    def _visit(self, step: int) -> None:
        """Validate and save where the schedule says so; that time does not count."""
        config = self.config
        validate = config.validate_every and step % config.validate_every == 0
        save = config.save_every and step % config.save_every == 0
        if not (validate or save):
            return
        self.clock.pause()
        if validate:
            self._validate(step)
        if save:
            self._save(f"step_{step}", step)
            self._save("last", step)
        self.clock.go()

    def _validate(self, step: int) -> None:
        if not self.accelerator.is_main_process or step == self.validated_at:
            return
        self.validated_at = step
        module = self.ema.module if self.ema else self.accelerator.unwrap_model(self.model)
        was_training = module.training
        self.metrics = self.job.validate(module.eval(), self.accelerator.device)
        module.train(was_training)
        if self.metrics:
            self._log("val", step, self.metrics)
        for name, metric in (self.job.best or {"best": self.job.best_metric}).items():
            value = self.metrics.get(metric, float("inf"))
            if value < self.best.get(name, float("inf")):
                self.best[name] = value
                self._write(name, step)

    def _save(self, name: str, step: int) -> None:
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self._write(name, step)

    def _write(self, name: str, step: int) -> None:
        save_checkpoint(
            self.folder / "checkpoints" / name,
            self.accelerator.unwrap_model(self.model),
            self.ema.module if self.ema else None,
            self.optimizer.optimizer,
            Position(step, self.clock.seconds, dict(self.best)),
            self.job.texts,
            self.metrics,
        )


def make_accelerator(config: TrainConfig) -> Accelerator:
    """Return an accelerator; a second one in this process may have other options."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    return Accelerator(
        cpu=config.device == "cpu",
        mixed_precision=config.precision,
        gradient_accumulation_steps=config.accumulate,
    )


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Return the batch on `device`."""
    return {key: value.to(device, non_blocking=True) for key, value in batch.items()}


def _average(window: list[dict[str, Tensor]]) -> dict[str, float]:
    return {key: float(torch.stack([m[key] for m in window]).mean()) for key in window[0]} if window else {}
