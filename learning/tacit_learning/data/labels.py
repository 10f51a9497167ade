"""Label maps: text of a task or embodiment -> id, made once, saved with every checkpoint.

A map only grows: an id that was given keeps its text for ever, so features trained with it stay
comparable. A text that a map does not know is -1, which losses and metrics leave out; it is never
counted as class 0. `labels.json`: {task, embodiment, version, sha256}.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from tacit.config.documents import MAX_JSON_BYTES, json_of, read_text
from tacit.errors import ConfigError

VERSION = 1
UNKNOWN = -1
EMBODIMENTS = {"human": 0, "robot": 1}
CONFLICT_NAT = 0.1
"""Mutual information above this means that the task label nearly tells the embodiment."""

EmbodimentMode = Literal["coarse", "fine"]


@dataclass(frozen=True)
class LabelMaps:
    """Ids of tasks and embodiments, each 0..n-1 without a gap.

    Raises:
        ConfigError: Ids that repeat, or leave a gap.
    """

    task: Mapping[str, int]
    embodiment: Mapping[str, int]

    def __post_init__(self) -> None:
        for name, ids in (("task", self.task), ("embodiment", self.embodiment)):
            if sorted(ids.values()) != list(range(len(ids))):
                raise ConfigError(
                    f"labels: {name}: ids {sorted(ids.values())}, expected 0..{len(ids) - 1}, each once"
                )

    @classmethod
    def build(cls, tasks: Iterable[str], embodiments: Iterable[str] = ()) -> LabelMaps:
        """Number the texts in sorted order; human and robot always are 0 and 1."""
        return cls({}, EMBODIMENTS).extended(tasks, embodiments)

    def extended(self, tasks: Iterable[str], embodiments: Iterable[str] = ()) -> LabelMaps:
        """Return maps in which every old id stays and new texts follow in sorted order."""
        return LabelMaps(_grown(self.task, tasks), _grown(self.embodiment, embodiments))

    def task_id(self, text: str) -> int:
        """Return the id of a task text; -1 when unknown."""
        return self.task.get(text, UNKNOWN)

    def embodiment_id(self, text: str) -> int:
        """Return the id of an embodiment; -1 when unknown."""
        return self.embodiment.get(text, UNKNOWN)

    @property
    def sha256(self) -> str:
        """Hash of the maps: equal on two machines exactly when all ids are."""
        text = json.dumps(self._content(), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def check_extends(self, older: LabelMaps, where: str = "labels") -> None:
        """Refuse maps that give an id of `older` another text, or none.

        Raises:
            ConfigError: Names the first few texts that would be renumbered.
        """
        for name, before, now in (
            ("task", older.task, self.task),
            ("embodiment", older.embodiment, self.embodiment),
        ):
            moved = [
                f"{text!r}: {i} -> {now.get(text, 'none')}"
                for text, i in before.items()
                if now.get(text) != i
            ]
            if moved:
                raise ConfigError(
                    f"{where}: {name} labels would be renumbered ({'; '.join(moved[:3])}"
                    f"{'; ...' * (len(moved) > 3)}); ids only ever grow: extend the old labels.json"
                )

    def save(self, path: str | Path) -> None:
        """Write `labels.json`."""
        Path(path).write_text(
            json.dumps(self.as_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )

    def as_json(self) -> dict[str, Any]:
        """Return the content of `labels.json`, in the order of the ids."""
        return {**self._content(), "sha256": self.sha256}

    def _content(self) -> dict[str, Any]:
        return {"task": _ordered(self.task), "embodiment": _ordered(self.embodiment), "version": VERSION}


def load_labels(path: str | Path) -> LabelMaps:
    """Read `labels.json`.

    Raises:
        ConfigError: Missing, not JSON, of another version, or changed since it was written.
    """
    path = Path(path)
    if not path.exists():
        raise ConfigError(f"{path}: no such file; a checkpoint holds one, `tacit check labels` writes one")
    content = json_of(read_text(path, MAX_JSON_BYTES, "labels.json"), str(path))
    return labels_from_json(content, str(path))


def labels_from_json(content: object, where: str) -> LabelMaps:
    """Check and return maps read from a file or sent by another process.

    Raises:
        ConfigError: Another form or version, or a hash that does not belong to the ids.
    """
    if not isinstance(content, dict) or not {"task", "embodiment", "version", "sha256"} <= set(content):
        raise ConfigError(f"{where}: expected the keys task, embodiment, version, sha256")
    if content["version"] != VERSION:
        raise ConfigError(f"{where}: version {content['version']!r}, expected {VERSION}")
    maps = LabelMaps(_checked(content["task"], where), _checked(content["embodiment"], where))
    if maps.sha256 != content["sha256"]:
        raise ConfigError(
            f"{where}: sha256 does not belong to the ids, so the file was edited by hand; restore it from a "
            "checkpoint, or let the data set extend it"
        )
    return maps


def embodiment_of(embodiment_type: str | None, mode: EmbodimentMode = "coarse") -> str | None:
    """Return the embodiment text: human or robot (coarse), or the type as it is (fine); None stays None.

    Only what the metadata say counts. Names of folders tell nothing: both kinds begin with digits.
    """
    if embodiment_type is None or mode == "fine":
        return embodiment_type
    return "human" if embodiment_type.lower().startswith("human") else "robot"


class Dependence(NamedTuple):
    """How much two labels of the same items know of each other [nat]."""

    information: float
    entropy: float
    """Entropy of the second label: the information is at most this."""

    @property
    def conflicts(self) -> bool:
        """Whether one feature cannot well carry the first label and be free of the second."""
        return self.information > CONFLICT_NAT


def mutual_information(first: Sequence[object], second: Sequence[object]) -> Dependence:
    """Return I(first; second) and H(second) [nat] of paired labels, from their counts.

    I = sum p(a,b) log(p(a,b) / (p(a) p(b))). No items: both 0.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} labels, expected as many of both")
    total = len(first)
    left, right = Counter(first), Counter(second)
    information = sum(
        n / total * np.log(n * total / (left[a] * right[b]))
        for (a, b), n in Counter(zip(first, second, strict=True)).items()
    )
    entropy = -sum(n / total * np.log(n / total) for n in right.values())
    return Dependence(max(0.0, float(information)), max(0.0, float(entropy)))


def _grown(ids: Mapping[str, int], texts: Iterable[str]) -> dict[str, int]:
    new = sorted(set(texts) - set(ids))
    return {**ids, **{text: len(ids) + i for i, text in enumerate(new)}}


def _ordered(ids: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(ids.items(), key=lambda item: item[1]))


def _checked(ids: object, where: str) -> dict[str, int]:
    if not isinstance(ids, dict) or not all(
        isinstance(i, int) and not isinstance(i, bool) for i in ids.values()
    ):
        raise ConfigError(f"{where}: expected a mapping of text to integer id, found {ids!r:.60}")
    return {str(text): i for text, i in ids.items()}
