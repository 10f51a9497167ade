"""The table of formats: name to reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tacit.errors import AnnotationError, did_you_mean
from tacit_learning.data.annotation_importers import egoprocel_csv, episodes, gtcc_json, lerobot, mstcn
from tacit_learning.data.annotation_importers.common import Imported, ImportOptions, read_names, rename

FORMATS: Mapping[str, Callable[[Path, ImportOptions], Imported]] = {
    "gtcc-json": gtcc_json.read,
    "egoprocel-csv": egoprocel_csv.read,
    "ms-tcn": mstcn.read,
    "lerobot": lerobot.read,
    "episodes": episodes.read,
}
HAVE_RATES = ("gtcc-json", "egoprocel-csv", "ms-tcn")
"""Formats whose annotations may count frames of another rate than the features."""


def read(name: str, path: Path, options: ImportOptions) -> Imported:
    """Read `path` as the format `name`.

    Raises:
        AnnotationError: No such format or path, or what the reader refuses.
    """
    if name not in FORMATS:
        raise AnnotationError(f"annotations: no format {name!r}; {did_you_mean(name, FORMATS)}")
    if not path.exists():
        raise AnnotationError(f"{path}: no such file or folder")
    if options.native_fps is not None and name not in HAVE_RATES:
        raise AnnotationError(f"native-fps: {name} says its own rate; leave it out")
    imported = FORMATS[name](path, options)
    if options.names is None:
        return imported
    return rename(imported, read_names(options.names), options.names)
