"""The progress preset of alignment training: causal, streamed equals batch, and better than clocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_world import tiny_config, tiny_progress, tiny_table, train_tiny_progress

from tacit.config import load
from tacit.errors import ConfigError, EpisodeError
from tacit_learning.act_hsa.train import Tables, load_policy, train_on_tables
from tacit_learning.alignment import train_alignment
from tacit_learning.alignment.checkpoints import load_alignment
from tacit_learning.alignment.data import batches as keys
from tacit_learning.alignment.data.episode_videos import TRAIN, EpisodeSource, make_source
from tacit_learning.alignment.data.videos import VideoSet, make_videos
from tacit_learning.alignment.data.warp import untouched
from tacit_learning.alignment.frames import encode
from tacit_learning.alignment.judge.metrics_progress import Course, course_scores
from tacit_learning.alignment.model.model import AlignmentModel
from tacit_learning.alignment.objective import AlignmentObjective
from tacit_learning.alignment.settings import AlignmentConfig
from tacit_learning.alignment.train_alignment import make_objective
from tacit_learning.data.episodes import EpisodeTable
from tacit_learning.engine.tracking import SilentReporter
from tacit_learning.options import TABLES, overrides

CPU = torch.device("cpu")
CONFIGS = Path(__file__).parents[2] / "learning" / "configs"


def make_source_of(table: EpisodeTable, config: AlignmentConfig) -> EpisodeSource:
    torch.manual_seed(0)
    assert config.data.frames is not None
    return make_source(config.data.frames, table, None)


def untrained(table: EpisodeTable | None = None) -> tuple[AlignmentObjective, VideoSet]:
    # test_alignment_outcome has what is left out here; noise would be part of the loss alone
    config = tiny_progress(Path("unused"), None, "progress.outcome_weight=0", "warp.noise=0")
    source = make_source_of(table or tiny_table(2, length=9), config)
    annotated = source.annotate({TRAIN: table or tiny_table(2, length=9)}, CPU)
    videos = make_videos(annotated, annotated.annotations.videos, "video")
    return make_objective(config, videos, source).eval(), videos


def judged(model: AlignmentModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        outputs = model.read(model.embed(batch[keys.FEATURES]), keys.frames_of(batch))
    return torch.stack([outputs.video, outputs.done.sigmoid()], -1)


def test_sets_whose_folders_have_one_name_are_told_apart() -> None:
    one, other = (tiny_table(2, length=9, folder=f"{place}/place_cube") for place in ("episodes", "failed"))
    source = make_source_of(one, tiny_progress(Path("unused"), None))
    annotated = source.annotate({TRAIN: one, "validation": other}, CPU)
    names = [video.name for video in annotated.annotations.videos]
    assert names == [f"{place}/place_cube/episode_{i}" for place in ("episodes", "failed") for i in (0, 1)]
    alone = source.annotate({TRAIN: one}, CPU)
    assert [v.name for v in alone.annotations.videos] == ["place_cube/episode_0", "place_cube/episode_1"]


def test_streaming_equals_the_batch() -> None:
    objective, videos = untrained()
    model, batch = objective.model, keys.whole_videos(videos.videos, videos.fps)
    whole, memory = judged(model, batch), torch.full((2, model.state_size), 7.0)
    for t in range(9):
        with torch.no_grad():
            found, _, memory, _ = model.step(
                batch[keys.FEATURES][:, t], batch[keys.ELAPSED][:, t : t + 1], memory
            )
        now = torch.stack([found.video[:, 0], found.done[:, 0].sigmoid()], -1)
        torch.testing.assert_close(now, whole[:, t], rtol=0, atol=1e-5)


def test_a_stream_remembers_its_recurrent_state_and_no_feature() -> None:
    model = untrained()[0].model
    assert model.state_size < 16 + 4 < model.dim  # hidden 16; nothing of the features of the frame before


def test_the_future_changes_nothing() -> None:
    objective, videos = untrained()
    batch = keys.whole_videos(videos.videos, videos.fps)
    changed = {**batch, keys.FEATURES: batch[keys.FEATURES].clone()}
    changed[keys.FEATURES][:, 5:] += 3
    before, after = judged(objective.model, batch), judged(objective.model, changed)
    torch.testing.assert_close(after[:, :5], before[:, :5], rtol=0, atol=0)
    assert (after[:, 5:] - before[:, 5:]).abs().max() > 1e-4


def test_padding_gives_no_loss() -> None:
    objective, videos = untrained()
    batch = keys.gather(videos.videos, [untouched(9), untouched(4)], videos.fps)
    batch |= {keys.DRAW: torch.tensor(0)}
    target = torch.where(batch[keys.MASK], batch[keys.PROGRESS], 0.0)
    assert not torch.equal(target, batch[keys.PROGRESS])
    loss, _ = objective(batch, 0)
    torch.testing.assert_close(objective({**batch, keys.PROGRESS: target}, 0)[0], loss)


def test_the_loss_is_the_mean_error_and_a_fifth_of_the_cross_entropy_of_done() -> None:
    objective, videos = untrained()
    batch = keys.gather(videos.videos, [untouched(9)] * 2, videos.fps) | {keys.DRAW: torch.tensor(0)}
    progress, done = judged(objective.model, batch).double().numpy().transpose(2, 0, 1)
    target = np.tile(np.arange(1, 10) / 9, (2, 1))
    entropy = -np.where(target >= 0.97, np.log(done), np.log(1 - done))
    expected = np.abs(progress - target).mean() + 0.2 * entropy.mean()
    assert float(objective(batch, 0)[0].detach()) == pytest.approx(expected, rel=1e-5)


def test_the_encoder_is_frozen() -> None:
    objective, _ = untrained()
    objective.train()
    assert objective.frames is not None and not objective.frames.training
    assert not any(p.requires_grad for p in objective.frames.parameters())


def test_an_untrained_head_says_near_the_start() -> None:
    objective, videos = untrained()
    assert judged(objective.model, keys.whole_videos(videos.videos, videos.fps)).mean() < 0.25


def test_the_state_is_scaled_by_its_own_statistics() -> None:
    table = tiny_table(2)
    table.state[:, 0] *= 0.01  # a joint that hardly moves
    objective, videos = untrained(table)
    state = objective.model.scale(torch.cat([video.features for video in videos.videos]))[:, -7:]
    torch.testing.assert_close(state.mean(0), torch.zeros(7), rtol=0, atol=1e-4)
    spread = np.maximum(table.state.std(0), [0.03] * 6 + [0.005])  # what a joint that never moves counts as
    np.testing.assert_allclose(state.std(0), table.state.std(0) / spread, rtol=0.02)


def test_perfect_estimates_have_no_error_and_baselines_are_what_they_say() -> None:
    target = np.arange(1, 31, dtype=np.float32) / 30
    perfect = Course(target, (target > 0.97).astype(np.float32), target, np.arange(30) / np.float32(25))
    metrics = course_scores([perfect] * 3, 30 / 25, done_at=0.97)
    assert metrics["mae"] == 0.0 and metrics["done_precision"] == metrics["done_recall"] == 1.0
    assert (metrics["first"], metrics["last"]) == pytest.approx((1 / 30, 1.0))
    assert metrics["mae_half"] == pytest.approx(0.25, abs=0.01)
    # a clock at the end of tick t says t / 30 where the annotation says (t + 1) / 30
    assert metrics["mae_clock"] == pytest.approx(1 / 30, abs=1e-3)


def test_features_are_the_same_one_by_one_and_in_a_batch() -> None:
    table = tiny_table(1, length=5)
    encoder = make_source_of(table, tiny_progress(Path("unused"), None)).encoder
    whole = encode(encoder, table, CPU)
    images, touch = table.images([3])
    one = encoder(torch.from_numpy(images), torch.from_numpy(touch))
    torch.testing.assert_close(one[0], whole[3], rtol=1e-4, atol=1e-5)


class Watched(torch.nn.Module):
    """Stands for an encoder: notes where its weights and its images are."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: set[str] = set()

    def forward(self, images: torch.Tensor, touch: torch.Tensor) -> torch.Tensor:
        self.seen |= {images.device.type, touch.device.type, self.weight.device.type}
        return torch.zeros(len(images), 4)


