"""Where the episodes of a data set lie: `<root>/<task>/episode_<N>/`."""

from __future__ import annotations

from pathlib import Path

from tacit.convert.vace_e_files import EPISODE_PATTERN, EpisodeFiles
from tacit.errors import EpisodeError
from tacit_learning.vace_e.config import DataOptions


def find_episode_folders(options: DataOptions) -> list[EpisodeFiles]:
    """Return the episodes of all task folders: a folder with at least one `episode_<N>` is a task.

    Raises:
        EpisodeError: No such folder, no episode in it, or one number twice in a task.
    """
    root = Path(options.dataset_base_path)
    if not root.is_dir():
        raise EpisodeError(f"{root}: no such folder; dataset_base_path names the folder of the task folders")
    found = [files for task in sorted(_folders(root)) for files in _episodes_of(task, options)]
    if not found:
        inside = any(EPISODE_PATTERN.match(folder.name) for folder in _folders(root))
        hint = "it is a task folder itself: give its parent" if inside else "expected <task>/episode_<N>/"
        raise EpisodeError(f"{root}: no episode in it; {hint}")
    return found


def episode_files(options: DataOptions, task: str, episode: str) -> EpisodeFiles:
    """Return where the files of one episode are; HDF5 files may lie below `robot_data_path`.

    There they lie in a folder of the episode, or flat in that of the task.
    """
    folder = Path(options.dataset_base_path) / task / episode
    if options.robot_data_path is None:
        return EpisodeFiles(folder)
    robot = Path(options.robot_data_path) / task
    return EpisodeFiles(folder, robot / episode if (robot / episode).is_dir() else robot)


def _episodes_of(task: Path, options: DataOptions) -> list[EpisodeFiles]:
    names = [folder.name for folder in _folders(task) if EPISODE_PATTERN.match(folder.name)]
    episodes = [episode_files(options, task.name, name) for name in names]
    episodes.sort(key=lambda files: (files.number, files.folder.name))
    for first, second in zip(episodes, episodes[1:], strict=False):
        if first.number == second.number:
            both = f"{first.folder.name} and {second.folder.name}"
            raise EpisodeError(f"{task}: {both} have one number; rename one")
    return episodes


def _folders(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
