"""Options of VACE-E: spellings, aliases, stages, memory, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tacit.config import apply_overrides, load, parse
from tacit.errors import ConfigError
from tacit_learning.options import VACE_E, find_config, overrides
from tacit_learning.vace_e.config import MemoryConfig, VaceEConfig

NEEDED = {"dataset_base_path": "data", "output_path": "runs"}


def config(**options: object) -> VaceEConfig:
    return parse(VaceEConfig, NEEDED | options, "test")


def words(line: str) -> list[str]:
    return overrides(line.split(), VACE_E)


@pytest.mark.parametrize(
    "line",
    [
        "--use-gradient-checkpointing False",
        "--use_gradient_checkpointing=false",
        "use_gradient_checkpointing=no",
    ],
)
def test_underscores_hyphens_and_assignments_mean_the_same(line: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("dataset_base_path: data\noutput_path: runs\nuse_gradient_checkpointing: true\n")
    assert load(VaceEConfig, path, words(line)).use_gradient_checkpointing is False


def test_a_bare_flag_means_true_and_swallows_no_neighbour() -> None:
    assert words("--debug --club_lr 1e-4") == ["debug=true", "club_lr=1e-4"]
    assert words("--debug batch_size=2") == ["debug=true", "batch_size=2"]
    assert words("--debug True") == ["debug=True"]
    assert words("--cache-only") == ["cache_only=true"]


def test_flags_reach_inside_their_blocks(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("base_path: data\noutput_path: runs\nlogging: {log_frequency: 7}\n")
    line = (
        "--base_path other --experiment_name e --vram_optimization --learning_rate 5e-5 --vace_e_layers 0,2"
    )
    changed = load(VaceEConfig, path, words(line))
    assert changed.dataset_base_path == "other"
    assert (changed.logging.log_frequency, changed.logging.experiment_name) == (7, "e")
    assert changed.vram_optimization.offloads_optimizer and changed.learning_rate == 5e-5
    assert changed.vace_e_layers == (0, 2)


def test_memory_options_hold_alone_together_or_not_at_all() -> None:
    alone = MemoryConfig(offload_optimizer=True)
    assert (alone.offloads_optimizer, alone.offloads_models, alone.compresses_gradients) == (
        True,
        False,
        False,
    )
    everything = MemoryConfig(enabled=True, cpu_offload=False)
    assert everything.compresses_gradients and not everything.offloads_models
    nothing = MemoryConfig(enabled=False, cpu_offload=True, gradient_compression=0.5)
    assert not nothing.offloads_models and not nothing.compresses_gradients
    assert config(cpu_offload=True).vram_optimization.offloads_models
    assert config(vram_optimization=True).vram_optimization.compresses_gradients


THE_NOTES = """
--base_path videos --task_metadata_path tasks.json --robot_data_path robot --output_path out
--vace_e_task_processing False --max_hand_motion_length 77
--max_object_trajectory_length 78 --max_objects 3 --fallback_to_video_only False
--learning_rate 3e-5 --num_epochs 2 --dataset_repeat 4 --mixed_precision no --compile_model --debug
--verbose_logging --save_intermediate_outputs --use_gradient_checkpointing False
--use_gradient_checkpointing_offload --enable_contrastive_loss False --contrastive_temperature 0.2
--task_contrastive_lambda 0.3 --embodiment_contrastive_lambda 0.4 --enable_club_loss False
--club_lambda 0.5 --club_lr 2e-3 --club_training_steps 6 --club_update_freq 7 --lora_rank 8
--wandb_project ours --experiment_name first --log_frequency 9 --save_model_artifacts False
"""


def test_every_flag_of_the_original_notes_takes_effect() -> None:
    """Each flag is given another value than it has by itself, so one that is ignored shows."""
    read = parse(VaceEConfig, apply_overrides(NEEDED, words(THE_NOTES)), "the notes")
    by_itself = config()
    given = [word.removeprefix("--") for word in THE_NOTES.split() if word.startswith("--")]
    assert len(given) == 33
    for name in given:
        holder, plain = (
            (read.logging, by_itself.logging) if hasattr(read.logging, name) else (read, by_itself)
        )
        name = {"base_path": "dataset_base_path"}.get(name, name)
        assert getattr(holder, name) != getattr(plain, name), name
    assert (read.learning_rate, read.max_objects, read.mixed_precision) == (3e-5, 3, "no")
    assert (read.logging.wandb_project, read.logging.log_frequency) == ("ours", 9)
    with pytest.raises(ConfigError, match="trains vace_e, but enable_vace_e is false"):
        parse(VaceEConfig, apply_overrides(NEEDED, words("--enable_vace_e False")), "the notes")


def test_the_learning_rate_and_epochs_of_the_command_line_hold_in_every_stage() -> None:
    file = find_config(Path("vace_e_full"))
    stages = load(VaceEConfig, file, words("--learning_rate 3e-5 --num_epochs=2")).training_stages
    assert [(stage.learning_rate, stage.epochs) for stage in stages.values()] == [(3e-5, 2)] * 2
    line = "training_stages.stage2.learning_rate=7e-6 learning_rate=3e-5"
    rates = [each.learning_rate for each in load(VaceEConfig, file, words(line)).training_stages.values()]
    assert rates == [3e-5, 7e-6], "the more particular word wins"
    untouched = load(VaceEConfig, file, words("--batch_size 1")).training_stages
    assert [stage.epochs for stage in untouched.values()] == [15, 20]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("--trainable_models vace_e,club_estimator", "a stage names what trains"),
        ("--num_workers 8", "one thread reads a batch ahead"),
        ("--cfg_scale 5", "training has guidance_scale"),
        ("--model_id_with_origin_paths Wan-AI/Wan2.1-VACE-1.3B:x", "layout of diffusers"),
        ("--remove_prefix_in_ckpt pipe.vace_e.", "names of diffusers and peft"),
    ],
)
def test_flags_of_the_notes_that_cannot_act_are_refused_with_the_reason(line: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        words(line)


def test_the_contrastive_temperature_and_the_club_weight_are_those_of_the_notes() -> None:
    assert (config().contrastive_temperature, config().club_lambda, config().lora_rank) == (0.07, 1.0, 32)


def test_without_stages_one_trains_vace_e() -> None:
    stages = config().training_stages
    assert [stage.trainable_models for stage in stages.values()] == [("vace_e",)]


def test_trainable_models_are_a_string_or_a_list() -> None:
    stages = {"a": {"trainable_models": "dit, vace_e"}, "b": {"trainable_models": ["vace"]}}
    read = config(training_stages=stages).training_stages
    assert read["a"].trainable_models == ("dit", "vace_e") and read["b"].trainable_models == ("vace",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learnin_rate": 1}, "did you mean 'learning_rate'"),
        (
            {"logging": {"log_frequenzy": 1}},
            "logging.log_frequenzy: unknown key; did you mean 'log_frequency'",
        ),
        ({"num_frames": 80}, "80 is not 4 k \\+ 1; the nearest are 77 and 81"),
        ({"height": 250}, "multiple of 16"),
        ({"vace_e_layers": "0,5,5"}, "sorted, none twice"),
        ({"vace_e_layers": "-1,5"}, "from 0 on"),
        ({"training_stages": {}}, "no stage"),
        ({"training_stages": {"a": {"num_frames": 16}}}, "16 is not 4 k \\+ 1"),
        ({"num_frames": 9, "training_stages": {"a": {"num_frames": 13}}}, "13, longer than the 9 of the run"),
        ({"training_stages": {"a": {"trainable_models": "vaec"}}}, "did you mean 'vace'"),
        ({"training_stages": {"a": {"trainable_models": "lora:dit"}}}, "lora_base_model is empty"),
        ({"enable_vace_e": False}, "enable_vace_e is false"),
        ({"vram_optimization": {"gradient_compression": 0.25}}, "only 0.5"),
        ({"modality_dropout": 1.0}, "less than 1"),
        (
            {"vram_optimization": {"frozen_weights": "fp8"}, "distributed": "fsdp2"},
            "neither sharded nor compiled",
        ),
        ({"vram_optimization": {"cpu_offload": True}, "ema_decay": 0.9}, "no frozen weight may wait"),
    ],
)
def test_wrong_options_are_named_with_their_cure(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**options)


def test_the_shift_of_noise_levels_follows_the_size() -> None:
    assert config().shift == 3.0
    assert config(height=720, width=1280).shift == 5.0
    assert config(flow_shift=16.0).shift == 16.0


def test_a_shipped_configuration_is_found_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("")
    assert find_config(Path("run"), tmp_path) == tmp_path / "run.yaml"
    assert find_config(Path("run.yaml"), tmp_path) == tmp_path / "run.yaml"
    assert find_config(Path("elsewhere/run.yaml"), tmp_path) == Path("elsewhere/run.yaml")
