"""Options of VACE-E: one flat list, and blocks for stages, logging, validation and memory.

Every key is also a flag of the command line (`--learning_rate 1e-4`, bare `--debug`), see
`tacit_learning.options`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from tacit.config import Config
from tacit.errors import did_you_mean
from tacit_learning.engine.stages import SPLIT, StageConfig

Metric = Literal["video_quality", "task_alignment", "motion_accuracy", "control"]
EXAMPLE_COMPRESSION = 0.5  # of a 32-bit gradient: bf16
GROUPS = ("vace_e", "vace", "dit", "lora:dit", "lora:vace")


def _whole_latents(frames: int) -> int:
    low = frames - (frames - 1) % 4
    if frames != low:
        raise ValueError(f"{frames} is not 4 k + 1; the nearest are {low} and {low + 4}")
    return frames


class VaceEStage(StageConfig):
    """One stage: its `epochs` are passes over the data (`dataset_repeat` times).

    `num_frames`: shorter windows than those of the run, for a curriculum over lengths.
    """

    num_frames: int | None = Field(default=None, ge=5)
    trainable_models: Annotated[tuple[str, ...], SPLIT] = ("vace_e",)

    @field_validator("trainable_models")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in GROUPS:
                raise ValueError(f"{name!r} is no group of parameters; {did_you_mean(name, GROUPS)}")
        return names

    @field_validator("num_frames")
    @classmethod
    def _frames(cls, value: int | None) -> int | None:
        return value and _whole_latents(value)


class MemoryConfig(Config):
    """Memory for speed. `enabled: true` switches on what is left out, `false` switches all off.

    `cpu_offload`: parameters wait on the CPU between uses: all of them under FSDP2, else those of blocks that
    never train; frozen encoders are let go once the caches are full, in any case. `frozen_weights`: blocks
    that never train keep their matrices in 8 bits (`fp8`, `int8`), a scale for each row.
    `offload_optimizer`: the moments of AdamW wait on the CPU. `gradient_compression`: share of the bytes of a
    float32 gradient that processes exchange; 0.5 is the bf16 hook of DDP.
    """

    enabled: bool | None = None
    offload_optimizer: bool | None = None
    cpu_offload: bool | None = None
    gradient_compression: float | bool | None = None
    frozen_weights: Literal["as_is", "fp8", "int8"] = "as_is"

    @model_validator(mode="before")
    @classmethod
    def _flag(cls, value: object) -> object:
        return {"enabled": value} if isinstance(value, bool) else value

    @field_validator("gradient_compression")
    @classmethod
    def _ratio(cls, value: float | bool | None) -> float | bool | None:
        if value in (None, False, True, EXAMPLE_COMPRESSION):
            return value
        raise ValueError(f"{value}: only {EXAMPLE_COMPRESSION} (bf16 between processes), true or false")

    @property
    def offloads_optimizer(self) -> bool:
        """Whether the moments of AdamW wait on the CPU."""
        return self._on(self.offload_optimizer)

    @property
    def offloads_models(self) -> bool:
        """Whether parameters wait on the CPU."""
        return self._on(self.cpu_offload)

    @property
    def frozen_bits(self) -> Literal["as_is", "fp8", "int8"]:
        """How blocks that never train keep their matrices."""
        return "as_is" if self.enabled is False else self.frozen_weights

    @property
    def compresses_gradients(self) -> bool:
        """Whether processes exchange gradients in bf16."""
        return self._on(self.gradient_compression)

    def _on(self, value: float | bool | None) -> bool:
        if self.enabled is False:
            return False
        return bool(self.enabled) if value is None else bool(value)


class LoggingConfig(Config):
    """Where numbers go; wandb only when asked, and offline unless told otherwise.

    `save_model_artifacts`: keep a checkpoint at the end of every stage, beside the last one.
    """

    wandb_project: str = "vace_e_training"
    experiment_name: str = "my_experiment"
    log_frequency: int = Field(default=100, ge=1)
    save_model_artifacts: bool = True
    tensorboard: bool = True
    wandb: Literal["disabled", "offline", "online"] = "disabled"


class ValidationConfig(Config):
    """What is measured every `frequency` epochs, on `num_samples` held-out windows.

    `control`, among the metrics, draws every window four times, with the motion of another one or none;
    `tacit evaluate vace_e` always does. `data`: a folder of its own; without one `held_out` (a share of the
    episodes) is kept from training. `sigmas`: bins of the fixed grid of noise levels. `num_videos`: how
    many are drawn. `weights`: a folder with `lpips_vgg.safetensors`; without it LPIPS is unavailable.
    """

    enabled: bool = True
    frequency: int = Field(default=5, ge=1)
    num_samples: int = Field(default=10, ge=1)
    save_videos: bool = True
    metrics: Annotated[tuple[Metric, ...], SPLIT] = ("video_quality", "task_alignment", "motion_accuracy")
    data: str | None = None
    held_out: float = Field(default=0.1, ge=0, lt=1)
    sigmas: int = Field(default=5, ge=1)
    num_videos: int = Field(default=2, ge=0)
    weights: str | None = None


class DataOptions(Config):
    """What is read: folders, windows, limits, masks and labels.

    `masks`: `loose` hides more than the data set's masks do, each time something else, so that the shape
    of a mask does not give the place of the hand away; `open` hides everything, `tight` what the data set
    says. `mask_versions`: drawn masks of a window that are kept encoded beside the fixed one.

    `fps`: rate of the model's frames (16 for Wan), at which every video is sampled by its own stamps; null:
    frames as they are. `window`: `first`, `uniform`, `random` (`random_windows` of them, another in every
    epoch), `chunked` or `sliding` (every `window_stride` frames). `other_sizes`: further (height, width) of
    windows; a video takes the size nearest to its own shape.
    """

    dataset_base_path: str
    task_metadata_path: str | None = None
    robot_data_path: str | None = None
    cache_path: str | None = None
    dataset_repeat: int = Field(default=1, ge=1)
    height: int = Field(default=480, ge=16, multiple_of=16)
    width: int = Field(default=832, ge=16, multiple_of=16)
    num_frames: int = Field(default=81, ge=5)
    other_sizes: tuple[tuple[int, int], ...] = ()
    fps: float | None = Field(default=16.0, gt=0)
    window: Literal["first", "uniform", "random", "chunked", "sliding"] = "first"
    window_stride: int | None = Field(default=None, ge=1)
    random_windows: int = Field(default=1, ge=1)
    max_hand_motion_length: int = Field(default=512, ge=1)
    max_object_trajectory_length: int = Field(default=512, ge=1)
    max_objects: int = Field(default=10, ge=1)
    fallback_to_video_only: bool = True
    control_from_mask: bool = False
    masks: Literal["tight", "loose", "open"] = "loose"
    mask_versions: int = Field(default=4, ge=0)
    gripper_open_values: tuple[int, ...] | None = None
    strict: bool = False
    task_label_by: Literal["prompt", "task_type"] = "prompt"
    embodiment_label: Literal["coarse", "fine"] = "coarse"

    @field_validator("num_frames")
    @classmethod
    def _frames(cls, value: int) -> int:
        return _whole_latents(value)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Frames of the windows; the usual ones first."""
        return (self.num_frames,)


