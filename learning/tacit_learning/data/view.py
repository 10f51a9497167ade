"""Which episodes a model is trained on, and what it sees of them: streams, sizes, depth as grey levels."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from tacit.config import Config
from tacit.episode.schema import SOURCES
from tacit.errors import EpisodeError, did_you_mean
from tacit.images import ImageTransform, decode_image
from tacit.images.depth import DepthRange, decode_depth, depth_levels
from tacit.rig import ArraySpec, Rig, TaxelSpec, is_depth
from tacit.rig.topics import CameraSpec, GelSpec

ResizeMode = Literal["squash", "letterbox"]
NO_TOUCH_SIZE = (32, 32)  # [px], shape of the empty touch input of a policy without sensors


class DataConfig(Config):
    """Which episodes, which streams of them, in which size.

    `cameras` and `sensors` default to all of the rig, depth cameras apart: they are inputs where `cameras`
    names them and `depth_range_m` gives the nearest and the farthest distance that shall be told apart
    [m]; between them depth becomes 255 grey levels. `cache: ram` decodes every image once.
    `touch_reference`: touch is the difference from the mean untouched gel of all episodes (`training`), or
    from that of its own episode (`run`: gels drift and are replaced). `decode: reduced` lets a JPEG be
    decoded at a half, a quarter or an eighth of its sides where no more is
    needed. `dataset_weights` are the shares of what is drawn, one for each data set; `frame_weights` is a
    file of `tacit export signals`: a frame is drawn as often as its weight says. `source_weights` weighs
    frames by who commanded, where an episode says so: `{policy: 0, person: 1}` learns from corrections
    alone; frames of which nobody says it, as those of demonstrations, weigh 1. `other_rigs: by_name`
    takes episodes of other rigs, whose joints and streams are found by name; `names` says `theirs: ours`
    where theirs is another.
    `max_episodes` are learnt from at most: the first of those that the split gives to training; what is held
    out stays. `trim_idle` leaves out the frames before the first and after the last change of the action: an
    operator needs a moment to begin, and a policy that learns to wait there may wait for ever.
    """

    datasets: tuple[str, ...]
    dataset_weights: tuple[float, ...] | None = None
    frame_weights: str | None = None
    source_weights: dict[str, float] | None = None
    other_rigs: Literal["refuse", "by_name"] = "refuse"
    names: dict[str, str] = {}
    train_ratio: float = 0.9
    split_seed: int = 0
    max_episodes: Annotated[int, Field(ge=1)] | None = None
    only_success: bool = True
    cameras: tuple[str, ...] | None = None
    sensors: tuple[str, ...] | None = None
    depth_range_m: DepthRange | None = None
    image_height: int = 240
    image_width: int = 320
    touch_height: int = 60
    touch_width: int = 80
    resize: ResizeMode = "squash"
    touch_reference: Literal["training", "run"] = "training"
    decode: Literal["reduced", "whole"] = "reduced"
    cache: Literal["ram", "none"] = "none"
    num_workers: int = 0
    action_offset: int = 0
    trim_idle: bool = True

    @model_validator(mode="after")
    def _knows_sources(self) -> DataConfig:
        for name, weight in (self.source_weights or {}).items():
            if name not in SOURCES:
                raise ValueError(f"source_weights: {name!r}; {did_you_mean(name, SOURCES)}")
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"source_weights: {name}: {weight}, expected a number of 0 and above")
        return self

    @model_validator(mode="after")
    def _has_weights(self) -> DataConfig:
        weights = self.dataset_weights
        if weights is None:
            return self
        if len(weights) != len(self.datasets):
            raise ValueError(
                f"dataset_weights: {len(weights)} for {len(self.datasets)} data sets; give one each"
            )
        if not all(math.isfinite(w) and w >= 0 for w in weights) or not any(weights):
            raise ValueError(f"dataset_weights {weights}: expected numbers of 0 and above, not all 0")
        return self


@dataclass(frozen=True)
class View:
    """What a model reads: names and input transforms of cameras and gels, and the arrays of taxels.

    `depth_range_m` holds the cameras among them that measure depth; `decode` and `touch_reference` are as
    `DataConfig` says.
    """

    cameras: dict[str, ImageTransform]
    sensors: dict[str, ImageTransform]
    depth_range_m: dict[str, tuple[float, float]] = field(default_factory=dict)
    decode: Literal["reduced", "whole"] = "whole"
    touch_reference: Literal["training", "run"] = "training"
    taxels: dict[str, ArraySpec] = field(default_factory=dict)

    @property
    def touch(self) -> tuple[str, ...]:
        """All touch sensors: those of pictures, then arrays."""
        return (*self.sensors, *self.taxels)

    @property
    def depth_indices(self) -> tuple[int, ...]:
        """Which of the cameras measure depth, by their places."""
        return tuple(i for i, name in enumerate(self.cameras) if name in self.depth_range_m)

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of what is seen (N, H, W, 3) and felt (S, h, w, 3); (0, 32, 32, 3) without touch."""
        first, touch = next(iter(self.cameras.values())), next(iter(self.sensors.values()), None)
        felt = (touch.height, touch.width) if touch else NO_TOUCH_SIZE
        return (len(self.cameras), first.height, first.width, 3), (len(self.sensors), *felt, 3)

    def picture(self, name: str, stored: np.ndarray) -> np.ndarray:
        """Return what the model sees of a stored image: RGB (h, w, 3) u1 of the input size."""
        if name in self.depth_range_m:
            stored = depth_levels(stored, *self.depth_range_m[name])
        return (self.cameras.get(name) or self.sensors[name]).image(stored)

    def decoded(self, name: str, data: np.ndarray) -> np.ndarray:
        """Return what the model sees (h, w, 3) u1 of an image as it is stored, encoded or not.

        Touch is always decoded whole: it is told by small differences from a reference that is no JPEG.

        Raises:
            ImageError: Damaged, or not of the size that the rig says.
        """
        if name in self.depth_range_m:
            return self.picture(name, decode_depth(data))
        if self.decode == "reduced" and name in self.cameras:
            return self.cameras[name].decoded(data)
        return self.picture(name, decode_image(data))


