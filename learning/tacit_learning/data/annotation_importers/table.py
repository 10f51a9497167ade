"""The table of formats: name to reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from tacit.errors import AnnotationError, did_you_mean
from tacit_learning.data.annotation_importers import egoprocel_csv, episodes, gtcc_json, lerobot, mstcn
from tacit_learning.data.annotation_importers.common import Imported, ImportOptions


class Format(NamedTuple):
    """One foreign format: its reader, and whether its features are (D, T)."""

    read: Callable[[Path, ImportOptions], Imported]
    transposed: bool = False


FORMATS: Mapping[str, Format] = {
    "gtcc-json": Format(gtcc_json.read),
    "egoprocel-csv": Format(egoprocel_csv.read),
    "ms-tcn": Format(mstcn.read, transposed=True),
    "lerobot": Format(lerobot.read),
    "episodes": Format(episodes.read),
}


def read(name: str, path: Path, options: ImportOptions) -> Imported:
    """Read `path` as the format `name`.

    Raises:
        AnnotationError: No such format or path, or what the reader refuses.
    """
    if name not in FORMATS:
        raise AnnotationError(f"annotations: no format {name!r}; {did_you_mean(name, FORMATS)}")
    if not path.exists():
        raise AnnotationError(f"{path}: no such file or folder")
    return FORMATS[name].read(path, options)
