"""A killed recorder costs at most half a second of one episode, and one command brings the rest back."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from benches.kill import KINDS, MAX_LOST_S, kill_many
from benches.recorder_stand import Stand, stand
from benches.testing import wait_until
from tacit.cli import main as tacit
from tacit.episode import EpisodeReader, check_episode
from tacit_ros.run.record_client import Command

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place() -> Iterator[Stand]:
    with stand() as made:
        yield made


def num_ticks(place: Stand) -> int:
    """Ticks of the episode in the making, as the recorder tells."""
    return int(json.loads(place.client.ask(Command.status))["num_ticks"])


def test_killed_recorder_loses_half_a_second_at_most_and_no_earlier_episode() -> None:
    results = kill_many(2, seed=7)
    assert {result.kind for result in results} == set(KINDS)
    for result in results:
        assert result.state in ("recovered", "complete") and result.errors == (), result
        assert result.is_earlier_intact and result.ticks > 0, result
        assert result.lost_s <= MAX_LOST_S + 0.25, result  # a busy machine; the bench is strict


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signal_finishes_the_episode(place: Stand, signum: int) -> None:
    with place.recorder() as process:
        path = place.start()
        wait_until(lambda: num_ticks(place) > 40, "more than a second of ticks")
        process.send_signal(signum)
        assert process.wait(timeout=20) == 0
    with EpisodeReader(path) as episode:
        assert episode.state == "complete" and episode.success is None
    assert check_episode(path).ok


def test_recover_is_one_command(place: Stand, capsys: pytest.CaptureFixture) -> None:
    with place.recorder() as process:
        path = place.start()
        part = path.with_name(path.name + ".part")
        wait_until(lambda: num_ticks(place) > 40, "more than a second of ticks")
        process.kill()
        process.wait(timeout=10)
    assert tacit(["recover", str(part)]) == 0
    assert Path(path).is_file() and not part.exists()
