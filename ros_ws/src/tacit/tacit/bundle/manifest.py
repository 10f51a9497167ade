"""What a policy bundle says about itself: the manifest and the golden sample's inputs.

JSON under one key of the ONNX metadata; `bundle` reads and writes it, `binding` holds it against a rig.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

import tacit
from tacit.bundle.player import PlaySpec
from tacit.config import Config
from tacit.images import MAX_SIDE, ResizeMode
from tacit.images.depth import DepthRange
from tacit.rig import Name, Positive, Rate, canonical_hash

MANIFEST_KEY = "tacit.manifest"
"""Key of the manifest in the ONNX metadata. It is part of the file format: no move of the code changes it."""
SCHEMA_VERSION = "tacit-bundle 1"
FLOAT32_TOLERANCE = 1e-5
"""Largest golden difference between CPUs for a float32 graph, relative to outputs of order 1."""

Count = Annotated[int, Field(ge=0)]


MAX_MANIFEST_BYTES = 1 << 20
"""A manifest with the calibration of two arms has 20 KB."""
MAX_CHUNK, MAX_NAMES, MAX_IMAGES, MAX_HIDDEN = 4_096, 256, 32, 1 << 20
"""Actions of a chunk, elements of the state, picture inputs, numbers in the memory of a progress model."""
MAX_TAXELS = 256
"""Rows, columns or channels of an array."""
MAX_INPUT_PIXELS = 1 << 23
"""All picture inputs together; the golden sample draws them all at once. Twenty-six VGA cameras."""
Names = Annotated[tuple[Name, ...], Field(max_length=MAX_NAMES)]
Row = Annotated[tuple[float, ...], Field(max_length=MAX_HIDDEN)]
Side = Annotated[int, Field(gt=0, le=MAX_SIDE)]


class ImageInput(Config):
    """One image input: the size the graph takes, and the stored size it is made from [px].

    `depth_range_m` is that of a depth camera: the distances (near, far) between which its millimetres
    become grey levels, see `tacit.images.depth.depth_levels`.
    """

    height: Side
    width: Side
    source_height: Side
    source_width: Side
    mode: ResizeMode = "squash"
    depth_range_m: DepthRange | None = None


class TaxelInput(Config):
    """One array of taxels as an input: its size, and what its numbers mean; against no contact."""

    rows: Annotated[int, Field(gt=0, le=MAX_TAXELS)]
    columns: Annotated[int, Field(gt=0, le=MAX_TAXELS)]
    channels: Annotated[int, Field(gt=0, le=MAX_TAXELS)]
    unit: str = ""
    range: tuple[tuple[float, float], ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns and channels (R, C, K)."""
        return self.rows, self.columns, self.channels


class Golden(Config):
    """What the graph must answer to `golden_inputs`.

    act_hsa: first and last row (A,) of the chunk. progress: `[progress, done]`, then `hidden_out`.
    """

    seed: Count = 0
    first_row: Row = ()
    last_row: Row = ()
    tolerance: Positive = FLOAT32_TOLERANCE


