"""Which episodes a model is trained on, and what it sees of them: streams, sizes, depth as grey levels."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from tacit.config import Config
from tacit.errors import EpisodeError, did_you_mean
from tacit.images import ImageTransform
from tacit.images.depth import DepthRange, depth_levels
from tacit.rig import Rig, is_depth

ResizeMode = Literal["squash", "letterbox"]


class DataConfig(Config):
    """Which episodes, which streams of them, in which size.

    `cameras` and `sensors` default to all of the rig, depth cameras apart: they are inputs where `cameras`
    names them and `depth_range_m` gives the nearest and the farthest distance that shall be told apart
    [m]; between them depth becomes 255 grey levels. `cache: ram` decodes every image once.
    `trim_idle` leaves out the frames before the first and after the last change of the action: an
    operator needs a moment to begin, and a policy that learns to wait there may wait for ever.
    """

    datasets: tuple[str, ...]
    train_ratio: float = 0.9
    split_seed: int = 0
    only_success: bool = True
    cameras: tuple[str, ...] | None = None
    sensors: tuple[str, ...] | None = None
    depth_range_m: DepthRange | None = None
    image_height: int = 240
    image_width: int = 320
    touch_height: int = 60
    touch_width: int = 80
    resize: ResizeMode = "squash"
    cache: Literal["ram", "none"] = "none"
    num_workers: int = 0
    action_offset: int = 0
    trim_idle: bool = True


@dataclass(frozen=True)
class View:
    """What a model reads: names and input transforms of cameras and touch sensors.

    `depth_range_m` holds the cameras among them that measure depth.
    """

    cameras: dict[str, ImageTransform]
    sensors: dict[str, ImageTransform]
    depth_range_m: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def depth_indices(self) -> tuple[int, ...]:
        """Which of the cameras measure depth, by their places."""
        return tuple(i for i, name in enumerate(self.cameras) if name in self.depth_range_m)

    def picture(self, name: str, stored: np.ndarray) -> np.ndarray:
        """Return what the model sees of a stored image: RGB (h, w, 3) u1 of the input size."""
        if name in self.depth_range_m:
            stored = depth_levels(stored, *self.depth_range_m[name])
        return (self.cameras.get(name) or self.sensors[name]).image(stored)


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
    depths = [name for name in cameras if is_depth(rig.cameras[name])]
    if depths and config.depth_range_m is None:
        raise EpisodeError(
            f"data.cameras: {depths[0]!r} is a depth camera; give data.depth_range_m, the nearest and the "
            "farthest distance that the policy shall tell apart [m], such as 0.1,1.5"
        )
    sensors = _choose(config.sensors, rig.tactile, "data.sensors")
    image, touch = (config.image_height, config.image_width), (config.touch_height, config.touch_width)
    return View(
        {name: _transform(rig.cameras[name], image, config.resize) for name in cameras},
        {name: _transform(rig.tactile[name], touch, "squash") for name in sensors},
        {name: config.depth_range_m for name in depths if config.depth_range_m},
    )


def _choose(wanted: tuple[str, ...] | None, available: Collection[str], key: str) -> tuple[str, ...]:
    for name in wanted or ():
        if name not in available:
            raise EpisodeError(f"{key}: no stream {name!r}; {did_you_mean(name, available)}")
    return tuple(available) if wanted is None else wanted


def _transform(spec: object, size: tuple[int, int], mode: ResizeMode) -> ImageTransform:
    return ImageTransform(spec.height, spec.width, size[0], size[1], mode)  # type: ignore[attr-defined]
