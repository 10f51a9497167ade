"""The training loop of every model: stages, accumulation, averages, validation, checkpoints.

A model is anything with `forward(batch, step) -> (loss, metrics)`. The batch of a step depends on
seed and step alone, so 2N steps equal N steps, a resume and N steps, bit for bit on one device.
Loss and gradient are checked before every update: where they are not finite, the run stops.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic

import torch
from torch import Tensor

from tacit.config.claims import sole_writer
from tacit.errors import ConfigError, TacitError
from tacit_learning.engine.checkpoint import (
    LAST,
    Flat,
    Position,
    load_checkpoint,
    restore_weights,
    save_checkpoint,
    what_is_left,
)
from tacit_learning.engine.config import TrainConfig
from tacit_learning.engine.ema import Ema
from tacit_learning.engine.job import B, Course, Job, to_device
from tacit_learning.engine.optimizer import (
    make_optimizer,
    optimizer_state,
    restore_optimizer,
    set_learning_rate,
)
from tacit_learning.engine.processes import Processes, ProcessOptions
from tacit_learning.engine.seeding import rng_state, set_rng_state
from tacit_learning.engine.stages import Stage, one_stage, set_trainable, stage_at
from tacit_learning.engine.tracking import Reporter, Tracker

Metrics = dict[str, Tensor]
LOWEST_SCALE = 1.0
"""Least scale of the losses in fp16. A scale this low no longer explains a gradient that overflows."""


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


def fit(job: Job[B], config: TrainConfig, reporter: Reporter, processes: Processes | None = None) -> Result:
    """Train until the last stage, `config.steps` or `config.max_seconds` ends.

    Args:
        job: What trains, on what.
        config: How long, how fast.
        reporter: Shows progress.
        processes: Those that train together, where the caller needed them before; None: as usual.

    Returns:
        The result; checkpoints `last`, those of `job.best` and `step_<n>` lie under `<output>/checkpoints`.

    Raises:
        ConfigError: `config.resume` is no checkpoint of such a run, or another run writes the same folder.
        TacitError: Loss or gradient is not finite; the message says where to go on.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    folder = Path(config.output)
    alone = ProcessOptions(wandb=config.wandb, project="tacit", name=folder.name)
    processes = processes or Processes(config, alone, reporter)
    if config.resume:
        load_checkpoint(config.resume, resume=True)  # refused before a folder is made
    with sole_writer(folder) if processes.is_main else contextlib.nullcontext():
        try:
            return _Run(job, config, reporter, processes).train()
        except (KeyboardInterrupt, OSError) as problem:
            reporter.message(f"stopped ({str(problem) or 'interrupted'}); {what_is_left(folder)}")
            raise


