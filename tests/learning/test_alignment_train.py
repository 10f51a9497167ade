"""Alignment training: every loss and progress mode runs, resumes bit for bit, and keeps two bests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from in_two_processes import in_two_processes
from safetensors.torch import load_file
from tiny_videos import FEATURES, tiny_alignment, tiny_annotated, write_mstcn

from tacit.cli import main
from tacit.config import load
from tacit.errors import AnnotationError, ConfigError
from tacit_learning import cli
from tacit_learning.alignment.checkpoints import find_checkpoint, load_alignment
from tacit_learning.alignment.commands.evaluate_alignment import evaluate
from tacit_learning.alignment.data import batches as keys
from tacit_learning.alignment.data.videos import Annotated, Known, make_videos, split_videos
from tacit_learning.alignment.judge.predict import predict
from tacit_learning.alignment.settings import AlignmentConfig, AlignmentLossConfig
from tacit_learning.alignment.train_alignment import make_objective, measure_statistics, train_on
from tacit_learning.data.annotations import Annotation, AnnotationSet
from tacit_learning.engine.loop import Result
from tacit_learning.engine.tracking import SilentReporter

MODES: dict[str, dict[str, object]] = {
    "none": {"enabled": False},
    "distance, video": {"method": "cumulative_l2", "level": "video"},
    "distance, video, own total": {"method": "cumulative_l2", "normaliser": "self", "frames": "one_random"},
    "distance, action": {"method": "cumulative_l2", "level": "action", "normaliser": "self"},
    "distance, action, train total": {"method": "cumulative_l2", "level": "action"},
    "dense": {"method": "learnable", "level": "proportional"},
    "dense, action": {"level": "action", "dense": {"detach": True}},
    "v1": {"recipe": "v1", "level": "action", "learnable": {"use_conv": True}},
    "v2": {"recipe": "v2", "level": "action"},
    "v3": {"recipe": "v3", "level": "action"},
    "v4": {"recipe": "v4", "level": "action"},
    "v4, video": {"recipe": "v4", "level": "video", "learnable": {"mode": "sqrt_weighted"}},
    "protas": {"method": "protas"},
}


def run(folder: Path, annotated: Annotated | None = None, **changes: object) -> Result:
    config = tiny_alignment(folder, **changes)
    return train_on(config, annotated or tiny_annotated(), None, SilentReporter())


def with_progress(config: AlignmentConfig, mode: str) -> dict[str, object]:
    return {**config.progress.model_dump(), **MODES[mode]}


@pytest.mark.parametrize("name", ["tcc", "gtcc", "lav", "vava"])
def test_every_alignment_loss_trains_and_is_logged_by_name(tmp_path: Path, name: str) -> None:
    result = run(tmp_path, losses__loss_type={name: 1.0}, progress__enabled=False)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(row[f"{name}_loss"]) for row in rows)
    assert result.metrics["alignment_loss"] == pytest.approx(result.metrics[f"{name}_loss"], rel=1e-5)


def test_losses_add_up_with_their_coefficients(tmp_path: Path) -> None:
    metrics = run(tmp_path, losses__loss_type={"TCC": True, "lav": 0.5, "vava": 0}).metrics
    assert "vava_loss" not in metrics
    expected = metrics["tcc_loss"] + 0.5 * metrics["lav_loss"]
    assert metrics["alignment_loss"] == pytest.approx(expected, rel=1e-5)
    assert metrics["combined"] == pytest.approx(expected + metrics["progress_loss"], rel=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_every_progress_mode_trains_is_reloaded_and_evaluated(tmp_path: Path, mode: str) -> None:
    blank = tiny_alignment(tmp_path)
    annotated = tiny_annotated()
    config = blank.model_copy(
        update={"progress": type(blank.progress).model_validate(with_progress(blank, mode))}
    )
    result = train_on(config, annotated, None, SilentReporter())
    assert np.isfinite(result.metrics["combined"])
    report = evaluate(load_alignment(tmp_path, "combined"), annotated, "validation")
    assert 0 <= report.embeddings["ours"]["nn_accuracy"] <= 1
    rows = report.action | report.video
    assert ("always 0.5" in rows) == (mode != "none")
    assert all(np.isfinite(row["ope_clipped"]) for row in rows.values())


def tensors(folder: Path, checkpoint: str = "last") -> dict[str, torch.Tensor]:
    path = folder / "checkpoints" / checkpoint
    names = ("model", "optimizer", "rng")
    return {f"{n}.{k}": v for n in names for k, v in load_file(path / f"{n}.safetensors").items()}


@pytest.mark.parametrize("changes", [{}, {"losses__loss_type": {"gtcc": 1.0, "tcc": 1.0}}])
def test_two_halves_and_a_resume_equal_one_run_bit_for_bit(tmp_path: Path, changes: dict) -> None:
    changes = changes | {"head__dropout": 0.2, "train__save_every": 3}
    run(tmp_path / "whole", train__steps=6, **changes)
    middle = tmp_path / "whole" / "checkpoints" / "step_3"
    run(tmp_path / "resumed", train__steps=6, train__resume=str(middle), **changes)
    whole, resumed = tensors(tmp_path / "whole"), tensors(tmp_path / "resumed")
    assert whole.keys() == resumed.keys()
    assert [k for k in whole if not torch.equal(whole[k], resumed[k])] == []


def test_a_resumed_run_remembers_its_best_values(tmp_path: Path) -> None:
    run(tmp_path, train__steps=4, train__save_every=4)
    state = json.loads((tmp_path / "checkpoints" / "last" / "state.json").read_text())
    assert set(state["best"]) == {"best_combined", "best_alignment"}
    better = dict.fromkeys(state["best"], -1000000000.0)
    path = tmp_path / "checkpoints" / "last" / "state.json"
    path.write_text(json.dumps({**state, "best": better}))
    run(tmp_path / "more", train__steps=6, train__resume=str(tmp_path))
    assert not (tmp_path / "more" / "checkpoints" / "best_combined").exists()


def test_a_curriculum_needs_a_last_epoch(tmp_path: Path) -> None:
    data = tiny_alignment(tmp_path).model_dump()
    data["progress"]["lambda_curriculum"]["enabled"] = True
    data["train"] |= {"steps": None, "max_seconds": 5.0}
    with pytest.raises(ValueError, match="a timed run has no last epoch"):
        AlignmentConfig.model_validate(data)


def test_bests_are_compared_at_the_last_lambda(tmp_path: Path) -> None:
    curriculum = {"enabled": True, "start": 0.0, "end": 10.0}
    blank = tiny_alignment(tmp_path, train__steps=8, train__validate_every=2)
    options = {**blank.progress.model_dump(), "lambda_curriculum": curriculum}
    progress = type(blank.progress).model_validate(options)
    train_on(blank.model_copy(update={"progress": progress}), tiny_annotated(), None, SilentReporter())
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    lambdas = [row["progress_lambda"] for row in rows if row["kind"] == "train"]
    assert lambdas[0] == 0.0 and lambdas[-1] == 10.0
    for row in rows:
        if row["kind"] == "val":
            expected = row["alignment_loss"] + 10.0 * row["progress_loss"]
            assert row["combined"] == pytest.approx(expected, rel=1e-5)


def test_both_bests_are_found_and_an_older_run_falls_back_to_its_one(tmp_path: Path) -> None:
    run(tmp_path)
    assert find_checkpoint(tmp_path, "alignment").name == "best_alignment"
    (tmp_path / "checkpoints" / "best_alignment").rename(tmp_path / "checkpoints" / "best")
    assert find_checkpoint(tmp_path, "alignment").name == "best"
    with pytest.raises(ConfigError, match="combined"):
        find_checkpoint(tmp_path, "combin")
    with pytest.raises(ConfigError, match="it has none"):
        find_checkpoint(tmp_path / "checkpoints", "last")


def test_a_checkpoint_says_everything_about_itself(tmp_path: Path) -> None:
    run(tmp_path)
    trained = load_alignment(tmp_path)
    assert trained.known.labels == ("reach", "grip", "lift")
    assert (trained.known.fps, trained.known.num_features) == (10.0, FEATURES)
    about = json.loads(trained.checkpoint.texts["about.json"])
    assert about["background"] and len(about["train_videos"]) == 6 and about["format_version"] == 1
    assert {"combined", "alignment_loss", "progress_loss"} <= set(trained.checkpoint.metrics)


def test_several_tasks_train_with_one_head_each_and_batches_of_one_task(tmp_path: Path) -> None:
    annotated = tiny_annotated(3, ("pour", "fold"))
    run(tmp_path, annotated, encoder__kind="multi_head", losses__loss_type={"gtcc": 1.0})
    trained = load_alignment(tmp_path)
    assert trained.known.tasks == ("pour", "fold")
    config = trained.config
    videos = make_videos(annotated, split_videos(annotated, config.data, 0)[0], "video")
    batches = keys.training_batches(videos, None, batch_size=4, condition_rate=0.0, seed=0, first=0, rank=0)
    tasks = [next(batches)[keys.TASK] for _ in range(12)]
    assert all(len(task.unique()) == 1 for task in tasks)
    assert {int(task[0]) for task in tasks} == {0, 1}


def test_processes_draw_different_batches_and_a_resume_the_same(tmp_path: Path) -> None:
    videos = make_videos(tiny_annotated(), tiny_annotated().annotations.split("train"), "video")
    config = tiny_alignment(tmp_path)

    def batch(first: int, rank: int, skip: int = 0) -> dict[str, torch.Tensor]:
        source = keys.training_batches(
            videos, config.warp, batch_size=3, condition_rate=0.5, seed=0, first=first, rank=rank
        )
        for _ in range(skip):
            next(source)
        return next(source)

    a, b = batch(0, 0, skip=5), batch(5, 0)
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert int(batch(5, 1)[keys.DRAW]) != int(b[keys.DRAW])


def test_the_normaliser_is_the_mean_over_all_training_videos(tmp_path: Path) -> None:
    run(tmp_path, progress__method="cumulative_l2")
    trained, annotated = load_alignment(tmp_path, "last"), tiny_annotated()
    model = trained.model
    videos = make_videos(annotated, annotated.annotations.split("train"), "video", like=trained.known)
    with torch.no_grad():
        totals = [float(model.travel(model.embed(v.features[None]))[0, -1]) for v in videos.videos]
    assert float(model.distances.video_total[0]) == pytest.approx(np.mean(totals), rel=1e-4)


@pytest.mark.parametrize("length", [2, 2000])
def test_losses_stay_finite_at_any_length_and_without_any_action(tmp_path: Path, length: int) -> None:
    rng = np.random.default_rng(0)
    annotations = [Annotation(f"v{i}", length, 10.0, (), (), (), frozenset({"idle"})) for i in range(3)]
    annotations[0] = Annotation("v0", length, 10.0, ("lift",), (0,), (length - 1,), frozenset({"idle"}))
    features = {a.name: 1e3 * rng.normal(size=(length, FEATURES)).astype(np.float32) for a in annotations}
    made = AnnotationSet(tuple(annotations), frozenset({"idle"}), ("lift",))
    videos = make_videos(Annotated(made, features), annotations, "video")
    names = {"tcc": 1.0, "gtcc": 1.0, "lav": 1.0, "vava": 1.0}
    objective = make_objective(tiny_alignment(tmp_path, losses__loss_type=names), videos)
    batch = keys.whole_videos(videos.videos, videos.fps) | {keys.DRAW: torch.tensor(0)}
    loss, metrics = objective(batch, 0)
    loss.backward()
    assert all(torch.isfinite(value) for value in metrics.values())
    assert all(torch.isfinite(p.grad).all() for p in objective.parameters() if p.grad is not None)


def test_unknown_losses_labels_tasks_and_widths_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'tccc': no such loss; did you mean 'tcc'"):
        AlignmentLossConfig(loss_type={"tccc": 1.0})
    annotated = tiny_annotated()
    training = make_videos(annotated, annotated.annotations.split("train"), "video")
    first = annotated.annotations.videos[0]
    narrow = {**annotated.features, first.name: annotated.features[first.name][:, :4]}
    with pytest.raises(AnnotationError, match="4 features per frame, expected 8"):
        make_videos(Annotated(annotated.annotations, narrow), [first], "video", like=training)
    other = tiny_annotated(tasks=("fold",))
    with pytest.raises(AnnotationError, match="unknown task 'fold'"):
        make_videos(other, other.annotations.videos, "video", like=training)
    renamed = Known(("reach", "grip"), ("",), 10.0, {}, 8)
    with pytest.raises(AnnotationError, match="'lift'.*unknown label"):
        make_videos(annotated, annotated.annotations.videos, "video", like=renamed)
    with pytest.raises(AnnotationError, match="expected at least 2"):
        split_videos(annotated, tiny_alignment(tmp_path, data__tasks=("pour",)).data, 0)


def train_as_one_of_two(folder: str) -> None:
    config = tiny_alignment(Path(folder), train__steps=4, losses__loss_type={"gtcc": 1.0, "tcc": 1.0})
    train_on(config, tiny_annotated(), None, SilentReporter())


@pytest.mark.slow
def test_the_shipped_recipe_trains_on_the_files_of_ms_tcn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_mstcn(tmp_path / "set", repeat=6)
    run = tmp_path / "run"
    words = ["--dataset", str(folder), f"train.output={run}", "train.steps=2", "train.log_every=1"]
    assert main(["train", "alignment", *words, "data.mean_frames=60"]) == 0
    assert "thinned out from 30" in capsys.readouterr().out
    trained = load_alignment(run)
    assert trained.known.fps < 30 and trained.config.head.features
    assert main(["evaluate", "alignment", str(run), "--gru-steps", "2"]) == 0
    said = capsys.readouterr().out
    assert "split test" in said and "plain causal GRU" in said
    with pytest.raises(ConfigError, match="tacit train progress: --config is missing"):
        cli.train(["progress"])


def test_two_processes_agree_on_their_weights(tmp_path: Path) -> None:
    in_two_processes(train_as_one_of_two, str(tmp_path / "run"))
    rows = [json.loads(row) for row in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    moments = [(row["kind"], row["step"]) for row in rows]
    assert any(kind == "val" for kind, _ in moments)
    assert len(set(moments)) == len(moments), "each process wrote the metrics"


CONFIGS = sorted((Path(__file__).parents[2] / "learning" / "configs").glob("alignment_*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_configuration_is_valid_and_names_its_command(path: Path) -> None:
    config = load(AlignmentConfig, path)
    assert path.read_text().startswith(f"# tacit train alignment --config learning/configs/{path.name} ")
    assert config.train.output.startswith("runs/")


def test_statistics_do_not_depend_on_how_many_videos_are_measured_at_once(tmp_path: Path) -> None:
    annotated = tiny_annotated()
    videos = make_videos(annotated, annotated.annotations.split("train"), "video")
    objective = make_objective(tiny_alignment(tmp_path, progress__method="cumulative_l2"), videos).eval()
    states = []
    for chunk in (2, 4, 100):
        measure_statistics(objective, videos, torch.device("cpu"), chunk)
        states.append({k: v.clone() for k, v in objective.model.state_dict().items() if "distances" in k})
    for state in states[1:]:
        assert all(torch.allclose(state[name], states[0][name], rtol=1e-4, atol=1e-6) for name in state)


def test_distances_of_actions_are_measured_as_they_are_used(tmp_path: Path) -> None:
    annotated = tiny_annotated()
    videos = make_videos(annotated, annotated.annotations.split("train"), "video")
    objective = make_objective(
        tiny_alignment(tmp_path, progress__method="cumulative_l2", progress__level="action"), videos
    ).eval()
    measure_statistics(objective, videos, torch.device("cpu"))
    ends = [
        prediction.action["start+class"][segment.end]
        for video, prediction in zip(videos.videos, predict(objective.model, videos), strict=True)
        for segment in video.annotation.action_segments()
    ]
    assert np.mean([progress >= 1.0 for progress in ends]) < 0.9  # some actions go further than the mean
    assert np.mean(ends) > 0.85
