"""The original notes to the letter: their commands, the recipes v1 to v4, and what is refused of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_videos import tiny_alignment, tiny_annotated, write_mstcn

from tacit.cli import main
from tacit.config import load
from tacit.errors import ConfigError
from tacit_learning.alignment.checkpoints import load_alignment
from tacit_learning.alignment.commands.evaluate_alignment import evaluate, videos_of
from tacit_learning.alignment.data import batches as keys
from tacit_learning.alignment.data.videos import Annotated, make_videos
from tacit_learning.alignment.model.model import Frames
from tacit_learning.alignment.recipes import recipe_loss
from tacit_learning.alignment.settings import AlignmentConfig, ProgressConfig, RecipeConfig, TextConfig
from tacit_learning.alignment.terms import Moment
from tacit_learning.alignment.train_alignment import make_objective, train_on
from tacit_learning.data.annotations import AnnotationSet
from tacit_learning.engine.tracking import SilentReporter
from tacit_learning.export import followed_task
from tacit_learning.layers.text import embed_texts
from tacit_learning.options import CONFIGS, TABLES, overrides


def run(folder: Path, **changes: object) -> None:
    train_on(tiny_alignment(folder, **changes), tiny_annotated(), None, SilentReporter())


def test_flags_of_the_original_command_line_mean_what_they_meant() -> None:
    words = "--loss_type GTCC --progress_loss learnable --progress_lambda 0.5 --dataset d --version runs/v4"
    config = load(AlignmentConfig, CONFIGS / "alignment.yaml", overrides(words.split(), TABLES["alignment"]))
    assert config.losses.coefficients() == {"gtcc": 1.0}
    assert (config.progress.method, config.progress.lambda_fixed) == ("learnable", 0.5)
    assert (config.data.folder, config.train.output) == ("d", "runs/v4")
    with pytest.raises(ConfigError, match="recipe v3"):
        overrides(["--use_position_encoding", "true"], TABLES["alignment"])


def test_the_command_of_the_notes_runs_and_says_that_progress_drowns_alignment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mstcn(tmp_path / "data" / "egoprocel", repeat=1)
    monkeypatch.chdir(tmp_path)
    words = "--version 4 --dataset egoprocel --loss_type GTCC --progress_loss learnable"
    rest = "--progress_lambda 1000000 train.steps=2 losses.gtcc.n_components=2 train.log_every=1"
    assert main(["train", "alignment", *words.split(), *rest.split()]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "lambda_fixed 1e+06 makes the progress term" in said
    trained = load_alignment(tmp_path / "runs" / "alignment_v4")
    assert (trained.config.progress.recipe, trained.config.progress.level) == ("v4", "action")
    rows = [json.loads(line) for line in (tmp_path / "runs/alignment_v4/metrics.jsonl").open()]
    assert all(np.isfinite(row["total_loss"]) for row in rows)
    assert rows[0]["total_loss"] == pytest.approx(1e6 * rows[0]["progress_loss"], rel=1e-2)


@pytest.mark.parametrize(("version", "loss"), [("1", "tcc"), ("2", "VAVA"), ("3", "Gtcc")])
def test_every_version_of_the_notes_runs_with_every_other_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, loss: str
) -> None:
    write_mstcn(tmp_path / "data" / "egoprocel", repeat=1)
    monkeypatch.chdir(tmp_path)
    words = f"--version {version} --dataset egoprocel --loss_type {loss} --progress_loss learnable"
    assert main(["train", "alignment", *words.split(), "--progress_lambda", "0.1", "train.steps=1"]) == 0
    config = load_alignment(tmp_path / "runs" / f"alignment_v{version}").config
    assert config.progress.recipe == f"v{version}"
    assert config.losses.coefficients() == {loss.lower(): 1.0}


def test_a_version_draws_and_weighs_as_the_notes_say() -> None:
    found = {version: recipe_loss(version, RecipeConfig()) for version in ("v1", "v2", "v3", "v4")}
    draws = {version: (loss.actions, loss.prefixes) for version, loss in found.items()}
    assert draws == {"v1": (1, 1), "v2": (5, 3), "v3": (10, 5), "v4": (10, 5)}
    assert [loss.weight_cap for loss in found.values()] == [None, None, 10.0, 20.0]
    assert [loss.stratified for loss in found.values()] == [False, False, True, True]
    assert [loss.boundary for loss in found.values()] == [False, False, False, True]


def test_lambda_of_v2_is_for_the_encoder_alone(tmp_path: Path) -> None:
    gradients = {}
    for weight in (1.0, 1000.0):
        progress = {"recipe": "v2", "level": "action", "lambda_fixed": weight, "motion_weight": 0}
        changes = {f"progress__{name}": value for name, value in progress.items()}
        config = tiny_alignment(tmp_path, losses__loss_type={}, **changes)
        annotated = tiny_annotated()
        training = make_videos(annotated, annotated.annotations.split("train"), "action")
        torch.manual_seed(0)
        objective = make_objective(config, training)
        draws = {"batch_size": 3, "condition_rate": 0, "seed": 0, "first": 0, "rank": 0}
        batch = next(keys.training_batches(training, None, **draws))
        objective(batch, 0)[0].backward()
        parts = (objective.model.head_net, objective.model.encoder)
        gradients[weight] = [
            float(sum(p.grad.abs().sum() for p in part.parameters() if p.grad is not None)) for part in parts
        ]
    (head, encoder), (same, larger) = gradients.values()
    assert same == pytest.approx(head, rel=1e-4) and larger == pytest.approx(1000 * encoder, rel=1e-3)


def test_one_random_frame_is_refused_where_it_would_not_be_one() -> None:
    for method in ("learnable", "protas"):
        with pytest.raises(ValueError, match="one_random is a loss of the travelled distance alone"):
            ProgressConfig(frames="one_random", method=method)


def test_videos_as_they_are_count_beside_warped_clips_by_their_share(tmp_path: Path) -> None:
    dense = {"whole": 0.5, "segments": 0.0}
    config = tiny_alignment(tmp_path, progress__dense=dense, progress__motion_weight=0)
    annotated = tiny_annotated()
    training = make_videos(annotated, annotated.annotations.split("train"), "video")
    objective = make_objective(config, training).eval()
    draws = {"batch_size": 3, "condition_rate": 0, "seed": 0, "first": 0, "rank": 0}
    batch = next(keys.training_batches(training, config.warp, **draws))
    plain = {key: value for key, value in batch.items() if not key.startswith(keys.CLIP)}
    with torch.no_grad():
        both, alone = (objective.parts(found, Moment(0, 0, 0), None) for found in (batch, plain))
    assert float(alone["progress_loss"]) > 0.05
    assert float(both["progress_whole"]) == pytest.approx(0.5 * float(alone["progress_loss"]), rel=1e-5)
    assert float(both["progress_loss"]) > float(both["progress_whole"])


def test_at_level_action_the_dense_head_says_nothing_of_the_video(tmp_path: Path) -> None:
    run(tmp_path, progress__level="action")
    trained = load_alignment(tmp_path)
    assert "video" not in trained.model.head.gives and {"action", "done"} <= trained.model.head.gives
    assert not evaluate(trained, tiny_annotated(), "validation").video


def test_a_file_of_the_original_code_is_refused_by_name(tmp_path: Path) -> None:
    weights = {"base_model.conv_layers.0.weight": torch.zeros(2, 2, 3)}
    torch.save({"model_state_dict": weights}, tmp_path / "best_model.pt")
    with pytest.raises(ConfigError, match="best_model.pt: a file of weights.*look ahead"):
        load_alignment(tmp_path / "best_model.pt")
    with pytest.raises(ConfigError, match=r"encoder of the original code \(base_model.conv_layers"):
        old = {"old_head": str(tmp_path / "best_model.pt")}
        run(tmp_path / "run", progress__recipe="v4", progress__learnable=old)


def test_progress_is_learned_from_time_alone_and_scored_beside_the_labels(tmp_path: Path) -> None:
    annotated = tiny_annotated()
    bare = [replace(v, steps=(), start_frames=(), end_frames=()) for v in annotated.annotations.videos]
    nothing = Annotated(AnnotationSet.of_videos(bare), annotated.features)
    config = tiny_alignment(tmp_path, data__steps="time", losses__loss_type={}, train__steps=20)
    train_on(config, nothing, None, SilentReporter())
    trained = load_alignment(tmp_path)
    assert trained.known.labels == ("task",)
    test = videos_of(trained, nothing, ("validation",))
    for video in test.videos:
        expected = torch.arange(1, len(video) + 1) / len(video)
        torch.testing.assert_close(video.progress, expected)
    report = evaluate(trained, annotated, "validation")
    assert not report.action and {"ours, online", "ours, against the time"} <= set(report.video)
    assert report.video["ours, against the time"]["spearman"] > 0.5
    assert 0 <= report.embeddings["ours"]["nn_accuracy"] <= 1, "judged by the labels that it did not see"


def text_encoder(folder: Path) -> Path:
    """Write a tiny text encoder with its tokenizer."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "pour", "fold", "the", "tea", "shirt"]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder)
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def test_one_model_follows_tasks_by_their_text_and_one_that_it_has_not_seen(tmp_path: Path) -> None:
    folder = text_encoder(tmp_path / "encoder")
    embedded = embed_texts(folder, ["pour the tea", "fold the shirt", "pour"])
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(embed_texts(folder, ["pour"])[0], embedded[2], rtol=1e-5, atol=1e-5)
    text = {"folder": str(folder), "width": 4, "says": {"pour": "pour the tea"}}
    config = tiny_alignment(tmp_path / "run").model_copy(update={"text": TextConfig(**text)})
    train_on(config, tiny_annotated(3, ("pour", "fold_shirt")), None, SilentReporter())
    trained = load_alignment(tmp_path / "run")
    torch.testing.assert_close(trained.model.task_text.texts[0], embedded[0], rtol=1e-5, atol=1e-5)
    frames = torch.zeros(2, 5, 8)
    told = [
        trained.model.read(
            trained.model.embed(frames),
            Frames(frames, torch.zeros(2, 5), torch.full((2,), task), torch.zeros(2, 5, dtype=torch.long)),
        ).video
        for task in (0, 1)
    ]
    assert not torch.allclose(told[0], told[1]), "the text changes what is said"
    assert followed_task(trained, "pour") == (0, "pour")
    assert followed_task(trained, "fold the tea") == (0, "fold the tea"), "it takes the first place"
    expected = embed_texts(folder, ["fold the tea"])[0]
    torch.testing.assert_close(trained.model.task_text.texts[0], expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ConfigError, match="nowhere: no such folder"):
        embed_texts(tmp_path / "nowhere", ["pour"])
