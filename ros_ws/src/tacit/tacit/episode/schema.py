"""The layout of `tacit-episode` 1.0: names, versions, and which axis each dataset grows along.

Writer, reader, recovery and audit all ask here; nothing else spells these strings.
"""

from __future__ import annotations

from typing import Literal

import h5py
import numpy as np

from tacit.config.documents import json_list, json_mapping
from tacit.errors import EpisodeError

SCHEMA = "tacit-episode"
SCHEMA_VERSION = "1.0.0"
MAJOR = SCHEMA_VERSION.split(".")[0]

RECORDING, COMPLETE, RECOVERED, ABORTED = "recording", "complete", "recovered", "aborted"
FINAL_STATES = (COMPLETE, RECOVERED, ABORTED)
REASONS = ("stopped", "timeout", "error", "estop")
ABORTING_REASONS = ("error", "estop")

ACTION = "action"
QPOS = "observations/qpos"
QVEL = "observations/qvel"
EFFORT = "observations/effort"
TICK_NS = "timestamps/tick_ns"
STEP_INDEX = "annotations/step_index"
STEPS = "annotations/steps"
FAILURES = "annotations/failures"
"""What went wrong and when, in the columns of the steps; `step` is the kind of failure."""
TASK_STEPS = "task_steps_json"
"""Root attribute: the steps that the whole task has, in order, also where an episode lacks some."""
IMAGES = "observations/images"
DEPTH = "observations/depth"
"""Apart from the colours: other programs take whatever lies in `IMAGES` for colour pictures."""
TAXELS = "observations/tactile_arrays"
"""Touch that is no picture: `<sensor>` (T, R, C, K) f4."""
BBOX_CONVENTION = "opencv pixel centres at integers"

SOURCE = "source"
"""Stream of a rig (role `extra`) that says who commands: an index into `SOURCES`, NaN where nobody does."""
SOURCE_COLUMN = f"observations/extra/{SOURCE}"
SOURCES = ("policy", "person")
SEGMENTS = "segments_json"
"""Attribute of the column: who commanded from which tick to which, both included."""

EXTRA_ROLES = ("extra", "robot_state")
"""Streams that are stored as they are, under `observations/extra/<stream>`."""

STAMP_FIELDS = ("stamp_ns", "recv_ns", "index", "fresh")
"""Stored of each stream at each tick, under `timestamps/<stream>/`; named as in `tacit.streams.Sample`."""

VLEN_U1 = h5py.vlen_dtype(np.uint8)
TEXT = h5py.string_dtype()

VLEN_CHUNK = 64
STAMP_CHUNK = 512
LOW_DIM_CHUNK = 256
APPEND_CACHE = 1 << 16
"""Chunks that HDF5 keeps in memory per dataset while an episode is written [bytes]: rows are appended, so one
is enough, and the usual megabyte for each of ninety datasets would grow for as long as it records."""

Axis = Literal["tick", "native", "event", "static", "derived"]

_TICK_GROUPS = (
    "action",
    "action_sent",
    "observations",
    "camera_pose",
    "sensor_pose",
    "sensor_bbox",
    "sensor_corners",
    "sensor_visibility",
    "sensor_flags",
    "timestamps",
)


def axis_of(path: str) -> Axis:
    """Return which axis the dataset or group at `path` grows along.

    `tick` rows belong to ticks and are cut together; `native` and `event` tables have lengths of
    their own; `derived` parts are rebuilt from the others; all else is `static`.
    """
    first, _, rest = path.strip("/").partition("/")
    if path.strip("/") in (QVEL, EFFORT):
        return "derived"
    if first in _TICK_GROUPS:
        return "tick"
    if first == "annotations":
        return "derived" if rest.startswith(("steps", "failures")) else "tick"
    if first in ("stats", "drops"):
        return "derived"
    return {"streams": "native", "events": "event"}.get(first, "static")  # type: ignore[return-value]


def is_foreign(file: h5py.File, path: object) -> bool:
    """Return whether the file is of the ACT family and not ours.

    Raises:
        EpisodeError: It is of neither kind, or of another major version.
    """
    name = file.attrs.get("schema")
    if name is None:
        if ACTION in file and QPOS in file:
            return True
        raise EpisodeError(
            f"{path}: no attribute `schema` and no /action with /observations/qpos: neither a "
            "tacit episode nor an ALOHA file"
        )
    version = str(file.attrs.get("schema_version", "?"))
    if name != SCHEMA or version.split(".")[0] != MAJOR:
        raise EpisodeError(
            f"{path}: schema {name} {version}, expected {SCHEMA} {MAJOR}.x; "
            "read it with the tacit that wrote it"
        )
    return False


def is_encoded(dataset: h5py.Dataset) -> bool:
    """Whether the elements are variable-length bytes (JPEG or PNG)."""
    return h5py.check_vlen_dtype(dataset.dtype) == np.uint8


def image_format(data: np.ndarray) -> str:
    """Return "jpeg" or "png" by the first bytes of an encoded image, else "unknown"."""
    head = bytes(np.asarray(data[:4]).astype(np.uint8))
    if head[:2] == b"\xff\xd8":
        return "jpeg"
    return "png" if head == b"\x89PNG" else "unknown"


def commanded_rows(file: h5py.File) -> list[tuple[list[int], np.ndarray]]:
    """Return, for each command stream, its columns of `/action` and the ticks at which it was in force.

    At the other ticks nobody had commanded yet and the action is the measured state. Files from before
    optional commands do not say; there every command was in force.
    """
    attributes = file[ACTION].attrs
    if "commands" not in attributes:
        return []
    names = names_of(file[ACTION])
    commands = json_mapping(str(attributes["commands"]), "/action: attribute commands", EpisodeError)
    if any(set(members) - set(names) for members in commands.values()):
        raise EpisodeError(
            "/action: attribute commands names what is no column; run `tacit check` on the file"
        )
    return [
        ([names.index(member) for member in members], file[f"timestamps/{stream}/index"][:] >= 0)
        for stream, members in commands.items()
    ]


def names_of(item: h5py.Dataset | h5py.Group) -> list[str]:
    """Return the names of the elements of a row, which stand as JSON in the attribute `names`.

    Raises:
        EpisodeError: They are no list of texts.
    """
    where = f"{item.file.filename}: {item.name}: attribute names"
    names = json_list(str(item.attrs["names"]), where, EpisodeError)
    if not all(isinstance(name, str) for name in names):
        raise EpisodeError(f"{where}: expected a list of names")
    return names
