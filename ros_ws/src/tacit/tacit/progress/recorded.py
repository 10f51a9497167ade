"""What a bundle would have seen at a tick of an episode."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tacit.bundle import Manifest
from tacit.bundle.runtime import Observation
from tacit.episode import EpisodeReader
from tacit.images import Image


def recorded_observation(reader: EpisodeReader, manifest: Manifest, tick: int) -> Observation:
    """Return the recorded observation of a tick; what the episode lacks is missing in it."""
    return Observation(
        int(reader.tick_ns[tick]),
        reader.qpos[tick],
        {name: reader.image(name, tick) for name in manifest.cameras if name in reader.cameras}
        | {name: reader.depth(name, tick) for name in manifest.cameras if name in reader.depth_cameras},
        {name: reader.touch(name, tick) for name in manifest.touch if name in reader.tactile},
        _references(reader, manifest) if manifest.touch_reference == "run" else {},
        _readings(reader, manifest, tick),
    )


def _references(reader: EpisodeReader, manifest: Manifest) -> dict[str, Image]:
    found = {name: reader.reference(name) for name in manifest.touch if name in reader.tactile}
    return {name: image for name, image in found.items() if image is not None}


def _readings(reader: EpisodeReader, manifest: Manifest, tick: int) -> dict[str, NDArray[np.float32]]:
    offsets = {name: reader.reference(name) for name in manifest.taxels if name in reader.taxels}
    return {n: reader.readings(n, tick) - offset for n, offset in offsets.items() if offset is not None}
