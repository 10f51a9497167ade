"""ACT policies of LeRobot and of the original code answer here as they do there."""

from __future__ import annotations

import json
import os
import pickle
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tacit import cli
from tacit.bundle import load_bundle
from tacit.bundle.runtime import Observation, OnnxPolicy
from tacit.errors import ConfigError, TacitError
from tacit.rig import Rig, load_rig, parse_rig
from tacit_learning.export_foreign import ForeignArguments, export_foreign
from tacit_learning.foreign_act.act import read_act
from tacit_learning.foreign_act.lerobot import read_lerobot
from tacit_learning.foreign_act.policy import ForeignPolicy, Imported
from tacit_learning.foreign_act.weights import read_arrays

GOLDEN = np.load(Path(__file__).parent.parent / "data" / "act_policies.npz")
"""Chunks that ACTPolicy of LeRobot 0.4.4 and of tonyzhaozh/act@742c753 computed from `drawn` weights."""
IMAGES = {
    name: np.random.RandomState(seed).randint(0, 256, (120, 160, 3)).astype(np.uint8)
    for seed, name in enumerate(("wrist", "top"))
}
PARITY = 1e-5


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Weights that follow from their name."""
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("running_var"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    fan = int(np.prod(shape[1:])) if len(shape) > 1 else 4
    values = rng.normal(0, 1, shape) / np.sqrt(fan)
    return (1 + 0.1 * values if name.endswith(".weight") and len(shape) == 1 else values).astype(np.float32)


def weights(kind: str) -> dict[str, torch.Tensor]:
    shapes: Mapping[str, list[int]] = json.loads(str(GOLDEN[f"{kind}_shapes"]))
    return {name: torch.from_numpy(drawn(name, tuple(shape))) for name, shape in shapes.items()}


def statistics() -> dict[str, torch.Tensor]:
    names = [name for name in GOLDEN.files if name.startswith("stats/")]
    return {n.removeprefix("stats/").replace("/", "."): torch.from_numpy(GOLDEN[n]) for n in names}


def lerobot_folder(folder: Path, kind: str) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(str(GOLDEN[f"lerobot_{kind}_config"]))
    save_file(weights(f"lerobot_{kind}"), folder / "model.safetensors")
    for name in ("preprocessor", "postprocessor"):
        text = str(GOLDEN[f"lerobot_{kind}_{name}"])
        (folder / f"policy_{name}.json").write_text(text)
        for step in json.loads(text)["steps"]:
            if "state_file" in step:
                save_file(statistics(), folder / step["state_file"])
    return folder


def act_folder(folder: Path, protocol: int = 4) -> Path:
    folder.mkdir()
    torch.save(weights("act"), folder / "policy_best.ckpt")
    stats = {name: GOLDEN[f"act_{name}"] for name in ("qpos_mean", "qpos_std", "action_mean", "action_std")}
    stats["example_qpos"] = np.stack([GOLDEN["act_qpos"]] * 3)
    (folder / "dataset_stats.pkl").write_bytes(pickle.dumps(stats, protocol))
    return folder


def answer(policy: Imported, state: np.ndarray) -> np.ndarray:
    pictures = [torch.from_numpy(IMAGES[name])[None] for name in policy.pictures]
    with torch.no_grad():
        return ForeignPolicy(policy).eval()(torch.from_numpy(state)[None], *pictures)[0].numpy()


@pytest.fixture(scope="module")
def post(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lerobot_folder(tmp_path_factory.mktemp("lerobot") / "act", "post")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return act_folder(tmp_path_factory.mktemp("act") / "act")


@pytest.mark.slow
def test_a_policy_of_lerobot_answers_as_there_and_runs_as_a_bundle(
    post: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, rig = tmp_path / "act.onnx", near_home()
    (tmp_path / "rig.yaml").write_text(rig.to_yaml(), encoding="utf-8")
    words = ["export", "--from-lerobot", str(post), "--rig", str(tmp_path / "rig.yaml"), "--out", str(out)]
    assert cli.main(words) == 0 and "differs from torch by at most" in capsys.readouterr().out
    policy = OnnxPolicy(out, rig)
    chunk = policy.act(Observation(1, GOLDEN["state"], IMAGES))
    np.testing.assert_allclose(chunk, GOLDEN["lerobot_post_chunk"], atol=PARITY)
    assert load_bundle(out).manifest.train["trained_by"] == "lerobot"
    assert (policy.manifest.playing.mode, policy.manifest.playing.every_ticks) == ("replace", 4)
    np.testing.assert_allclose(policy.manifest.state_min, GOLDEN["stats/observation.state/min"])
    acts_to_the_end(policy, rig)


def near_home() -> Rig:
    """The simulated cell's rig, its joints within 0.1 rad of home: what drawn weights want breaks nothing."""
    data = load_rig("nova2_sim").model_dump(mode="json")
    arm = data["arms"]["arm"]
    for joint, home in zip(arm["joints"], arm["home"], strict=True):
        joint |= {"lower": home - 0.1, "upper": home + 0.1}
    return parse_rig(data, "test")


def acts_to_the_end(policy: OnnxPolicy, rig: Rig) -> None:
    """In the cell, by the code of the policy node: it commands the arm at every tick and never holds."""
    pytest.importorskip("tacit_sim.rendering", reason="mujoco is not installed")
    from tacit_sim.cell import Cell
    from tacit_sim.closed_loop import Runner

    cell = Cell(rig, "place_cube")
    cell.reset(0)
    start = cell.state()
    rollout = Runner(cell, policy).run(seed=0, max_ticks=50)
    assert (rollout.fault, rollout.num_ticks) == ("", 50)
    assert np.abs(cell.state() - start)[:6].max() > 0.05
    cell.close()


