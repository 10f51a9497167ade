"""The recorder without ROS: gate, monitors, encoders and sessions fed by hand."""

from __future__ import annotations

import itertools
import re
import shutil
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from recorder_feed import BEGIN, SECOND, TICK, around, feed, healthy, show, value_of

from benches.testing import wait_until
from tacit.episode import EpisodeReader
from tacit.errors import EpisodeError
from tacit.images import decode_image, encode_jpeg
from tacit.record import encoder_pool
from tacit.record.encoder_pool import QUEUE_LIMIT, EncoderPool
from tacit.record.monitor import StreamMonitor
from tacit.record.preroll import reasons_not_to_start
from tacit.record.recorder import RecorderSession
from tacit.rig import Rig
from tacit.streams import Finding
from tacit.threads import requests

# --- monitor and gate -----------------------------------------------------------------------------


def test_rate_is_that_of_the_stamps_however_fast_messages_come() -> None:
    monitor = StreamMonitor(25.0)
    for number in range(60):
        monitor.saw(BEGIN + number * TICK, 5, np.zeros(1))
    assert monitor.hz == pytest.approx(25.0)
    assert monitor.received == 60


def test_driver_that_starts_anew_loses_its_old_rate() -> None:
    monitor = StreamMonitor(25.0)
    for stamp in (BEGIN, BEGIN + TICK, *range(SECOND, 3 * SECOND, 2 * TICK)):
        monitor.saw(stamp, 5, np.zeros(1))
    assert monitor.hz == pytest.approx(12.5)


def test_healthy_robot_may_be_recorded(rig: Rig) -> None:
    assert reasons_not_to_start(rig, healthy(rig), around()) == []


def test_missing_topic_is_named_with_the_way_to_find_it(rig: Rig) -> None:
    monitors = healthy(rig) | {"top": StreamMonitor(25.0)}
    (reason,) = reasons_not_to_start(rig, monitors, around(num_publishers=lambda name: 0))
    assert "/camera/top/image" in reason and "ros2 topic list" in reason
    (reason,) = reasons_not_to_start(rig, monitors, around())
    assert "ros2 topic hz /camera/top/image" in reason


def test_refused_messages_are_the_reason_given(rig: Rig) -> None:
    monitors = healthy(rig) | {"top": StreamMonitor(25.0)}
    (reason,) = reasons_not_to_start(
        rig, monitors, around(findings={"top": Finding("size", "image is 320x240")})
    )
    assert "320x240" in reason


def test_wrong_rate_old_messages_black_image_and_full_disk_are_reasons(rig: Rig) -> None:
    monitors = healthy(rig)
    slow = StreamMonitor(25.0)
    for number in range(-40, 1):
        slow.saw(BEGIN + number * TICK * 2, BEGIN, np.full((120, 160, 3), 90, np.uint8))
    old = StreamMonitor(25.0)
    for number in range(-140, -99):
        old.saw(BEGIN + number * TICK, BEGIN + number * TICK, np.full((60, 80, 3), 90, np.uint8))
    monitors |= {"wrist": slow, "left": old}
    black = Finding("black", "the picture is black", refused=False)
    reasons = reasons_not_to_start(rig, monitors, around(free_bytes=10**6, findings={"top": black}))
    assert [re.split("[ :]", reason)[0] for reason in reasons] == ["wrist", "top", "left", "disk"]
    for words, reason in zip(("12.5 Hz", "black", "4.0 s old", "GB free"), reasons, strict=True):
        assert words in reason


def test_driver_whose_clock_is_behind_is_not_called_dead(rig: Rig) -> None:
    behind = StreamMonitor(25.0)
    for number in range(-140, -99):
        behind.saw(BEGIN + number * TICK, BEGIN, np.full((60, 80, 3), 90, np.uint8))
    (reason,) = reasons_not_to_start(rig, healthy(rig) | {"left": behind}, around())
    assert "4.0 s behind the clock of this computer" in reason and "chrony" in reason


def test_silent_command_topic_needs_only_a_publisher(rig: Rig) -> None:
    monitors = healthy(rig) | {"command": StreamMonitor(25.0)}
    assert reasons_not_to_start(rig, monitors, around()) == []
    (reason,) = reasons_not_to_start(rig, monitors, around(num_publishers=lambda name: 0))
    assert "/joint_command" in reason


def test_optional_streams_may_be_missing(rig: Rig) -> None:
    monitors = healthy(rig) | {"progress": StreamMonitor(25.0), "stage": StreamMonitor(25.0)}
    assert reasons_not_to_start(rig, monitors, around(num_publishers=lambda name: 0)) == []


# --- encoders -------------------------------------------------------------------------------------


