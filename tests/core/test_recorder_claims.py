"""A recorder whose messages lie about their time: it ends with the reason, or goes on and says what was.

A session is fed through its intake on made-up time, so that nothing here depends on the machine's load.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tacit.episode import EpisodeReader
from tacit.images import encode_jpeg
from tacit.record.monitor import StreamMonitor
from tacit.record.recorder import RecorderSession, SessionSettings
from tacit.rig import Rig, load_rig, parse_rig

SECOND, STEP = 10**9, 10_000_000
WALL, STEADY = 1_700_000_000 * SECOND, 77 * SECOND
VITAL = ("wrist", "top", "left", "right", "joints", "gripper_state")
Bend = Callable[[str, float, int], int | None]


class Stand:
    """A recorder and a robot of six streams, 10 ms at a time.

    Attributes:
        bend: Replaces a stamp: (stream, seconds of the episode, stamp) to stamp; None sends nothing.
        values: Replaces a value in the same way.
    """

    def __init__(self, root: Path, simulated: bool = False, start_ns: int = WALL) -> None:
        self.rig = _rig(simulated)
        self.now_ns, self.start_ns, self.began_ns = 0, start_ns, 0
        self.bend: Bend = lambda name, t, stamp: stamp
        self.values: Callable[[str, float, object], object] = lambda name, t, value: value
        self.said: list[str] = []
        self.session = RecorderSession(
            self.rig,
            SessionSettings(root, clock=lambda: STEADY + self.now_ns),
            lambda level, text: self.said.append(text),
            lambda failure: self.said.append(str(failure)),
        )
        random = np.random.default_rng(0)
        self._pictures = {
            name: [
                encode_jpeg(random.integers(0, 255, (spec.height, spec.width, 3), dtype=np.uint8))
                for _ in range(6)
            ]
            for name, spec in self.rig.images.items()
        }

    def start(self) -> None:
        self.run(2.0)
        self.session.start("lift", "")
        self.began_ns = self.now_ns

    def run(self, seconds: float) -> None:
        """Let time pass; ends early when the episode does."""
        began = self.session.is_recording
        for _ in range(round(seconds * SECOND / STEP)):
            self.now_ns += STEP
            for name in VITAL:
                if self.now_ns % round(SECOND / self.rig.specs[name].rate_hz) == 0:
                    self._send(name)
            self.session.looked(STEADY + self.now_ns)
            self.session._requests.ask(lambda: None)  # the writer has advanced
            if began and not self.session.is_recording:
                return

    def _send(self, name: str) -> None:
        t = (self.now_ns - self.began_ns) / SECOND
        stamp_ns = self.bend(name, t, self.start_ns + self.now_ns)
        if stamp_ns is None:
            return
        recv_ns = WALL + self.now_ns + 2_000_000
        value = self.values(name, t, self._value(name))
        kept = self.session.intake.take(name, stamp_ns, recv_ns, value, STEADY + self.now_ns + 2_000_000)
        if kept is not None:
            self.session.receive(name, kept, recv_ns, value)  # type: ignore[arg-type]

    def _value(self, name: str) -> object:
        if name in self._pictures:
            return self._pictures[name][self.now_ns // (SECOND // 25) % 6]
        t = self.now_ns / SECOND
        count = len(self.rig.streams[name].names)
        return {"position": 0.04 + 0.01 * np.sin(t + np.arange(count)) * (1 if count == 1 else 20)}

    @property
    def seconds(self) -> float:
        """Time since the start of the episode."""
        return (self.now_ns - self.began_ns) / SECOND


def _rig(simulated: bool) -> Rig:
    data = load_rig("nova2_sim").model_dump(mode="json")
    data["streams"] = {name: data["streams"][name] for name in ("joints", "gripper_state")}
    for command in data["commands"].values():
        command["required"] = False  # led by hand
    return parse_rig(data if simulated else data | {"simulation": None}, "test")


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    made = Stand(tmp_path)
    yield made
    made.session.close()


def aborted(stand: Stand, kind: str, within_s: float) -> str:
    """Assert that the episode has ended for a reason that names `kind`, and return the reason."""
    assert not stand.session.is_recording, "still recording"
    assert stand.seconds <= within_s
    assert stand.session.last_path is not None
    with EpisodeReader(stand.session.last_path) as episode:
        assert episode.state == "aborted" and episode.success is None
        reason = str(episode.attribute("outcome"))
    assert kind in reason and reason in stand.said[-1]
    return reason


def shifted(by_s: float, *who: str, after_s: float = 1.5) -> Bend:
    return lambda name, t, stamp: stamp + round(by_s * SECOND) * (t > after_s and name in (who or VITAL))


def test_healthy_robot_is_recorded_whole(stand: Stand) -> None:
    stand.start()
    stand.run(4.0)
    assert stand.session.is_recording
    with EpisodeReader(stand.session.stop(True)) as episode:
        assert episode.num_ticks == 100 and episode.events == []
        assert episode.state == "complete"


@pytest.mark.parametrize("by_s", [-6.0, 3600.0], ids=["back 6 s", "ahead 1 h"])
@pytest.mark.parametrize(
    "who", [(), ("joints",), ("top",), ("wrist",)], ids=["all", "joints", "top", "ticks"]
)
def test_clock_that_is_set_ends_the_episode_with_the_reason(
    stand: Stand, by_s: float, who: tuple[str, ...]
) -> None:
    stand.start()
    stand.bend = shifted(by_s, *who)
    stand.run(5.0)
    reason = aborted(stand, "clock_step", within_s=1.5 + 1.1)
    assert f"{by_s:+.2f} s" in reason and "chrony" in reason
    assert who == () or who[0] in reason


def test_looped_bag_ends_the_episode_where_it_begins_anew(tmp_path: Path) -> None:
    stand = Stand(tmp_path, start_ns=WALL - 86_400 * SECOND)
    stand.start()
    stand.bend = lambda name, t, stamp: stamp - 4 * SECOND * (t > 2)
    stand.run(6.0)
    assert "-4.00 s" in aborted(stand, "clock_step", within_s=3.2)
    stand.session.close()


def test_bag_that_loops_faster_than_a_clock_is_believed_ends_the_episode_too(stand: Stand) -> None:
    stand.start()
    began_ns = stand.start_ns + stand.now_ns
    stand.bend = lambda name, t, stamp: stamp if t < 1.5 else began_ns + (stamp - began_ns) % (SECOND // 2)
    stand.run(6.0)
    assert "required stream wrist lost" in aborted(stand, "out_of_order", within_s=2.7)


def test_simulator_that_is_reset_ends_the_episode(tmp_path: Path) -> None:
    stand = Stand(tmp_path, simulated=True, start_ns=5 * SECOND)
    stand.start()
    reset_ns = stand.now_ns + 2 * SECOND
    stand.bend = lambda name, t, stamp: stamp if t < 2 else stand.now_ns - reset_ns + STEP
    stand.run(6.0)
    aborted(stand, "clock_step", within_s=3.5)
    stand.session.close()


def test_simulator_that_pauses_goes_on(tmp_path: Path) -> None:
    stand = Stand(tmp_path, simulated=True, start_ns=5 * SECOND)
    stand.start()
    stand.run(1.0)
    stopped_ns = stand.now_ns + stand.start_ns
    stand.bend = lambda name, t, stamp: stopped_ns if name == "joints" else None  # repeats its last state
    stand.run(5.0)
    assert stand.session.is_recording
    stand.session.discard()
    stand.session.close()


@pytest.mark.parametrize("name", ["joints", "top"])
def test_stamps_since_the_computer_was_switched_on_end_the_episode(stand: Stand, name: str) -> None:
    stand.start()
    stand.bend = lambda n, t, stamp: stamp - WALL + 5 * SECOND if n == name and t > 1 else stamp
    stand.run(5.0)
    assert name in aborted(stand, "clock_step", within_s=2.2)


@pytest.mark.parametrize("name", ["joints", "top"])
def test_clock_that_was_off_before_the_start_is_named_not_recorded(stand: Stand, name: str) -> None:
    stand.bend = lambda n, t, stamp: stamp - 1000 * SECOND if n == name else stamp
    stand.start()  # without the gate of the node, which refuses
    stand.run(5.0)
    assert name in aborted(stand, "clock_offset", within_s=1.2)


@pytest.mark.parametrize("name", ["top", "joints", "wrist"])
def test_clock_that_alternates_costs_the_odd_samples_and_is_told(stand: Stand, name: str) -> None:
    stand.start()
    stand.bend = lambda n, t, stamp: stamp + 4_400_000_000 * (n == name and int(t * 2) % 2)
    stand.run(5.0)
    assert stand.session.is_recording
    with EpisodeReader(stand.session.stop(True)) as episode:
        kinds = {(data["stream"], kind) for _, kind, data in episode.events if kind != "gap"}
        assert kinds == {(name, "stamp_ahead")}
        rate = stand.rig.specs[name].rate_hz
        assert episode.drops[name]["stamp_ahead"] == pytest.approx(2.5 * rate, abs=0.2 * rate)
        assert episode.drops[name]["lost_middleware"] <= 3  # what was refused was not lost on its way
        assert np.all(np.diff(episode.tick_ns) > 0) and np.ptp(episode.tick_ns) < 5 * SECOND


def test_everything_refused_for_its_values_names_the_finding(stand: Stand) -> None:
    stand.start()
    stand.values = lambda n, t, v: {"position": np.full(6, np.nan)} if n == "joints" and t > 1 else v
    stand.run(5.0)
    reason = aborted(stand, "not_finite", within_s=2.2)
    assert "required stream joints lost" in reason and "joint1" in reason


def test_driver_that_falls_silent_is_not_blamed_for_lies(stand: Stand) -> None:
    stand.start()
    stand.bend = lambda n, t, stamp: None if n == "joints" and t > 1 else stamp
    stand.run(5.0)
    assert "behind the others" in aborted(stand, "required stream joints lost", within_s=2.3)


def test_small_step_is_an_event_and_what_follows_is_counted(stand: Stand) -> None:
    stand.start()
    stand.bend = shifted(0.6, "top")
    stand.run(6.0)
    assert stand.session.is_recording
    with EpisodeReader(stand.session.stop(True)) as episode:
        kinds = [kind for _, kind, data in episode.events if kind not in ("gap", "stamp_ahead")]
        assert kinds == ["clock_step", "clock_offset"]
        assert 2 <= episode.drops["top"]["clock_offset"] <= 4  # seconds


def test_rate_of_messages_without_a_header_is_measured_in_simulated_time_too() -> None:
    monitor = StreamMonitor(rate_hz=100.0)
    for k in range(300):  # stamped with the newest of joints at 10 Hz
        monitor.saw(SECOND + k // 10 * 100_000_000, SECOND + k * 10_000_000, np.zeros(1))
        assert monitor.num_recent >= min(k + 1, 190) and np.isfinite(monitor.hz)
    assert monitor.hz == pytest.approx(100.0, rel=0.06)