def test_pre_norm_two_decoder_layers_and_min_max_answer_as_there(tmp_path: Path) -> None:
    policy = read_lerobot(lerobot_folder(tmp_path / "act", "pre"))
    np.testing.assert_allclose(
        answer(policy, GOLDEN["state"]), GOLDEN["lerobot_pre_chunk"], atol=PARITY, rtol=1e-6
    )


def test_statistics_of_older_policies_stand_among_their_weights(post: Path, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "config.json").write_bytes((post / "config.json").read_bytes())
    old = {}
    for name, value in statistics().items():
        feature, _, statistic = name.rpartition(".")
        place = "unnormalize_outputs" if feature == "action" else "normalize_inputs"
        old[f"{place}.buffer_{feature.replace('.', '_')}.{statistic}"] = value
    save_file(weights("lerobot_post") | old, folder / "model.safetensors")
    found = answer(read_lerobot(folder), GOLDEN["state"])
    np.testing.assert_allclose(found, GOLDEN["lerobot_post_chunk"], atol=PARITY)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_policy_of_the_original_code_answers_as_there(tmp_path: Path, protocol: int) -> None:
    folder = act_folder(tmp_path / "act", protocol)
    policy = read_act(folder, dict.fromkeys(IMAGES, (120, 160)))
    np.testing.assert_allclose(answer(policy, GOLDEN["act_qpos"]), GOLDEN["act_chunk"], atol=PARITY)
    assert policy.play.mode == "temporal_ensemble"


def test_grippers_from_0_to_1_become_metres(post: Path) -> None:
    from tacit_learning.export_foreign import _in_metres

    rig = load_rig("nova2_sim")
    policy = read_lerobot(post)
    state = GOLDEN["state"].copy()
    state[6] = state[6] * 0.08  # its limits are 0 and 80 mm
    chunk = answer(_in_metres(policy, rig.state_names, rig), state)
    expected = GOLDEN["lerobot_post_chunk"].copy()
    expected[:, 6] *= 0.08
    np.testing.assert_allclose(chunk, expected, atol=PARITY)


def test_nothing_in_a_pickle_is_executed(tmp_path: Path, original: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'executed'}",)

    folder = tmp_path / "act"
    folder.mkdir()
    (folder / "policy_best.ckpt").write_bytes((original / "policy_best.ckpt").read_bytes())
    (folder / "dataset_stats.pkl").write_bytes(pickle.dumps({"qpos_mean": Hostile()}))
    with pytest.raises(ConfigError, match="nothing of it was executed"):
        read_act(folder, {})
    torch.save({"model": Hostile()}, folder / "policy_best.ckpt")
    (folder / "dataset_stats.pkl").write_bytes((original / "dataset_stats.pkl").read_bytes())
    with pytest.raises(ConfigError, match="not the weights of a network alone"):
        read_act(folder, {})
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("data", [b"", b"\x80\x04", b"no pickle", pickle.dumps([1, 2]), b"\x80\x04]\x94."])
def test_a_damaged_pickle_is_an_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "dataset_stats.pkl").write_bytes(data)
    with pytest.raises(ConfigError, match="dataset_stats.pkl"):
        read_arrays(tmp_path / "dataset_stats.pkl")


def changed(folder: Path, place: Path, **values: object) -> Path:
    """A copy of a policy of LeRobot with another configuration; its weights are shared."""
    place.mkdir()
    for path in folder.iterdir():
        os.link(path, place / path.name)
    config = json.loads((place / "config.json").read_text()) | values
    (place / "config.json").unlink()
    (place / "config.json").write_text(json.dumps(config))
    return place


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"type": "diffusion"}, "type: 'diffusion', expected 'act'"),
        ({"feedforward_activation": "gelu"}, "feedforward_activation"),
        ({"n_heads": 5}, "does not divide among 5 heads"),
        ({"pre_norm": True}, "not the ACT that is known here"),
        ({"input_features": {"observation.environment_state": {"type": "ENV", "shape": [3]}}}, "alone"),
        ({"normalization_mapping": {"STATE": "TANH"}}, "normalisation 'TANH'"),
        ({"normalization_mapping": {"VISUAL": "MIN_MAX"}}, "no min, max for MIN_MAX"),
    ],
)
def test_what_would_act_otherwise_than_there_is_refused(
    post: Path, tmp_path: Path, values: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_lerobot(changed(post, tmp_path / "policy", **values))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rig": "xtrainer"}, "no camera or sensor"),
        ({"joints": ("joint1",)}, "expected each once"),
        ({"cameras": ("side=top",)}, "reads no 'side'"),
        ({"cameras": ("wrist=top",)}, "stands for two"),
        ({"from_lerobot": None}, "give one of"),
    ],
)
def test_a_policy_of_another_rig_is_refused(
    post: Path, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    given = {"from_lerobot": post, "rig": "nova2_sim", "out": tmp_path / "a.onnx"} | options
    with pytest.raises(TacitError, match=message):
        export_foreign(ForeignArguments(**given))  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []


def test_cut_weights_are_an_error(post: Path, tmp_path: Path) -> None:
    place = changed(post, tmp_path / "policy")
    (place / "model.safetensors").unlink()
    (place / "model.safetensors").write_bytes((post / "model.safetensors").read_bytes()[:100_000])
    with pytest.raises(ConfigError, match=r"model.safetensors: damaged"):
        read_lerobot(place)
