"""Training runs of VACE-E: stages, resume, caches, labels, fallbacks, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from vace_e_runs import changed, losses, run, small_config, weights, write_small_dataset

from tacit.errors import ConfigError, MissingDependencyError
from tacit_learning.engine.checkpoint import load_checkpoint
from tacit_learning.engine.tracking import SilentReporter
from tacit_learning.vace_e.assembly import make_model
from tacit_learning.vace_e.model.folder import load_model
from tacit_learning.vace_e.model.vace_e import group_of
from tacit_learning.vace_e.objective import extra_loss
from tacit_learning.vace_e.run import train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_dataset(tmp_path_factory.mktemp("vace_e") / "data")


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of both stages: 6 + 6 steps."""
    folder = tmp_path_factory.mktemp("whole")
    run(small_config(data, folder))
    return folder


@pytest.mark.parametrize("stop", [6, 9], ids=["between two stages", "inside the second"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    data: Path, whole: Path, tmp_path: Path, stop: int
) -> None:
    first = small_config(data, tmp_path / "first", max_steps=stop)
    assert run(first).position.step == stop
    second = small_config(data, tmp_path / "second", resume_from=first.output_path)
    resumed, expected = run(second), load_checkpoint(whole)
    assert resumed.position.step == expected.position.step == 12
    assert changed(weights(expected), weights(resumed)) == set()
    club, again = expected.part("course"), resumed.part("course")
    tensors = {key: value for key, value in club.items() if torch.is_tensor(value)}
    assert tensors and changed(tensors, {key: again[key] for key in tensors}) == set()
    assert losses(first) + losses(second) == losses(small_config(data, whole))


def test_a_stage_changes_its_groups_and_nothing_else(data: Path, whole: Path, tmp_path: Path) -> None:
    start = run(small_config(data, tmp_path, max_steps=1))
    middle = load_checkpoint(whole / "checkpoints" / "stage_first")
    groups = {group_of(name) for name in changed(weights(start), weights(middle))}
    assert groups == {"vace_e"}
    end = load_checkpoint(whole)
    assert {group_of(name) for name in changed(weights(middle), weights(end))} == {"dit", "vace", "vace_e"}


def test_every_stage_starts_with_a_fresh_optimiser(data: Path, tmp_path: Path) -> None:
    config = small_config(data, tmp_path, max_steps=7)
    state = run(config).part("optimizer")
    steps = {float(value) for name, value in state.items() if name.endswith("/step")}
    assert steps == {1.0}


def test_the_exported_model_is_the_trained_one(data: Path, whole: Path) -> None:
    exported = dict(load_model(whole / "model").state_dict())
    assert changed(weights(load_checkpoint(whole)), exported) == set()


def test_losses_from_the_cache_equal_losses_without_one(data: Path, whole: Path, tmp_path: Path) -> None:
    config = small_config(data, tmp_path, use_cache=False, max_steps=3)
    run(config)
    assert losses(config) == losses(small_config(data, whole))[:3]


def test_cache_only_fills_the_caches_and_trains_nothing(data: Path, tmp_path: Path) -> None:
    config = small_config(data, tmp_path / "run", cache_path=str(tmp_path / "cache"), cache_only=True)
    assert train(config, SilentReporter()) is None
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("??/*")}
    assert len(times) > 12 and not (tmp_path / "run" / "checkpoints").exists()
    train(config, SilentReporter())
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("??/*")} == times


def test_labels_only_grow_when_a_run_goes_on_with_more_tasks(tmp_path: Path) -> None:
    data = write_small_dataset(tmp_path / "data", episodes=1)
    before = run(small_config(data, tmp_path / "first", max_steps=1))
    old = json.loads(before.texts["labels.json"])
    metadata = json.loads((data / "metadata.json").read_text())
    attributes = next(iter(metadata["per_task_attributes"].values()))
    metadata["per_task_attributes"]["000-new"] = attributes | {"task_type": "aaa_first_of_all"}
    (data / "metadata.json").write_text(json.dumps(metadata))
    after = run(small_config(data, tmp_path / "second", resume_from=str(tmp_path / "first"), max_steps=2))
    new = json.loads(after.texts["labels.json"])
    assert new["task"].items() > old["task"].items()
    assert max(new["task"].values()) == len(old["task"])


def test_episodes_without_motion_objects_or_image_train(tmp_path: Path) -> None:
    numbers = frozenset(range(0, 12, 2))
    data = write_small_dataset(
        tmp_path / "data", without_motion=numbers, without_objects=numbers, without_reference=numbers
    )
    config = small_config(data, tmp_path / "run", max_steps=4)
    run(config)
    assert len(losses(config)) == 4


