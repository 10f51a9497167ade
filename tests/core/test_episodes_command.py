"""Facts about `tacit episodes`: nothing is lost, old values stay, and the index tells what is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from episode_kit import PERIOD_NS, START_NS, append_native, tick_at, write_episode, writer_at

from tacit.cli import main
from tacit.episode import EpisodeReader, Step, check_episode, move_to_trash
from tacit.episode.cut import join, split, trim
from tacit.episode.edit import Labels, history_of, label
from tacit.episode.files import find_trashed, take_from_trash
from tacit.episode.finish import content_sha256
from tacit.episode.index import FIELDS, INDEX_NAME, INDEX_SCHEMA, list_episodes
from tacit.errors import EpisodeError

TICKS = 24


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_episode(tmp_path_factory.mktemp("recorded"), TICKS).read_bytes()


@pytest.fixture
def episode(tmp_path: Path, recorded: bytes) -> Path:
    path = tmp_path / "place_cube" / "episode_0.hdf5"
    path.parent.mkdir()
    path.write_bytes(recorded)
    return path


def contents(path: Path) -> str:
    with EpisodeReader(path) as reader:
        return content_sha256(reader.file)


def errors(path: Path, full: bool = False) -> list[str]:
    found = check_episode(path, full).findings
    return [f"{f.rule} {f.where}: {f.message}" for f in found if f.level == "error"]


def run(*words: object) -> int:
    return main(["episodes", *map(str, words)])


def test_a_label_changes_and_the_old_one_stays_in_the_history(episode: Path) -> None:
    before = contents(episode)
    assert (
        run("label", episode, "--success", "no", "--outcome", "dropped", "--instruction", "put it down") == 0
    )
    with EpisodeReader(episode) as reader:
        assert (reader.success, reader.attribute("outcome"), reader.instruction) == (
            False,
            "dropped",
            "put it down",
        )
        (line,) = history_of(reader.file)
        assert line["changes"]["success"] == [1, 0]  # type: ignore[index]
        assert line["changes"]["outcome"] == ["placed", "dropped"]  # type: ignore[index]
    assert contents(episode) == before
    assert not errors(episode)


def test_a_label_that_is_there_already_writes_nothing(episode: Path) -> None:
    stamp = os.stat(episode).st_mtime_ns
    assert label(episode, Labels(success="yes")) == {}
    assert os.stat(episode).st_mtime_ns == stamp


def test_steps_are_replaced_and_the_old_ones_stay_in_the_history(episode: Path) -> None:
    with EpisodeReader(episode) as reader:
        old = reader.steps
    assert run("label", episode, "--steps", "reach:0-9", "place:12-23") == 0
    with EpisodeReader(episode) as reader:
        assert reader.steps == [Step("reach", 0, 9), Step("place", 12, 23)]
        (line,) = history_of(reader.file)
        assert [Step(*step) for step in line["changes"]["steps"][0]] == old  # type: ignore[index]
    assert not errors(episode)


def test_failures_and_the_steps_of_the_task_are_labelled_and_follow_a_cut(episode: Path) -> None:
    steps = ("--steps", "reach:0-9", "place:12-23", "--task-steps", "reach", "place")
    assert run("label", episode, "--failures", "miss:8-13", *steps) == 0
    with EpisodeReader(episode) as reader:
        assert reader.failures == [Step("miss", 8, 13)] and reader.task_steps == ("reach", "place")
        assert (reader.attribute("failure"), reader.attribute("failure_stage")) == ("miss", "reach")
    assert not errors(episode)
    assert run("trim", episode, "--first", 12) == 0
    (cut,) = (item.path for item in list_episodes(episode.parent))
    with EpisodeReader(cut) as reader:
        assert reader.failures == [Step("miss", 0, 1)] and reader.task_steps == ("reach", "place")
        assert reader.attribute("failure_stage") == "place"
    assert run("label", cut, "--failures", "none") == 0
    with EpisodeReader(cut) as reader:
        assert reader.failures == [] and reader.attribute("failure") == ""


@pytest.mark.parametrize(
    "words",
    [
        *(["--steps", *steps] for steps in (["a:0-24"], ["a:5-3"], ["a:0-9", "b:9-12"], ["a"])),
        *(["--task-steps", "reach", name] for name in ("", "reach")),
        ["--instruction", "\udcff"],  # a byte of another encoding
    ],
)
def test_labels_that_cannot_be_meant_are_refused(episode: Path, words: list[str]) -> None:
    before = episode.read_bytes()
    assert run("label", episode, *words) != 0
    assert episode.read_bytes() == before


def test_a_deleted_episode_comes_back_as_it_was(episode: Path) -> None:
    before = episode.read_bytes()
    assert run("delete", episode) == 0
    assert not episode.exists() and list_episodes(episode.parent) == []
    assert run("restore", episode) == 0
    assert episode.read_bytes() == before


def test_what_is_restored_never_takes_the_place_of_another(episode: Path) -> None:
    trashed = move_to_trash(episode)
    other = episode
    other.write_bytes(b"something new")
    place = take_from_trash(trashed)
    assert place.name == "episode_1.hdf5"
    assert other.read_bytes() == b"something new"


def test_a_second_deleted_file_of_one_name_comes_back_under_a_name_of_an_episode(tmp_path: Path) -> None:
    for _ in range(2):
        first = write_episode(tmp_path, 3)
        path = first.rename(first.with_name("episode_0.hdf5"))
        move_to_trash(path)
    assert [p.name for p in map(take_from_trash, find_trashed(tmp_path))] == [
        "episode_0.hdf5",
        "episode_1.hdf5",
    ]


def test_a_discarded_recording_is_finished_when_it_is_restored(tmp_path: Path) -> None:
    writer = writer_at(tmp_path)
    for i in range(TICKS):
        append_native(writer, i)
        writer.append(tick_at(i))
    writer.discard()
    assert run("restore", *find_trashed(tmp_path)) == 0
    (item,) = list_episodes(tmp_path)
    assert (item.entry.state, item.entry.ticks) == ("recovered", TICKS)


def test_a_whole_folder_is_not_deleted_by_mistake(episode: Path) -> None:
    assert run("delete", episode.parent) == 2
    assert run("delete", episode.parent, "--only.success", "no") == 2
    assert episode.exists()
    assert run("delete", episode.parent, "--only.success", "yes", "--dry-run") == 0
    assert episode.exists()


def test_only_what_lies_in_a_trash_is_restored(tmp_path: Path) -> None:
    stray = tmp_path / "notes.txt"
    stray.write_text("mine")
    with pytest.raises(EpisodeError, match="not in a trash"):
        take_from_trash(stray)
    assert run("restore", stray) == 1 and stray.read_text() == "mine"


def test_a_trimmed_episode_holds_those_ticks_and_nothing_else_changes(episode: Path) -> None:
    with EpisodeReader(episode) as reader:
        qpos, boxes, qvel = reader.qpos, reader.boxes("wrist", "left"), reader.qvel
        picture, steps = reader.image_bytes("top", 7), reader.steps
    (trimmed,), trashed = trim(episode, 5, 20)
    assert trimmed == episode and trashed == find_trashed(episode.parent)
    with EpisodeReader(trimmed) as reader:
        np.testing.assert_array_equal(reader.qpos, qpos[5:21])
        np.testing.assert_array_equal(reader.boxes("wrist", "left"), boxes[5:21])
        np.testing.assert_array_equal(reader.image_bytes("top", 2), picture)
        np.testing.assert_array_equal(reader.tick_ns, START_NS + PERIOD_NS * np.arange(5, 21))
        assert (reader.qvel is None) == (qvel is None)
        kept = [s for s in steps if s.end_frame >= 5 and s.start_frame <= 20]
        assert [s.name for s in reader.steps] == [s.name for s in kept]
        assert reader.steps[0] == Step(kept[0].name, 0, kept[0].end_frame - 5)
        assert reader.steps[-1].end_frame == 15
        (line,) = history_of(reader.file)
        assert line["change"] == "trimmed" and line["from"][0]["ticks"] == [5, 20]  # type: ignore[index]
        assert reader.success is True
    assert not errors(trimmed, full=True)
    assert len(trashed) == 1


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [
        (0, TICKS - 1, "nothing would be cut"),
        (0, None, "nothing would be cut"),
        (-1, 5, "keep ticks -1 to 5: it has 0 to 23"),
        (6, 5, "keep ticks 6 to 5"),
        (0, TICKS, "keep ticks 0 to 24"),
    ],
)
def test_a_trim_beyond_the_episode_is_refused_and_nothing_moves(
    episode: Path, first: int, last: int | None, message: str
) -> None:
    with pytest.raises(EpisodeError, match=message):
        trim(episode, first, last)
    assert episode.exists() and not find_trashed(episode.parent)


def test_who_trims_is_told_what_was_kept_where_the_whole_is_and_that_the_label_stays(
    episode: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("trim", episode, "--first", 5) == 0
    told = capsys.readouterr().out
    assert f"ticks 5 to {TICKS - 1} of 0 to {TICKS - 1} kept" in told and "still labelled a success" in told
    assert str(*find_trashed(episode.parent)) in told


def test_who_restores_is_answered_in_the_names_that_were_typed(
    episode: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("restore", episode.parent) == 1
    assert f"{episode.parent}: a folder; name what" in capsys.readouterr().out
    assert run("restore", episode) == 1
    assert f"{episode}: nothing of that name is in" in capsys.readouterr().out


def test_a_folder_without_episodes_is_no_success(
    episode: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("ls", episode.parent, "--only.success", "no") == 1
    assert "none of 1 episodes is as --only says" in capsys.readouterr().err
    move_to_trash(episode)
    (tmp_path / "place_cube" / "episode_7.hdf5.part").touch()
    assert run("ls", tmp_path) == 1
    told = capsys.readouterr().err
    assert "no episode (*.hdf5)" in told and "1 interrupted" in told and "1 in its trash" in told


def test_what_is_split_and_joined_again_has_the_same_contents(episode: Path) -> None:
    with EpisodeReader(episode) as reader:
        before = {name: data[:] for name, data in (("qpos", reader.qpos), ("action", reader.action))}
        stamps = reader.stream("joints")["stamp_ns"]
    digest = contents(episode)
    parts = split(episode, [10, 17]).made
    assert [p.name for p in parts] == ["episode_0.hdf5", "episode_1.hdf5", "episode_2.hdf5"]
    for part in parts:
        assert not errors(part)
        with EpisodeReader(part) as reader:
            assert reader.success is None
    (joined,) = join(parts[::-1]).made
    with EpisodeReader(joined) as reader:
        np.testing.assert_array_equal(reader.qpos, before["qpos"])
        np.testing.assert_array_equal(reader.action, before["action"])
        np.testing.assert_array_equal(reader.stream("joints")["stamp_ns"], stamps)
    assert contents(joined) == digest
    assert not errors(joined, full=True)


def test_takes_that_are_far_apart_or_overlap_are_not_joined(tmp_path: Path) -> None:
    first, second = write_episode(tmp_path, 5), write_episode(tmp_path, 5)
    with pytest.raises(EpisodeError, match="apart"):
        join([first, second])
    assert first.exists() and second.exists()


def test_sample_numbers_go_on_where_two_recordings_are_joined(tmp_path: Path) -> None:
    first = write_episode(tmp_path, 6)
    writer = writer_at(tmp_path)
    for i in range(8, 14):
        tick = tick_at(i)
        samples = {name: replace(s, index=s.index - 8) for name, s in tick.samples.items()}
        writer.append(replace(tick, samples=samples))
    (joined,) = join([first, writer.close(False)]).made
    assert not errors(joined)
    with EpisodeReader(joined) as reader:
        assert (reader.num_ticks, reader.success) == (12, False)


def test_a_full_disk_leaves_the_episode_as_it_was(episode: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = episode.read_bytes()

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tacit.episode.edit.os.fsync", full)
    for change in (lambda: label(episode, Labels(success="no")), lambda: trim(episode, 0, 3)):
        with pytest.raises(EpisodeError, match="No space left"):
            change()
    assert [p.name for p in episode.parent.iterdir()] == [episode.name]
    assert episode.read_bytes() == before


def test_foreign_and_damaged_files_are_listed_and_never_changed(tmp_path: Path) -> None:
    foreign, cut = tmp_path / "episode_0.hdf5", tmp_path / "episode_1.hdf5"
    with h5py.File(foreign, "w") as file:
        file["action"] = file["observations/qpos"] = np.zeros((4, 14))
    cut.write_bytes(foreign.read_bytes()[:700])
    assert [item.entry.kind for item in list_episodes(tmp_path)] == ["foreign", "damaged"]
    assert not (tmp_path / INDEX_NAME).exists()
    before = foreign.read_bytes()
    assert run("label", foreign, cut, "--success", "yes") == 1
    assert foreign.read_bytes() == before


def test_the_index_follows_every_change_of_the_folder(tmp_path: Path) -> None:
    first, second = write_episode(tmp_path, 5), write_episode(tmp_path, 6, success=None)
    assert [item.entry.success for item in list_episodes(tmp_path)] == [True, None]
    label(second, Labels(success="no"))
    assert [item.entry.success for item in list_episodes(tmp_path)] == [True, False]
    move_to_trash(first)
    assert [item.path for item in list_episodes(tmp_path)] == [second]
    (second.parent / INDEX_NAME).write_text('["half a li')
    assert [item.entry.ticks for item in list_episodes(tmp_path)] == [6]


def test_copies_are_chosen_numbered_and_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    write_episode(source, 4), write_episode(source, 5, success=False), write_episode(source, 6)
    assert run("copy", source, "--to", target, "--only.success", "yes") == 0
    assert [item.entry.ticks for item in list_episodes(target)] == [4, 6]
    assert [item.path.name for item in list_episodes(target)] == ["episode_0.hdf5", "episode_1.hdf5"]
    assert run("copy", source, "--to", target) == 0
    assert sorted(item.entry.ticks for item in list_episodes(target)) == [4, 5, 6]
    assert run("copy", source, "--to", source / "inside") == 2
    assert all(not errors(item.path) for item in list_episodes(target))


def test_dedupe_keeps_one_of_each_and_believes_no_claim(tmp_path: Path) -> None:
    path = write_episode(tmp_path, 5)
    twin, liar = path.with_name("episode_1.hdf5"), path.with_name("episode_2.hdf5")
    twin.write_bytes(path.read_bytes())
    liar.write_bytes(path.read_bytes())
    with h5py.File(liar, "r+") as file:  # other contents under the same claim
        file["action"][0, 0] += 1
    assert run("dedupe", tmp_path) == 0
    assert path.exists() and liar.exists() and not twin.exists()


def test_the_history_goes_on_from_the_list_of_recalibrations(episode: Path) -> None:
    with h5py.File(episode, "r+") as file:  # as files from before the history hold it
        file.attrs["recalibrations_json"] = json.dumps([{"from": "a", "to": "b"}])
    label(episode, Labels(success="no"))
    with EpisodeReader(episode) as reader:
        assert [line.get("change") for line in history_of(reader.file)] == [None, "labelled"]


@pytest.mark.parametrize("words", [(), ("lss",), ("label", "x.hdf5"), ("ls", "nowhere"), ("copy", "nowhere")])
def test_a_wrong_command_says_what_is_right(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    assert capsys.readouterr().err.strip()


def test_everything_is_said_of_one_episode(episode: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label(episode, Labels(outcome="late"))
    assert run("info", episode) == 0 and run("ls", episode.parent) == 0
    told = capsys.readouterr().out
    for words in ("put the cube on the plate", "outcome: late", "labelled", "joints: ", "1 successes"):
        assert words in told


def test_hidden_folders_hold_no_episodes(episode: Path) -> None:
    hidden = episode.parent / ".new.converting"
    hidden.mkdir()
    (hidden / "episode_5.hdf5").write_bytes(episode.read_bytes())
    assert [item.path for item in list_episodes(episode.parent)] == [episode]


@pytest.mark.parametrize("root", [".", "./", "data//", "./data/lift/../lift", ""])
def test_a_data_set_is_listed_however_its_folder_is_written(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data" / "lift"
    written = write_episode(folder, 4)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # read, then known from the index
        (item,) = list_episodes(root)
        assert item.path.resolve() == written.resolve() and item.entry.ticks == 4


def test_ten_thousand_entries_are_listed_from_the_index_alone(tmp_path: Path) -> None:
    labels = ["tacit", "lift", "lift the cube", "complete", True, ""]
    values = [*labels, 100, 4.0, 25.0, *[""] * 6, [], 0, ""]
    rows: list[list[object]] = [[INDEX_SCHEMA, *FIELDS]]
    for number in range(10_000):
        path = tmp_path / f"episode_{number}.hdf5"
        path.touch()
        state = os.stat(path)
        rows.append([path.name, state.st_size, state.st_mtime_ns, *values])
    (tmp_path / INDEX_NAME).write_text("".join(json.dumps(row) + "\n" for row in rows))
    begun = time.process_time()
    found = list_episodes(tmp_path)
    assert time.process_time() - begun < 2.0  # measured .3 s; a read would take a minute
    assert len(found) == 10_000 and all(item.entry.kind == "tacit" for item in found)
    program = (
        "import sys; from tacit.cli import main; main(sys.argv[1:]); "
        "sys.exit(','.join({'numpy', 'h5py', 'cv2', 'pydantic', 'tacit.rig'} & set(sys.modules)))"
    )
    words = [sys.executable, "-c", program, "episodes", "ls", str(tmp_path)]
    listing = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    # Half of the second that a listing took went into imports that it does not need.
    assert "10000 episodes" in listing.stdout and not listing.stderr.strip()
