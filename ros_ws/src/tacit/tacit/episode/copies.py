"""Episodes from one data set to another, and those that are there twice."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tacit.episode.edit import edited
from tacit.episode.files import episode_number, next_path_in
from tacit.episode.finish import content_sha256
from tacit.episode.index import Listed
from tacit.episode.secure import open_episode
from tacit.rig import NAME_PATTERN


def copy_episode(item: Listed, target: Path) -> Path:
    """Copy an episode to `<target>/<task>/` under the next number; nothing else in it changes.

    The folder has the name of the task, where that is a plain name, else that of the source's folder.

    Raises:
        EpisodeError: The disk is full; then nothing is left of the copy.
    """
    task = item.entry.task
    folder = target / (task if re.match(NAME_PATTERN, task) and ".." not in task else item.path.parent.name)
    place = next_path_in(folder)
    with edited(item.path, place) as file:
        file.attrs["episode_index"] = np.int64(episode_number(place))
    return place


def is_known(item: Listed, known: Sequence[Listed]) -> bool:
    """Whether a data set holds an episode already: the same recording with the same contents."""
    return any(
        item.entry.uuid == other.entry.uuid and item.entry.content_sha256 == other.entry.content_sha256
        for other in known
        if item.entry.uuid
    )


def duplicates(listed: Sequence[Listed]) -> list[list[Listed]]:
    """Return the groups of episodes with equal contents, each in the order given.

    What files claim by `content_sha256` is computed anew for all that claim the same, so that no two
    different recordings are ever taken for one.
    """
    claimed: dict[str, list[Listed]] = defaultdict(list)
    for item in listed:
        if item.entry.kind == "tacit" and item.entry.content_sha256:
            claimed[item.entry.content_sha256].append(item)
    found: dict[str, list[Listed]] = defaultdict(list)
    for group in claimed.values():
        for item in group if len(group) > 1 else ():
            found[_contents(item.path)].append(item)
    return [group for group in found.values() if len(group) > 1]


def _contents(path: Path) -> str:
    with open_episode(path) as file:
        return content_sha256(file)