def test_each_stream_keeps_its_order_and_its_own_quality() -> None:
    done: list[tuple[str, int, np.ndarray]] = []
    keep = lambda name, stamp, recv, data: done.append((name, stamp, data))  # noqa: E731
    pool = EncoderPool({"a": 90, "b": 0}, keep, print)
    frame = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    for number in range(10):
        assert pool.submit("a", number, 0, frame) and pool.submit("b", number, 0, frame)
    pool.drain()
    pool.close()
    for name in "ab":
        assert [stamp for n, stamp, _ in done if n == name] == list(range(10))
    lossless = next(data for name, _, data in done if name == "b")
    np.testing.assert_array_equal(decode_image(lossless), frame)


def test_a_stream_that_holds_its_encoder_up_is_passed_by_the_others_once_frames_pile_up() -> None:
    gate, frame = threading.Event(), np.zeros((8, 8, 3), np.uint8)
    done: dict[str, list[int]] = {name: [] for name in "abc"}

    def keep(name: str, stamp: int, *_: object) -> None:
        if name == "a":
            gate.wait(20)
        done[name].append(stamp)

    pool = EncoderPool(dict.fromkeys("abc", 90), keep, print)
    for number in range(12):
        assert all(pool.submit(name, number, 0, frame) for name in "abc")
    wait_until(lambda: len(done["b"]) + len(done["c"]) >= 8, "frames of the other streams")
    gate.set()
    assert pool.drain()
    pool.close()
    assert all(stamps == list(range(12)) for stamps in done.values())


def test_full_queue_drops_and_counts_instead_of_blocking() -> None:
    gate, frame = threading.Event(), np.zeros((8, 8, 3), np.uint8)
    pool = EncoderPool({"a": 90}, lambda *_: gate.wait(10), print)
    accepted = [pool.submit("a", number, 0, frame) for number in range(QUEUE_LIMIT + 10)]
    gate.set()
    pool.close()
    assert pool.dropped["a"] == accepted.count(False) >= 9


# --- sessions -------------------------------------------------------------------------------------


def test_recorded_episode_holds_every_tick_and_value(session: RecorderSession, rig: Rig) -> None:
    show(session, rig, 0, 1.0, 10)
    session.start("lift", "lift the cube")
    feed(session, rig, 5, 30)
    path = session.stop(True)
    with EpisodeReader(path) as episode:
        assert episode.num_ticks == 30
        assert (episode.task, episode.instruction, episode.state) == ("lift", "lift the cube", "complete")
        np.testing.assert_array_equal(np.diff(episode.tick_ns), TICK)
        np.testing.assert_allclose(episode.qpos, np.tile(rig.limits("upper") * 0.5, (30, 1)), rtol=1e-6)
        for index in (0, 29):
            assert abs(float(episode.image("wrist", index).mean()) - (65 + index)) < 1.5
            assert abs(float(episode.touch("left", index).mean()) - (65 + index)) < 1.5
        assert [(step.name, step.start_frame) for step in episode.steps] == [("reach", 0), ("lift", 5)]
        assert episode.reference("left").shape == (60, 80, 3)


def test_compressed_frames_are_stored_byte_for_byte(session: RecorderSession, rig: Rig) -> None:
    data = encode_jpeg(value_of(rig, "top", 50), 80)
    feed(session, rig, 0, 3)
    session.start("lift", "")
    for number in range(3, 10):
        feed(session, rig, number, 1, without=("top",))
        session.receive("top", BEGIN + number * TICK, BEGIN + number * TICK, data)
    with EpisodeReader(session.stop(True)) as episode:
        np.testing.assert_array_equal(episode.image_bytes("top", 0), data)


def test_second_start_and_stop_without_start_are_refused(session: RecorderSession, rig: Rig) -> None:
    with pytest.raises(EpisodeError, match="nothing is being recorded"):
        session.stop(True)
    session.start("lift", "")
    with pytest.raises(EpisodeError, match="already recording"):
        session.start("lift", "")
    session.discard()


def test_stop_without_a_tick_leaves_no_episode(session: RecorderSession, tmp_path: Path) -> None:
    session.start("lift", "")
    with pytest.raises(EpisodeError, match="no tick"):
        session.stop(True)
    assert list(tmp_path.rglob("*.hdf5")) == [] and session.interrupted() == []
    assert not session.is_recording


def test_discard_redo_and_delete_move_to_the_trash(
    session: RecorderSession, rig: Rig, tmp_path: Path
) -> None:
    feed(session, rig, 0, 3)
    session.start("lift", "")
    feed(session, rig, 3, 10)
    assert session.discard().parent.name == "trash"
    session.start("lift", "")
    feed(session, rig, 13, 10)
    kept = session.redo()
    feed(session, rig, 23, 10)
    assert session.stop(False) == kept
    with EpisodeReader(kept) as episode:
        assert not episode.success
    assert session.delete_last().parent.name == "trash"
    with pytest.raises(EpisodeError, match="no finished episode"):
        session.delete_last()
    assert len(list((tmp_path / "lift/trash").iterdir())) == 3
    assert list((tmp_path / "lift").glob("*.hdf5*")) == []


