"""A newcomer's mistakes over all verbs: each is answered by a sentence and exit code 2, and harms nothing.

The table stands in `bad_calls.py`. Every call runs in this process, through the function behind `tacit`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path

import bad_calls
import pytest
import tiny_bundles
from bad_calls import BadCall
from episode_kit import rig, write_episode

from tacit import cli

LONGEST_S = 60
"""No answer to a mistake may take longer: it would have begun its work. On a quiet core each takes some
hundredths of a second, but for the first, which import what others find imported."""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the words in braces of the table stand for."""
    root = tmp_path_factory.mktemp("bad")
    (root / "folder").mkdir()
    (root / "run/checkpoints/last").mkdir(parents=True)
    texts = {"text": "notes.txt", "hdf5": "episode_9.hdf5", "onnx": "text.onnx"}
    for name in texts.values():
        (root / name).write_text("what somebody wrote\n")
    (root / "empty.hdf5").touch()
    (root / "broken.yaml").write_text("name: [unclosed\n\t- {")
    (root / "link").symlink_to(root / "nowhere")
    os.mkfifo(root / "pipe")
    (root / "bundles").mkdir()
    tiny_bundles.policy_bundle(root / "bundles", rig())
    tiny_bundles.progress_bundle(root / "bundles", rig())
    episode = write_episode(root / "data", 12)
    assert cli.main(["episodes", "ls", str(root / "data")]) == 0  # writes its index
    return {
        **{name: root / file for name, file in texts.items()},
        "none": root / "missing",
        "folder": root / "folder",
        "empty": root / "empty.hdf5",
        "yaml": root / "broken.yaml",
        "link": root / "link",
        "pipe": root / "pipe",
        "under": root / "notes.txt/below",
        "run": root / "run",
        "episode": episode,
        "data": root / "data",
        "bundle": root / "bundles/policy.onnx",
        "progress_bundle": root / "bundles/progress.onnx",
    }


def contents(root: Path) -> dict[str, str]:
    """Every path below `root`, with what it holds."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(root.rglob("*"))
    }


@contextlib.contextmanager
def limited(seconds: int) -> Iterator[None]:
    """Fail what takes longer: a call that begins its work instead of refusing it."""

    def late(number: int, frame: object) -> None:
        pytest.fail(f"no answer within {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def answer_of(words: list[str]) -> int:
    try:
        return cli.main(words)
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else -1


def calls() -> list[object]:
    """Every call of the table, skipped where what it needs is missing."""
    needs = {"CORE": (), "ROS": ("ros",), "SIM": ("sim",), "CALIBRATION": (), "LEARNING": ("learning",)}
    return [
        pytest.param(
            call, marks=[getattr(pytest.mark, mark) for mark in marks], id=f"{group}-{name_of(call)}"
        )
        for group, marks in needs.items()
        for call in getattr(bad_calls, group)
    ]


def name_of(call: BadCall) -> str:
    return call.words.replace("{", "").replace("}", "").replace("/", "_")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Calls run in an empty folder, at a wide terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "1000")
    return tmp_path


@pytest.mark.parametrize("call", calls())
def test_a_call_that_cannot_work_is_answered_by_a_sentence(
    call: BadCall, places: dict[str, Path], capfd: pytest.CaptureFixture[str], elsewhere: Path
) -> None:
    root = places["folder"].parent
    before = contents(root)
    with limited(LONGEST_S):
        code = answer_of(shlex.split(call.words.format(**places)))
    out, err = capfd.readouterr()
    said = re.sub(r"[\s\u2500-\u257f]+", " ", out + err)  # a table of the parser is drawn in lines
    wanted = re.sub(r"\{(\w+)\}", lambda found: re.escape(str(places[found[1]])), call.named)
    assert (code, bool(re.search(wanted, said))) == (int(call.code), True), said
    assert "Traceback" not in said
    assert contents(root) == before
    assert list(elsewhere.iterdir()) == []
