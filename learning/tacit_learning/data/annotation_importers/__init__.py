"""Foreign step annotations as an `AnnotationSet`: one module per format, each with one function `read`.

A reader takes a path and `ImportOptions` and returns an `Imported`; `write` makes the folder that the
trainer reads. Ends are inclusive afterwards, whatever they were before.

Imports point down this list only: table > egoprocel_csv, episodes, gtcc_json, lerobot, mstcn > common.
"""

from tacit_learning.data.annotation_importers.common import Imported, ImportOptions, write
from tacit_learning.data.annotation_importers.table import FORMATS, read

__all__ = ["FORMATS", "ImportOptions", "Imported", "read", "write"]
