"""Configuration of alignment training: which losses, which progress, on which videos.

The sections `losses` and `progress` hold the options of the original implementation (LOSS_TYPE,
PROGRESS_LOSS) under names of one style; a loss is on where its coefficient is not 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from tacit.config import Config
from tacit.errors import did_you_mean
from tacit_learning.alignment.frames import EncoderConfig
from tacit_learning.data.view import DataConfig
from tacit_learning.engine.config import TrainConfig
from tacit_learning.layers.backbone import BackboneIdentity, ConvSpec
from tacit_learning.losses.progress import Level, ProgressWeight
from tacit_learning.losses.progress_recipes import Mode
from tacit_learning.losses.tcc import LossType, Similarity

TERMS = ("tcc", "gtcc", "lav", "vava")
COMBINED, ALIGNMENT = "combined", "alignment_loss"
"""Names of the validation losses that the two best checkpoints are chosen by."""


class VideosConfig(Config):
    """Where annotated videos come from: a folder of features, or recorded episodes.

    `folder`: `annotations.json` and its features, or with `pictures` its `frames/<video>.npy` (T, H, W, 3)
    u1, which `encoder.pictures` must take. `episodes`: recordings, whose images go through the frozen encoder
    `frames`; the exported bundle then takes images. `train_splits`: parts that train. `validation_split`: the
    part that chooses checkpoints; where the set lacks it, `validation_ratio` of the training videos are held
    out instead. `tasks`: these alone; empty: all. `fps`: read every video at this rate; `mean_frames`: where
    videos of a folder are longer on average, read every second frame, third frame and so on. A folder may
    also hold text files of MS-TCN; `mstcn_fps` is their rate. `steps`: `time` reads no steps: progress is the
    share of a video that is over, learned from clips that are also rewound (ReWiND, TimeRewarder)."""

    folder: str | None = None
    pictures: bool = False
    episodes: DataConfig | None = None
    frames: EncoderConfig | None = None
    train_splits: tuple[str, ...] = ("train",)
    validation_split: str = "validation"
    validation_ratio: float = Field(0.15, ge=0, lt=1)
    tasks: tuple[str, ...] = ()
    fps: float | None = None
    mean_frames: int | None = Field(None, ge=16)
    mstcn_fps: float = Field(30.0, gt=0)
    steps: Literal["annotated", "time"] = "annotated"

    @model_validator(mode="after")
    def _one_source(self) -> VideosConfig:
        if (self.folder is None) == (self.episodes is None):
            raise ValueError("give exactly one of folder (features) and episodes (recordings)")
        if (self.episodes is None) != (self.frames is None):
            raise ValueError("episodes need frames (their frozen encoder); a folder must not have it")
        if self.pictures and self.folder is None:
            raise ValueError("pictures are read from a folder; episodes have their own frames")
        return self


class WarpConfig(Config):
    """How clips are changed: in time, so that no clock can solve them, and in features; chances are per clip.

    `hold`: the last frame stands, as after a task is done. `sway_s`: so far a pause wanders about its frame,
    as who is pushed about. `noise` (each frame), `shift` (whole clip) are in deviations of the features."""

    offset: float = 0.3
    slowest: float = 0.7
    fastest: float = 1.4
    pause: float = 0.5
    pause_s: float = 8.0
    sway_s: float = 0.0
    hold: float = 0.5
    hold_s: float = 2.0
    rewind: float = 0.5
    rewind_s: float = 10.0
    truncate: float = 0.2
    noise: float = 0.15
    shift: float = 0.1


class PictureConfig(Config):
    """Size of the pictures, the backbone, and the fields (grid x grid) that its output is averaged over;
    `identity` is filled in by the training, so that a checkpoint needs no weight files."""

    height: int
    width: int
    backbone: str = "conv"
    conv: ConvSpec = ConvSpec(channels=(16, 32, 64), strides=(2, 2, 2), norm="group")
    grid: int = 2
    identity: BackboneIdentity | None = None

    @property
    def num_values(self) -> int:
        """Numbers of one frame."""
        return self.height * self.width * 3


class AlignmentEncoderConfig(Config):
    """The net that makes an embedding of the features of a frame and its past, and its sizes.

    `kind`: `causal`; `multi_head` has one head per task, mixed by attention; `none` hands the scaled
    features on as they are, for a run that learns progress alone. Empty `dilations`: no time context.
    `pictures`: the videos are raw pictures, and their backbone trains along.
    """

    kind: Literal["causal", "multi_head", "none"] = "causal"
    dim: int = 128
    width: int = 128
    dilations: tuple[int, ...] = (1, 2, 4)
    dropout: float = 0.0
    head_widths: tuple[int, ...] = (512, 128, 256)
    pictures: PictureConfig | None = None


class HeadConfig(Config):
    """Sizes and inputs of the dense progress head.

    `distance`: the travelled distance of the embedding over its training mean enters too. `class_dim`: width
    of the embedding of a given class, which comes with the time since it was first given; 0: none.
    `condition_rate`: share of training videos whose class is given, so that one head serves with and without.
    `per_class`: one action progress per class, read at the expected class. `features`: the scaled features
    enter beside the embedding. `plain`: width of a plain GRU over the features that learns beside the head,
    and the mean of both counts; 0: none.
    """

    width: int = 64
    hidden: int = 64
    dilations: tuple[int, ...] = (1, 2, 4, 8)
    dropout: float = 0.1
    recurrent: Literal["gru", "none"] = "gru"
    distance: bool = True
    class_dim: int = 16
    condition_rate: float = 0.5
    per_class: bool = False
    features: bool = False
    plain: int = Field(default=0, ge=0)


class MotionConfig(Config):
    """Sizes of the net that tells whether the task goes on."""

    width: int = 64
    dilations: tuple[int, ...] = (1, 2, 4)
    dropout: float = 0.1


class OutcomeConfig(Config):
    """Sizes of the net that tells success and failure; frames over which what is seen is averaged."""

    width: int = 64
    hidden: int = 64
    dropout: float = 0.1
    short_frames: float = Field(default=5.0, gt=0)
    long_frames: float = Field(default=20.0, gt=0)


class TextConfig(Config):
    """A dense head told by text what to follow: `folder` of a frozen text encoder, needed in training alone;
    `width` of what enters the head; `says`: text of a task by its name, else the name itself."""

    folder: str
    width: int = 16
    says: dict[str, str] = {}


class ProtasConfig(Config):
    """Sizes of ProTAS; the published ones are stages 4, layers 10 (a field of 2047 frames), dropout .5."""

    stages: int = 2
    layers: int = 7
    maps: int = 64
    dropout: float = 0.2


class TccConfig(Config):
    """See `losses.tcc`; `variance_floor` None: (1/T)^2."""

    loss_type: LossType = "regression_mse_var"
    similarity: Similarity = "l2"
    temperature: float = 0.1
    variance_lambda: float = 0.001
    scale_by_dim: bool = False
    variance_floor: float | None = None


class GtccConfig(Config):
    """See `losses.gtcc`; `drop`: learn which frames have no counterpart."""

    n_components: int = 5
    gamma: float = 0.95
    delta: float = 0.2
    softmax_temp: float = 0.1
    variance: Literal["paper", "none"] = "paper"
    form: Literal["paper", "code"] = "paper"
    alignment_variance: float = 0.001
    max_frames: int | None = 20
    drop: bool = True


class LavConfig(Config):
    """See `losses.lav`; sigma in frames of the whole video."""

    gamma: float = 0.1
    alpha: float = 0.5
    sigma: float = 10.0
    margin: float = 2.0


class VavaConfig(Config):
    """See `losses.vava`."""

    max_iterations: int = 20
    lambda1: float = 1.0
    lambda2: float = 0.1
    zeta: float = 0.5
    delta: float = 2.0


class AlignmentLossConfig(Config):
    """Coefficients and options of the alignment losses; several may be on at once.

    `loss_type`: name -> coefficient; true is 1, names in any case (the original LOSS_TYPE). A name, or
    a list of names, is as good.
    `frames`: frames drawn per video, evenly strewn; None: all.
    """

    loss_type: dict[str, float] = {"tcc": 1.0}
    frames: int | None = 64
    tcc: TccConfig = TccConfig()
    gtcc: GtccConfig = GtccConfig()
    lav: LavConfig = LavConfig()
    vava: VavaConfig = VavaConfig()

    @field_validator("loss_type", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        value = [value] if isinstance(value, str) else value
        value = dict.fromkeys(value, 1.0) if isinstance(value, list) else value
        if not isinstance(value, Mapping):
            return value
        for name in value:
            if str(name).lower() not in TERMS:
                raise ValueError(f"{name!r}: no such loss; {did_you_mean(str(name).lower(), TERMS)}")
        return {str(name).lower(): float(weight) for name, weight in value.items()}

    def coefficients(self) -> dict[str, float]:
        """Return the losses that are on."""
        return {name: weight for name, weight in self.loss_type.items() if weight}


class RecipeConfig(Config):
    """Sampling of the older recipes v1 to v4; see `alignment.recipes`.

    None: as the version has it. `use_conv`: a dilated convolution before the GRU, which looks back alone.
    `old_head`: file of such a head to start from (`alignment.old_heads`).
    """

    hidden_dim: int = 64
    use_gru: bool = True
    use_conv: bool = False
    min_segment_len: int = 3
    samples_per_video: int | None = None
    frames_per_segment: int | None = None
    stratified_sampling: bool = True
    weighted_loss: bool = True
    boundary_loss: bool = True
    weight_cap: float | None = None
    boundary_weight: float = 5.0
    mode: Mode = "legacy"
    old_head: str | None = None


class DenseConfig(Config):
    """Weights of what the dense head learns on every frame; 0 leaves a term out.

    `segments`: actions as sequences of their own, whose start is told. `done_at`: progress of the
    video that counts as done. `whole`: share of the same terms on videos as they are, beside clips that are
    warped. `per_video`: actions drawn for `segments`. `detach`: no gradient into the encoder.
    """

    action: float = 2.0
    video: float = 1.0
    segments: float = 2.0
    classes: float = 1.0
    remaining: float = 0.1
    done: float = 0.1
    monotonic: float = 1.0
    end: float = 0.2
    done_at: float = 0.97
    whole: float = 0.0
    per_video: int = 3
    detach: bool = False

    @property
    def learned(self) -> frozenset[str]:
        """Outputs of the head that some term trains; the others mean nothing and are not shown."""
        weights = self.model_dump() | {"action": self.action + self.segments}
        return frozenset(
            name for name in ("action", "video", "remaining", "done", "classes") if weights[name]
        )


class ProgressConfig(ProgressWeight):
    """The progress loss: its level, its method and its weight.

    `level`: what progress means: share of the action, of the video by actions, or of the video by mean
    step lengths; at level `action` the dense head learns nothing of the video, and done is said of the
    action. `method`: travelled distance of the embedding, a learnable head, or ProTAS. `frames`: all, or (of
    the distance) one random frame per step as in the original. `normaliser`: of the distance: `train` (the
    mean total of the training videos, as deployed) or `self` (each video's own total: uses the future).
    `recipe`: of the learnable head. `motion_weight`: of telling whether the task goes on, stands still or
    goes back, learned from warped clips beside any method. `outcome_weight`: of telling whether the task
    is done and what goes wrong, learned beside any method from episodes that are labelled so.
    """

    enabled: bool = True
    level: Level = "video"
    method: Literal["cumulative_l2", "learnable", "protas"] = "learnable"
    frames: Literal["all", "one_random"] = "all"
    normaliser: Literal["train", "self"] = "train"
    recipe: Literal["dense", "v1", "v2", "v3", "v4"] = "dense"
    motion_weight: float = Field(default=1.0, ge=0)
    outcome_weight: float = Field(default=0.0, ge=0)
    dense: DenseConfig = DenseConfig()
    learnable: RecipeConfig = RecipeConfig()
    protas: ProtasConfig = ProtasConfig()

    @property
    def terms(self) -> DenseConfig:
        """Weights of the dense head that mean something at this level."""
        if self.level != "action":
            return self.dense
        return self.dense.model_copy(update={"video": 0.0, "remaining": 0.0})

    @model_validator(mode="after")
    def _one_frame(self) -> ProgressConfig:
        if self.frames == "one_random" and self.method != "cumulative_l2":
            raise ValueError(
                "frames: one_random is a loss of the travelled distance alone; set method=cumulative_l2, or "
                "recipe=v1, which learns one random prefix of one action"
            )
        return self


class AlignmentConfig(Config):
    """Everything that defines one run of alignment training; `kind` tells the preset by its name."""

    kind: Literal["alignment", "progress"] = "alignment"
    data: VideosConfig
    encoder: AlignmentEncoderConfig = AlignmentEncoderConfig()
    losses: AlignmentLossConfig = AlignmentLossConfig()
    progress: ProgressConfig = ProgressConfig()
    head: HeadConfig = HeadConfig()
    motion: MotionConfig = MotionConfig()
    outcome: OutcomeConfig = OutcomeConfig()
    text: TextConfig | None = None
    warp: WarpConfig = WarpConfig()
    train: TrainConfig

    @property
    def reads_clips(self) -> bool:
        """Whether anything learns from clips that are warped in time."""
        progress = self.progress
        dense = (progress.method, progress.recipe) == ("learnable", "dense")
        return progress.enabled and (dense or progress.method == "protas" or self._learns_beside)

    @property
    def _learns_beside(self) -> bool:
        return self.progress.motion_weight > 0 or self.progress.outcome_weight > 0

    @property
    def reads_whole_videos(self) -> bool:
        """Whether anything learns from whole videos (alignment, scales, distances, actions on their own, a
        plain net) or clips are all that is drawn."""
        fixed = self.encoder.kind == "none" and not self.head.distance and not self.head.plain
        fixed = fixed and not self.progress.dense.segments
        dense = (self.progress.method, self.progress.recipe) == ("learnable", "dense")
        return not (self.progress.enabled and dense and fixed)

    @model_validator(mode="after")
    def _epochs(self) -> AlignmentConfig:
        if self.progress.lambda_curriculum.enabled and self.train.steps is None:
            raise ValueError("progress.lambda_curriculum needs train.steps: a timed run has no last epoch")
        return self

    @model_validator(mode="after")
    def _encodes(self) -> AlignmentConfig:
        if self.data.pictures != (self.encoder.pictures is not None):
            raise ValueError("data.pictures and encoder.pictures go together: give both or neither")
        if self.encoder.kind == "none" and (self.losses.coefficients() or self.data.pictures):
            raise ValueError(
                "encoder.kind: none leaves nothing that alignment losses or pictures could train; set "
                "losses.loss_type={}, or choose causal"
            )
        return self
