"""What the detector says of whole episodes is counted as it is, and thresholds fit what was seen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_videos import ACTIONS, FPS, tiny_alignment, tiny_failing

from tacit.progress import DetectorConfig
from tacit_learning.alignment.commands.evaluate_progress import main
from tacit_learning.alignment.data.videos import make_videos
from tacit_learning.alignment.judge.predict import Prediction
from tacit_learning.alignment.judge.tuning import tune
from tacit_learning.alignment.judge.verdicts import Said, Verdict, judge, said_of, tally
from tacit_learning.alignment.judge.warps import WARPS, warped
from tacit_learning.alignment.settings import OutcomeConfig
from tacit_learning.alignment.train_alignment import train_on
from tacit_learning.data.annotation_files import save_annotation_set, save_features
from tacit_learning.data.annotations import FAILURE, Annotation, AnnotationSet, Event, Segment
from tacit_learning.engine.tracking import SilentReporter

STEPS = [Segment("reach", 0, 9), Segment("grip", 10, 19), Segment("lift", 20, 29)]
GOOD = Annotation.of_segments("good", 50, FPS, STEPS, task_steps=ACTIONS, success=True)
BAD = Annotation.of_segments(
    "bad", 60, FPS, STEPS[:1], task_steps=ACTIONS, success=False, events=(Event(f"{FAILURE}miss", 10, 59),)
)


def said(*parts: tuple[str, int, str]) -> list[Said]:
    return [Said(state, kind) for state, count, kind in parts for _ in range(count)]  # type: ignore[arg-type]


def test_done_counts_after_the_end_of_a_success_and_nowhere_else() -> None:
    well = judge(GOOD, said(("running", 33, ""), ("done", 17, "")))
    assert well.is_done_well and well.done_s - well.end_s == pytest.approx(0.4)
    early = judge(GOOD, said(("running", 20, ""), ("done", 30, "")))
    assert early.is_done_badly and not early.is_done_well
    assert judge(BAD, said(("running", 50, ""), ("done", 10, ""))).is_done_badly
    counts = tally([well, early, judge(BAD, said(("running", 60, "")))])
    assert counts.done_recall == (1, 2) and counts.done_precision == (1, 2) and counts.false_done == (0, 1)
    assert counts.early == (1, 2) and counts.done_delay_s == pytest.approx(0.4)


def test_a_failure_counts_by_its_name_and_in_time() -> None:
    soon = judge(BAD, said(("running", 15, ""), ("failed", 45, "miss")))
    late = judge(BAD, said(("running", 15, ""), ("failed", 20, "drop"), ("failed", 25, "miss")))
    before = judge(BAD, said(("stalled", 5, ""), ("running", 55, "")))
    assert soon.events == (("miss", pytest.approx(0.5), pytest.approx(0.5)),)
    assert late.events[0][1:] == (pytest.approx(0.5), pytest.approx(2.5))
    assert before.is_false and np.isnan(before.events[0][1])
    alarm = judge(GOOD, said(("running", 10, ""), ("regressed", 2, ""), ("running", 38, "")))
    counts = tally([soon, late, before, alarm])
    assert counts.found == (2, 3) and counts.named == (1, 3) and counts.by_kind["miss"] == (1, 3)
    assert counts.false_alarms == (1, 1) and counts.alarm_precision == (3, 4)


def test_who_is_unlabelled_is_not_judged_by_done() -> None:
    counts = tally([Verdict("a", None, 1.0, 2.0), Verdict("b", True, 1.0, 2.0)])
    assert counts.done_precision == (1, 1) and counts.done_recall == (1, 1)


def guess(annotation: Annotation, level: float, noise: np.random.Generator) -> Prediction:
    """Somebody who says success with .5 where there is none and with `level` where there is."""
    length = annotation.num_frames
    is_done = np.arange(length) > 30 if annotation.success else np.zeros(length, bool)
    success = np.where(is_done, level, 0.5) + noise.normal(0, 0.02, length)
    wrong = np.zeros(length)
    for event in annotation.events:
        wrong[event.start :] = 0.4
    failure = np.stack([1 - wrong, wrong], axis=1)
    progress = np.minimum(np.arange(length) / 30, 1.0)
    floats = [np.asarray(values, np.float32) for values in (progress, success, failure)]
    return Prediction(np.zeros((length, 0), np.float32), {}, floats[0], None, None, None, *floats[1:])


def test_thresholds_move_to_where_what_is_said_can_be_told_apart() -> None:
    noise = np.random.default_rng(0)
    episodes = [GOOD, BAD] * 4
    predictions = [guess(annotation, 0.9, noise) for annotation in episodes]
    fitted = tune(episodes, predictions, ("miss",), 0.02)
    assert 0.55 < fitted.success_above < 0.9 and fitted.failure_above < 0.4
    assert fitted.length_s == pytest.approx(5.0)
    counts = tally(
        judge(a, said_of(p, FPS, fitted, ("miss",))) for a, p in zip(episodes, predictions, strict=True)
    )
    assert counts.done_recall == (4, 4) and counts.false_done == (0, 4) and counts.named == (4, 4)
    lax = DetectorConfig(success_above=0.4, success_below=0.3)
    assert judge(BAD, said_of(predictions[1], FPS, lax, ("miss",))).is_done_badly


def test_warps_change_the_time_and_nothing_else() -> None:
    annotated = tiny_failing(2)
    video = make_videos(annotated, annotated.annotations.videos[:1], "video").videos[0]
    half, double, pause, retry = (warped(video, name, FPS) for name in WARPS)
    assert (len(half), len(double)) == (2 * len(video), -(-len(video) // 2))
    assert len(pause) == len(video) + 4 and len(retry) == len(video) + 20
    for one in (half, double, pause, retry):
        assert one.annotation.num_frames == len(one.features) == len(one.success)
        assert one.annotation.steps[-1] == "lift" and one.success[-1] == 1.0
    assert not half.features[0::2].equal(half.features[0]) and half.features[0::2].equal(half.features[1::2])


def test_the_command_prints_counts_beside_baselines_and_writes_page_and_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotated = tiny_failing(8)
    named = [
        Annotation(**{**vars(v), "features": save_features(tmp_path, v.name, annotated.features[v.name])})
        for v in annotated.annotations.videos
    ]
    save_annotation_set(AnnotationSet.of_videos(named), tmp_path)
    config = tiny_alignment(tmp_path / "run", train__steps=60, train__lr=1e-2, train__validate_every=60)
    changes = {
        "data": config.data.model_copy(update={"folder": str(tmp_path)}),
        "progress": config.progress.model_copy(update={"outcome_weight": 1.0}),
        "outcome": OutcomeConfig(width=12, hidden=8, dropout=0.0),
        "losses": config.losses.model_copy(update={"loss_type": {}}),
    }
    train_on(config.model_copy(update=changes), annotated, None, SilentReporter())
    words = (
        "--tune",
        "--gru-steps",
        "5",
        "--page",
        tmp_path / "page.html",
        "--json",
        tmp_path / "numbers.json",
    )
    assert main([str(tmp_path / "run"), *map(str, words)]) == 0
    told = json.loads((tmp_path / "numbers.json").read_text())
    assert told["ours"]["false_done"][:2] == [0, 2] and told["ours"]["done_recall"][:2] == [2, 2]
    wanted = ("always 0.5", "frame count", "frame count with class", "raw nearest frame", "plain causal GRU")
    assert set(wanted) <= told["baselines"].keys() and set(WARPS) == told["warps"].keys()
    assert told["errors"]["ours"] < told["errors"]["always 0.5"] and told["calibration"]["success"]
    page = (tmp_path / "page.html").read_text()
    assert "Calibration" in page and "drop from" in page and "double speed" in capsys.readouterr().out