class Manifest(Config):
    """What a bundle is. `digest` is sha256 over all other fields, as canonical JSON.

    `play` is how the chunks of a policy are played. Bundles written before there was such a field have
    none; they are played as the defaults of `PlaySpec` say, and their digest does not count it.
    `touch_reference` says which untouched gel the touch images are held against: that of `training`, inside
    the graph, or that of the `run`, which who feeds the bundle takes at its start; `free_gels` then shows how
    each gel looked in training (PNG as base64, input size), to tell a touched one at the start. `detector`
    are the thresholds of a progress bundle (`tacit.progress.DetectorConfig`), fitted to validation episodes.
    """

    schema_version: Literal["tacit-bundle 1"] = "tacit-bundle 1"
    kind: Literal["act_hsa", "progress"]
    rig_name: Name
    rig_id: str
    calibration_id: str
    calibration: dict[str, Any]
    state_names: Names
    action_names: Names = ()
    cameras: Annotated[dict[Name, ImageInput], Field(max_length=MAX_IMAGES)]
    touch: Annotated[dict[Name, ImageInput], Field(max_length=MAX_IMAGES)] = {}
    taxels: Annotated[dict[Name, TaxelInput], Field(max_length=MAX_IMAGES)] = {}
    chunk_size: Annotated[int, Field(ge=0, le=MAX_CHUNK)] = 0
    rate_hz: Rate
    action_space: Literal["joint_position", "none"] = "joint_position"
    obs_skew_max_s: Positive = 0.05
    state_min: Annotated[tuple[float, ...], Field(max_length=MAX_NAMES)]
    state_max: Annotated[tuple[float, ...], Field(max_length=MAX_NAMES)]
    hidden_size: Annotated[int, Field(ge=0, le=MAX_HIDDEN)] = 0
    touch_reference: Literal["training", "run"] = "training"
    free_gels: Annotated[dict[Name, str], Field(max_length=MAX_IMAGES)] = {}
    play: PlaySpec | None = None
    detector: dict[Name, float | None] | None = None
    golden: Golden = Golden()
    train: dict[str, Any] = {}
    tacit_version: str = tacit.__version__
    parameters_sha256: str = ""
    digest: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        size = len(self.state_names)
        if not len(self.state_min) == len(self.state_max) == size:
            raise ValueError(f"state_min, state_max: expected {size} values, one for each state name")
        for label, names in (("state_names", self.state_names), ("action_names", self.action_names)):
            if len(set(names)) != len(names):
                raise ValueError(f"{label}: a name appears twice")
        pixels = sum(i.height * i.width for i in (*self.cameras.values(), *self.touch.values()))
        if pixels > MAX_INPUT_PIXELS:
            raise ValueError(f"cameras, touch: {pixels} pixels in all, at most {MAX_INPUT_PIXELS}")
        if self.kind == "act_hsa" and not (self.chunk_size and self.action_names):
            raise ValueError("kind act_hsa: chunk_size and action_names must not be empty")
        if self.kind == "act_hsa" and self.playing.every_ticks >= self.chunk_size > 1:
            raise ValueError(
                f"play.every_ticks: {self.playing.every_ticks} ticks from one inference to the next, but a "
                f"chunk ends after {self.chunk_size}; give fewer"
            )
        if self.touch_reference == "run" and set(self.free_gels) != set(self.touch):
            raise ValueError("touch_reference run: free_gels must hold a picture of each sensor of touch")
        if self.kind == "progress" and not self.hidden_size:
            raise ValueError("kind progress: hidden_size must be above 0")
        return self

    @property
    def playing(self) -> PlaySpec:
        """How chunks are played: as the bundle says, or by the defaults where it says nothing."""
        return self.play or PlaySpec()

    def text(self) -> str:
        """Return the manifest as JSON; what the bundle does not say is left out."""
        return self.model_dump_json(exclude=self._unsaid)

    @property
    def _unsaid(self) -> dict[str, Any]:
        """Fields of later versions that say nothing here: bundles without them keep their digest."""
        unsaid: dict[str, Any] = {name: True for name in ("play", "detector") if getattr(self, name) is None}
        if self.touch_reference == "training":
            unsaid |= {"touch_reference": True, "free_gels": True}
        if not self.taxels:
            unsaid["taxels"] = True
        for group in ("cameras", "touch"):
            colours = [name for name, image in getattr(self, group).items() if image.depth_range_m is None]
            unsaid[group] = {name: {"depth_range_m"} for name in colours}
        return unsaid

    def seal(self) -> Manifest:
        """Return the manifest with its `digest` filled in."""
        return self.model_copy(update={"digest": self.expected_digest()})

    def expected_digest(self) -> str:
        """Return sha256 (hex) over every field but `digest`."""
        return canonical_hash(self.model_dump(mode="json", exclude={"digest": True, **self._unsaid}))


def golden_inputs(manifest: Manifest) -> dict[str, NDArray[Any]]:
    """Return the inputs of the golden sample, from `RandomState(golden.seed)`.

    Drawn in this order: state uniform in the training range; cameras, then touch, by sorted name,
    uint8 noise; arrays of taxels by sorted name, normal; for progress also hidden (normal, .1) and elapsed
    (uniform 0..10 s).
    """
    random = np.random.RandomState(manifest.golden.seed)
    low, high = np.asarray(manifest.state_min), np.asarray(manifest.state_max)
    inputs: dict[str, NDArray[Any]] = {"state": random.uniform(low, high)[None].astype(np.float32)}
    for prefix, group in (("image", manifest.cameras), ("touch", manifest.touch)):
        for name in sorted(group):
            shape = (1, group[name].height, group[name].width, 3)
            inputs[f"{prefix}.{name}"] = random.randint(0, 256, shape).astype(np.uint8)
    for name in sorted(manifest.taxels):
        taxels = manifest.taxels[name]
        low, high = np.array(taxels.range).T
        reading = (high - low) * random.standard_normal((1, *taxels.shape))
        inputs[f"taxels.{name}"] = reading.astype(np.float32)
    if manifest.kind == "progress":
        inputs["hidden"] = (0.1 * random.standard_normal((1, manifest.hidden_size))).astype(np.float32)
        inputs["elapsed"] = random.uniform(0, 10, (1, 1)).astype(np.float32)
    return inputs


def output_shapes(manifest: Manifest) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of the graph outputs that the manifest promises."""
    if manifest.kind == "act_hsa":
        return {"chunk": (1, manifest.chunk_size, len(manifest.action_names))}
    return {"progress": (1, 1), "done": (1, 1), "hidden_out": (1, manifest.hidden_size)}