def test_required_stream_lost_for_a_second_ends_the_episode_and_keeps_it(
    session: RecorderSession, rig: Rig, said: list[str]
) -> None:
    feed(session, rig, 0, 3)
    session.start("lift", "")
    feed(session, rig, 3, 20)
    numbers = itertools.count(23)

    def others_go_on() -> None:
        feed(session, rig, next(numbers), 1, without=("right",))
        time.sleep(0.01)

    wait_until(lambda: not session.is_recording, "end of the episode", step=others_go_on)
    wait_until(lambda: session.last_path is not None, "kept episode")
    assert "right lost" in said[-1]
    with EpisodeReader(session.last_path) as episode:
        assert episode.state == "aborted"
        assert episode.num_ticks >= 20


def test_stream_that_starts_a_little_later_is_not_lost(session: RecorderSession, rig: Rig) -> None:
    session.start("lift", "")
    wait_until(
        lambda: session._recording is not None and session._recording._heard_ns is not None, "a first look"
    )
    feed(session, rig, 0, 10, without=("left", "wrist"))
    wait_until(lambda: not any(session._arrived.values()), "writer")
    feed(session, rig, 10, 10)
    with EpisodeReader(session.stop(True)) as episode:
        assert episode.state == "complete" and episode.num_ticks == 10


def test_optional_stream_or_command_may_fall_silent(session: RecorderSession, rig: Rig) -> None:
    feed(session, rig, 0, 3)
    session.start("lift", "")
    feed(session, rig, 3, 10)
    feed(session, rig, 13, 60, without=("command", "progress", "stage"))
    with EpisodeReader(session.stop(True)) as episode:
        assert episode.state == "complete" and episode.num_ticks == 70


def test_everything_silent_on_a_real_clock_ends_the_episode(
    session: RecorderSession, rig: Rig, said: list[str]
) -> None:
    feed(session, rig, 0, 3)
    session.start("lift", "")
    feed(session, rig, 3, 10)
    wait_until(lambda: not session.is_recording, "end of the episode")
    wait_until(lambda: bool(said), "message")
    assert "nothing received" in said[-1]


def test_close_keeps_the_episode_in_the_making_unlabelled(session: RecorderSession, rig: Rig) -> None:
    feed(session, rig, 0, 3)
    session.start("lift", "")
    feed(session, rig, 3, 10)
    session.close()
    with EpisodeReader(session.last_path) as episode:
        assert episode.state == "complete" and episode.success is None


