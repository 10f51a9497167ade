"""The exported file: equals torch, carries its own constants, and says nothing about this machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tiny_world import tiny_config, tiny_progress, tiny_table, train_tiny_progress

from tacit.bundle import PlaySpec, check_rig, golden_inputs, load_bundle, run_graph, verify
from tacit.bundle.runtime import Observation, OnnxPolicy, OnnxProgress
from tacit.errors import ConfigError
from tacit_learning.act_hsa.train import Tables, load_policy, train_on_tables
from tacit_learning.alignment.checkpoints import load_alignment
from tacit_learning.alignment.frames import frame_features
from tacit_learning.alignment.model.heads import ProgressHead
from tacit_learning.alignment.model.model import Frames
from tacit_learning.cli import export
from tacit_learning.engine.tracking import SilentReporter
from tacit_learning.export import OPSET, PARITY_TOLERANCE, export_alignment, export_checkpoint


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy")
    config = tiny_config(folder, train__steps=3)
    train_on_tables(config, Tables(tiny_table(2), None), SilentReporter())
    return folder


@pytest.fixture(scope="module")
def policy_file(run_folder: Path) -> Path:
    done = export_checkpoint(run_folder, run_folder / "policy.onnx")
    assert done.max_difference < PARITY_TOLERANCE
    return done.path


@pytest.fixture(scope="module")
def progress_file(run_folder: Path) -> Path:
    folder = run_folder / "progress"
    train_tiny_progress(tiny_progress(folder, run_folder), tiny_table(2), None, load_policy(run_folder))
    return export_checkpoint(folder, folder / "progress.onnx").path


def test_exported_policy_says_how_its_chunks_are_played(
    run_folder: Path, policy_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_bundle(policy_file).manifest.play == PlaySpec()
    # The same graph again, which takes seconds to trace; it is compared with torch as always.
    monkeypatch.setattr("tacit_learning.export.to_onnx", lambda *_: policy_file.read_bytes())
    told = run_folder / "told.onnx"
    words = [str(run_folder), "--out", str(told), "--mode", "blend", "--every", "2", "--blend", "3"]
    assert export(words) == 0
    assert load_bundle(told).manifest.play == PlaySpec(mode="blend", every_ticks=2, blend=3)


def random_observation(seed: int) -> Observation:
    rig, rng = tiny_table(1).rig, np.random.default_rng(seed)
    images = {n: rng.integers(0, 256, (c.height, c.width, 3), dtype=np.uint8) for n, c in rig.cameras.items()}
    touch = {n: rng.integers(0, 256, (t.height, t.width, 3), dtype=np.uint8) for n, t in rig.tactile.items()}
    return Observation(1_000_000_000 + seed * 40_000_000, rng.normal(size=7) * 0.1, images, touch)


def test_graph_equals_torch_on_an_observation(run_folder: Path, policy_file: Path) -> None:
    trained, observation = load_policy(run_folder), random_observation(3)
    view = trained.spec.view
    images = np.stack([t.image(observation.images[n]) for n, t in view.cameras.items()])[None]
    touch = np.stack([t.image(observation.touch[n]) for n, t in view.sensors.items()])[None]
    with torch.no_grad():
        expected = trained.policy.predict(
            torch.tensor(observation.state[None], dtype=torch.float32),
            torch.from_numpy(images),
            torch.from_numpy(touch),
        )[0]
    chunk = OnnxPolicy(policy_file, trained.spec.rig).act(observation)
    np.testing.assert_allclose(chunk, expected.numpy(), atol=1e-5)


def test_bundle_names_its_streams_and_verifies(policy_file: Path) -> None:
    bundle = load_bundle(policy_file)
    assert verify(bundle) <= bundle.manifest.golden.tolerance
    assert list(bundle.manifest.cameras) == ["wrist", "top"]
    assert list(bundle.manifest.touch) == ["left", "right"]
    assert bundle.manifest.chunk_size == 5
    assert bundle.manifest.rate_hz == 25.0
    assert bundle.manifest.train["dataset_sha256"]
    check_rig(bundle.manifest, tiny_table(1).rig)


@pytest.mark.parametrize("name", ["state", "image.wrist", "image.top", "touch.left", "touch.right"])
def test_every_input_changes_the_chunk(policy_file: Path, name: str) -> None:
    bundle = load_bundle(policy_file)
    inputs = golden_inputs(bundle.manifest)
    before = run_graph(bundle.model_bytes, inputs, bundle.manifest)["chunk"]
    inputs[name] = inputs[name][..., ::-1].copy()
    after = run_graph(bundle.model_bytes, inputs, bundle.manifest)["chunk"]
    assert np.abs(after - before).max() > 1e-6


def test_file_is_whole_and_holds_no_path_of_this_machine(policy_file: Path) -> None:
    data = policy_file.read_bytes()
    model = onnx.load_from_string(data)
    assert model.opset_import[0].version == OPSET
    assert not any(t.external_data for t in model.graph.initializer)
    for word in (b"site-packages", b"tacit_learning", str(Path.cwd()).encode(), b".py"):
        assert word not in data


def test_latent_encoder_and_alignment_heads_stay_behind(policy_file: Path) -> None:
    names = [t.name for t in onnx.load(policy_file).graph.initializer]
    assert not any("latent_encoder" in n or "alignment" in n for n in names)


def test_the_progress_preset_gives_progress_success_and_its_memory_alone(progress_file: Path) -> None:
    bundle = load_bundle(progress_file)
    assert bundle.manifest.kind == "progress" and verify(bundle) <= bundle.manifest.golden.tolerance
    names = [output.name for output in onnx.load_from_string(bundle.model_bytes).graph.output]
    assert names == ["progress", "done", "hidden_out", "success"]


def test_streamed_progress_equals_torch_on_the_whole_sequence(run_folder: Path, progress_file: Path) -> None:
    trained = load_alignment(run_folder / "progress", "last")
    source = trained.source()
    assert source is not None
    observations = [random_observation(i) for i in range(12)]
    view = source.spec.view
    runner = OnnxProgress(progress_file, source.spec.rig)
    streamed = [runner.step(o) for o in observations]
    features = []
    for o in observations:
        images = np.stack([t.image(o.images[n]) for n, t in view.cameras.items()])[None]
        touch = np.stack([t.image(o.touch[n]) for n, t in view.sensors.items()])[None]
        features.append(source.encoder(torch.from_numpy(images), torch.from_numpy(touch)))
    state = torch.tensor(np.stack([o.state for o in observations]), dtype=torch.float32)
    x, none = frame_features(torch.cat(features), state)[None], torch.zeros(1, 12, dtype=torch.long)
    with torch.no_grad():
        frames = Frames(x, torch.arange(12)[None] * 0.04, none[:, 0], none)
        outputs = trained.model.read(trained.model.embed(x), frames)
        outcome = trained.model.outcome(x)
    assert outcome is not None
    expected = torch.stack([outputs.video[0], outcome.success_probability[0]], -1).numpy()
    found = np.array([[estimate.progress, estimate.done] for estimate in streamed])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.ptp(expected[:, 0]) > 1e-4


def test_progress_graph_keeps_parity_with_large_biases(run_folder: Path, progress_file: Path) -> None:
    trained = load_alignment(run_folder / "progress", "last")
    head = trained.model.head_net
    assert isinstance(head, ProgressHead) and head.gru is not None
    with torch.no_grad():
        for name, parameter in head.gru.named_parameters():
            if "bias" in name:
                parameter.uniform_(-3, 3)
    done = export_alignment(trained, progress_file.with_name("biased.onnx"))
    assert done.max_difference < PARITY_TOLERANCE


def test_a_checkpoint_of_the_former_progress_trainer_is_refused(run_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(run_folder / "checkpoints" / "last", tmp_path / "old")
    about = tmp_path / "old" / "about.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "kind": "progress"}))
    with pytest.raises(ConfigError, match="format_version None.*train it again"):
        export_checkpoint(tmp_path / "old", tmp_path / "x.onnx")


def test_exporting_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no checkpoint"):
        export_checkpoint(tmp_path, tmp_path / "x.onnx")
