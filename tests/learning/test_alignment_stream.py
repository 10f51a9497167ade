"""What is exported says frame by frame what the model says of the whole video; old heads are told apart."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_bundles import progress_bundle
from tiny_videos import FEATURES, tiny_alignment, tiny_annotated
from tiny_world import tiny_table

from tacit.bundle import load_bundle, verify
from tacit.bundle.manifest import ImageInput, Manifest
from tacit.bundle.runtime import Observation, OnnxProgress
from tacit.episode import Step
from tacit.errors import BundleError, ConfigError
from tacit.rig import load_rig
from tacit_learning.alignment.checkpoints import load_alignment
from tacit_learning.alignment.data.episode_videos import make_source
from tacit_learning.alignment.data.videos import make_videos
from tacit_learning.alignment.judge.predict import predict
from tacit_learning.alignment.model.model import Frames
from tacit_learning.alignment.model.recipe_head import SPECS, RecipeHead, RecipeSpec
from tacit_learning.alignment.model.streaming import FeatureStream
from tacit_learning.alignment.old_heads import detect, load_old_head, old_head
from tacit_learning.alignment.train_alignment import train_on
from tacit_learning.engine.tracking import SilentReporter
from tacit_learning.export import export_checkpoint

FRAME_NS = 100_000_000
STREAMING = {
    "dense": {},
    "dense, features": {},
    "dense, plain": {},
    "distance": {"method": "cumulative_l2"},
    "protas": {"method": "protas"},
    "v4": {"recipe": "v4"},
    "v4, conv": {"recipe": "v4", "learnable": {"use_conv": True}},
}


def trained(folder: Path, head: str = "", **progress: object) -> Path:
    beside = {"head__features": "features" in head, "head__plain": 6 * ("plain" in head)}
    config = tiny_alignment(folder / "run", train__steps=1, **beside)
    options = type(config.progress).model_validate({**config.progress.model_dump(), **progress})
    annotated = tiny_annotated()
    train_on(config.model_copy(update={"progress": options}), annotated, None, SilentReporter())
    return folder / "run"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dense run and its exported stream: exporting takes seconds."""
    folder = tmp_path_factory.mktemp("exported")
    export_checkpoint(trained(folder), folder / "model.onnx")
    return folder


@pytest.mark.parametrize("mode", STREAMING)
def test_the_model_frame_by_frame_equals_the_whole_video(tmp_path: Path, mode: str) -> None:
    model = load_alignment(trained(tmp_path, mode, **STREAMING[mode]), "last").model
    features = model.scale.mean + model.scale.std * torch.randn(2, 25, FEATURES)
    elapsed = torch.arange(25.0).expand(2, -1) / 10
    none = torch.zeros(2, 25, dtype=torch.long)
    memory = torch.full((2, model.state_size), 7.0)
    with torch.no_grad():
        whole = model.read(model.embed(features), Frames(features, elapsed, none[:, 0], none))
        motion = model.motion(features)
        for t in range(25):
            found, moved, memory, _ = model.step(features[:, t], elapsed[:, t : t + 1], memory)
            torch.testing.assert_close(moved[:, 0], motion[:, t], rtol=1e-5, atol=1e-5)
            for one, everything in zip(found, whole, strict=True):
                torch.testing.assert_close(one[:, 0], everything[:, t], rtol=1e-5, atol=1e-5)
    assert float((whole.video[:, -1] - whole.video[:, 0]).abs().max()) > 1e-4


def test_a_plain_net_has_half_a_say_except_where_a_class_is_told(tmp_path: Path) -> None:
    model = load_alignment(trained(tmp_path, "plain"), "last").model
    net, features = model.plain_net, torch.randn(2, 12, FEATURES)
    elapsed, condition = torch.arange(12.0).expand(2, -1) / 10, torch.zeros(2, 12, dtype=torch.long)
    condition[1, 6:] = 2
    task = label = condition[:, 0]
    told = torch.tensor([False, True])
    with torch.no_grad():
        embedded, plain = model.embed(features), net(model.scale(features))
        from_start = net.from_start(model.scale(features))
        frames = Frames(features, elapsed, task, condition)
        both = model.read(embedded, frames)
        begun = model.read_segments(embedded, features, elapsed, label, told, task).action
        model.plain_net = None
        alone = model.read(embedded, frames)
        alone_begun = model.read_segments(embedded, features, elapsed, label, told, task).action
    free = condition == 0
    for one, head, other in (
        (both.action, alone.action, plain.action),
        (both.video, alone.video, plain.video),
    ):
        torch.testing.assert_close(one, torch.where(free, (head + other) / 2, head))
    torch.testing.assert_close(begun, (alone_begun + from_start.sum(0)) / 4)
    assert float((plain.action - alone.action).abs().mean()) > 1e-3


