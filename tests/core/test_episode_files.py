"""Facts about names: numbers never come back, nothing is overwritten, scans see only episodes."""

from __future__ import annotations

import pytest

from tacit.episode import find_episodes, find_parts, move_to_trash, next_episode_path
from tacit.episode.files import rename_new
from tacit.errors import EpisodeError


def touch(path, text="x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_next_number_is_above_existing_trashed_and_partial_ones(tmp_path):
    assert next_episode_path(tmp_path, "t").name == "episode_0.hdf5"
    touch(tmp_path / "t/episode_3.hdf5")
    assert next_episode_path(tmp_path, "t").name == "episode_4.hdf5"
    touch(tmp_path / "t/episode_11.hdf5.part")
    assert next_episode_path(tmp_path, "t").name == "episode_12.hdf5"
    touch(tmp_path / "t/trash/episode_20.hdf5.trashed")
    assert next_episode_path(tmp_path, "t").name == "episode_21.hdf5"


@pytest.mark.parametrize("task", ["../up", "a/b", "", ".hidden", "x" * 65, "a..b"])
def test_task_that_would_leave_the_folder_is_refused(tmp_path, task):
    with pytest.raises(EpisodeError, match="plain name"):
        next_episode_path(tmp_path, task)


def test_scan_is_recursive_ordered_by_number_and_skips_what_is_no_episode(tmp_path):
    for name in ("b/episode_10.hdf5", "b/episode_9.hdf5", "a/deep/episode_0.hdf5"):
        touch(tmp_path / name)
    for name in ("b/episode_11.hdf5.part", "b/trash/episode_1.hdf5", "b/mirror_episode_1.hdf5"):
        touch(tmp_path / name)
    touch(tmp_path / "b/episode_1_features.hdf5")
    found = [str(p.relative_to(tmp_path)) for p in find_episodes(tmp_path)]
    assert found == ["a/deep/episode_0.hdf5", "b/episode_9.hdf5", "b/episode_10.hdf5"]
    assert [p.name for p in find_parts(tmp_path)] == ["episode_11.hdf5.part"]


def test_rename_takes_the_next_number_rather_than_another_file(tmp_path):
    touch(tmp_path / "episode_1.hdf5", "first")
    source = touch(tmp_path / "episode_1.hdf5.part", "second")
    assert rename_new(source, tmp_path / "episode_1.hdf5").name == "episode_2.hdf5"
    assert (tmp_path / "episode_1.hdf5").read_text() == "first"
    assert (tmp_path / "episode_2.hdf5").read_text() == "second"


def test_trash_keeps_everything_even_under_one_name(tmp_path):
    for text in ("one", "two"):
        move_to_trash(touch(tmp_path / "episode_1.hdf5", text))
    kept = sorted((tmp_path / "trash").iterdir())
    assert [p.name for p in kept] == ["episode_1.hdf5.1.trashed", "episode_1.hdf5.trashed"]
    assert {p.read_text() for p in kept} == {"one", "two"}
    assert find_episodes(tmp_path) == []


def test_missing_files_are_named(tmp_path):
    with pytest.raises(EpisodeError, match="no such"):
        find_episodes(tmp_path / "nowhere")
    with pytest.raises(EpisodeError, match="no such"):
        move_to_trash(tmp_path / "nothing.hdf5")