def make_view(rig: Rig, config: DataConfig) -> View:
    """Choose streams and build their transforms.

    Raises:
        EpisodeError: The rig has no such camera or sensor, or a depth camera has no range.
    """
    colours = [name for name, spec in rig.cameras.items() if not is_depth(spec)]
    cameras = colours if config.cameras is None else _choose(config.cameras, rig.cameras, "data.cameras")
    if not cameras:
        raise EpisodeError(
            f"data.cameras: no camera; {did_you_mean('', rig.cameras)} (depth ones must be named)"
        )
    sensors = _choose(config.sensors, rig.tactile, "data.sensors")
    return view_of({n: rig.cameras[n] for n in cameras}, {n: rig.tactile[n] for n in sensors}, config)


def view_of(
    cameras: Mapping[str, CameraSpec], sensors: Mapping[str, GelSpec | TaxelSpec], config: DataConfig
) -> View:
    """Build the transforms of chosen streams.

    Raises:
        EpisodeError: A depth camera has no range.
    """
    depths = [name for name, spec in cameras.items() if is_depth(spec)]
    if depths and config.depth_range_m is None:
        raise EpisodeError(
            f"data.cameras: {depths[0]!r} is a depth camera; give data.depth_range_m, the nearest and the "
            "farthest distance that the policy shall tell apart [m], such as 0.1,1.5"
        )
    gels = {name: spec for name, spec in sensors.items() if isinstance(spec, GelSpec)}
    image, touch = (config.image_height, config.image_width), (config.touch_height, config.touch_width)
    return View(
        {name: _transform(spec, image, config.resize) for name, spec in cameras.items()},
        {name: _transform(spec, touch, "squash") for name, spec in gels.items()},
        {name: config.depth_range_m for name in depths if config.depth_range_m},
        config.decode,
        config.touch_reference,
        taxels={name: spec.array for name, spec in sensors.items() if isinstance(spec, TaxelSpec)},
    )


def _choose(wanted: tuple[str, ...] | None, available: Collection[str], key: str) -> tuple[str, ...]:
    for name in wanted or ():
        if name not in available:
            raise EpisodeError(f"{key}: no stream {name!r}; {did_you_mean(name, available)}")
    return tuple(available) if wanted is None else wanted


def _transform(spec: CameraSpec | GelSpec, size: tuple[int, int], mode: ResizeMode) -> ImageTransform:
    return ImageTransform(spec.height, spec.width, size[0], size[1], mode)