def test_the_exported_stream_equals_the_batch(exported: Path) -> None:
    model, annotated = load_alignment(exported / "run", "last"), tiny_annotated()
    videos = make_videos(annotated, annotated.annotations.split("validation"), "video", like=model.known)
    stream = FeatureStream(exported / "model.onnx")
    for video, whole in zip(videos.videos, predict(model.model, videos), strict=True):
        stream.reset()
        found = [stream.step(row.numpy(), 7 + t * FRAME_NS) for t, row in enumerate(video.features)]
        np.testing.assert_allclose([f.progress for f in found], whole.video, atol=1e-5)
        np.testing.assert_allclose([f.done for f in found], whole.done, atol=1e-5)
        np.testing.assert_allclose([f.action_progress for f in found], whole.action["online"], atol=1e-5)
        assert [int(f.classes.argmax()) - 1 for f in found] == whole.classes.tolist()


def test_time_is_read_from_stamps_and_a_broken_feature_does_no_lasting_harm(exported: Path) -> None:
    features = np.random.default_rng(0).normal(size=(30, FEATURES)).astype(np.float32)

    def run(rows: np.ndarray, stamps: list[int]) -> list[float]:
        stream = FeatureStream(exported / "model.onnx")
        return [stream.step(row, stamp) for row, stamp in zip(rows, stamps, strict=True)][-1].elapsed_s

    dropped = [0, 2, 3, 9, 29]
    assert run(features[dropped], [t * FRAME_NS for t in dropped]) == pytest.approx(2.9)
    stream = FeatureStream(exported / "model.onnx")
    broken = features.copy()
    broken[5] = np.nan
    values = [stream.step(row, t * FRAME_NS).progress for t, row in enumerate(broken)]
    assert np.isfinite(values).all()
    with pytest.raises(BundleError, match=r"expected \(8,\)"):
        stream.step(features[0, :3], 10**10)


def test_a_step_costs_the_same_at_any_time(exported: Path) -> None:
    stream, row = FeatureStream(exported / "model.onnx"), np.zeros(FEATURES, np.float32)
    spent = []
    for t in range(1500):
        before = time.perf_counter()
        stream.step(row, t * FRAME_NS)
        spent.append(time.perf_counter() - before)
    # The quickest tenth: others want the processor too.
    assert np.percentile(spent[-300:], 10) < 2 * np.percentile(spent[100:400], 10)
    assert np.median(spent) < 5e-3


@pytest.mark.parametrize(
    ("progress", "message"),
    [
        ({"enabled": False}, "without progress"),
        ({"recipe": "v3"}, "cannot stream"),
        ({"dense": {"done": 0}}, "never learned when the task is done"),
        ({"method": "cumulative_l2", "level": "action"}, "told where each action starts"),
    ],
)
def test_what_cannot_stream_is_refused(tmp_path: Path, progress: dict, message: str) -> None:
    run = trained(tmp_path, **progress)
    with pytest.raises(BundleError, match=message):
        export_checkpoint(run, tmp_path / "model.onnx")


def test_a_model_of_several_tasks_needs_one_to_follow(tmp_path: Path) -> None:
    config = tiny_alignment(tmp_path / "run", train__steps=1)
    train_on(config, tiny_annotated(3, ("pour", "fold")), None, SilentReporter())
    with pytest.raises(ConfigError, match="knows several; valid: fold, pour"):
        export_checkpoint(tmp_path / "run", tmp_path / "model.onnx", task="x")
    export_checkpoint(tmp_path / "run", tmp_path / "model.onnx", task="fold")
    assert FeatureStream(tmp_path / "model.onnx").info.task == "fold"


