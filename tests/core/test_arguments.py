"""Options keep within their bounds, two runs never write one place, and long work says how long."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pytest
import tyro
from hypothesis import given
from hypothesis import strategies as st

from tacit.config.arguments import Count, NewFile, NewFolder, Seed, Within, parse_words, tidy
from tacit.config.claims import sole_writer
from tacit.config.pace import Pace, in_words
from tacit.errors import ConfigError


@dataclass(frozen=True)
class Inner:
    """A group of options."""

    share: Annotated[float, Within(0, 1)] = 0.5


@dataclass(frozen=True)
class Example:
    """What a verb takes."""

    source: Annotated[Path, tyro.conf.Positional]
    number: Count = 3
    at: tuple[Count, ...] = ()
    seed: Seed | None = None
    out: NewFile | None = None
    folder: NewFolder | None = None
    free: float = 0.0
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--number", "0"], "tacit example: --number 0: expected 1 to 1,000,000"),
        (["--at", "4", "-1"], "--at -1"),
        (["--seed", "-1"], "--seed -1"),
        (["--free", "nan"], "--free nan"),
        (["--free", "1e300"], "--free 1e"),
        (["--inner.share", "1.5"], "--inner.share 1.5: expected 0 to 1"),
        (["--out", "."], "--out .: is a folder, expected the name of a file"),
        (["--folder", "{file}"], "is a file, expected the name of a folder"),
        (["--folder", "{file}/deep/er"], "for {file} is a file"),
        (["--out", "{link}"], "is a link to"),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_its_flag(words: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    places = {"file": tmp_path / "file", "link": tmp_path / "link"}
    with pytest.raises(ConfigError) as caught:
        parse_words(Example, ["source", *(word.format(**places) for word in words)], "tacit example")
    assert said.format(**places) in str(caught.value)


def test_what_is_within_bounds_passes(tmp_path: Path) -> None:
    words = ["somewhere", "--number", "7", "--out", str(tmp_path / "new/page.html"), "--inner.share", "1"]
    options = parse_words(Example, words, "tacit example")
    assert (options.source, options.number, options.inner.share) == (Path("somewhere"), 7, 1.0)


@given(st.floats(allow_nan=False), st.floats(-5, 5), st.floats(-5, 5))
def test_a_bound_holds_its_ends_unless_it_lies_above(value: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert Within(low, high).holds(value) == (low <= value <= high)
    assert Within(low, high, above=True).holds(value) == (low < value <= high)
    assert not Within(low, high).holds(float("nan"))


def test_help_has_no_types_of_the_library_and_keeps_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parse_words(Example, ["--help"], "tacit example")
    text = capsys.readouterr().out
    assert left.value.code == 0
    assert "None" not in text and "[[" not in text
    assert "--number INT" in text and "(default: 3)" in text
    table = "usage: x [--out {None}|PATH]\n\n--out {None}|PATH  a file (default: None) |\n"
    usage, row = tidy(table).split("\n\n")
    assert usage == "usage: x [--out PATH]"
    assert row == f"--out {'PATH':11}  a file {' ' * 15} |\n"


def test_a_second_writer_is_refused_by_name_and_a_killed_one_leaves_no_claim(tmp_path: Path) -> None:
    place = tmp_path / "run"
    code = (
        "import sys, time; from pathlib import Path; from tacit.config.claims import sole_writer\n"
        "with sole_writer(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(place)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(ConfigError, match=rf"{place}: another run .*process {holder.pid}"):
            sole_writer(place).__enter__()
        holder.kill()
    with sole_writer(place):
        pass
    assert os.listdir(place) == []


def test_names_of_two_files_in_one_folder_are_claimed_apart(tmp_path: Path) -> None:
    a, b = tmp_path / "a.onnx", tmp_path / "b.onnx"
    refused = pytest.raises(ConfigError, match=r"a\.onnx")
    with sole_writer(a, is_file=True), sole_writer(b, is_file=True), refused:
        sole_writer(a, is_file=True).__enter__()
    assert os.listdir(tmp_path) == []


def test_pace_tells_rate_and_time_left() -> None:
    seconds = iter((0.0, 30.0))
    assert Pace(10, lambda: next(seconds)).after(4) == "8 a minute, 45 s left"
    assert [in_words(value) for value in (99, 120, 7800)] == ["99 s", "2 min", "2 h 10 min"]
