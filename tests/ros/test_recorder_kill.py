"""A killed recorder costs at most half a second of one episode; a signal costs nothing."""

from __future__ import annotations

import json
import signal

import pytest

from benches.kill import KINDS, MAX_LOST_S, kill_many
from benches.recorder_stand import stand
from benches.testing import wait_until
from tacit.episode import EpisodeReader, check_episode
from tacit.rig import Rig, load_rig

pytestmark = pytest.mark.slow


def test_killed_recorder_loses_half_a_second_at_most_and_no_earlier_episode() -> None:
    results = kill_many(1, seed=7)
    assert {result.kind for result in results} == set(KINDS)
    for result in results:
        assert result.state in ("recovered", "complete") and result.errors == (), result
        assert result.is_earlier_intact and result.ticks > 0, result
        assert result.lost_s <= MAX_LOST_S + 0.25, result  # a busy machine; the bench is strict


def slow_rig() -> Rig:
    """The simulated rig at rates that a busy machine keeps: readiness is no matter of its load."""
    rig = load_rig("nova2_sim")
    streams = {**rig.cameras, **rig.tactile, **rig.streams}
    slow = {name: spec.model_copy(update={"rate_hz": 10.0}) for name, spec in streams.items()}
    parts = {
        part: {name: slow[name] for name in getattr(rig, part)} for part in ("cameras", "tactile", "streams")
    }
    return rig.model_copy(update={**parts, "alignment": rig.alignment.model_copy(update={"rate_hz": 10.0})})


def test_signal_finishes_the_episode() -> None:
    """One signal of those that `test_killed_threads` sends: they end a node in the same way."""
    with stand(slow_rig()) as place:
        with place.recorder() as process:
            path = place.start()
            wait_until(lambda: json.loads(place.status())["num_ticks"] > 10, "a second of ticks", 120)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0
        with EpisodeReader(path) as episode:
            assert episode.state == "complete" and episode.success is None
        assert check_episode(path).ok