def test_a_batch_in_which_every_stream_is_missing_trains(tmp_path: Path) -> None:
    numbers = frozenset(range(12))
    data = write_small_dataset(
        tmp_path / "data", without_motion=numbers, without_objects=numbers, without_reference=numbers
    )
    config = small_config(data, tmp_path / "run", max_steps=2, modality_dropout=0.9)
    run(config)
    assert len(losses(config)) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"feature_batch": 0, "debug": True, "flow_weighting": "bell", "mask_weight": 3.0, "ref_loss": True},
        {"gradient_accumulation_steps": 2, "xcov_lambda": 1.0},
        {"enable_contrastive_loss": False, "enable_club_loss": False, "vace_e_injection": "context"},
        {"enable_vace_e": False, "training_stages": {"a": {"trainable_models": "vace"}}},
        {
            "flow_weighting": "logit_normal",
            "use_gradient_checkpointing": True,
            "use_gradient_checkpointing_offload": True,
            "vace_e_task_processing": False,
            "vram_optimization": True,
        },
        {
            "vram_optimization": {"frozen_weights": "int8", "cpu_offload": True},
            "training_stages": {"a": {"trainable_models": "vace_e"}},
        },
        {"mixed_precision": "bf16", "save_intermediate_outputs": True, "verbose_logging": True},
        {
            "lora_base_model": "dit",
            "lora_rank": 2,
            "training_stages": {"a": {"trainable_models": "lora:dit"}},
        },
    ],
    ids=lambda options: ",".join(options),
)
def test_every_option_trains_a_step(data: Path, tmp_path: Path, options: dict[str, object]) -> None:
    config = small_config(data, tmp_path, max_steps=2, **options)
    snapshot = run(config)
    assert snapshot.position.step == 2
    assert len(losses(config)) == 2


def test_offloading_moments_or_activations_changes_no_number(data: Path, whole: Path, tmp_path: Path) -> None:
    options = {"vram_optimization": {"offload_optimizer": True}, "use_gradient_checkpointing": True}
    config = small_config(data, tmp_path, max_steps=2, use_gradient_checkpointing_offload=True, **options)
    run(config)
    assert losses(config) == losses(small_config(data, whole))[:2]


def test_a_stage_may_train_on_shorter_windows(data: Path, tmp_path: Path) -> None:
    """A curriculum over lengths: clips of two latent frames, then of three."""
    stages = {
        "short": {"epochs": 1, "trainable_models": "vace_e", "num_frames": 5},
        "whole": {"epochs": 1, "trainable_models": "vace_e"},
    }
    options: dict[str, Any] = {"training_stages": stages, "max_steps": 4, "batch_size": 6, "feature_batch": 4}
    config = small_config(data, tmp_path, save_intermediate_outputs=True, masks="tight", **options)
    assert run(config).position.step == 4
    kept = {name: load_file(tmp_path / "intermediate" / f"{name}.safetensors") for name in stages}
    frames = [kept[name]["latents"].shape[2] - 1 for name in stages]  # without the reference
    assert frames == [2, 3]


def test_an_extra_loss_adds_its_weighted_value(data: Path, whole: Path, tmp_path: Path) -> None:
    @extra_loss("constant_two")
    def constant(predicted: torch.Tensor, target: torch.Tensor, context: object) -> torch.Tensor:
        return 2.0 + 0.0 * (predicted - target).sum()

    config = small_config(data, tmp_path, max_steps=1, extra_losses={"constant_two": 0.5})
    run(config)
    (row,), expected = losses(config), losses(small_config(data, whole))[0]
    assert row["extra_constant_two"] == 2.0
    assert row["loss"] == pytest.approx(expected["loss"] + 1.0)
    assert row["flow"] == expected["flow"]


@pytest.mark.parametrize("place", ["", "model"], ids=["a run", "exported adapters"])
def test_a_run_starts_from_the_weights_of_another(
    data: Path, whole: Path, tmp_path: Path, place: str
) -> None:
    config = small_config(data, tmp_path, vace_e_checkpoint=str(whole / place))
    trained, start = weights(load_checkpoint(whole)), make_model(config).state_dict()
    same = {group_of(name) for name in trained} - {group_of(name) for name in changed(trained, start)}
    assert same == ({"vace_e"} if place else {"vace_e", "vace", "dit"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vace_e_checkpoint": "nowhere"}, "no checkpoint"),
        ({"extra_losses": {"nobody": 1.0}}, "'nobody' is not registered"),
        ({"vace_e_layers": "0,7"}, "blocks 0..2"),
        ({"feature_batch": 0, "batch_size": 1}, "compare rows"),
        ({"distributed": "fsdp2"}, "torchrun"),
        ({"resume_from": "nowhere"}, "no checkpoint"),
    ],
)
def test_runs_that_cannot_work_are_refused_at_the_start(
    data: Path, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(small_config(data, tmp_path, **options))


def test_a_tracker_that_is_not_installed_is_named_with_its_cure(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    with pytest.raises(MissingDependencyError, match="pip install wandb"):
        run(small_config(data, tmp_path, logging={"wandb": "offline"}))


def test_a_checkpoint_of_another_model_is_refused(data: Path, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="made with other model options"):
        run(small_config(data, tmp_path, resume_from=str(whole), vace_e_injection="context"))


def test_a_checkpoint_inside_a_stage_of_other_groups_is_refused(data: Path, tmp_path: Path) -> None:
    run(small_config(data, tmp_path / "first", max_steps=2))
    stages = {"first": {"epochs": 2, "trainable_models": "vace"}}
    with pytest.raises(ConfigError, match="keep training_stages as they were"):
        resumed = str(tmp_path / "first")
        run(small_config(data, tmp_path / "second", resume_from=resumed, training_stages=stages))
