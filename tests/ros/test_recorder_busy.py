"""The recorder on a busy machine: what is silence, what is lost, and who is told."""

from __future__ import annotations

import dataclasses
import itertools
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from recorder_feed import BEGIN, SECOND, TICK, feed, value_of

from benches.recorder import Recorded
from benches.testing import wait_until
from tacit.episode import EpisodeReader, check_episode
from tacit.images import encode_jpeg
from tacit.record import encoder_pool
from tacit.record.attention import Attention
from tacit.record.recorder import RecorderSession
from tacit.rig import Rig

# --- a busy machine -------------------------------------------------------------------------------


def test_absence_of_the_intake_itself_is_no_silence_of_the_drivers() -> None:
    attention = Attention()
    attention.looked(0)
    attention.looked(20_000_000)
    attention.looked(20_000_000 + 3 * SECOND)
    assert attention.ns < SECOND // 4
    assert attention.take_late() == [3 * SECOND] and attention.take_late() == []


def test_intake_that_never_runs_again_ends_the_episode_with_the_cure() -> None:
    attention = Attention()
    attention.looked(0)
    assert attention.absent(5 * SECOND) is None
    assert "too busy" in str(attention.absent(11 * SECOND))


def test_starved_intake_aborts_nothing_and_is_named(
    session: RecorderSession, rig: Rig, said: list[str]
) -> None:
    feed(session, rig, 0, 3)
    session.looked(time.monotonic_ns())
    session.start("lift", "")
    feed(session, rig, 3, 10)
    session.looked(time.monotonic_ns())
    wait_until(lambda: session.status()["num_ticks"], "first ticks")
    time.sleep(1.3)  # longer than a lost stream: the poller is not scheduled, so nobody looks
    feed(session, rig, 13, 30, without=("wrist", "left"))  # the writer sees half of what waited ...
    time.sleep(0.1)
    assert session.is_recording and not any("aborted" in text for text in said)
    for number in range(13, 43):
        for name in ("wrist", "left"):
            stamp_ns = BEGIN + number * TICK
            session.receive(name, stamp_ns, stamp_ns, value_of(rig, name, number))
        session._encoders.drain()
    session.looked(time.monotonic_ns())  # ... and only now was everything taken
    with EpisodeReader(session.stop(True)) as episode:
        assert episode.state == "complete" and episode.num_ticks == 40
        assert {kind for _, kind, _ in episode.events} == {"late_intake"}
    warned = [finding for finding in check_episode(session.last_path).findings if finding.rule == "W14"]
    assert [finding.where for finding in warned] == ["recorder"]


def test_stream_that_our_own_encoder_holds_back_is_not_lost(
    session: RecorderSession, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    monkeypatch.setattr(encoder_pool, "encode", lambda rgb, quality: gate.wait(20) and encode_jpeg(rgb, 90))
    session.start("lift", "")
    numbers = itertools.count(3)
    begin = time.monotonic()

    def go_on() -> None:
        number = next(numbers)
        for name in set(rig.specs) - set(rig.image_names):
            session.receive(name, BEGIN + number * TICK, BEGIN, value_of(rig, name, number))
        if number < 20:
            for name in rig.image_names:
                session.receive(name, BEGIN + number * TICK, BEGIN, value_of(rig, name, number))
        time.sleep(0.02)

    wait_until(lambda: time.monotonic() - begin > 1.5, "a second and a half of encoding", step=go_on)
    assert session.is_recording
    gate.set()
    with EpisodeReader(session.stop(True)) as episode:
        assert episode.state == "complete" and episode.num_ticks == 17


def test_frames_that_no_encoder_gets_to_are_counted_and_the_stop_is_bounded(
    session: RecorderSession, rig: Rig, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(session, rig, 0, 3)
    session.start("lift", "")
    feed(session, rig, 3, 20)
    wait_until(lambda: session.status()["num_ticks"], "first ticks")
    gate = threading.Event()
    monkeypatch.setattr(encoder_pool, "DRAIN_DEADLINE_S", 0.3)
    monkeypatch.setattr(encoder_pool, "encode", lambda rgb, quality: gate.wait(20) and encode_jpeg(rgb, 90))
    for number in range(23, 28):
        session.receive("wrist", BEGIN + number * TICK, BEGIN, value_of(rig, "wrist", number))
    begin = time.monotonic()
    path = session.stop(True)
    gate.set()
    assert time.monotonic() - begin < 10.0  # the encoders wait for 20 s
    assert "4 of wrist" in said[-1]
    with EpisodeReader(path) as episode:
        assert episode.drops["wrist"]["lost_queue"] == 4
        assert [data for _, kind, data in episode.events if kind == "lost"] == [
            {"stream": "wrist", "queue": 4, "middleware": 0}
        ]
    assert any(f.rule == "W14" and f.where == "wrist" for f in check_episode(path).findings)


def test_episode_that_ends_while_it_is_asked_about_is_none(session: RecorderSession, tmp_path: Path) -> None:
    class Ending(RecorderSession):
        """Whose episode the writer ends after each first look at it."""

        @property
        def _recording(self) -> object:
            return looks.pop() if threading.current_thread() is threading.main_thread() and looks else None

        @_recording.setter
        def _recording(self, value: object) -> None: ...

    looks: list[object] = []
    session.__class__ = Ending
    episode = SimpleNamespace(writer=SimpleNamespace(part=tmp_path / "lift/episode_0.hdf5.part"))
    looks[:] = [episode]
    session.report_lost({"top": 7})
    assert episode.lost_reported == {"top": 7}
    looks[:] = [episode]
    assert session.interrupted() == []


def test_bench_under_load_forgives_slowness_but_no_false_episode_and_no_endless_stop() -> None:
    numbers: dict[str, Any] = {field.name: 0 for field in dataclasses.fields(Recorded)}
    slow = Recorded(**numbers | {"images": "raw", "load": 8, "state": "complete", "errors": ()})
    slow = dataclasses.replace(slow, cpu_percent=90.0, dropped_ticks=300, growth_mb=60.0, stop_s=4.0)
    assert slow.missed == []
    assert len(dataclasses.replace(slow, load=0).missed) == 4
    for worse in ({"state": "aborted"}, {"errors": ("E13 joints",)}, {"stop_s": 11.0}):
        assert len(dataclasses.replace(slow, **worse).missed) == 1


def test_losses_of_the_middleware_are_in_status_events_and_check(session: RecorderSession, rig: Rig) -> None:
    feed(session, rig, 0, 3)
    session.start("lift", "")
    feed(session, rig, 3, 20)
    session.report_lost({"top": 7})
    assert session.status()["counts"]["top"]["lost_middleware"] == 7  # type: ignore[index]
    path = session.stop(True)
    with EpisodeReader(path) as episode:
        assert (episode.drops["top"]["lost_middleware"], episode.events[-1][1]) == (7, "lost")
    assert any(f.rule == "W14" and f.where == "top" for f in check_episode(path).findings)
