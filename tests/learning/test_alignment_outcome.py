"""Progress that knows failure: targets by the steps of the whole task, success and failure of their own."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_videos import ACTIONS, FPS, tiny_alignment, tiny_failing

from tacit.errors import ConfigError
from tacit_learning.alignment.checkpoints import alignment_from, load_alignment
from tacit_learning.alignment.data import batches as keys
from tacit_learning.alignment.data.episode_videos import split_by_outcome
from tacit_learning.alignment.data.outcomes import failure_target, step_seconds, success_target, task_progress
from tacit_learning.alignment.data.videos import Annotated, make_videos
from tacit_learning.alignment.data.warp import Clip
from tacit_learning.alignment.judge.predict import predict
from tacit_learning.alignment.model.outcome import Average, OutcomeNet
from tacit_learning.alignment.model.streaming import FeatureStream
from tacit_learning.alignment.settings import OutcomeConfig
from tacit_learning.alignment.train_alignment import train_on
from tacit_learning.data.annotation_files import load_annotation_set, save_annotation_set
from tacit_learning.data.annotations import FAILURE, Annotation, AnnotationSet, Event, Segment
from tacit_learning.engine.tracking import SilentReporter
from tacit_learning.export import export_checkpoint
from tacit_learning.losses.progress import video_progress

WHOLE = [Segment("reach", 0, 9), Segment("grip", 10, 19), Segment("lift", 20, 29)]


def episode(
    segments: list[Segment], num_frames: int = 40, success: bool = True, *failures: Event
) -> Annotation:
    return Annotation.of_segments(
        "e", num_frames, FPS, segments, task_steps=ACTIONS, success=success, events=failures
    )


def test_a_whole_episode_has_the_progress_that_its_steps_alone_would_give() -> None:
    whole = episode(WHOLE)
    torch.testing.assert_close(task_progress(whole, {}), video_progress(whole))
    assert success_target(whole)[0].nonzero().flatten().tolist() == list(range(30, 40))
    assert success_target(episode(WHOLE, 30))[0].nonzero().flatten().tolist() == [29], "it ends as it is done"


def test_every_outcome_is_in_both_parts_of_a_split() -> None:
    outcomes = [None] * 10 + ["miss"] * 5 + ["hang"] * 2 + ["drop"]
    paths = [Path(f"{number}.hdf5") for number in range(len(outcomes))]
    parts = split_by_outcome(paths, outcomes, 0.8, 0)
    assert sorted(parts["train"] + parts["validation"]) == sorted(paths)
    held_out = Counter(outcomes[paths.index(path)] for path in parts["validation"])
    assert held_out == {None: 2, "miss": 1, "hang": 1}, "a single one teaches"


def test_a_run_of_before_is_refused_by_name(run: Path) -> None:
    checkpoint = load_alignment(run / "run", "last").checkpoint
    name = "model.outcome_net.gru.weight_ih_l0"
    vars(checkpoint)["weights"] = {**checkpoint.weights, name: checkpoint.weights[name][:, :3]}
    with pytest.raises(ConfigError, match=r"outcome_net.gru.weight_ih_l0.*train it again"):
        alignment_from(checkpoint)


def test_an_average_forgets_at_its_rate_and_begins_at_the_first_value() -> None:
    x = torch.randn(2, 30, 3)
    expected, keeps = [x[:, 0]], float(np.exp(-1 / 4))
    for t in range(1, 30):
        expected.append(keeps * expected[-1] + (1 - keeps) * x[:, t])
    torch.testing.assert_close(Average(4.0)(x), torch.stack(expected, 1))


def test_who_is_pushed_about_at_a_place_is_told_from_who_goes_on_however_much_both_move() -> None:
    torch.manual_seed(0)
    net = OutcomeNet(OutcomeConfig(width=6, hidden=6), 4, 1).eval()
    pushes = 0.2 * torch.randn(1, 160, 4)
    going = pushes + 0.1 * torch.arange(160).view(1, -1, 1)
    place = going[:, 59:60] + pushes[:, 60:]
    hanging = torch.cat([going[:, :60], place], dim=1)
    moved = [(x[:, 61:] - x[:, 60:-1]).abs().mean() for x in (going, hanging)]
    assert moved[1] > 0.8 * moved[0], "from frame to frame one moves as much as the other"
    read = [drift_of(net, x)[:, -1].mean() for x in (going, hanging)]
    assert read[0] > 2 * read[1]


def drift_of(net: OutcomeNet, x: torch.Tensor) -> torch.Tensor:
    """Return what the GRU reads of how far it has drifted of late (1, T, W)."""
    seen: list[torch.Tensor] = []
    net.gru.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach()))
    net(x)
    return seen[0][..., 18:24]


def test_an_episode_that_lacks_steps_ends_below_one_and_is_no_success() -> None:
    missed = episode([Segment("reach", 0, 39)], 40, False, Event(f"{FAILURE}miss", 10, 39))
    progress = task_progress(missed, {"reach": 2.0})
    assert progress[9] == pytest.approx(10 / 20 / 3), "as far as others are who took two seconds"
    assert progress[10:].tolist() == pytest.approx([10 / 20 / 3] * 30), "what goes wrong does not go on"
    assert not success_target(missed)[0].any() and success_target(missed)[1].all()
    dropped = episode([*WHOLE[:2], Segment("reach", 20, 39)], 40, False, Event(f"{FAILURE}drop", 20, 39))
    assert task_progress(dropped, {})[19] == pytest.approx(1.9 / 3) and task_progress(dropped, {})[39] < 1 / 3


def test_a_retry_goes_on_where_it_left_off_and_succeeds() -> None:
    segments = [Segment("reach", 0, 29), Segment("grip", 30, 39), Segment("lift", 40, 49)]
    retry = episode(segments, 60, True, Event(f"{FAILURE}miss", 10, 19))
    progress = task_progress(retry, {})
    assert progress[9] == progress[19] == pytest.approx(1 / 6) and progress[29] == pytest.approx(1 / 3)
    assert progress[59] == 1.0 and success_target(retry)[0].sum() == 10
    target, mask = failure_target(retry, ("drop", "miss"))
    assert target.nonzero().flatten().tolist() == list(range(10, 20)) and target.max() == 2 and mask.all()
    assert step_seconds([retry]) == {"reach": 2.0, "grip": 1.0, "lift": 1.0}, "without what went wrong"


def test_the_first_second_of_a_hang_is_nobodys_to_tell() -> None:
    hang = episode(WHOLE[:2], 60, False, Event(f"{FAILURE}hang", 20, 59))
    target, mask = failure_target(hang, ("hang",))
    assert (~mask).nonzero().flatten().tolist() == list(range(20, 30)) and target[30:].eq(1).all()


def test_events_and_labels_survive_the_file(tmp_path: Path) -> None:
    missed = episode([Segment("reach", 0, 39)], 40, False, Event(f"{FAILURE}miss", 10, 39))
    save_annotation_set(AnnotationSet.of_videos([missed]), tmp_path)
    assert load_annotation_set(tmp_path).videos == (missed,)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outcome")
    config = tiny_alignment(folder / "run", train__steps=60, train__validate_every=60, train__lr=1e-2)
    progress = config.progress.model_copy(update={"outcome_weight": 1.0})
    outcome = OutcomeConfig(width=12, hidden=8, dropout=0.0)
    losses = config.losses.model_copy(update={"loss_type": {}})
    changes = {"progress": progress, "outcome": outcome, "losses": losses}
    train_on(config.model_copy(update=changes), tiny_failing(10), None, SilentReporter())
    export_checkpoint(folder / "run", folder / "model.onnx")
    return folder


def test_success_and_failure_are_learned_and_exported_and_streamed_as_the_batch_says(run: Path) -> None:
    trained, annotated = load_alignment(run / "run", "last"), tiny_failing(10)
    assert trained.known.failures == ("drop",) and set(trained.known.seconds) == set(ACTIONS)
    videos = make_videos(annotated, annotated.annotations.split("validation"), "video", like=trained.known)
    stream = FeatureStream(run / "model.onnx")
    assert stream.info.failures == ("drop",)
    for video, whole in zip(videos.videos, predict(trained.model, videos), strict=True):
        stream.reset()
        found = [stream.step(row.numpy(), 7 + round(t * 1e9 / FPS)) for t, row in enumerate(video.features)]
        assert whole.success is not None and whole.failure is not None
        np.testing.assert_allclose([one.success for one in found], whole.success, atol=1e-5)
        np.testing.assert_allclose([one.done for one in found], whole.success, atol=1e-5)
        np.testing.assert_allclose([one.failure for one in found], whole.failure, atol=1e-5)
        succeeds = bool(video.annotation.success)
        assert (found[-1].success > 0.5) == succeeds  # type: ignore[operator]
        assert (whole.failure[-1, 1] > 0.5) == (not succeeds)


def test_temperature_takes_back_what_is_said_too_loudly() -> None:
    random = torch.Generator().manual_seed(0)
    honest = 2 * torch.randn(4000, generator=random)
    truth = (torch.rand(4000, generator=random) < honest.sigmoid()).float()
    net = OutcomeNet(OutcomeConfig(), 3, 2)
    kinds = torch.randint(0, 3, (4000,), generator=random)
    net.calibrate((3 * honest, truth), (torch.randn(4000, 3, generator=random), kinds))
    assert float(net.temperature[0]) == pytest.approx(3.0, rel=0.15) and float(net.temperature[1]) > 5


def test_a_long_pause_in_a_clip_is_a_hang_unless_the_task_is_done() -> None:
    annotated = tiny_failing(2)
    first = annotated.annotations.videos[0]
    hung = replace(first, name="hung", success=False, events=(Event(f"{FAILURE}hang", 5, 9),))
    both = Annotated(
        AnnotationSet.of_videos([first, hung]), annotated.features | {"hung": annotated.features[first.name]}
    )
    video = make_videos(both, both.annotations.videos, "video").videos[0]
    last = len(video) - 1
    frames = np.concatenate([np.arange(6), np.full(25, 6), np.arange(7, len(video)), np.full(25, last)])
    rests = np.diff(frames, prepend=-1) == 0
    clip = keys.gather([video], [Clip(frames, rests)], FPS, hang=1)
    told = clip[keys.FAILURE][0] * clip[keys.FAILURE_MASK][0]
    assert told.nonzero().flatten().tolist() == list(range(17, 31)), "from a second of the pause on"
    assert not clip[keys.FAILURE_MASK][0][12:17].any(), "half a second and more: nobody can tell"