def test_frames_are_encoded_on_the_device_that_is_asked_for() -> None:
    encoder = Watched()
    features = encode(encoder, tiny_table(1, length=70), torch.device("meta"))  # type: ignore[arg-type]
    assert encoder.seen == {"meta"}
    assert features.shape == (70, 4) and features.device == CPU


def test_training_on_the_features_of_a_policy_beats_the_constant(tmp_path: Path) -> None:
    train_on_tables(
        tiny_config(tmp_path / "policy", train__steps=2), Tables(tiny_table(2), None), SilentReporter()
    )
    policy = load_policy(tmp_path / "policy")
    changes = ("train.steps=120", "train.lr=5e-3", "warp.offset=0", "warp.pause=0", "warp.slowest=1")
    config = tiny_progress(tmp_path / "p", tmp_path / "policy", *changes)
    result = train_tiny_progress(config, tiny_table(2), tiny_table(2, folder="again"), policy)
    assert result.metrics["mae"] < 0.6 * result.metrics["mae_half"]
    source = load_alignment(tmp_path / "p", "last").source()
    assert source is not None
    assert torch.equal(source.encoder.references, policy.policy.references)
    kept = {path.name for path in (tmp_path / "p" / "checkpoints").iterdir()}
    assert kept == {"last", "best_combined"}  # nothing is aligned, so there is no best alignment


