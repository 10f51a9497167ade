"""Configuration of ACT-HSA. Keys and their relation to the flags of the original notes: README."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tacit.config import Config
from tacit_learning.data.augment import AugmentConfig
from tacit_learning.data.view import DataConfig
from tacit_learning.engine.config import TrainConfig
from tacit_learning.layers.backbone import ConvSpec
from tacit_learning.layers.tuning import PATTERN


class ModelConfig(Config):
    """Structure of the policy network; the defaults are ACT's.

    `backbone`: conv | file | folder | hub id | random:<name>; `train_backbone`: full | frozen | last:<n>
    blocks | lora. `touch_backbone`: as `backbone`, or `shared` (one network for cameras and touch).
    `feature_cache: ram` keeps what a frozen backbone makes of each camera frame: it sees every frame once.
    `latent_dim: 0` leaves out the CVAE. `positions`: added to queries and keys of every layer alone
    (`attention`, ACT's way), or to the tokens and the decoder's queries
    too (`tokens`), so that values say where they come from and each step of the chunk has a voice of
    its own: small networks learn far faster.
    """

    backbone: str = "microsoft/resnet-18"
    train_backbone: Annotated[str, Field(pattern=rf"^({PATTERN})$")] = "full"
    feature_cache: Literal["ram", "none"] = "none"
    conv: ConvSpec = ConvSpec()
    touch_backbone: str = "conv"
    touch_conv: ConvSpec = ConvSpec(channels=(16, 32, 32), strides=(2, 2, 2))
    freeze_batch_norm: bool = True
    dim: int = 512
    heads: int = 8
    feedforward: int = 3200
    num_encoder_layers: int = 4
    num_decoder_layers: int = 1
    num_latent_layers: int = 4
    latent_dim: int = 32
    chunk_size: int = 45
    dropout: float = 0.1
    norm: Literal["pre", "post"] = "post"
    camera_embedding: bool = False
    positions: Literal["attention", "tokens"] = "attention"


class LossConfig(Config):
    """Weights of the ACT terms.

    Steps of a chunk that come in the `last_ticks` before a gripper begins to open or close, the last
    centimetres of a grasp or a placing, count `last_weight` times.
    """

    kl_weight: float = 10.0
    l1_over: Literal["valid", "all"] = "valid"
    last_weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    last_ticks: Annotated[int, Field(ge=1)] = 12


class FutureConfig(Config):
    """Prediction of the touch some ticks later, from the trunk and the chunk; weight 0 switches it off.

    `ticks`: how much later; the length of the chunk where None, and at most that.
    """

    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    ticks: Annotated[int, Field(ge=1)] | None = None


class HsaConfig(Config):
    """Alignment of touch with the image region of the sensor; weight 0 switches it off.

    `balance: gradient`: weight 1 pulls as hard as L1 at the tokens that both read; `none`: the raw weight.
    `negatives`: other samples (`batch`), of which some come from the same episode on purpose (`time`:
    `time_frames` of one are drawn together), tokens of the same image outside the box dilated by one token
    (`tokens`; `hard_share` of them are those most like the touch, not drawn at random), the boxes that the
    wrist cameras of other arms see at the same time (`camera`), the last `queue_size` rows of steps before
    (`queue`). Two frames of one episode within `time_gap` ticks, or of one sensor without contact, are never
    negatives of each other.
    `learn_temperature`: `temperature` is where it starts. `third_person`: to a camera in the world a gel that
    touches is covered by what it touches (`seen`: such rows are no rows; `any`: they are).
    `control` spoils what is aligned, to see whether it matters: boxes half a picture away (`displaced`), or
    the touch of another sample (`shuffled`); what the policy reads stays as it is.
    """

    weight: float = 0.0
    balance: Literal["gradient", "none"] = "gradient"
    tp_weight: float = 0.5
    third_person: Literal["seen", "any"] = "seen"
    temperature: Annotated[float, Field(gt=0)] = 0.07
    learn_temperature: bool = False
    feature_dim: int = 256
    negatives: tuple[Literal["batch", "tokens", "time", "camera", "queue"], ...] = ("batch", "tokens")
    num_tokens: Annotated[int, Field(gt=0)] = 64
    hard_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    time_gap: int = 20
    time_frames: Annotated[int, Field(ge=2)] = 4
    queue_size: Annotated[int, Field(ge=1, le=1_000_000)] = 1024
    dilate: float = 0.1
    contact_threshold: float = 1.0
    warmup_steps: int = 0
    cameras: tuple[str, ...] | None = None
    control: Literal["none", "displaced", "shuffled"] = "none"

    @model_validator(mode="before")
    @classmethod
    def _without_layers(cls, values: object) -> object:
        """Read configurations from when tokens could also be taken behind a layer of the encoder."""
        if not isinstance(values, dict):
            return values
        if values.get("source", "backbone") != "backbone":
            raise ValueError(
                f"hsa.source: {values['source']!r} is gone: behind one layer of attention each token knows "
                "its sample, and the loss falls as far with the touch of another sample (.48 of chance with "
                "both); leave out hsa.source and hsa.layer"
            )
        return {key: value for key, value in values.items() if key not in ("source", "layer")}

    @model_validator(mode="after")
    def _has_negatives(self) -> HsaConfig:
        if self.weight > 0 and not self.negatives:
            raise ValueError("hsa.negatives is empty: the loss would be 0; name batch, tokens or both")
        if self.negatives and not {"batch", "tokens"} & set(self.negatives):
            raise ValueError(
                f"hsa.negatives {list(self.negatives)}: name batch or tokens too: validation has no other"
            )
        if "time" in self.negatives and "batch" not in self.negatives:
            raise ValueError("hsa.negatives: time chooses which samples a batch holds; name batch too")
        return self


class ActHsaConfig(Config):
    """Everything that defines one training run of ACT-HSA."""

    kind: Literal["act_hsa"] = "act_hsa"
    data: DataConfig
    augment: AugmentConfig = AugmentConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    hsa: HsaConfig = HsaConfig()
    future: FutureConfig = FutureConfig()
    train: TrainConfig

    @model_validator(mode="after")
    def _keeps_what_stays(self) -> ActHsaConfig:
        model, augment = self.model, self.augment
        if model.feature_cache == "none":
            return self
        if model.backbone == "conv" or model.train_backbone != "frozen":
            raise ValueError(
                f"model.feature_cache: ram with backbone {model.backbone}, train_backbone "
                f"{model.train_backbone}: only what a frozen backbone of a hub, folder or file makes stays"
            )
        if augment.shift or augment.brightness or augment.contrast:
            raise ValueError(
                "model.feature_cache: ram: images are augmented; set augment.shift, brightness, contrast to 0"
            )
        return self

    @property
    def frames_together(self) -> int:
        """How many frames of one episode are drawn together into a batch."""
        wanted = self.hsa.weight > 0 and "time" in self.hsa.negatives
        return min(self.hsa.time_frames, self.train.batch_size) if wanted else 1

    @property
    def future_ticks(self) -> int:
        """How much later the touch is that is predicted; 0: none is."""
        longest = self.model.chunk_size
        return min(self.future.ticks or longest, longest) if self.future.weight > 0 else 0
