"""Try the labels of a data set in every way in which they are used, and measure what they share.

A label that changes between batches, subsets, processes or runs makes a contrastive loss pull the
wrong items together, and nothing else complains. So it is tried here, on the data themselves.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from tacit.errors import ConfigError
from tacit_learning.data.labels import (
    CONFLICT_NAT,
    UNKNOWN,
    LabelMaps,
    labels_from_json,
    mutual_information,
)
from tacit_learning.vace_e.data.dataset import VaceEDataset
from tacit_learning.vace_e.data.items import collate

FIRST_IN_ORDER = "\x00"
"""Sorts before every text: a map numbered anew would move all ids."""


class Check(NamedTuple):
    """One question and its answer."""

    name: str
    ok: bool
    detail: str


class LabelReport(NamedTuple):
    """All answers, and what the labels are like."""

    checks: list[Check]
    warnings: list[str]
    task_counts: dict[str, int]
    embodiment_counts: dict[str, int]
    information: dict[str, float]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.ok for check in self.checks)


def check_labels(dataset: VaceEDataset, older: LabelMaps | None = None, seed: int = 0) -> LabelReport:
    """Try the labels of a data set in every way in which they are used.

    Args:
        dataset: With the maps to be checked.
        older: Maps of an earlier run, whose ids must be the same.
        seed: Of the shuffles and subsets.
    """
    expected = _labels_of(dataset)
    rng = random.Random(seed)
    checks = [
        _check_texts(dataset),
        _check_batches(dataset, expected, rng),
        _check_subsets(dataset, expected, rng),
        _check_order(dataset, rng),
        _check_growth(dataset.labels),
    ]
    if older is not None:
        checks.append(_check_older(dataset.labels, older))
    task, embodiment = _named(dataset)
    information = _information(dataset)
    warnings = _warnings(task, embodiment, information)
    return LabelReport(checks, warnings, dict(Counter(task)), dict(Counter(embodiment)), information)


Labels = dict[tuple[str, str], tuple[int, int]]
"""(task folder, episode) -> (task label, embodiment label)."""


def _labels_of(dataset: VaceEDataset) -> Labels:
    return {
        (record.task, record.episode): (dataset.task_label(i), dataset.embodiment_label(i))
        for i, record in enumerate(dataset.records)
    }


def _check_texts(dataset: VaceEDataset) -> Check:
    """Equal texts have equal labels, and other texts others."""
    pairs = {(text.task, dataset.labels.task_id(text.task)) for text in dataset.texts.values() if text.task}
    good = len(pairs) == len({text for text, _ in pairs}) == len({number for _, number in pairs})
    return Check("one id per text, one text per id", good, f"{len(pairs)} task texts")


def _check_batches(dataset: VaceEDataset, expected: Labels, rng: random.Random) -> Check:
    """Collate the whole set in batches of several sizes, shuffled each time."""
    wrong, seen = set(), 0
    for size in (1, 2, 3, 7):
        order = list(range(len(dataset)))
        rng.shuffle(order)
        for start in range(0, len(order), size):
            items = [dataset.item(i, video=False, reference=False) for i in order[start : start + size]]
            batch = collate(items)
            labels = zip(batch.task_label.tolist(), batch.embodiment_label.tolist(), strict=True)
            found = dict(zip(zip(batch.task_name, batch.episode_name, strict=True), labels, strict=True))
            wrong |= {key for key, label in found.items() if expected[key] != label}
            seen += len(found)
    return Check(
        "equal in every batch and shuffle", not wrong, _told(wrong, f"{seen} items in batches of 1 to 7")
    )


def _check_subsets(dataset: VaceEDataset, expected: Labels, rng: random.Random) -> Check:
    """Take subsets of several sizes."""
    wrong, sizes = set(), []
    for share in (0.2, 0.5, 0.9):
        size = max(1, round(share * len(dataset)))
        part = _labels_of(dataset.subset(sorted(rng.sample(range(len(dataset)), size))))
        wrong |= {key for key, label in part.items() if expected[key] != label}
        sizes.append(size)
    return Check("equal in every subset", not wrong, _told(wrong, f"subsets of {sizes} episodes"))


def _check_order(dataset: VaceEDataset, rng: random.Random) -> Check:
    """Another process may list the folders in another order."""
    tasks = [text.task for text in dataset.texts.values() if text.task is not None]
    bodies = [text.embodiment for text in dataset.texts.values() if text.embodiment is not None]
    first = LabelMaps.build(tasks, bodies).sha256
    rng.shuffle(tasks)
    rng.shuffle(bodies)
    return Check(
        "equal in every process", LabelMaps.build(tasks, bodies).sha256 == first, f"sha256 {first[:12]}"
    )


def _check_growth(labels: LabelMaps) -> Check:
    """A resume reads the maps back, and may meet new texts; those that exist stay, unknown ones are -1."""
    again = labels_from_json(json.loads(json.dumps(labels.as_json())), "labels")
    grown = again.extended([FIRST_IN_ORDER], [FIRST_IN_ORDER])
    kept = all(grown.task_id(t) == i for t, i in labels.task.items())
    kept &= all(grown.embodiment_id(t) == i for t, i in labels.embodiment.items())
    last = grown.task_id(FIRST_IN_ORDER) == len(labels.task)
    unknown = labels.task_id(FIRST_IN_ORDER) == UNKNOWN == labels.embodiment_id(FIRST_IN_ORDER)
    return Check("equal after a resume", kept and last and unknown, "new texts go last, unknown ones are -1")


def _check_older(labels: LabelMaps, older: LabelMaps) -> Check:
    name = "equal to an earlier run"
    try:
        labels.check_extends(older)
    except ConfigError as problem:
        return Check(name, False, str(problem))
    return Check(name, True, f"{len(older.task)} task ids kept, {len(labels.task) - len(older.task)} new")


def _named(dataset: VaceEDataset) -> tuple[list[str], list[str]]:
    """Return the label texts of every episode; (unknown) for -1."""
    texts = [dataset.texts[record.task] for record in dataset.records]
    return [text.task or "(unknown)" for text in texts], [text.embodiment or "(unknown)" for text in texts]


def _information(dataset: VaceEDataset) -> dict[str, float]:
    """Return I(task; embodiment), H(embodiment) [nat]: by episode as labelled, and by folder both ways."""
    by_episode = dataset.dependence()
    return {
        "episodes": by_episode.information,
        "entropy": by_episode.entropy,
        **{f"folders by {kind}": value for kind, value in _by_folder(dataset).items()},
    }


def _by_folder(dataset: VaceEDataset) -> dict[str, float]:
    if dataset.metadata is None:
        return {}
    known = {
        name: task for name, task in dataset.metadata.per_task_attributes.items() if task.embodiment_type
    }
    bodies = [dataset.texts[name].embodiment for name in known]
    prompts = [dataset.texts[name].prompt for name in known]
    types = [task.task_type for task in known.values()]
    return {
        "prompt": mutual_information(prompts, bodies).information,
        "task_type": mutual_information(types, bodies).information,
    }


def _warnings(task: Sequence[str], embodiment: Sequence[str], information: dict[str, float]) -> list[str]:
    found = []
    if information["episodes"] > CONFLICT_NAT:
        found.append(
            f"task and embodiment labels share {information['episodes']:.3f} nat (more than {CONFLICT_NAT}): "
            "a feature that tells the task tells the body, so the task loss and CLUB pull against each "
            "other; try task_label_by: task_type"
        )
    for name, texts in (("task", task), ("embodiment", embodiment)):
        unknown = texts.count("(unknown)")
        if unknown:
            found.append(
                f"{unknown} episodes have no {name} label (-1): the metadata do not name their folder"
            )
    alone = [text for text, count in Counter(task).items() if count == 1 and text != "(unknown)"]
    if alone:
        found.append(
            f"{len(alone)} task classes have one episode, so no positive but its own views: {alone[:3]}"
        )
    return found


def _told(wrong: set[tuple[str, str]], good: str) -> str:
    return f"{len(wrong)} episodes change: {sorted(wrong)[:3]}" if wrong else good