def test_one_episode_is_enough_and_fills_a_batch(tmp_path: Path) -> None:
    result = train_tiny_progress(tiny_progress(tmp_path, None), tiny_table(1), None, None)
    assert result.step == 3
    _, videos = untrained(tiny_table(1))
    config = tiny_progress(tmp_path, None)
    source = keys.training_batches(
        videos, config.warp, batch_size=4, condition_rate=0.0, seed=0, first=0, rank=0, whole=False
    )
    batch = next(source)
    assert len(batch[keys.FEATURES]) == 4
    assert len({tuple(row.tolist()) for row in batch[keys.PROGRESS]}) > 1  # other clips of the one video


def test_episodes_without_steps_are_refused_by_name(tmp_path: Path) -> None:
    table = tiny_table(1)
    object.__setattr__(table.episodes[0], "steps", ())
    with pytest.raises(EpisodeError, match="episode_0.*steps"):
        train_tiny_progress(tiny_progress(tmp_path, None), table, None, None)


def test_one_source_of_features_is_required() -> None:
    with pytest.raises(ConfigError, match="exactly one of checkpoint"):
        tiny_progress(Path("x"), Path("a policy"), "data.frames.backbone=conv")


def test_nothing_can_be_aligned_without_an_encoder() -> None:
    with pytest.raises(ConfigError, match="nothing that alignment losses"):
        tiny_progress(Path("x"), None, "losses.loss_type={tcc: 1.0}")


@pytest.mark.parametrize("name", ["progress", "progress_demo"])
def test_the_keys_of_earlier_commands_still_reach_the_preset(name: str) -> None:
    words = ["data.datasets=[data/a]", "encoder.checkpoint=runs/a", "--lr", "0.5", "--task_name", "data/b"]
    assert load_preset(name, words[:2]).data.episodes.datasets == ("data/a",)
    config = load_preset(name, words[1:])
    assert config.data.frames.checkpoint == "runs/a" and config.train.lr == 0.5
    assert config.data.episodes.datasets == ("data/b",)


def load_preset(name: str, words: list[str]) -> AlignmentConfig:
    return load(AlignmentConfig, CONFIGS / f"{name}.yaml", overrides(words, TABLES["progress"]))


class Stopped(Exception):
    """Ends a training where the test has seen enough."""


def test_frames_are_encoded_where_the_run_trains_and_with_its_seed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = []

    def note(data: object, frames: object, device: torch.device, *_: object) -> None:
        seen.append((device, float(torch.rand(1))))  # as a backbone without weights would be drawn
        raise Stopped

    monkeypatch.setattr(train_alignment, "device_of", lambda config: torch.device("cuda", 0))
    monkeypatch.setattr(train_alignment, "encode_episodes", note)
    for seed in (5, 5, 6):
        with pytest.raises(Stopped):
            train_alignment.train(tiny_progress(tmp_path, None, f"train.seed={seed}"), SilentReporter())
    devices, draws = zip(*seen, strict=True)
    assert set(devices) == {torch.device("cuda", 0)}
    assert draws[0] == draws[1] != draws[2]
