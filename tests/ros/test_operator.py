"""The operator's keys: what each does to a recorder, and what is counted; the desk's parts without a page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from episode_kit import write_episode

from tacit.episode import EpisodeReader
from tacit.errors import ConfigError
from tacit.rig import load_rig
from tacit_ros.run.commands import Command
from tacit_ros.run.desk.clerk import Clerk, DiskRate, num_episodes
from tacit_ros.run.desk.views import Views
from tacit_ros.run.keys import follow
from tacit_ros.run.operator import KEYS, Action, Operator, keys_with
from tacit_ros.run.record_client import RecorderError


class FakeRecorder:
    """Answers as a recorder does."""

    def __init__(self, episode: Path | None = None) -> None:
        self.asked: list[tuple[str, object]] = []
        self.texts: dict[str, str] = {}
        self.recording, self.episode = False, episode or Path("episode_0.hdf5")

    def ask(self, command: Command, *, success: bool | None = None) -> str:
        if command is Command.status:
            state = "recording" if self.recording else "idle"
            return json.dumps({"state": state, "num_ticks": 3, "not_ready": ["no joints"], "free_gb": 1.5,
                               "path": None, "task": "", "root": "data"})  # fmt: skip
        if not self.recording and command not in (Command.start, Command.redo):
            raise RecorderError(f"{command.value}: nothing is being recorded; call start first")
        self.asked.append((command.value, success))
        self.recording = command in (Command.start, Command.redo, Command.mark)
        return f"saved {self.episode}" if command is Command.stop else command.value

    def set_texts(self, **values: str) -> None:
        self.texts |= values


def test_start_success_failure_and_discard_are_counted():
    recorder = FakeRecorder()
    operator = Operator(recorder)
    for action in (Action.start, Action.mark, Action.success, Action.start, Action.failure):
        operator.do(action)
    operator.do(Action.start)
    operator.do(Action.discard)
    assert recorder.asked[2] == ("stop", True) and recorder.asked[4] == ("stop", False)
    assert operator.tally == {"success": 1, "failure": 1, "discarded": 1}


def test_redo_takes_the_last_episode_back_from_the_count():
    operator = Operator(FakeRecorder())
    operator.do(Action.start)
    operator.do(Action.success)
    operator.do(Action.redo)
    assert operator.tally["success"] == 0 and operator.tally["discarded"] == 1


def test_one_pedal_starts_and_stops_and_labels_nothing_by_itself(tmp_path):
    path = write_episode(tmp_path)
    with EpisodeReader(path) as reader:
        before = reader.success
    operator = Operator(FakeRecorder(path))
    operator.do(Action.toggle)
    assert "was the task done?" in operator.do(Action.toggle)
    assert operator.unlabelled == path and operator.tally == {"unlabelled": 1}
    with EpisodeReader(path) as reader:
        assert reader.success == before
    operator.do(Action.failure)
    assert (
        operator.unlabelled is None and operator.tally["failure"] == 1 and operator.tally["unlabelled"] == 0
    )
    with EpisodeReader(path) as reader:
        assert reader.success is False


def test_next_episode_leaves_one_unlabelled_and_says_so():
    operator = Operator(FakeRecorder())
    operator.do(Action.start)
    operator.do(Action.stop)
    assert "episode_0.hdf5 stays unlabelled" in operator.do(Action.start)
    assert operator.unlabelled is None


def test_instructions_come_in_turn_and_reach_the_recorder():
    recorder = FakeRecorder()
    operator = Operator(recorder, ["open the drawer", " ", "close it"])
    assert operator.instructions == ["open the drawer", "close it"]
    assert operator.do(Action.next) == "next: close it"
    operator.do(Action.start)
    assert recorder.texts == {"instruction": "close it"}
    operator.choose("push the button")
    assert operator.instruction == "push the button" and len(operator.instructions) == 3
    with pytest.raises(ConfigError, match="empty"):
        operator.choose("  ")
    with pytest.raises(ConfigError, match="no list"):
        Operator(recorder).do(Action.next)


def test_keys_of_a_pedal_replace_ours():
    keys = keys_with("success=B, failure=c")
    assert keys["b"] is Action.success and "y" not in keys and len(keys) == len(KEYS)
    with pytest.raises(ConfigError, match="two things"):
        keys_with("success=s")
    with pytest.raises(ConfigError, match="did you mean"):
        keys_with("sucess=b")
    with pytest.raises(ConfigError, match="one character"):
        keys_with("success=ctrl")


def test_terminal_shows_answers_and_refusals_and_ends_with_q(capsys):
    keys = iter("yxs" + "q")
    follow(Operator(FakeRecorder()), lambda: next(keys))
    shown = capsys.readouterr().out
    assert (
        "nothing is being recorded" in shown
        and "RECORDING 3 ticks" in shown
        and "not ready: no joints" in shown
    )


def test_clerk_answers_and_reports_while_no_recorder_does():
    class Nobody(FakeRecorder):
        def ask(self, command: Command, *, success: bool | None = None) -> str:
            raise RecorderError("no recorder answers")

    failures: list[object] = []
    clerk = Clerk(Operator(Nobody()), 30.0, failures.append)
    with pytest.raises(RecorderError):
        clerk.do(Action.start).result(5.0)
    clerk.close()
    assert clerk.report["reached"] is False and "no recorder" in clerk.report["problem"] and not failures


def test_minutes_of_the_disk_follow_the_growing_episode(tmp_path):
    path = tmp_path / "episode_0.hdf5"
    (tmp_path / "episode_0.hdf5.part").write_bytes(bytes(3_000_000))
    status = {"path": str(path), "num_ticks": 90, "free_gb": 6.0}
    rate = DiskRate(30.0)
    assert rate.minutes(status | {"path": None}) is None
    assert rate.minutes(status) == pytest.approx(100.0)
    assert rate.minutes(status | {"path": None}) == pytest.approx(100.0), "known from the episode before"
    assert num_episodes({"task": "lift", "root": str(tmp_path)}) == 0 and num_episodes({"task": ""}) is None


def test_views_draw_boxes_only_where_the_state_is_known():
    rig = load_rig("nova2_sim")
    views = Views(rig)
    camera = rig.cameras["wrist"]
    views.take("wrist", np.full((camera.height, camera.width, 3), 90, dtype=np.uint8))
    plain = views.shown("wrist")
    assert (
        plain is not None and views.shown("wrist", after=plain.number) is None and views.shown("top") is None
    )
    for name, spec in rig.states.items():
        views.take(name, np.full(len(spec.names), 0.05))
    drawn = views.shown("wrist")
    assert drawn is not None and drawn.jpeg != plain.jpeg
    ages = views.ages_s()
    assert ages["top"] is None and ages["wrist"] is not None and ages["wrist"] < 5
