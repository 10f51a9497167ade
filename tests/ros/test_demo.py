"""The demo: steps that are done once, starts that are never shared, numbers that are what they say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

from rich.console import Console

from tacit.config.arguments import parse_words
from tacit.episode.findings import AuditReport, Finding
from tacit.errors import ConfigError, TacitError
from tacit_ros.demo import main, recording, settings
from tacit_ros.demo.acting import progress_curves
from tacit_ros.demo.numbers import progress_error, series
from tacit_ros.demo.outcome import expectation, machine, shortfalls, steps_wanted
from tacit_ros.demo.processes import run_verb
from tacit_ros.demo.steps import Notebook

pytestmark = pytest.mark.ros

STAGES = ("reach", "lift", "carry", "place", "retreat")
SECOND_NS = 1_000_000_000


def test_step_is_done_once_and_remembered_by_the_next_run(tmp_path: Path) -> None:
    calls: list[int] = []

    def work() -> dict[str, int]:
        calls.append(1)
        return {"answer": 42}

    first = Notebook(tmp_path / "steps", "full").run("a", "do a", work)
    second = Notebook(tmp_path / "steps", "full").run("a", "do a", work)
    assert first == second and first["answer"] == 42 and len(calls) == 1


def test_step_that_fails_is_done_again(tmp_path: Path) -> None:
    notebook = Notebook(tmp_path / "steps", "full")

    def fail() -> dict[str, int]:
        raise TacitError("the disk is full")

    with pytest.raises(TacitError):
        notebook.run("a", "do a", fail)
    assert notebook.run("a", "do a", lambda: {"answer": 1})["answer"] == 1


def test_folder_of_another_size_is_refused(tmp_path: Path) -> None:
    Notebook(tmp_path / "steps", "full")
    with pytest.raises(ConfigError, match="other settings"):
        Notebook(tmp_path / "steps", "quick")


@pytest.mark.parametrize("make", [settings.full, settings.quick])
def test_no_start_is_both_recorded_and_tested(make: object, tmp_path: Path) -> None:
    demo = make(tmp_path)  # type: ignore[operator]
    recorded = range(demo.first_seed, demo.first_seed + demo.demonstrations)
    tested = range(demo.first_test_seed, demo.first_test_seed + demo.closed_loop_episodes)
    failed = range(demo.first_failed_seed, demo.first_failed_seed + demo.failures_each)
    assert not set(recorded) & set(tested) and not set(failed) & {*recorded, *tested}


@pytest.mark.parametrize("make", [settings.full, settings.quick])
def test_progress_learns_from_what_failed_and_its_thresholds_are_fitted(
    make: Callable[[Path], settings.DemoSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli = pytest.importorskip("tacit_sim.cli")
    said: dict[str, list[str]] = {}
    monkeypatch.setattr(main, "run_verb", lambda words, log, console: said.update({log.stem: [*words]}))
    demo = main.Demo(make(tmp_path), Console(quiet=True))
    for step in (demo._record_failures, demo._train_policy, demo._train_progress, demo._judge_progress):
        step()
    failing = parse_words(cli.SimulateArguments, said["record_failures"][1:], "tacit simulate")
    assert (failing.out, failing.task) == (demo.settings.failed, "place_cube")
    assert "miss" in {kind for kind, _ in cli._wanted(failing)}
    good, bad = demo.settings.episodes, demo.settings.failed
    assert f"data.datasets=[{good}]" in said["train_act_hsa"], "a policy learns from what succeeds"
    assert f"data.datasets=[{good},{bad}]" in said["train_progress"]
    judged = said["judge_progress"]
    assert "--tune" in judged and judged[judged.index("--bundle") + 1] == str(demo.progress_bundle)


@pytest.mark.parametrize(("broken", "recorded"), [(0, 1), (1, 2), (2, 3), (9, 3)])
def test_an_episode_that_a_busy_machine_broke_is_recorded_again(
    broken: int, recorded: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Recorder:
        def trigger(self, service: str) -> None:
            asked.append(service)
            max(tmp_path.glob("*.hdf5")).unlink()

    def record(_: object, seed: int) -> None:
        asked.append(f"seed {seed}")
        (tmp_path / f"episode_{len(asked)}.hdf5").touch()

    def check(path: Path) -> AuditReport:
        gap = Finding("W03", "error", "wrist", "longest gap 1440 ms")
        return AuditReport(path, (gap,) if asked.count("seed 7") <= broken else ())

    monkeypatch.setattr(recording, "record_scripted", record)
    monkeypatch.setattr(recording, "check_episode", check)
    recording.record_whole(Recorder(), 7, tmp_path, Console(quiet=True))  # type: ignore[arg-type]
    assert asked == ["seed 7", *["/recorder/delete_last", "seed 7"] * (recorded - 1)]
    assert len(list(tmp_path.glob("*.hdf5"))) == 1


def test_series_leaves_out_missing_values() -> None:
    rows = [{"kind": "train", "step": 1, "l1": 0.5}, {"kind": "train", "step": 2}, {"kind": "val", "step": 2}]
    assert series(rows, "train", "l1") == ([1], [0.5])


def test_estimate_at_a_tick_is_the_newest_heard_by_then() -> None:
    episode = {
        "success": True,
        "truth": [(k * SECOND_NS, 0) for k in range(4)],
        "progress": [(SECOND_NS, 0.3), (2 * SECOND_NS + 5, 0.9)],
    }
    seconds, estimate, truth = progress_curves(episode, STAGES)
    assert seconds.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(estimate, [np.nan, 0.3, 0.3, 0.9])
    np.testing.assert_allclose(truth, [0.25, 0.5, 0.75, 1.0])
    error = progress_error([episode], STAGES)["progress_mae"]
    assert error == pytest.approx(np.mean([0.2, 0.45, 0.1]), abs=1e-4)


def test_failing_verb_names_its_log(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "check.log"
    with pytest.raises(TacitError, match=r"check\.log"):
        run_verb(["check", str(tmp_path / "nothing")], log, Console(quiet=True))
    assert "nothing" in log.read_text()


REACHED = {
    "recorded_episodes": 60,
    "policy_steps": 2200,
    "policy_steps_wanted": 2200,
    "progress_steps": 250,
    "progress_steps_wanted": 250,
    "success_rate": 1.0,
    "successes": 20,
    "episodes": 20,
    "total_seconds": 900.0,
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ()),
        ({"policy_steps": 1573}, ("policy", "1573 of 2200 steps (72 %)", "max_seconds")),
        ({"progress_steps": 25}, ("progress estimator", "25 of 250")),
        ({"recorded_episodes": 57}, ("Recording", "57 of 60", "record.log")),
        ({"success_rate": 0.9, "successes": 18}, ("Acting", "18 of 20", "95 %")),
    ],
)
def test_a_demo_that_falls_short_says_which_step(
    tmp_path: Path, changes: dict[str, float], said: tuple[str, ...]
) -> None:
    size = settings.full(tmp_path)
    found = shortfalls(size, REACHED | changes)
    assert len(found) == bool(said) and all(words in found[0] for words in said)
    assert "15.0 minutes" in expectation(size, REACHED | changes)


def test_the_steps_that_were_wanted_are_read_from_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints" / "last"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("train:\n  steps: 2200\n")
    assert steps_wanted(tmp_path) == 2200 and "threads" in machine()
    (folder / "config.yaml").write_text("train: {max_seconds: 5}\n")
    with pytest.raises(ConfigError, match="expected a number of steps"):
        steps_wanted(tmp_path)