def test_a_stream_of_features_is_no_bundle_and_a_bundle_no_stream(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no 'tacit.manifest'"):
        load_bundle(exported / "model.onnx")
    bundle = progress_bundle(tmp_path, load_rig("nova2_sim"))
    with pytest.raises(BundleError, match="no 'tacit.alignment'"):
        FeatureStream(bundle.source)


# --- old heads


def weights(spec: RecipeSpec, dim: int = 128, prefix: str = "head.") -> dict[str, torch.Tensor]:
    state = RecipeHead(spec, dim, 64, "action").state_dict()
    return {f"{prefix}{name.replace('mlp.', 'regressor.')}": value for name, value in state.items()}


@pytest.mark.parametrize(
    ("spec", "dim"),
    [
        (RecipeSpec(), 128),
        (RecipeSpec(position=True, learned_start=True), 128),
        (RecipeSpec(count=True), 128),
        (RecipeSpec(position=True, learned_start=True, count=True), 128),
        (RecipeSpec(), 2048),
    ],
)
def test_an_old_head_is_told_by_its_width_and_answers_as_before(
    tmp_path: Path, spec: RecipeSpec, dim: int
) -> None:
    before = RecipeHead(spec, dim, 64, "action")
    state = {f"x.{name.replace('mlp.', 'fc.')}": value for name, value in before.state_dict().items()}
    torch.save({"progress_head": state, "epoch": 3}, tmp_path / "head.pt")
    after = load_old_head(tmp_path / "head.pt")
    assert after.spec == spec
    x, lengths = torch.randn(2, 5, dim), torch.tensor([5, 3])
    torch.testing.assert_close(after.last(x, lengths), before.last(x, lengths))


@pytest.mark.parametrize(("width", "has_start"), [(128, True), (130, False), (129 + 2, True), (64, False)])
def test_an_ambiguous_width_is_refused_and_named(width: int, has_start: bool) -> None:
    with pytest.raises(ConfigError, match=f"width {width} .* is ambiguous"):
        detect(width, has_start, "old.pt")


def test_files_without_such_a_head_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_old_head(tmp_path / "none.pt")
    with pytest.raises(ConfigError, match="0 tensors end in"):
        old_head({"a": torch.zeros(1)}, "x.pt")
    extra = weights(RecipeSpec()) | {"head.conv.weight": torch.zeros(64, 128, 3)}
    with pytest.raises(ConfigError, match="convolutions or attention"):
        old_head(extra, "x.pt")


def test_a_recipe_starts_from_an_old_head_of_its_kind_alone(tmp_path: Path) -> None:
    path = tmp_path / "head.pt"
    torch.save(RecipeHead(SPECS["v2"], 128, 64, "action").state_dict(), path)
    with pytest.raises(ConfigError, match="choose the progress.recipe"):
        trained(tmp_path, recipe="v3", level="action", learnable={"old_head": str(path)})


# --- images


def episode_run(folder: Path) -> Path:
    """Train on tiny episodes in memory: images through a random frozen encoder, steps as annotations."""
    table = tiny_table(3)
    for episode in table.episodes:
        object.__setattr__(episode, "steps", (Step("reach", 0, 11), Step("lift", 12, 29)))
    config = tiny_alignment(folder / "run", train__steps=4)
    data = {
        "episodes": {"datasets": ["unused"], "image_height": 32, "image_width": 32}
        | {"touch_height": 16, "touch_width": 16},
        "frames": {"backbone": "conv", "conv": {"channels": [8, 16], "strides": [4, 2], "norm": "group"}},
    }
    config = type(config).model_validate({**config.model_dump(), "data": data})
    source = make_source(config.data.frames, table, None)
    train_on(config, source.annotate({"train": table}, torch.device("cpu")), source, SilentReporter())
    return folder / "run"


def test_a_model_of_images_is_a_progress_bundle_whose_stream_equals_the_batch(tmp_path: Path) -> None:
    run = episode_run(tmp_path)
    export_checkpoint(run, tmp_path / "progress.onnx")
    bundle = load_bundle(tmp_path / "progress.onnx")
    assert bundle.manifest.kind == "progress" and verify(bundle) == 0.0
    observations = [observation(bundle.manifest, t) for t in range(20)]
    runtime = OnnxProgress(bundle, load_rig("nova2_sim"))
    estimates = [runtime.step(each) for each in observations]
    streamed = [estimate.progress for estimate in estimates]
    assert {estimate.step for estimate in estimates} <= {"", "reach", "lift"}
    assert all(estimate.remaining_s is not None and 0 < estimate.step_share <= 1 for estimate in estimates)

    model = load_alignment(run, "last")
    source = model.source()
    assert source is not None
    view, rows = source.spec.view, []
    for each in observations:
        images = [view.cameras[name].image(each.images[name]) for name in view.cameras]
        touch = [view.sensors[name].image(each.touch[name]) for name in view.sensors]
        features = source.encoder(torch.tensor(np.stack(images))[None], torch.tensor(np.stack(touch))[None])
        rows.append(torch.cat([features[0], torch.tensor(each.state)]))
    x, none = torch.stack(rows)[None], torch.zeros(1, 20, dtype=torch.long)
    with torch.no_grad():
        frames = Frames(x, torch.arange(20)[None] / 25.0, none[:, 0], none)
        whole = model.model.read(model.model.embed(x), frames).video[0]
    np.testing.assert_allclose(streamed, whole.numpy(), atol=1e-5)


def observation(manifest: Manifest, tick: int) -> Observation:
    """Return noise of the recorded sizes at 25 Hz."""
    rng = np.random.default_rng(tick)

    def noise(spec: ImageInput) -> np.ndarray:
        return rng.integers(0, 256, (spec.source_height, spec.source_width, 3), dtype=np.uint8)

    return Observation(
        stamp_ns=1 + tick * 40_000_000,
        state=rng.uniform(-0.1, 0.1, 7).astype(np.float32),
        images={name: noise(spec) for name, spec in manifest.cameras.items()},
        touch={name: noise(spec) for name, spec in manifest.touch.items()},
    )
