"""A newcomer's first day, word for word from the README: rig, record, check, train, export, dry run.

The test adds tiny numbers for the training; nothing else. What runs in another terminal is another process.
"""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from forked import Forked

from benches.testing import isolated_domain, wait_until
from tacit import cli

pytest.importorskip("torch")
pytestmark = [pytest.mark.sim, pytest.mark.ros, pytest.mark.learning, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
TINY = shlex.split(
    "train.steps=2 train.batch_size=2 train.warmup_steps=0 model.dim=32 model.feedforward=32 "
    "model.conv.channels=[8,8] model.conv.strides=[4,4] model.touch_conv.channels=[8,8] "
    "model.touch_conv.strides=[4,4] hsa.feature_dim=16"
)


def first_day() -> list[list[str]]:
    """The words after `tacit` of each line of that section of the README."""
    text = (ROOT / "README.md").read_text()
    section = text.split("### The first day with a rig of your own")[1].split("\n#")[0]
    return [
        shlex.split(re.sub(r"\s#.*", "", line))[1:]
        for line in re.findall(r"^tacit .*", section, re.MULTILINE)
    ]


@contextmanager
def running(words: list[str], until: str) -> Iterator[None]:
    """Run a verb in another process; go on when it has said so, and stop it by Ctrl-C at the end."""
    log = Path(f"{words[0]}.log")
    with log.open("w") as said:
        process = Forked("tacit.cli", *words, imports=["tacit_ros.run.up"], output=said)
    try:
        wait_until(lambda: re.search(until, log.read_text()) or process.poll() is not None, until, 120)
        assert re.search(until, log.read_text()), log.read_text()
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
    assert process.returncode == 0, log.read_text()


@pytest.fixture(autouse=True)
def domain() -> Iterator[int]:
    with isolated_domain() as number:
        yield number


def test_the_first_day_has_no_dead_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    new, check_rig, show, up, status, simulate, check, train, export, run = first_day()
    for words in (new, check_rig, show):
        assert cli.main(words) == 0, words
    with running(up, "call ~/start"):
        capsys.readouterr()
        assert cli.main([*status, "--timeout", "100"]) == 0
        assert "joints:" in capsys.readouterr().out
    assert cli.main([*simulate, "--episodes", "1"]) == 0
    assert cli.main(check) == 0
    assert cli.main([*train, *TINY]) == 0
    assert cli.main(export) == 0
    with running(run, "first.onnx"):
        pass
    assert [path.name for path in Path("data/place_cube").glob("*.hdf5")] == ["episode_0.hdf5"]
