"""Pictures in HDF5 files of others: raw, or bytes padded with zeros, with the channels in either order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

import h5py
import numpy as np

from tacit.episode.schema import is_encoded
from tacit.errors import EpisodeError, ImageError
from tacit.images import decode_image, encode_jpeg
from tacit.images.encoded import is_complete, read_header

Colour = Literal["rgb", "bgr"]
"""Order of the channels in a raw picture, or in what `cv2.imdecode` makes of an encoded one.

Whoever hands RGB to `cv2.imencode`, which takes it for BGR, gets a JPEG with red and blue swapped in every
viewer, and right again after `cv2.imdecode`.
"""
COLOURS = get_args(Colour)
QUALITY = 95
"""JPEG quality of pictures that are stored raw, or with their channels swapped."""


def size_of(dataset: h5py.Dataset, path: Path, num_frames: int) -> tuple[int, int]:
    """Return (height, width) of the first of `num_frames` pictures, after a look at the shape of all.

    Raises:
        EpisodeError: Another number of pictures, or none.
    """
    is_raw = len(dataset.shape) == 4 and dataset.shape[3] == 3
    is_bytes = len(dataset.shape) == 2 or (len(dataset.shape) == 1 and is_encoded(dataset))
    if not (is_raw or is_bytes) or dataset.dtype.kind not in "uO" or dataset.shape[0] != num_frames:
        raise EpisodeError(
            f"{path}: {dataset.name} has shape {dataset.shape} {dataset.dtype}, expected {num_frames} "
            "pictures uint8: (T, H, W, 3), or bytes padded with zeros"
        )
    if is_raw:
        return int(dataset.shape[1]), int(dataset.shape[2])
    header = read_header(dataset[0])
    if header is None:
        raise EpisodeError(f"{path}: {dataset.name}, frame 0: neither JPEG nor PNG")
    return header.height, header.width


def true_pictures(dataset: h5py.Dataset, colour: Colour) -> Iterator[np.ndarray]:
    """Yield each picture as JPEG or PNG of true colours (N,); bytes that have them stay as they are.

    Raises:
        EpisodeError: One is cut off, or no picture.
    """
    where = f"{dataset.file.filename}: {dataset.name}"
    for frame in range(len(dataset)):
        row = dataset[frame]
        if row.ndim == 3:
            yield encode_jpeg(np.ascontiguousarray(row if colour == "rgb" else row[..., ::-1]), QUALITY)
            continue
        data = row[: len(row) - int(np.argmax(row[::-1] != 0))] if row.any() else row[:0]
        if not is_complete(data):
            raise EpisodeError(f"{where}, frame {frame}: the picture has no end; it was cut off when written")
        if colour == "bgr":
            yield data
            continue
        try:  # what a viewer shows has red and blue swapped
            yield encode_jpeg(np.ascontiguousarray(decode_image(data)[..., ::-1]), QUALITY)
        except ImageError as problem:
            raise EpisodeError(f"{where}, frame {frame}: {problem}") from None
