"""Train VACE-E: read data and labels, fill the caches, then run its stages in the one training loop.

What a step reads and draws depends on the seed and the step alone, so a run that was interrupted and
resumed equals one that was not, bit for bit on one device.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import torch
from torch import Tensor, nn

from tacit.config import to_yaml
from tacit.errors import ConfigError
from tacit_learning.data.labels import LabelMaps, labels_from_json
from tacit_learning.engine.checkpoint import Checkpoint, Flat, load_checkpoint, save_tensors
from tacit_learning.engine.config import TrainConfig
from tacit_learning.engine.job import Course, Job
from tacit_learning.engine.loop import Result, fit
from tacit_learning.engine.processes import Processes, ProcessOptions
from tacit_learning.engine.seeding import seed_everything
from tacit_learning.engine.stages import stage_at
from tacit_learning.engine.tracking import Reporter, SilentReporter
from tacit_learning.vace_e.assembly import (
    Data,
    check_labels_equal,
    describe_labels,
    describe_masks,
    make_data,
    make_inputs,
    make_model,
    make_networks,
    make_schedule,
)
from tacit_learning.vace_e.club import ClubTrainer
from tacit_learning.vace_e.config import VaceEConfig
from tacit_learning.vace_e.data.batches import Batch, BatchReader
from tacit_learning.vace_e.data.inputs import Inputs
from tacit_learning.vace_e.data.noise import Place
from tacit_learning.vace_e.judge.report import write_page
from tacit_learning.vace_e.judge.validate import Validator
from tacit_learning.vace_e.model.folder import save_model
from tacit_learning.vace_e.model.frozen import TINY
from tacit_learning.vace_e.model.transformer import VaceETransformer
from tacit_learning.vace_e.model.vace_e import PREFIX, group_of, parameter_groups
from tacit_learning.vace_e.objective import Objective, find_extra_loss

EXPORT, INTERMEDIATE, PULLS = "model", "intermediate", "pulls"


@dataclass(frozen=True)
class Materials:
    """What a run reads: data with labels, encoded inputs, and the checkpoint to go on from."""

    data: Data
    training: Inputs
    held_out: Inputs
    resumed: Checkpoint | None


def train(config: VaceEConfig, reporter: Reporter) -> Result | None:
    """Train as `config` says, or only fill the caches (`cache_only`).

    Returns:
        How the run ended, on the main process; None when it only filled caches.

    Raises:
        ConfigError: Options that contradict the data, the weights or the checkpoint.
        TacitError: Loss or gradient is not finite.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    for module in config.extra_loss_modules:
        importlib.import_module(module)
    for name in config.extra_losses:
        find_extra_loss(name)
    options = train_options(config)
    processes = Processes(options, process_options(config), reporter)
    told = reporter if processes.is_main else SilentReporter()
    materials = gather_materials(config, processes, told)
    if config.cache_only:
        return None
    run = VaceERun(config, processes, materials, told)
    try:
        result = fit(run.job(), options.model_copy(update={"steps": run.stop}), told, processes)
    finally:
        run.batches.close()
    return result if processes.is_main else None


def gather_materials(config: VaceEConfig, processes: Processes, reporter: Reporter) -> Materials:
    """Read data and labels, and fill the caches; each process encodes its share."""
    resumed = load_checkpoint(config.resume_from, resume=True) if config.resume_from else None
    with processes.main_first():  # the others find what it looked at in the index
        data = make_data(config, _saved_labels(resumed), reporter)
    check_labels_equal(data.labels, processes)
    describe_labels(data, config, reporter)
    frozen = make_networks(config, processes.device)
    training = make_inputs(config, data.training, frozen)
    held_out = make_inputs(config, data.held_out, frozen)
    if config.use_cache:
        for name, inputs in (("training", training), ("held-out", held_out)):
            _fill(name, inputs, processes, reporter)
    describe_masks(data.training, reporter)
    return Materials(data, training, held_out, resumed)


def train_options(config: VaceEConfig) -> TrainConfig:
    """Return the options of the loop; how many steps there are is known with the data."""
    return TrainConfig(
        output=config.output_path,
        seed=config.seed,
        steps=config.max_steps or 1,
        batch_size=config.batch_size,
        accumulate=config.gradient_accumulation_steps,
        weight_decay=config.weight_decay,
        warmup_steps=config.warmup_steps,
        clip_norm=config.clip_norm,
        final_lr=config.final_learning_rate,
        ema_decay=config.ema_decay,
        precision=config.mixed_precision,
        device=config.device,
        threads=config.threads,
        log_every=1 if config.debug or config.verbose_logging else config.logging.log_frequency,
        validate_every=None,
        save_every=config.save_every,
        tensorboard=config.logging.tensorboard,
        resume=config.resume_from,
    )


