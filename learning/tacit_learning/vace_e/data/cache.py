"""Encoded inputs on disk: latents, text and image features, under a key of everything they depend on.

A changed video, window, size, encoder or number type gives another key, so what is found is never
stale. Who encodes is not known here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tacit.errors import ConfigError
from tacit_learning.engine.checkpoint import save_tensors
from tacit_learning.vace_e.data.dataset import VaceEDataset

CACHE_VERSION = 4  # goes up when equal files would be encoded from other pixels
SUFFIX = ".safetensors"


class LatentCache:
    """Named tensors under keys, one safetensors file each; safe for several processes.

    Args:
        folder: Made when first written to.

    Raises:
        ConfigError: A file stands where the folder should be.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise ConfigError(f"cache_path: {self.folder} is a file, expected a folder")

    def path(self, key: str) -> Path:
        """Return where an entry lies."""
        return self.folder / key[:2] / f"{key}{SUFFIX}"

    def get(self, key: str, device: str = "cpu") -> dict[str, Tensor] | None:
        """Return the tensors of a key; None when there are none, or the file is damaged."""
        path = self.path(key)
        if not path.is_file():
            return None
        try:
            with safe_open(path, framework="pt", device=device) as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError):
            return None

    def put(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        """Write the tensors of a key, whole or not at all."""
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        save_tensors(part, tensors)
        part.replace(path)

    def get_or_make(self, key: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Return the tensors of a key, made and kept where there are none."""
        found = self.get(key)
        if found is None:
            self.put(key, make())
            found = self.get(key)
        if found is None:
            raise ConfigError(f"{self.path(key)}: cannot be read back; is the disk full?")
        return found

    def size_bytes(self) -> int:
        """Return how much disk the entries take."""
        return sum(path.stat().st_size for path in self.folder.glob(f"??/*{SUFFIX}"))


def video_key(dataset: VaceEDataset, i: int, encoder: str, dtype: torch.dtype, version: int = 0) -> str:
    """Return the key of the latents of window i: target, control and mask, as they are cut.

    Drawn versions of the mask depend on the whole data set and its seed: they may hide other windows' hands.
    """
    files, options = dataset.files(i), dataset.options
    paths = [files.target, files.mask] + ([] if options.control_from_mask else [files.control])
    facts = {
        "frames": {name: frames.tolist() for name, frames in dataset.frames(i).items()},
        "size": list(dataset.bucket(i)[1:]),
        "control_from_mask": options.control_from_mask,
        "masks": options.masks,
        "version": [version, dataset.seed, len(dataset)] if version else 0,
    }
    return cache_key("video", _stamps(paths, dataset.record(i).identity), facts, encoder, dtype)


def image_key(dataset: VaceEDataset, i: int, encoder: str, dtype: torch.dtype, **facts: object) -> str | None:
    """Return the key of the features of the end effector's image; None where there is no image.

    `facts` are further things they depend on: latents of the reference depend on the video's size.
    """
    record = dataset.record(i)
    if record.reference is None:
        return None
    path = dataset.files(i).folder / record.reference
    return cache_key("image", _stamps([path], record.identity), facts, encoder, dtype)


def text_key(text: str, encoder: str, dtype: torch.dtype) -> str:
    """Return the key of the tokens of a text."""
    return cache_key("text", [text], {}, encoder, dtype)


def cache_key(
    kind: str, sources: Iterable[str], facts: Mapping[str, object], encoder: str, dtype: torch.dtype
) -> str:
    """Return the sha256 of what an entry depends on.

    Args:
        kind: video, image or text.
        sources: Files with their times and sizes, or the text itself.
        facts: Window, size and the like; JSON values.
        encoder: Identity of the encoder's weights.
        dtype: Number type of what is stored.
    """
    content = [CACHE_VERSION, kind, list(sources), dict(facts), encoder, str(dtype)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def pack_mask(mask: np.ndarray | Tensor) -> dict[str, Tensor]:
    """Return a mask of booleans as bits: an eighth of its bytes."""
    array = np.asarray(mask, dtype=bool)
    return {
        "mask_bits": torch.from_numpy(np.packbits(array.reshape(-1))),
        "mask_shape": torch.tensor(array.shape),
    }


def unpack_mask(packed: Mapping[str, Tensor]) -> Tensor:
    """Return the mask that `pack_mask` packed."""
    shape = tuple(packed["mask_shape"].tolist())
    bits = np.unpackbits(packed["mask_bits"].numpy(), count=int(np.prod(shape)))
    return torch.from_numpy(bits.reshape(shape).astype(bool))


def _stamps(paths: Iterable[Path], identity: str) -> list[str]:
    """Name, time and size of files; names relative to the data set, so that it may be moved."""
    facts = ((path, path.stat()) for path in paths if path.is_file())
    return [f"{identity}/{path.name} {stat.st_mtime_ns} {stat.st_size}" for path, stat in facts]
