"""`tacit convert`: one table of formats, and a target that appears whole or not at all."""

from __future__ import annotations

import dataclasses
import errno
import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
from episode_kit import write_episode

from tacit import cli
from tacit.convert import registry
from tacit.convert.job import Converted, Export, Import, Track
from tacit.convert.target import new_target
from tacit.errors import EpisodeError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Writing(Export):
    """Write text."""

    words: int = 2
    """How many."""


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable], None]:
    """Put a function behind `--to text`, and a reader of folders that hold `text` behind `--from text`."""

    def read(job: Import, place: Path, track: Track) -> Converted:
        place.mkdir()
        return Converted(0, 0)

    def put(write: Callable) -> None:
        parts = {"Writing": Writing, "write": write, "Reading": Import, "read": read}
        module = types.ModuleType("planted_format")
        module.__dict__.update(parts, recognises=lambda source: (source / "text").exists())
        monkeypatch.setitem(sys.modules, "planted_format", module)
        entry = registry.Format("plain text", reads="planted_format", writes="planted_format")
        monkeypatch.setattr(registry, "FORMATS", {"text": entry})
        monkeypatch.setattr("tacit.convert.command.FORMATS", {"text": entry})

    return put


def write_words(job: Writing, place: Path, track: Track) -> Converted:
    place.write_text(" ".join("word" for _ in track(range(job.words), "words")))
    return Converted(1, job.words, ("a note",))