def process_options(config: VaceEConfig) -> ProcessOptions:
    """Return how processes share the model."""
    memory = config.vram_optimization
    return ProcessOptions(
        shards=config.distributed == "fsdp2",
        blocks=tuple(VaceETransformer._no_split_modules),
        offload_parameters=memory.offloads_models,
        offload_moments=memory.offloads_optimizer,
        compress_gradients=memory.compresses_gradients,
        find_unused=not config.feature_losses,
        wandb=config.logging.wandb,
        project=config.logging.wandb_project,
        name=config.logging.experiment_name,
    )


class VaceERun(Course):
    """What is VACE-E's own in a run: stages, objective, CLUB, batches, validation, the page."""

    keeps_steps = False  # the weights are large
    shares_validation = True
    advice = "lower learning_rate, or run with debug=true to find where"

    def __init__(
        self, config: VaceEConfig, processes: Processes, materials: Materials, reporter: Reporter
    ) -> None:
        _check_rows(config, processes.world)
        seed_everything(config.seed)
        torch.autograd.set_detect_anomaly(config.debug)
        self.config, self.processes, self.materials = config, processes, materials
        self.folder = Path(config.output_path)
        place = Place(config.seed, processes.rank, processes.world)
        self.schedule = make_schedule(config, materials.data.training, place.rank, place.world)
        self.stages = self.schedule.stages
        self.keeps_stages = config.logging.save_model_artifacts
        self.model = make_model(config)
        if config.compile_model:
            for block in (*self.model.transformer.blocks, *self.model.transformer.vace_blocks):
                block.compile()
        self.saved = self._saved_groups()
        self.club = self._make_club()
        self.batches = BatchReader(config, materials.training, self.schedule, place)
        self.validator = Validator(config, materials.training, materials.held_out, processes)
        self._tell(reporter)

    @property
    def stop(self) -> int:
        """The step after which the run ends."""
        return min(self.schedule.num_steps, self.config.max_steps or self.schedule.num_steps)

    def job(self) -> Job[Batch]:
        """Return the run as the training loop takes it."""
        objective = Objective(self.model, self.config, self.club, self.schedule.num_steps)
        if self.processes.is_main:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name, text in self._texts().items():
                (self.folder / name).write_text(text, encoding="utf-8")
            objective.watch = self._keep_intermediate if self.config.save_intermediate_outputs else None
        return Job(
            objective, self._batches, self._validate, self._texts(), best={"best": "flow"}, course=self
        )

    def group_of(self, name: str) -> str:
        """Return the group of a parameter of the objective."""
        return group_of(name.removeprefix(PREFIX))

    def clip_group(self, name: str) -> str:
        """Encoders, which the feature losses pull at, apart from what the flow alone moves."""
        group = self.group_of(name)
        return "encoders" if group == "vace_e" and ".fusion." not in name else group

    def decay_share(self, step: int, share: float) -> float:
        """The decay follows the planned steps, so that a run that stops early can go on."""
        return step / self.schedule.num_steps

    def is_saved(self, name: str) -> bool:
        """Whether a weight may differ from the base weights, which stay where they came from."""
        return self.group_of(name) in self.saved

    def validates_after(self, step: int, every: int | None) -> bool:
        """Validate where every so many epochs end."""
        epoch, settings = self.schedule.epoch_of(step), self.config.validation
        ends = epoch > self.schedule.epoch_of(step - 1)
        return settings.enabled and ends and epoch % settings.frequency == 0

    def validated(self) -> None:
        """Write the page of the run."""
        write_page(self.folder, self.config.logging.experiment_name)

    def gauges(self) -> Mapping[str, float]:
        """Return w_task of every layer; the weight of the embodiment is 2 - w_task."""
        if self.model.encoders is None:
            return {}
        balances = self.model.transformer.fusion.balances()
        return {f"w_task_layer_{layer}": float(pair[0]) for layer, pair in balances.items()}

    def state(self) -> Flat:
        """Return how hard the losses pull, and CLUB after making sure that it is one on all processes."""
        state: Flat = {}
        if self.model.encoders is not None:
            state[PULLS] = self.model.encoders.balance.settle().clone()
        if self.club is not None:
            self.club.check_equal()
            state |= self.club.state()
        return state

    def restore(self, state: Flat) -> None:
        """Put both back."""
        if self.model.encoders is not None and PULLS in state:
            self.model.encoders.balance.norms = state[PULLS].clone()
        if self.club is None:
            return
        if not set(state) - {PULLS}:
            raise ConfigError("resume_from: that run had no CLUB; set enable_club_loss=false")
        self.club.restore({name: value for name, value in state.items() if name != PULLS})

    def finished(self, weights: Mapping[str, Tensor]) -> None:
        """Write the model in the layout of diffusers and peft, for other programs, and the page."""
        base = None if self.config.base_model == TINY else self.config.base_model
        whole = {name.removeprefix(PREFIX): value for name, value in weights.items()}
        save_model(self.model, self.folder / EXPORT, base, self.saved, whole)
        self.validated()

    def _batches(self, first: int, rank: int, world: int) -> Iterator[Batch]:
        for number in count(first):
            step, micro = divmod(number, self.config.gradient_accumulation_steps)
            yield self.batches.next(self.stages[stage_at(self.stages, step)], step, micro)

    def _validate(self, objective: nn.Module, device: torch.device, step: int) -> dict[str, float]:
        if not self.config.validation.enabled:
            return {}
        self.batches.wait()
        assert isinstance(objective, Objective)
        return self.validator.run(objective.model, device, self.folder, step, self.processes.is_main)

    def _keep_intermediate(self, batch: Batch, velocity: Tensor, step: int) -> None:
        """Keep what the first step of a stage read and said."""
        stage = self.stages[stage_at(self.stages, step)]
        if step != stage.first_step:
            return
        (self.folder / INTERMEDIATE).mkdir(exist_ok=True)
        named = {
            "latents": batch.clips.latents,
            "control": batch.clips.control,
            "sigma": batch.noise.sigma,
            "velocity": velocity,
        }
        save_tensors(self.folder / INTERMEDIATE / f"{stage.name}.safetensors", named)

    def _saved_groups(self) -> set[str]:
        """Return the groups of parameters that a checkpoint holds."""
        groups = set(parameter_groups(self.model))
        if self.config.base_model == TINY:
            return groups
        trained = {group for stage in self.stages for group in stage.groups}
        return {group for group in groups if group not in ("dit", "vace")} | trained

    def _make_club(self) -> ClubTrainer | None:
        config = self.config
        if not (config.feature_losses and config.enable_club_loss and config.club_lambda):
            return None
        return ClubTrainer(config, self.model.config.encoders.feature_dim, self.processes.device)

    def _texts(self) -> dict[str, str]:
        labels = self.materials.data.labels.as_json()
        return {
            "config.yaml": to_yaml(self.config),
            "labels.json": json.dumps(labels, indent=1, ensure_ascii=False),
            "stages.json": json.dumps([asdict(stage) for stage in self.stages], indent=1),
        }

    def _tell(self, reporter: Reporter) -> None:
        """Say how the data are batched and how long the run is."""
        for line in self.schedule.sampler.lines():
            reporter.message(line)
        if self.config.validation.enabled and not self.validator.has_held_out:
            reporter.message("validation: no episode is held out; training windows are measured, no probes")
        resumed = self.materials.resumed
        first = 0 if resumed is None else resumed.position.step
        reporter.message(
            f"{self.schedule.num_steps} steps in {len(self.stages)} stages, from step {first} to {self.stop}"
        )


def _check_rows(config: VaceEConfig, world: int) -> None:
    """Refuse feature losses that would compare one row with itself."""
    rows = config.feature_batch or config.batch_size * world
    wants = config.enable_club_loss or config.xcov_lambda or config.enable_contrastive_loss
    if config.feature_losses and wants and rows < 2:
        raise ConfigError(
            "feature_batch: 0 takes the video batch, which has one clip; the feature losses compare rows: "
            "set feature_batch, batch_size 2, or switch enable_contrastive_loss and enable_club_loss off"
        )


def _fill(name: str, inputs: Inputs, processes: Processes, reporter: Reporter) -> None:
    started = time.monotonic()
    inputs.fill(range(processes.rank, len(inputs.dataset.windows), processes.world))
    processes.wait()
    if inputs.cache is not None:
        reporter.message(
            f"cache: {len(inputs.dataset.windows)} {name} windows in {time.monotonic() - started:.1f} s, "
            f"{inputs.cache.size_bytes() / 1e6:.1f} MB in {inputs.cache.folder}"
        )


def _saved_labels(resumed: Checkpoint | None) -> LabelMaps | None:
    if resumed is None:
        return None
    return labels_from_json(json.loads(resumed.texts["labels.json"]), "labels.json of the checkpoint")