class _Run(Generic[B]):
    """One run of `fit`."""

    def __init__(self, job: Job[B], config: TrainConfig, reporter: Reporter, processes: Processes) -> None:
        self.job, self.config, self.reporter, self.processes = job, config, reporter, processes
        self.accelerator, self.course = processes.accelerator, job.course
        self.folder = Path(config.output)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.stages = self.course.stages or (one_stage(config.lr, config.steps),)
        self.model = processes.place(job.module)
        self.ema = Ema(job.module, config.ema_decay) if config.ema_decay > 0 else None
        self.checkpoint = load_checkpoint(config.resume, resume=True) if config.resume else None
        self.position = self._restore() if self.checkpoint else Position()
        self.tracker = Tracker(self.folder, reporter, config.tensorboard) if processes.is_main else None
        self.clock = Clock(self.position.seconds, None)
        self.optimizer: torch.optim.Optimizer | None = None
        self.window: list[Metrics] = []
        self.best, self.metrics = dict(self.position.best), dict(self.position.metrics)
        self.validated_at = -1

    def train(self) -> Result:
        """Run all stages that are left."""
        step = self.position.step
        batches = self._batches(step)
        if self.checkpoint is not None:
            set_rng_state(self.checkpoint.part("rng"))
        index = stage_at(self.stages, step)
        while index < len(self.stages) and self._share(step) < 1:
            stage = self.stages[index]
            self._enter(stage, step)
            step = self._run_stage(stage, step, batches)
            index += 1
        rate = self._rate(step)
        if self.optimizer is None:  # nothing was left to train, and so nothing was sharded
            self.model.to(self.processes.device)
        self._validate(step)
        weights = self._save(LAST, step)
        if self.processes.is_main:
            self.course.finished(self.ema.module.state_dict() if self.ema else weights)
        self.processes.wait()
        if self.tracker is not None:
            self.tracker.close()
        self._let_go()
        self.accelerator.end_training()
        return Result(self.folder, step, self.clock.seconds, rate, self.metrics)

    def _let_go(self) -> None:
        """Drop what wraps the model before the group of processes ends.

        The last to hold the group must be its own Python object. Where it is the reducer of a
        DistributedDataParallel, torch joins the group's threads while it holds the interpreter's lock, and a
        thread that still frees a tensor waits for that lock: the process never ends.
        """
        self.model, self.optimizer = self.job.module, None
        self.accelerator.free_memory()

    def _run_stage(self, stage: Stage, step: int, batches: Iterator[tuple[int, B]]) -> int:
        """Train until the stage or the run ends; return the finished steps."""
        self.clock.go()
        while step < stage.end and (share := self._share(step)) < 1:
            decay = self.course.decay_share(step, share)
            set_learning_rate(self._adam, self.config, step - stage.first_step, decay)
            self.window.append(self._step(step, batches))
            step += 1
            self._visit(stage, step)
        self.clock.pause()
        return step

    def _enter(self, stage: Stage, step: int) -> None:
        """Choose what trains, with a fresh optimiser, or with the saved one inside a stage."""
        self.model = self.job.module
        if stage.groups:
            count = set_trainable(self.course.group_of, stage.groups, self.model)
            self.reporter.message(
                f"stage {stage.name}: {', '.join(stage.groups)} ({count / 1e6:.2f} M parameters), "
                f"{stage.steps} steps at {stage.learning_rate:g}"
            )
        optimizer = make_optimizer(self.model, self.config, stage.learning_rate)
        self.model, self.optimizer = self.processes.prepare(self.model, optimizer)
        if self.checkpoint is not None and stage.first_step < step == self.position.step:
            where = f"resume {self.checkpoint.folder}"
            module = self.processes.unwrap(self.model)
            restore_optimizer(module, self._adam, self.checkpoint.part("optimizer"), where)
            if self.accelerator.scaler is not None and self.position.scaler:
                self.accelerator.scaler.load_state_dict(dict(self.position.scaler))
        self.model.train()

    @property
    def _adam(self) -> torch.optim.Optimizer:
        """The optimiser inside what accelerate wrapped around it."""
        assert self.optimizer is not None
        return self.optimizer.optimizer  # type: ignore[attr-defined]

    def _restore(self) -> Position:
        """Load weights, averages and what the course keeps; the optimiser waits for its stage."""
        assert self.checkpoint is not None
        where = f"resume {self.checkpoint.folder}"
        partial = type(self.course).is_saved is not Course.is_saved
        restore_weights(self.model, self.checkpoint.part("model"), where, partial)
        if self.ema is not None:
            average = self.checkpoint.part("average")
            if not average:
                raise ConfigError(f"{where}: has no average; resume it with train.ema_decay=0")
            restore_weights(self.ema.module, average, where, partial)
        self.course.restore(self.checkpoint.part("course"))
        return self.checkpoint.position

    def _share(self, step: int) -> float:
        """Return the part of the training that is over, by steps or by the clock."""
        shares = [step / self.config.steps] if self.config.steps else []
        if self.config.max_seconds:
            shares.append(self.clock.read() / self.config.max_seconds)
        return max(shares)

    def _rate(self, step: int) -> float:
        """Return samples per second of training time, since this process started."""
        samples = self.config.batch_size * self.config.accumulate * self.processes.world
        spent = self.clock.read() - self.position.seconds
        return (step - self.position.step) * samples / max(spent, 1e-9)

    def _batches(self, step: int) -> Iterator[tuple[int, B]]:
        first = step * self.config.accumulate
        return enumerate(self.job.batches(first, self.processes.rank, self.processes.world), start=first)

    def _step(self, step: int, batches: Iterator[tuple[int, B]]) -> Metrics:
        """Do one optimiser step over `accumulate` micro-batches."""
        assert self.optimizer is not None
        found: list[Metrics] = []
        for _ in range(self.config.accumulate):
            number, batch = next(batches)
            batch = self.job.transform(to_device(batch, self.processes.device), number, self.processes.rank)
            with self.accelerator.accumulate(self.model):
                with self.accelerator.autocast():
                    loss, metrics = self.model(batch, step)
                self.accelerator.backward(loss)
                found.append({**metrics, "loss": loss.detach()})
                if self.accelerator.sync_gradients:
                    found[-1] |= self._clip()
                    self._check(step, found)
                self.optimizer.step()
                self.optimizer.zero_grad()
        if self.ema is not None:
            self.ema.update(self.processes.unwrap(self.model))
        return _means(found)

    def _clip(self) -> Metrics:
        """Clip the gradient of each group where the options say so; return the norms before that."""
        limit = self.config.clip_norm or float("inf")  # nothing is longer: the norm alone is measured
        groups: dict[str, list[torch.nn.Parameter]] = {}
        for name, parameter in self.processes.unwrap(self.model).named_parameters():
            if parameter.grad is not None:
                groups.setdefault(self.course.clip_group(name), []).append(parameter)
        self.accelerator.unscale_gradients()
        found: Metrics = {}
        for group, members in groups.items():
            norm = torch.nn.utils.clip_grad_norm_(members, limit)
            whole = norm.full_tensor() if hasattr(norm, "full_tensor") else norm.detach()
            found[f"grad_norm_{group}"] = whole
        if len(found) == 1:
            return {"grad_norm": found.popitem()[1]}
        return {"grad_norm": torch.stack(list(found.values())).norm()} | found

    def _check(self, step: int, found: Sequence[Metrics]) -> None:
        """Stop before an update that would spoil the weights; every process stops at the same step.

        In fp16 a gradient that overflows is met by a smaller scale, and the step is skipped.

        Raises:
            TacitError: Loss or gradient is not finite, here or on another process.
        """
        norm = found[-1]["grad_norm"]
        loss = torch.stack([metrics["loss"].float() for metrics in found]).sum()
        finite = torch.isfinite(torch.stack([loss, norm.to(loss)])).float()
        loss_is_finite, norm_is_finite = (self.processes.mean(finite) == 1).tolist()
        if loss_is_finite and norm_is_finite:
            return
        scaler = self.accelerator.scaler
        if loss_is_finite and scaler is not None and scaler.get_scale() > LOWEST_SCALE:
            del found[-1]["grad_norm"]
            return
        odd = [name for each in found for name, value in each.items() if not torch.isfinite(value).all()]
        names = ", ".join(dict.fromkeys(self.processes.everyone(odd)))
        go_on = what_is_left(self.folder)
        raise TacitError(
            f"step {step + 1}: not finite: {names}; nothing of this step was kept ({go_on}); "
            f"{self.course.advice}"
        )

    def _visit(self, stage: Stage, step: int) -> None:
        """Log, validate and save where the schedule says so; only logging counts as training time."""
        config, course = self.config, self.course
        ends = step == stage.end or self._share(step) >= 1
        if step % config.log_every == 0 or ends:
            self._log(step)
        names = []
        if config.save_every and step % config.save_every == 0:
            names = [f"step_{step}", LAST] if course.keeps_steps else [LAST]
        if step == stage.end and course.keeps_stages:
            names.append(f"stage_{stage.name}")
        validate = course.validates_after(step, config.validate_every)
        if not (validate or names):
            return
        self.clock.pause()
        if validate:
            self._validate(step)
        for name in names:
            self._save(name, step)
        self.clock.go()

    def _log(self, step: int) -> None:
        """Record the metrics of the last steps, averaged over steps and processes."""
        means = _means(self.window)
        self.window = []
        values = self.processes.mean(torch.stack([mean.to(self.processes.device) for mean in means.values()]))
        logged = dict(zip(means, values.tolist(), strict=True))
        logged |= {"lr": self._adam.param_groups[0]["lr"], "samples_per_s": self._rate(step)}
        self._write("train", step, logged | dict(self.course.gauges()))
        if self.processes.is_main and (remark := self.course.remark(step, logged)):
            self.reporter.message(remark)

    def _write(self, kind: str, step: int, values: dict[str, float]) -> None:
        """Record metrics once, whatever the number of processes."""
        if self.tracker is not None:
            self.tracker.log(kind, step, self._share(step), values)
            self.accelerator.log({f"{kind}/{key}": value for key, value in values.items()}, step=step)

    def _validate(self, step: int) -> None:
        """Measure, and keep the checkpoints that are better than before."""
        if step == self.validated_at:
            return
        self.validated_at = step
        better: list[str] = []
        if self.processes.is_main or self.processes.is_sharded or self.course.shares_validation:
            module = self.ema.module if self.ema else self.processes.unwrap(self.model)
            was_training = module.training
            with self.processes.gathered(module):
                self.metrics = self.job.validate(module.eval(), self.processes.device, step)
            module.train(was_training)
            if self.metrics:
                self._write("val", step, self.metrics)
            if self.processes.is_main:
                better = self._better()
                self.course.validated()
        for name in self.processes.of_main(better):
            self._save(name, step)

    def _better(self) -> list[str]:
        """Return the names of the best checkpoints that the last validation replaces."""
        found = {name: self.metrics.get(metric, float("inf")) for name, metric in self.job.best.items()}
        better = {name: value for name, value in found.items() if value < self.best.get(name, float("inf"))}
        self.best |= better
        return list(better)

    def _save(self, name: str, step: int) -> dict[str, Tensor]:
        """Write a checkpoint, return all weights; every process must come here, for they may be sharded."""
        scaler = self.accelerator.scaler
        state = {} if scaler is None else scaler.state_dict()
        position = Position(step, self.clock.read(), dict(self.best), dict(self.metrics), state)
        weights = self.processes.weights(self.model)
        parts = {
            "model": self._saved(weights),
            "average": {} if self.ema is None else self._saved(self.ema.module.state_dict()),
            "optimizer": self._optimizer_part(step),
            "rng": rng_state(),
            "course": self.course.state(),
        }
        if self.processes.is_main:
            save_checkpoint(self.folder / "checkpoints" / name, position, parts, self.job.texts)
        self.processes.wait()
        return weights

    def _saved(self, weights: Flat) -> Flat:
        return {name: value for name, value in weights.items() if self.course.is_saved(name)}

    def _optimizer_part(self, step: int) -> Flat:
        """Return the state of the optimiser; {} between two stages, for the next has its own."""
        if self.optimizer is None:  # nothing was left to train
            return {} if self.checkpoint is None else self.checkpoint.part("optimizer")
        if any(step == stage.end for stage in self.stages[:-1]):
            return {}
        return optimizer_state(self.processes.unwrap(self.model), self._adam)


def _means(rows: Sequence[Metrics]) -> Metrics:
    """Average each metric over the rows that have it."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: torch.stack([row[key].float() for row in rows if key in row]).mean() for key in keys}
