"""The stages of one training run, each with a fresh optimiser; resumable after any step.

What a step reads and draws depends on the seed and the step alone, so a run that was interrupted and
resumed equals one that was not, bit for bit on one device.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from tacit.config import to_yaml
from tacit.errors import ConfigError, TacitError
from tacit_learning.engine.loop import Clock, Result
from tacit_learning.engine.seeding import seed_everything
from tacit_learning.engine.stages import Stage, set_trainable, stage_at
from tacit_learning.engine.tracking import Reporter, Tracker
from tacit_learning.vace_e.assembly import Data, make_model, make_schedule
from tacit_learning.vace_e.club import ClubTrainer
from tacit_learning.vace_e.config import VaceEConfig
from tacit_learning.vace_e.data.batches import Batch, BatchReader
from tacit_learning.vace_e.data.inputs import Inputs
from tacit_learning.vace_e.data.noise import Place
from tacit_learning.vace_e.judge.report import write_page
from tacit_learning.vace_e.judge.validate import Validator
from tacit_learning.vace_e.model.folder import save_model
from tacit_learning.vace_e.model.frozen import TINY
from tacit_learning.vace_e.model.vace_e import group_of, parameter_groups
from tacit_learning.vace_e.objective import Objective, combine
from tacit_learning.vace_e.processes import (
    check_processes,
    choose_wrapped,
    full_weights,
    gathered,
    is_sharded,
    keep_moments_on_cpu,
)
from tacit_learning.vace_e.state import (
    Progress,
    Snapshot,
    flat_optimizer_state,
    restore_optimizer,
    restore_weights,
    save_snapshot,
    save_tensors,
)

Metrics = dict[str, Tensor]
EXPORT, INTERMEDIATE = "model", "intermediate"


@dataclass(frozen=True)
class Materials:
    """What a run reads: data with labels, encoded inputs, and the checkpoint to go on from."""

    data: Data
    training: Inputs
    held_out: Inputs
    resumed: Snapshot | None


class TrainingRun:
    """One run: build it, then `train`."""

    def __init__(
        self, config: VaceEConfig, accelerator: Accelerator, materials: Materials, reporter: Reporter
    ) -> None:
        check_processes(config, accelerator)
        seed_everything(config.seed)
        torch.autograd.set_detect_anomaly(config.debug)
        self.config, self.accelerator = config, accelerator
        self.materials, self.reporter = materials, reporter
        self.place = Place(config.seed, accelerator.process_index, accelerator.num_processes)
        self.folder = Path(config.output_path)
        self.folder.mkdir(parents=True, exist_ok=True)
        windows = materials.data.training
        self.schedule = make_schedule(config, windows, self.place.rank, self.place.world)
        self.model = make_model(config)
        self.club = self._make_club()
        self.batches = BatchReader(config, materials.training, self.schedule, self.place)
        self.progress = self._restore_weights()
        self.objective = Objective(self.model.to(accelerator.device), config)
        self.prepared: torch.nn.Module | None = None
        self.tracker = self._make_tracker()
        self.validator = Validator(config, materials.training, materials.held_out)
        self.clock = Clock(self.progress.seconds)
        self._clips, self._spent_before = 0, self.progress.seconds
        self._window: list[Metrics] = []
        self.metrics: dict[str, float] = dict(self.progress.metrics)
        for line in self.schedule.sampler.lines():
            reporter.message(line)
        if config.validation.enabled and not self.validator.has_held_out:
            reporter.message("validation: no episode is held out; training windows are measured, no probes")

    def train(self) -> Result:
        """Run all stages that are left, or until `max_steps`."""
        self._write_texts()
        step, end = self.progress.step, self.schedule.num_steps
        stop = min(end, self.config.max_steps or end)
        self.reporter.message(
            f"{end} steps in {len(self.schedule.stages)} stages, from step {step} to {stop}"
        )
        index = stage_at(self.schedule.stages, step)
        while step < stop:
            stage = self.schedule.stages[index]
            self._enter(stage, step)
            step = self._run_stage(stage, index, step, stop)
            index += 1
        rate = self._rate()
        self.clock.pause()
        self.batches.close()
        self._validate(step)
        if self.prepared is None:
            self.reporter.message("nothing is left to train; the checkpoint stays as it is")
        else:
            self._save("last", step)
        if self.tracker is not None:
            self._export()
            self.tracker.close()
            write_page(self.folder, self.config.logging.experiment_name)
        self.accelerator.end_training()
        return Result(self.folder, step, self.clock.seconds, rate, self.metrics)

    def _run_stage(self, stage: Stage, index: int, step: int, stop: int) -> int:
        self.clock.go()
        while step < min(stage.end, stop):
            metrics = self._step(stage, step)
            self._window.append(metrics)
            step += 1
            self.progress = replace(self.progress, step=step, stage=index)
            self._visit(stage, step, step in (stage.end, stop))
        return step

    def _enter(self, stage: Stage, step: int) -> None:
        """Choose what trains, with a fresh optimiser, or with the saved one inside a stage."""
        parameters = set_trainable(parameter_groups(self.model), stage.groups, self.model)
        count = sum(parameter.numel() for parameter in parameters)
        self.reporter.message(
            f"stage {stage.name}: {', '.join(stage.groups)} ({count / 1e6:.2f} M parameters), "
            f"{stage.steps} steps at {stage.learning_rate:g}"
        )
        optimizer = torch.optim.AdamW(
            parameters, lr=stage.learning_rate, weight_decay=self.config.weight_decay
        )
        if self.config.vram_optimization.offloads_optimizer:
            keep_moments_on_cpu(optimizer)
        self._prepare(optimizer)
        resumed = self.materials.resumed
        if resumed is not None and stage.first_step < step == resumed.progress.step:
            restore_optimizer(self.objective, self.optimizer.optimizer, resumed.optimizer)
            if self.accelerator.scaler is not None and resumed.progress.scaler:
                self.accelerator.scaler.load_state_dict(dict(resumed.progress.scaler))
        self.objective.train()

    def _prepare(self, optimizer: torch.optim.Optimizer) -> None:
        """Hand model and optimiser to accelerate; a sharded model is prepared once only."""
        sharded = is_sharded(self.accelerator)
        if sharded and self.prepared is not None:
            self.optimizer = self.accelerator.prepare_optimizer(optimizer)
            return
        if not sharded:  # a new shell, for accelerate wraps what it is given
            self.accelerator.free_memory()
            self.objective = Objective(self.model, self.config)
        else:
            choose_wrapped(self.accelerator, self.objective)
        if self.config.compile_model and self.prepared is None:
            for block in (*self.model.transformer.blocks, *self.model.transformer.vace_blocks):
                block.compile()
        self.prepared, self.optimizer = self.accelerator.prepare(self.objective, optimizer)

    def _step(self, stage: Stage, step: int) -> Metrics:
        """Do one optimiser step over `gradient_accumulation_steps` batches."""
        config, accumulate = self.config, self.config.gradient_accumulation_steps
        self._set_rate(stage, step)
        metrics: list[Metrics] = []
        for micro in range(accumulate):
            batch = self.batches.next(stage, step, micro).to(self.accelerator.device)
            with self.accelerator.accumulate(self.prepared):
                with self.accelerator.autocast():
                    predictions = self.prepared(batch.clips, batch.noise, batch.features)  # type: ignore[misc]
                combined = combine(
                    config,
                    predictions,
                    batch,
                    self.club,
                    step,
                    self.schedule.num_steps,
                    feature_scale=accumulate if batch.features is not None else 1,
                )
                if config.save_intermediate_outputs and step == stage.first_step:
                    self._keep_intermediate(stage, batch, predictions.velocity)
                self.accelerator.backward(combined.loss)
                found = combined.metrics
                if self.accelerator.sync_gradients and config.clip_norm > 0:
                    norm = self.accelerator.clip_grad_norm_(self.prepared.parameters(), config.clip_norm)  # type: ignore[union-attr]
                    found = found | {"grad_norm": _whole(norm)}
                self.optimizer.step()
                self.optimizer.zero_grad()
            metrics.append(found)
        self._clips += config.batch_size * accumulate * self.place.world
        return {key: _mean([each[key] for each in metrics if key in each]) for key in metrics[-1]}

    def _keep_intermediate(self, stage: Stage, batch: Batch, velocity: Tensor) -> None:
        """Keep what the first step of a stage read and said."""
        if self.accelerator.is_main_process:
            folder = self.folder / INTERMEDIATE
            folder.mkdir(exist_ok=True)
            named = {
                "latents": batch.clips.latents,
                "control": batch.clips.control,
                "sigma": batch.noise.sigma,
                "velocity": velocity.detach(),
            }
            save_tensors(folder / f"{stage.name}.safetensors", named)

    def _set_rate(self, stage: Stage, step: int) -> None:
        warmup = self.config.warmup_steps
        factor = min(1.0, (step - stage.first_step + 1) / warmup) if warmup else 1.0
        for group in self.optimizer.param_groups:
            group["lr"] = stage.learning_rate * factor

    def _visit(self, stage: Stage, step: int, is_end: bool) -> None:
        """Log, validate and save where the schedule says so; only logging counts as training time."""
        config = self.config
        often = 1 if config.debug or config.verbose_logging else config.logging.log_frequency
        if step % often == 0 or is_end:
            self._log(stage, step)
        epoch = self.schedule.epoch_of(step)
        new_epoch = epoch > self.schedule.epoch_of(step - 1)
        settings = config.validation
        validate = settings.enabled and new_epoch and epoch % settings.frequency == 0
        validate = validate and step < self.schedule.num_steps
        save = config.save_every is not None and step % config.save_every == 0
        if not (validate or save or is_end):
            return
        self.clock.pause()
        if validate:
            self._validate(step)
        if save:
            self._save("last", step)
        if step == stage.end and config.logging.save_model_artifacts:
            self._save(f"stage_{stage.name}", step)
        self.clock.go()

    def _log(self, stage: Stage, step: int) -> None:
        """Bring the numbers of the last steps to the CPU, averaged over steps and processes."""
        keys = sorted({key for metrics in self._window for key in metrics})
        means = [_mean([m[key] for m in self._window if key in m]) for key in keys]
        self._window = []
        together = self.accelerator.reduce(torch.stack(means), reduction="mean")
        values = dict(zip(keys, together.tolist(), strict=True))
        if not torch.isfinite(together).all():
            odd = ", ".join(key for key in keys if not torch.isfinite(torch.tensor(values[key])))
            raise TacitError(
                f"step {step}: {odd} not finite; lower learning_rate, or run with debug=true to find where"
            )
        values |= {"lr": self.optimizer.param_groups[0]["lr"], "samples_per_s": self._rate()}
        values |= self._balances()
        self.progress = replace(self.progress, seconds=self.clock.read())
        if self.tracker is not None:
            self.tracker.log("train", step, step / self.schedule.num_steps, values)
            self.accelerator.log({f"train/{key}": value for key, value in values.items()}, step=step)

    def _rate(self) -> float:
        """Return clips per second of training time, since this process started."""
        spent = self.clock.read() - self._spent_before
        return self._clips / spent if spent > 0 else 0.0

    def _balances(self) -> dict[str, float]:
        """Return w_task of every layer; the weight of the embodiment is 2 - w_task."""
        if self.model.encoders is None or is_sharded(self.accelerator):
            return {}
        fusion = self.model.transformer.fusion
        return {f"w_task_layer_{layer}": float(pair[0]) for layer, pair in fusion.balances().items()}

    def _validate(self, step: int) -> None:
        if not self.config.validation.enabled:
            return
        if is_sharded(self.accelerator) or self.accelerator.is_main_process:
            self.batches.wait()
            with gathered(self.accelerator, self.objective):
                result = self.validator.run(
                    self.model, self.accelerator.device, self.folder, step, self.tracker is not None
                )
            self.metrics = result
            if self.tracker is not None:
                self.tracker.log("val", step, step / self.schedule.num_steps, result)
                self.accelerator.log({f"val/{key}": value for key, value in result.items()}, step=step)
                write_page(self.folder, self.config.logging.experiment_name)
        self.accelerator.wait_for_everyone()

    def _save(self, name: str, step: int) -> None:
        if self.club is not None:
            self.club.check_equal()
        weights = full_weights(self.accelerator, self.objective)
        saved = self._saved_groups()
        kept = {
            name.removeprefix("model."): value
            for name, value in weights.items()
            if group_of(name.removeprefix("model.")) in saved
        }
        inside = step < self.schedule.stages[self.progress.stage].end
        optimizer = flat_optimizer_state(self.objective, self.optimizer.optimizer) if inside else {}
        scaler = self.accelerator.scaler
        progress = replace(
            self.progress,
            step=step,
            seconds=self.clock.seconds,
            scaler={} if scaler is None else scaler.state_dict(),
            base={"base_model": self.config.base_model, "image_encoder": str(self.config.image_encoder)},
            metrics=self.metrics,
        )
        if self.accelerator.is_main_process:
            club = {} if self.club is None else self.club.state()
            texts = self._texts()
            save_snapshot(
                self.folder / "checkpoints" / name, Snapshot(progress, kept, optimizer, club, texts)
            )
        self.accelerator.wait_for_everyone()

    def _export(self) -> None:
        """Write the model in the layout of diffusers and peft, for other programs."""
        if not is_sharded(self.accelerator):
            base = None if self.config.base_model == TINY else self.config.base_model
            save_model(self.model, self.folder / EXPORT, base, self._saved_groups())

    def _saved_groups(self) -> set[str]:
        """Return the groups of parameters that a checkpoint holds: what may differ from the base."""
        groups = set(parameter_groups(self.model))
        if self.config.base_model == TINY:
            return groups
        trained = {group for stage in self.schedule.stages for group in stage.groups}
        return {group for group in groups if group not in ("dit", "vace")} | trained

    def _restore_weights(self) -> Progress:
        resumed = self.materials.resumed
        if resumed is None:
            return Progress(0, 0, 0.0)
        restore_weights(self.model, resumed.weights, "resume_from")
        if self.club is not None:
            if not resumed.club:
                raise ConfigError("resume_from: that run had no CLUB; set enable_club_loss=false")
            self.club.restore(dict(resumed.club))
        return resumed.progress

    def _make_club(self) -> ClubTrainer | None:
        config = self.config
        if not (config.feature_losses and config.enable_club_loss and config.club_lambda):
            return None
        labels = self.materials.data.labels
        width = self.model.config.encoders.feature_dim
        return ClubTrainer(config, width, len(labels.embodiment), self.accelerator.device)

    def _make_tracker(self) -> Tracker | None:
        if not self.accelerator.is_main_process:
            return None
        return Tracker(self.folder, self.reporter, self.config.logging.tensorboard)

    def _texts(self) -> dict[str, str]:
        stages = [asdict(stage) for stage in self.schedule.stages]
        return {
            "config.yaml": to_yaml(self.config),
            "labels.json": json.dumps(self.materials.data.labels.as_json(), indent=1, ensure_ascii=False),
            "stages.json": json.dumps(stages, indent=1),
        }

    def _write_texts(self) -> None:
        if self.accelerator.is_main_process:
            for name, text in self._texts().items():
                (self.folder / name).write_text(text, encoding="utf-8")


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack([value.float() for value in values]).mean()


def _whole(norm: Tensor | float | None) -> Tensor:
    """Return a gradient norm as a plain tensor; FSDP gives a distributed one."""
    if norm is None:
        return torch.zeros(())
    value = torch.as_tensor(norm)
    return value.full_tensor() if hasattr(value, "full_tensor") else value.detach()
