"""The plan of a run agrees with real models: parameters, arithmetic, kept bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

pytest.importorskip("diffusers")
pytest.importorskip("peft")

from benches import vace_e as bench
from tacit.errors import ConfigError
from tacit_learning.vace_e import plan_table
from tacit_learning.vace_e.config_model import BackboneConfig, ModelConfig, preset
from tacit_learning.vace_e.model.fusion import Adapter, Condition, Scene
from tacit_learning.vace_e.model.pointing import CODE
from tacit_learning.vace_e.model.signals import random_signals
from tacit_learning.vace_e.model.vace_e import VaceE, build_model, parameter_groups
from tacit_learning.vace_e.plan import (
    ADAPTER_WIDTHS,
    CARDS_GB,
    CONTEXT_GB,
    FROZEN_HIDDEN,
    FROZEN_WIDTHS,
    TRAINED_HIDDEN,
    TRAINED_WIDTHS,
    USABLE,
    Clip,
    RunPlan,
    block_paths,
    count_parameters,
    feature_bytes,
    measure_flop,
    meta_model,
    plan_stage,
    seconds_on_h200,
    stream_tokens_of,
)
from tacit_learning.vace_e.plan_command import main
from tacit_learning.vace_e.plan_table import sizes_of

REAL = preset("wan_1_3b")
FULL = RunPlan(Clip(81, 480, 832))
CONFIGS = Path(__file__).parents[2] / "learning" / "configs"
EVERYTHING = ("dit", "vace", "vace_e")


@pytest.fixture(scope="module")
def real() -> VaceE:
    return meta_model(REAL, FULL)


@pytest.fixture(scope="module")
def parameters(real: VaceE) -> dict[str, int]:
    return count_parameters(real)


def test_the_real_base_has_the_published_number_of_parameters(
    real: VaceE, parameters: dict[str, int]
) -> None:
    block = sum(parameter.numel() for parameter in real.transformer.blocks[0].parameters())
    assert block == pytest.approx(46.44e6, rel=1e-4)
    assert parameters["vace"] == pytest.approx(0.734e9, rel=2e-3)
    assert parameters["vace"] + parameters["dit"] == pytest.approx(2.154e9, rel=1e-3)


def test_adapters_are_a_few_percent_and_block_copies_a_seventh(parameters: dict[str, int]) -> None:
    copies = count_parameters(meta_model(REAL.model_copy(update={"injection": "context"}), FULL))
    assert 50e6 < parameters["vace_e"] < 80e6
    assert 0.28e9 < copies["vace_e"] < 0.32e9
    assert copies["dit"] == parameters["dit"]


@pytest.mark.parametrize("name", ["tiny", "small", "wan_14b"])
def test_real_models_hold_what_their_widths_say(name: str) -> None:
    """Two attentions, a feed-forward layer and norms per block; projections beside the VACE blocks."""
    backbone = preset(name).backbone
    d, f, text, freq = backbone.dim, backbone.ffn_dim, backbone.text_dim, backbone.freq_dim
    square = d * d + d
    block = 2 * (4 * square + 2 * d) + 2 * d + (d * f + f) + (f * d + d) + 6 * d
    vace = len(backbone.vace_layers) * (block + square) + square + 96 * 4 * d + d
    embedders = (freq * d + d) + square + 6 * square + (text * d + d) + square
    dit = backbone.layers * block + embedders + 16 * 4 * (2 * d + 1) + d + 2 * d
    found = count_parameters(meta_model(preset(name), FULL))
    assert (found["dit"], found["vace"]) == (dit, vace)


@pytest.mark.parametrize(
    ("clip", "tokens"),
    [(Clip(17, 240, 416, 0), 1950), (Clip(49, 480, 832), 20280 + 1560), (Clip(81, 480, 832), 32760 + 1560)],
)
def test_tokens_are_those_of_the_latent_grid(clip: Clip, tokens: int) -> None:
    assert clip.tokens == tokens


def forward_by_hand(config: ModelConfig, run: RunPlan) -> float:
    """FLOP of all products of a forward: blocks, VACE projections, embeddings, head, pointer, adapters."""
    backbone, tokens = config.backbone, run.clip.tokens
    d, f, text, freq = backbone.dim, backbone.ffn_dim, backbone.text_length, backbone.freq_dim
    e, streams, vace = config.encoders.dim, stream_tokens_of(config, run), len(backbone.vace_layers)
    block = tokens * (12 * d * d + 4 * d * f) + text * 4 * d * d + 4 * d * tokens * (tokens + text)
    ends = 2 * tokens * d * (16 + 96 + 16) * 4 + 2 * text * (backbone.text_dim * d + d * d)
    ends += 2 * (freq * d + 7 * d * d)
    clip, points = run.clip, 4
    frames, rows, columns = (clip.frames - 1) // 4 + 1, clip.height // 16, clip.width // 16
    pointer = 2 * points * (e * e + frames * e * (CODE * (rows + columns) + e * rows * columns))
    adapter = 4 * tokens * d * d + 4 * streams * e * d + 2 * d * d + 4 * d * tokens * streams
    adapter += 2 * tokens * e * d + 4 * rows * columns * e * d
    blocks = (backbone.layers + vace) * block + (vace + 1) * 2 * tokens * d * d
    return float(blocks + ends + pointer + len(config.layers) * adapter)


def test_the_forward_of_the_real_model_has_the_arithmetic_of_its_products(real: VaceE) -> None:
    run = RunPlan(Clip(17, 240, 416, 0))
    assert measure_flop(real, run) == pytest.approx(forward_by_hand(REAL, run), rel=1e-5)


def small(injection: str = "adapter") -> ModelConfig:
    """Enough width that embeddings weigh little."""
    backbone = BackboneConfig(
        heads=2,
        head_dim=48,
        ffn_dim=512,
        layers=4,
        vace_layers=(0, 2),
        text_dim=32,
        text_length=16,
        freq_dim=32,
    )
    values = preset("tiny").model_dump() | {"backbone": backbone.model_dump(), "injection": injection}
    return ModelConfig.model_validate(values)


def counted_step(config: ModelConfig, run: RunPlan, groups: tuple[str, ...]) -> float:
    """FLOP of a real forward and backward where only `groups` train."""
    torch.manual_seed(0)
    model = build_model(config)
    for name, members in parameter_groups(model).items():
        for parameter in members:
            parameter.requires_grad_(name in groups)
    if run.checkpointing:
        model.transformer.enable_gradient_checkpointing()
    clip = run.clip
    frames = (clip.frames - 1) // 4 + 1
    signals = random_signals(1, config.encoders, 32, frames, objects=2)
    condition = model.conditioning(signals, clip.num_reference)
    cells = (frames + clip.num_reference, clip.height // 8, clip.width // 8)
    counter = FlopCounterMode(display=False)
    inputs = (
        torch.randn(1, 16, *cells),
        torch.tensor([500.0]),
        torch.randn(1, 96, *cells),
        torch.randn(1, 16, 32),
    )
    with counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        model(*inputs, condition).square().mean().backward()
    return float(counter.get_total_flops())


@pytest.mark.parametrize(
    ("groups", "checkpointing"), [(("vace_e",), False), (("vace",), True), (EVERYTHING, True)]
)
def test_a_step_measured_without_memory_has_the_arithmetic_of_a_real_one(
    groups: tuple[str, ...], checkpointing: bool
) -> None:
    run = RunPlan(Clip(9, 128, 128), checkpointing=checkpointing)
    config = small()
    found = measure_flop(meta_model(config, run), run, groups)
    assert found == pytest.approx(counted_step(config, run, groups), rel=0.04)  # that counts its encoders


def extrapolated(groups: tuple[str, ...] = ()) -> float:
    """FLOP of the real model, of 30 blocks, 15 of VACE and 6 adapters: each of a kind costs alike."""

    def few(layers: int, adapters: tuple[int, ...]) -> float:
        backbone = {"layers": layers, "vace_layers": tuple(range(0, layers, 2))}
        changes = {"backbone": REAL.backbone.model_copy(update=backbone), "layers": adapters}
        return measure_flop(meta_model(REAL.model_copy(update=changes), FULL), FULL, groups)

    two, four, other = few(2, (0,)), few(4, (0,)), few(4, (0, 2))
    return two + 14 * (four - two) + 5 * (other - four)


def test_published_sizes_give_the_petaflops_of_a_training_sample() -> None:
    assert extrapolated() == pytest.approx(forward_by_hand(REAL, FULL), rel=1e-5)
    found = {groups: extrapolated(groups) for groups in (("vace_e",), EVERYTHING)}
    assert found["vace_e",] == pytest.approx(1.28e15, rel=0.03)
    assert found[EVERYTHING] == pytest.approx(1.82e15, rel=0.03)
    assert seconds_on_h200(found[EVERYTHING]) == pytest.approx(4.6, rel=0.03)


def wide(d: int, f: int) -> ModelConfig:
    backbone = {"heads": 2, "head_dim": d // 2, "ffn_dim": f, "layers": 3, "vace_layers": (0, 2)}
    return ModelConfig.model_validate(preset("tiny").model_dump() | {"backbone": backbone})


def kept_bytes_per_token(module: torch.nn.Module, d: int, tokens: int, *inputs: object) -> float:
    """Bytes per token that a module keeps for its backward, under bf16 autocast."""
    weights = {parameter.data_ptr() for parameter in module.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        per_token, rest = divmod(tensor.numel(), tokens)  # neither weights nor the rotary table
        if storage.data_ptr() not in weights and rest == 0 and per_token >= d:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    x = torch.randn(1, tokens, d, dtype=torch.bfloat16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t), torch.autocast("cpu", torch.bfloat16):
        module(x, *inputs)
    return sum(kept.values()) / tokens


@pytest.mark.parametrize(
    ("trained", "widths", "hidden"),
    [(True, TRAINED_WIDTHS, TRAINED_HIDDEN), (False, FROZEN_WIDTHS, FROZEN_HIDDEN)],
)
def test_a_block_keeps_the_bytes_of_the_formula(trained: bool, widths: int, hidden: int) -> None:
    d, f, tokens = 96, 384, 509
    block = build_model(wide(d, f)).transformer.blocks[0].requires_grad_(trained)
    rotary = (torch.ones(1, tokens, 1, d // 2), torch.ones(1, tokens, 1, d // 2))
    found = kept_bytes_per_token(block, d, tokens, torch.randn(1, 2, d), torch.randn(1, 6, d), rotary)
    assert found == pytest.approx(widths * d + hidden * f, rel=0.02)


def test_an_adapter_keeps_the_bytes_of_the_formula() -> None:
    d, tokens = 96, 509
    config = wide(d, 384)
    model = build_model(config)
    signals = random_signals(1, config.encoders, config.backbone.text_dim, 2)
    scene = Scene((tokens, 1, 1), torch.randn(1, d), torch.zeros(1), (torch.zeros(1), torch.zeros(1)))
    adapter = model.transformer.fusion.layers["0"]
    found = kept_bytes_per_token(adapter, d, tokens, model.conditioning(signals), scene)
    assert found == pytest.approx(ADAPTER_WIDTHS * d, rel=0.02)


def test_what_fits_is_the_largest_power_of_two_below_the_room(parameters: dict[str, int]) -> None:
    stage = plan_stage("", ("vace_e",), REAL, FULL, parameters)
    for card in CARDS_GB:
        batch = stage.largest_batch[card]
        room = card * USABLE - stage.weights_gb - stage.optimizer_gb - stage.features_gb - CONTEXT_GB
        per_clip = stage.activations_gb + stage.live_gb  # of batch 1
        assert batch * per_clip <= room < 2 * batch * per_clip


def test_memory_falls_with_what_is_saved_elsewhere(parameters: dict[str, int]) -> None:
    def peak(**changes: object) -> float:
        run = RunPlan(Clip(81, 480, 832), **changes)  # type: ignore[arg-type]
        return plan_stage("", EVERYTHING, REAL, run, parameters).total_gb

    assert peak(checkpointing=False) > 160 > peak() > peak(offload_optimizer=True)
    assert peak() > peak(offload_activations=True)
    assert peak(half=False) > peak()


def test_the_feature_batch_takes_its_memory_where_the_streams_train(parameters: dict[str, int]) -> None:
    run = RunPlan(Clip(81, 480, 832), feature_batch=256)
    with_batch = plan_stage("", ("vace_e",), REAL, run, parameters)
    without = plan_stage("", ("vace_e",), REAL, FULL, parameters)
    assert 2 < with_batch.features_gb < 6
    assert without.features_gb == 0 and without.activations_gb == with_batch.activations_gb
    assert plan_stage("", ("vace",), REAL, run, parameters).features_gb == 0
    longer = feature_bytes(REAL, Clip(161, 480, 832)) / feature_bytes(REAL, Clip(81, 480, 832))
    assert 1.5 < longer < 2.0  # text and image do not grow with the clip


def test_only_what_lies_behind_trained_weights_needs_gradients() -> None:
    config = REAL.model_copy(update={"layers": (3, 9)})
    dit, vace = block_paths(config, ("vace_e",))
    assert dit == ["off"] * 4 + ["path"] * 26 and vace == ["off"] * 15
    dit, vace = block_paths(config, ("vace",))
    assert dit == ["off"] + ["path"] * 29 and vace == ["trained"] * 15
    dit, vace = block_paths(config, ("dit",))
    assert dit == ["trained"] * 30 and vace == ["path"] * 15
    dit, vace = block_paths(config, ("lora:dit",))
    assert dit == ["lora"] * 30 and vace == ["off"] * 15


def test_an_adapter_reads_as_many_tokens_as_the_plan_says() -> None:
    config = preset("tiny")
    model = build_model(config)
    condition = model.conditioning(random_signals(1, config.encoders, 32, 5, objects=2))
    assert isinstance(condition, Condition)
    tokens = condition.task.values.shape[1] + condition.embodiment.values.shape[1]
    assert tokens == stream_tokens_of(config, RunPlan(Clip(17, 64, 64)))
    adapter = model.transformer.fusion.layers["0"]
    assert isinstance(adapter, Adapter)
    scene = Scene((5, 1, 1), torch.zeros(1, 24), torch.zeros(1, 6, 24), (torch.zeros(1), torch.zeros(1)))
    assert adapter(torch.zeros(1, 5, 24), condition, scene).shape == (1, 5, 24)


@pytest.mark.parametrize("name", ["vace_e_dev", "vace_e_full", "vace_e_lora"])
def test_every_shipped_configuration_has_a_plan_without_network(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    if name != "vace_e_dev":  # counting a real step takes long, and another test does it
        monkeypatch.setattr(plan_table, "measure_flop", lambda *_: 1.5e15)
    assert main(["--config", str(CONFIGS / f"{name}.yaml")]) == 0
    shown = capsys.readouterr().out
    assert "TFLOP" in shown and all(f"{card} GB" in shown for card in CARDS_GB)


def test_a_batch_that_fits_no_card_is_an_answer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["--config", str(CONFIGS / "vace_e_dev.yaml"), "--batch_size", "1000000"]) == 1
    assert "batch 256" in capsys.readouterr().out


def test_an_unknown_key_is_an_error() -> None:
    with pytest.raises(ConfigError, match="did you mean 'batch_size'"):
        main(["--config", str(CONFIGS / "vace_e_full.yaml"), "bacth_size=64"])


def test_published_bases_have_known_sizes() -> None:
    from tacit.config import load
    from tacit_learning.vace_e.config import VaceEConfig

    config = load(VaceEConfig, CONFIGS / "vace_e_full.yaml")
    assert sizes_of(config).backbone == REAL.backbone


def test_the_bench_times_every_way_and_puts_the_baseline_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SIZE", "tiny")
    ways = bench.measure(samples=2, rounds=1)
    assert [way.batch for way in ways] == [2, 2, 2, 1, 1]
    assert [way.checkpointing for way in ways] == [False, False, True, False, True]
    assert all(0 < way.seconds < 60 for way in ways)