def test_full_disk_keeps_what_there_is_and_says_so(
    session: RecorderSession, rig: Rig, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(session, rig, 0, 3)
    session.start("lift", "")
    feed(session, rig, 3, 20)
    wait_until(lambda: session.status()["num_ticks"], "first ticks")
    full = type(shutil.disk_usage("/"))(10**12, 10**12, 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    feed(session, rig, 23, 20)
    wait_until(lambda: not session.is_recording and bool(said), "end of the episode")
    assert "disk" in said[-1]
    assert session.last_path is not None
    with EpisodeReader(session.last_path) as episode:
        assert episode.state == "aborted" and episode.num_ticks >= 10


def test_mark_and_gaps_become_events(session: RecorderSession, rig: Rig) -> None:
    feed(session, rig, 0, 3)
    session.start("lift", "")
    feed(session, rig, 3, 10)
    session.mark("here")
    feed(session, rig, 13, 4, without=("left",))
    feed(session, rig, 17, 10)
    with h5py.File(session.stop(True)) as file:
        kinds = [kind.decode() for kind in file["events/kind"][:]]
        assert sorted(kinds) == ["gap", "mark"]
        assert file["drops/left"].attrs["gaps"] == 1


def reference_of(path: Path) -> float | None:
    """Mean grey level of the reference of one sensor; None where the episode has none."""
    with h5py.File(path) as file:
        has_one = "reference" in file["tactile/left"]
    with EpisodeReader(path) as episode:
        return float(episode.reference("left").mean()) if has_one else None


def recorded(session: RecorderSession, rig: Rig, first: int) -> Path:
    session.start("lift", "")
    feed(session, rig, first, 5)
    return session.stop(True)


def test_touch_in_a_grasp_is_no_reference_and_that_is_said(
    session: RecorderSession, rig: Rig, said: list[str]
) -> None:
    feed(session, rig, 0, 3)  # the gripper is half open: it holds something
    assert reference_of(recorded(session, rig, 3)) is None
    assert "no no-contact picture of left, right" in said[-1]


def test_touch_reference_is_taken_with_open_grippers_and_kept_through_a_grasp(
    session: RecorderSession, rig: Rig, said: list[str]
) -> None:
    show(session, rig, 0, 0.5, 10)
    show(session, rig, 1, 0.95, 20)
    show(session, rig, 2, 0.4, 30)
    assert reference_of(recorded(session, rig, 10)) == pytest.approx(80, abs=1)
    show(session, rig, 40, 1.0, 40)
    assert reference_of(recorded(session, rig, 41)) == pytest.approx(100, abs=1)
    assert said == []


def test_gripper_that_was_open_long_ago_proves_no_contact_no_more(session: RecorderSession, rig: Rig) -> None:
    show(session, rig, 0, 1.0, 10)
    late_ns = BEGIN + 2 * SECOND
    session.receive("left", late_ns, late_ns, value_of(rig, "left", 90))
    assert reference_of(recorded(session, rig, 51)) == pytest.approx(70, abs=1)


def test_stop_waits_for_the_frames_that_are_still_being_encoded(
    session: RecorderSession, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(rgb: np.ndarray, quality: int) -> np.ndarray:
        time.sleep(0.05)
        return encode_jpeg(rgb, 90)

    monkeypatch.setattr(encoder_pool, "encode", slow)
    feed(session, rig, 0, 3)
    session.start("lift", "")
    for number in range(3, 11):
        for name, spec in rig.specs.items():
            for k in range(round(spec.rate_hz / 25)):
                stamp_ns = BEGIN + number * TICK + k * round(SECOND / spec.rate_hz)
                session.receive(name, stamp_ns, stamp_ns, value_of(rig, name, number))
    with EpisodeReader(session.stop(True)) as episode:
        assert episode.num_ticks == 8
        assert abs(float(episode.image("wrist", 7).mean()) - 70) < 1.5


def test_request_that_waits_too_long_is_withdrawn_and_never_carried_out(
    session: RecorderSession, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(session, rig, 0, 3)
    gate = threading.Event()
    monkeypatch.setattr(requests, "TIMEOUT_S", 0.1)
    monkeypatch.setattr(session, "_advance", lambda: gate.wait(20))  # a disk that hangs
    wait_until(lambda: session._writer.is_alive, "writer")
    time.sleep(0.05)  # the writer is inside by now, or will be before it looks at requests
    with pytest.raises(EpisodeError, match="withdrawn"):
        session.start("lift", "")
    monkeypatch.undo()
    gate.set()
    with pytest.raises(EpisodeError, match="nothing is being recorded"):
        session.stop(True)


@pytest.mark.parametrize("error", [AttributeError, MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("thread", ["encoder of wrist", "writer"])
def test_dead_thread_keeps_the_episode_with_the_reason_and_refuses_the_next(
    session: RecorderSession,
    rig: Rig,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
    thread: str,
    error: type[BaseException],
) -> None:
    feed(session, rig, 0, 3)
    session.start("lift", "")
    feed(session, rig, 3, 20)
    wait_until(lambda: session.status()["num_ticks"], "first ticks")

    def fail(*_: object) -> None:
        raise error("planted")

    if thread == "writer":
        monkeypatch.setattr(session._recording, "advance", fail)
    else:
        monkeypatch.setattr(encoder_pool, "encode", fail)
        session.receive("wrist", BEGIN + 30 * TICK, BEGIN + 30 * TICK, value_of(rig, "wrist", 30))
    wait_until(lambda: session.failure is not None and not session.is_recording, "the end of the episode")
    wait_until(lambda: f"{thread} ended: {error.__name__}: planted" in said, "the report of the failure")
    assert session.last_path is not None
    with EpisodeReader(session.last_path) as episode:
        assert episode.state == "aborted" and episode.num_ticks >= 10
    with h5py.File(session.last_path) as file:
        assert f"{thread} ended: {error.__name__}: planted" in file.attrs["outcome"]
    with pytest.raises(EpisodeError, match="the recorder has failed"):
        session.start("lift", "")
    began = time.monotonic()
    session.close()
    assert time.monotonic() - began < 5


def test_file_that_cannot_be_finished_stays_as_part_and_its_rescue_is_named(
    session: RecorderSession, rig: Rig, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(session, rig, 0, 3)
    session.start("lift", "")
    feed(session, rig, 3, 20)
    wait_until(lambda: session.status()["num_ticks"], "first ticks")

    def fail(*_: object, **__: object) -> None:
        raise MemoryError("planted")

    monkeypatch.setattr(session._recording, "finish", fail)
    monkeypatch.setattr(session._recording, "advance", fail)
    wait_until(lambda: "writer ended: MemoryError: planted" in said, "the report of the failure")
    (part,) = session.root.rglob("*.part")
    assert any(f"tacit recover {part}" in text for text in said)