def test_a_converter_gets_its_options_and_its_result_gets_the_name(
    tmp_path: Path, plant: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(write_words)
    (tmp_path / "in").mkdir()
    words = ["convert", str(tmp_path / "in"), str(tmp_path / "deep" / "out"), "--to", "text", "--words", "3"]
    assert cli.main(words) == 0
    assert (tmp_path / "deep" / "out").read_text() == "word word word"
    assert os.listdir(tmp_path / "deep") == ["out"]
    assert "note: a note" in capsys.readouterr().out


def test_the_reader_is_found_by_what_lies_in_the_folder(tmp_path: Path, plant: Callable) -> None:
    plant(write_words)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "text").touch()
    assert cli.main(["convert", str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    assert (tmp_path / "out").is_dir()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own.hdf5", "say what to make of them with --to (lerobot"),
        ("cut.hdf5", "cannot be opened as HDF5"),
        ("demos.hdf5", "a data set of robomimic, which is only written"),
        ("replay.zarr", "a data set of zarr, which is only written"),
        ("other.hdf5", "neither a tacit episode nor an ALOHA file"),
    ],
)
def test_what_is_no_data_set_of_others_is_called_what_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    write_episode(tmp_path, 2).rename(tmp_path / "own.hdf5")
    (tmp_path / "cut.hdf5").write_bytes((tmp_path / "own.hdf5").read_bytes()[:900])
    for file, group in (("demos", "data/demo_0"), ("other", "data")):
        with h5py.File(tmp_path / f"{file}.hdf5", "w") as made:
            made.create_group(group)
    (tmp_path / "replay.zarr" / "meta" / "episode_ends").mkdir(parents=True)
    assert cli.main(["convert", str(tmp_path / name), str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    words = ["rig", "new", "--from-dataset", str(tmp_path / name), "--out", str(tmp_path / "rig.yaml")]
    assert cli.main(words) == 2
    assert message.partition(";")[0] in capsys.readouterr().err


def test_the_help_names_every_format(plant: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    plant(write_words)
    assert cli.main(["convert", "--help"]) == 0
    assert "plain text" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{in}", "{out}", "--to", "txt"], "did you mean 'text'"),
        (["{in}", "{out}"], "not recognised as a data set of others. It holds nothing"),
        (["{in}/nothing", "{out}"], "in/nothing: no such file or folder"),
        (["{taken}", "{out}"], "a file that no reader knows"),
        (["{in}", "{out}", "--to"], "--to needs a format"),
        (["{in}", "{out}", "--from", "text", "--to", "text"], "one of both must be tacit"),
        (["{in}", "{in}", "--to", "text"], "give a folder beside it"),
        (["{in}", "{in}/sub", "--to", "text"], "give a folder beside it"),
        (["{in}", "{taken}", "--to", "text"], "never overwritten"),
        (["{in}/nothing", "{out}", "--to", "text"], "no such file or folder"),
        (["{in}", "{taken}/below", "--to", "text"], "taken is a file; give a name in a folder"),
    ],
)
def test_a_wrong_word_is_answered_with_the_right_ones(
    tmp_path: Path, plant: Callable, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    plant(write_words)
    (tmp_path / "in").mkdir()
    (tmp_path / "taken").write_text("mine")
    places = {name: str(tmp_path / name) for name in ("in", "out", "taken")}
    assert cli.main(["convert", *(word.format(**places) for word in words)]) == 2
    assert message in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["in", "taken"] and (tmp_path / "taken").read_text() == "mine"


@pytest.mark.parametrize(
    ("problem", "expected", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), EpisodeError, "disk full"),
        (EpisodeError("damaged"), EpisodeError, "damaged"),
        (KeyboardInterrupt("stop"), KeyboardInterrupt, "stop"),
    ],
)
def test_nothing_is_left_of_a_conversion_that_fails(
    tmp_path: Path, problem: BaseException, expected: type[BaseException], message: str
) -> None:
    with pytest.raises(expected, match=message), new_target(tmp_path / "out") as place:
        place.mkdir()
        (place / "half").write_text("half")
        raise problem
    assert os.listdir(tmp_path) == []


def test_a_second_converter_on_the_same_target_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    with new_target(tmp_path / "out") as place:
        place.write_text("first")
        with pytest.raises(EpisodeError, match="another conversion"), new_target(tmp_path / "out"):
            raise AssertionError("both got the target")
    assert (tmp_path / "out").read_text() == "first"


def test_a_target_made_by_somebody_else_meanwhile_is_kept(tmp_path: Path) -> None:
    with pytest.raises(EpisodeError, match="never overwritten"), new_target(tmp_path / "out") as place:
        place.write_text("mine")
        (tmp_path / "out").write_text("theirs")
    assert (tmp_path / "out").read_text() == "theirs" and os.listdir(tmp_path) == ["out"]


def ended_halfway(target: Path, number: int) -> int:
    """Return how a conversion ends that is sent a signal."""
    program = (
        "import os, sys; from pathlib import Path; from tacit.convert import target\n"
        "with target.undone_by_sigterm(), target.new_target(Path(sys.argv[1])) as place:\n"
        "    place.mkdir(); (place / 'half').write_text('half'); os.kill(os.getpid(), int(sys.argv[2]))"
    )
    return subprocess.run([sys.executable, "-c", program, str(target), str(number)], check=False).returncode


def test_who_is_told_to_end_leaves_nothing(tmp_path: Path) -> None:
    assert ended_halfway(tmp_path / "out", signal.SIGTERM) == 143
    assert os.listdir(tmp_path) == []


def test_what_a_kill_left_behind_is_named_then_taken_over(
    tmp_path: Path, plant: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(write_words)
    assert ended_halfway(tmp_path / "out", signal.SIGKILL) == -9
    assert os.listdir(tmp_path) == [".out.converting"]
    with new_target(tmp_path / "busy") as place:
        (tmp_path / "in").mkdir()
        assert cli.main(["convert", str(tmp_path / "in"), str(tmp_path / "other"), "--to", "text"]) == 0
        told = capsys.readouterr().out
        assert ".out.converting is left of a conversion that was killed" in told and ".busy" not in told
        place.touch()
    for path in ("busy", "other"):
        (tmp_path / path).unlink()
    (tmp_path / "in").rmdir()
    with new_target(tmp_path / "out") as place:
        assert not place.exists()
        place.write_text("whole")
    assert os.listdir(tmp_path) == ["out"]