class ModelOptions(Config):
    """What trains: base weights, the injection, low-rank adapters.

    `base_model`, `image_encoder`: a local folder or a hub id; `tiny` builds a random small model, for
    tests and to try the chain without weights. `model_size`: a preset, by default that of the base.
    `codec`: with `tiny`, a file of a fitted linear codec in place of a random autoencoder.
    `vace_e_layers`: blocks after which the streams enter; empty: those of the preset (0,5,10,15,20,25).
    `vace_e_checkpoint`: a run, or a folder of saved adapters, to start from.
    """

    base_model: str = "Wan-AI/Wan2.1-VACE-1.3B-diffusers"
    image_encoder: str | None = "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers"
    codec: str | None = None
    enable_vace_e: bool = True
    vace_e_task_processing: bool = True
    model_size: str | None = None
    vace_e_layers: Annotated[tuple[int, ...], SPLIT] = ()
    vace_e_injection: Literal["adapter", "context"] = "adapter"
    vace_e_checkpoint: str | None = None
    modality_dropout: float = Field(default=0.1, ge=0, lt=1)
    lora_base_model: Annotated[tuple[Literal["dit", "vace"], ...], SPLIT] = ()
    lora_rank: int = Field(default=32, ge=1)
    lora_target_modules: Annotated[tuple[str, ...], SPLIT] = ("q", "k", "v", "o", "ffn.0", "ffn.2")

    @field_validator("vace_e_layers")
    @classmethod
    def _sorted(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if (
            any(later <= earlier for earlier, later in zip(value, value[1:], strict=False))
            or min(value, default=0) < 0
        ):
            raise ValueError(f"{list(value)}: expected block numbers from 0 on, sorted, none twice")
        return value


class ObjectiveOptions(Config):
    """Weights and shapes of the losses; `extra_losses` maps registered names to weights.

    `feature_batch`: inputs of the feature losses per step over all processes; 0 takes the video batch.
    `club_warmup`: share of the run over which the weight of CLUB grows to `club_lambda`. `feature_share`:
    the feature losses pull at the tokens of the streams at most so often as hard as the flow; null: as
    hard as they do.
    """

    enable_contrastive_loss: bool = True
    contrastive_temperature: float = Field(default=0.07, gt=0)
    task_contrastive_lambda: float = Field(default=1.0, ge=0)
    embodiment_contrastive_lambda: float = Field(default=1.0, ge=0)
    enable_club_loss: bool = True
    club_lambda: float = Field(default=1.0, ge=0)
    club_lr: float = Field(default=1e-3, gt=0)
    club_training_steps: int = Field(default=5, ge=1)
    club_update_freq: int = Field(default=1, ge=1)
    club_warmup: float = Field(default=0.1, ge=0, le=1)
    xcov_lambda: float = Field(default=0.0, ge=0)
    extra_losses: dict[str, float] = {}
    extra_loss_modules: tuple[str, ...] = ()
    feature_batch: int = Field(default=256, ge=0)
    feature_views: int = Field(default=2, ge=1)
    feature_share: float | None = Field(default=0.5, gt=0)
    flow_shift: float | None = Field(default=None, gt=0)
    flow_weighting: Literal["none", "bell", "logit_normal"] = "none"
    mask_weight: float = Field(default=1.0, gt=0)
    ref_loss: bool = False


class EngineOptions(Config):
    """How training runs: precision, memory, processes, seeds, saving.

    `learning_rate` and `num_epochs` are those of stages that name none; on the command line they hold in all.

    `clip_norm`: of the gradient of encoders, fusion and each part of the base, apart. `final_learning_rate`:
    share of the learning rate that a cosine leaves at the end of the run. `ema_decay`: share of the old
    average of the weights per step; 0 keeps none.
    """

    output_path: str
    training_stages: dict[str, VaceEStage] = {"vace_e": VaceEStage()}
    learning_rate: float = Field(default=1e-4, gt=0)
    batch_size: int = Field(default=1, ge=1)
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    num_epochs: int = Field(default=1, ge=1)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup_steps: int = Field(default=0, ge=0)
    clip_norm: float = Field(default=1.0, ge=0)
    final_learning_rate: float = Field(default=0.1, ge=0, le=1)
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    mixed_precision: Literal["no", "bf16", "fp16"] = "bf16"
    distributed: Literal["ddp", "fsdp2"] = "ddp"
    use_gradient_checkpointing: bool = True
    use_gradient_checkpointing_offload: bool = False
    compile_model: bool = False
    vram_optimization: MemoryConfig = MemoryConfig()
    logging: LoggingConfig = LoggingConfig()
    validation: ValidationConfig = ValidationConfig()
    debug: bool = False
    verbose_logging: bool = False
    save_intermediate_outputs: bool = False
    save_every: int | None = Field(default=None, ge=1)
    max_steps: int | None = Field(default=None, ge=1)
    threads: int | None = None
    seed: int = 0
    device: Literal["auto", "cpu"] = "auto"
    resume_from: str | None = None
    cache_only: bool = False
    use_cache: bool = True
    sample_steps: int = Field(default=30, ge=1)
    guidance_scale: float = 5.0
    sampler: Literal["euler", "unipc"] = "unipc"

    @field_validator("training_stages")
    @classmethod
    def _some(cls, value: dict[str, VaceEStage]) -> dict[str, VaceEStage]:
        if not value:
            raise ValueError("no stage; leave the key out for one stage that trains vace_e")
        return value

    @field_validator("mixed_precision", mode="before")
    @classmethod
    def _off(cls, value: object) -> object:
        return "no" if value is False or value == "fp32" else value


class VaceEConfig(EngineOptions, ObjectiveOptions, ModelOptions, DataOptions):
    """Everything that defines one training run of VACE-E."""

    kind: Literal["vace_e"] = "vace_e"

    @model_validator(mode="before")
    @classmethod
    def _other_names(cls, value: Any) -> Any:
        """Accept `base_path`, and `cpu_offload` outside its block."""
        data = dict(value)
        if "base_path" in data:
            data.setdefault("dataset_base_path", data.pop("base_path"))
        if "cpu_offload" in data:
            block = data.get("vram_optimization") or {}
            block = {"enabled": block} if isinstance(block, bool) else dict(block)
            data["vram_optimization"] = {"cpu_offload": data.pop("cpu_offload")} | block
        return data

    @model_validator(mode="after")
    def _agree(self) -> VaceEConfig:
        if self.ema_decay and self.distributed == "fsdp2":
            raise ValueError(
                "ema_decay: the average is kept whole, which fsdp2 is there to avoid; set it to 0"
            )
        memory, sharded = self.vram_optimization, self.distributed == "fsdp2"
        narrow = memory.frozen_bits != "as_is"
        if narrow and (sharded or self.compile_model):
            raise ValueError(
                "vram_optimization.frozen_weights: weights in 8 bits are neither sharded nor compiled; leave "
                "distributed=fsdp2 and compile_model out"
            )
        if self.ema_decay and (narrow or memory.offloads_models):
            raise ValueError(
                "ema_decay: the average is kept whole, and no frozen weight may wait; set it to 0, or leave "
                "vram_optimization.frozen_weights and cpu_offload out"
            )
        for name, stage in self.training_stages.items():
            lora = [group.removeprefix("lora:") for group in stage.trainable_models if ":" in group]
            missing = set(lora) - set(self.lora_base_model)
            if missing:
                raise ValueError(
                    f"training_stages.{name} trains lora:{missing.pop()}, but lora_base_model is "
                    f"{','.join(self.lora_base_model) or 'empty'}; name the part that gets adapters"
                )
            if stage.num_frames and stage.num_frames > self.num_frames:
                raise ValueError(
                    f"training_stages.{name}.num_frames: {stage.num_frames}, longer than the "
                    f"{self.num_frames} of the run (num_frames)"
                )
            if "vace_e" in stage.trainable_models and not self.enable_vace_e:
                raise ValueError(f"training_stages.{name} trains vace_e, but enable_vace_e is false")
        return self

    @property
    def lengths(self) -> tuple[int, ...]:
        """Frames of the windows of all stages; the usual ones first."""
        asked = {stage.num_frames or self.num_frames for stage in self.training_stages.values()}
        return (self.num_frames, *sorted(asked - {self.num_frames}))

    @property
    def frozen_parts(self) -> tuple[Literal["dit", "vace"], ...]:
        """Parts of the base whose own weights no stage trains."""
        trained = {group for stage in self.training_stages.values() for group in stage.trainable_models}
        parts: tuple[Literal["dit", "vace"], ...] = ("dit", "vace")
        return tuple(part for part in parts if part not in trained)

    @property
    def shift(self) -> float:
        """Shift of the noise levels: as given, else 3 up to 480p and 5 above (Wan 2.1)."""
        return self.flow_shift or (3.0 if self.height * self.width <= 480 * 832 else 5.0)

    @property
    def feature_losses(self) -> bool:
        """Whether any loss reads the task and embodiment features."""
        contrastive = self.enable_contrastive_loss and (
            self.task_contrastive_lambda > 0 or self.embodiment_contrastive_lambda > 0
        )
        club = self.enable_club_loss and self.club_lambda > 0
        return self.enable_vace_e and (contrastive or club or self.xcov_lambda > 0 or bool(self.extra_losses))
