"""Train alignment and progress on annotated videos; two best checkpoints per run.

`best_combined` has the lowest alignment + lambda progress at the last epoch's lambda, `best_alignment`
the lowest alignment loss, both on whole held-out videos without chance. `tacit train progress` is the
same training with alignment switched off (`configs/progress.yaml`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

import tacit
from tacit.config import to_yaml
from tacit.errors import ConfigError
from tacit_learning.alignment.checkpoints import ABOUT, BEST
from tacit_learning.alignment.data import batches as keys
from tacit_learning.alignment.data.batches import frames_of, whole_videos
from tacit_learning.alignment.data.episode_videos import EpisodeSource, encode_episodes
from tacit_learning.alignment.data.videos import (
    Annotated,
    Video,
    VideoSet,
    load_annotated,
    make_videos,
    split_videos,
    training_rate,
    without_steps,
)
from tacit_learning.alignment.judge.metrics_progress import Course, course_scores
from tacit_learning.alignment.model.model import Shape
from tacit_learning.alignment.model.normalisers import Stretches
from tacit_learning.alignment.model.pictures import PictureEncoder
from tacit_learning.alignment.model.recipe_head import RecipeHead
from tacit_learning.alignment.objective import AlignmentObjective, Schedule
from tacit_learning.alignment.old_heads import load_old_head
from tacit_learning.alignment.progress_terms import travelled
from tacit_learning.alignment.settings import ALIGNMENT, COMBINED, AlignmentConfig, TextConfig
from tacit_learning.data.windows import Batch
from tacit_learning.engine.job import Job, to_device
from tacit_learning.engine.loop import Result, fit
from tacit_learning.engine.processes import device_of
from tacit_learning.engine.provenance import git_commit
from tacit_learning.engine.seeding import seed_everything
from tacit_learning.engine.tracking import Reporter
from tacit_learning.layers.text import embed_texts
from tacit_learning.losses.progress import progress_lambda

DROWNED = 100.0
"""Times that the progress term may outweigh the alignment term before it is worth a word."""


def train(config: AlignmentConfig, reporter: Reporter) -> Result:
    """Train as `config` says and leave the checkpoints in `train.output`.

    Raises:
        AnnotationError: Annotations or features contradict themselves or each other.
        EpisodeError: An episode has no step annotations.
    """
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    seed_everything(config.train.seed)  # a backbone that is not trained before is drawn at random
    data = config.data
    if data.folder is not None:
        wanted = (*data.train_splits, data.validation_split)
        annotated = load_annotated(data.folder, wanted, data.pictures, data.mstcn_fps)
        return train_on(config, annotated, None, reporter)
    assert data.episodes is not None and data.frames is not None
    device = device_of(config.train)
    annotated, source, episodes = encode_episodes(
        data.episodes, data.frames, device, reporter, data.steps == "annotated"
    )
    used = data.model_copy(update={"episodes": episodes})
    return train_on(config.model_copy(update={"data": used}), annotated, source, reporter)


def train_on(
    config: AlignmentConfig, annotated: Annotated, source: EpisodeSource | None, reporter: Reporter
) -> Result:
    """Train on annotations and features that are already in memory; see `train`.

    Args:
        config: Configuration of the run.
        annotated: All videos of the training and validation splits.
        source: How features come from images, where they do; goes into the checkpoint.
        reporter: Shows progress.
    """
    seed_everything(config.train.seed)
    annotated = without_steps(annotated) if config.data.steps == "time" else annotated
    aligns = bool(config.losses.coefficients())
    chosen, held_out = split_videos(annotated, config.data, config.train.seed, least=2 if aligns else 1)
    level = config.progress.level
    training = make_videos(annotated, chosen, level, fps=training_rate(chosen, config.data))
    validation = make_videos(annotated, held_out, level, like=training) if held_out else None
    reporter.message(
        f"{len(training)} training and {len(held_out)} validation videos, {len(training.labels)} actions, "
        f"{training.num_features} features, {len(training.tasks)} task(s) at {training.fps:g} fps"
        + (f", thinned out from {chosen[0].fps:g}" if training.fps != chosen[0].fps else "")
    )
    if config.progress.outcome_weight and not training.failures:
        reporter.message(
            "no failure among the training videos: what fails may be called done; record some (tacit "
            "simulate --failures all), or label some (tacit episodes label --failures)"
        )
    objective = make_objective(config, training, source)
    if aligns and config.progress.enabled:
        warn_of_lambda(objective, training, reporter)
    job = Job(
        module=objective,
        batches=lambda first, rank, world: _batches(config, training, first, rank),
        validate=lambda module, device, step: _validate(config, training, validation, module, device),
        texts=_texts(_with_identity(config, objective), training, source, objective.model.shape.text_width),
        best=BEST if aligns else {"best_combined": COMBINED},
    )
    return fit(job, config.train, reporter)


def make_objective(
    config: AlignmentConfig, training: VideoSet, source: EpisodeSource | None = None
) -> AlignmentObjective:
    """Build the module that trains, with the statistics of the training videos."""
    sizes = (training.num_features, training.num_classes, len(training.tasks), len(training.failures))
    texts = None if config.text is None else task_texts(config.text, training.tasks)
    shape = Shape(*sizes, 0 if texts is None else texts.shape[1])
    steps = config.train.steps or 1
    schedule = Schedule.of(len(training), config.train.batch_size, steps)
    frames = source.encoder if source is not None else None
    objective = AlignmentObjective(config, shape, schedule, frames)
    if config.encoder.pictures is None:  # pictures are scaled by their backbone
        objective.model.scale.follow(torch.cat([video.features for video in training.videos]))
    if source is not None:  # the state has units of its own, and joints that hardly move
        statistics = source.spec.statistics
        objective.model.scale.set_last(statistics.state_mean, statistics.state_std)
    if texts is not None and objective.model.task_text is not None:
        objective.model.task_text.texts.copy_(texts)
    objective.set_orders(training.orders())
    if config.progress.learnable.old_head is not None:
        _start_from(objective, config.progress.learnable.old_head)
    return objective


def task_texts(config: TextConfig, tasks: Sequence[str]) -> Tensor:
    """Embed what each task says (N, E).

    Raises:
        ConfigError: No text encoder there, or a task without any text.
    """
    texts = [config.says.get(task, task.replace("_", " ")) for task in tasks]
    if not all(texts):
        raise ConfigError("text: the videos name no task, so there is no text; give text.says, or their task")
    return embed_texts(config.folder, texts)


def _with_identity(config: AlignmentConfig, objective: AlignmentObjective) -> AlignmentConfig:
    """Note which weights the backbone of pictures started from, so that a checkpoint needs no files."""
    encoder = objective.model.encoder
    if config.encoder.pictures is None or not isinstance(encoder, PictureEncoder):
        return config
    update = {"identity": encoder.front.backbone.identity}
    pictures = config.encoder.pictures.model_copy(update=update)
    return config.model_copy(update={"encoder": config.encoder.model_copy(update={"pictures": pictures})})


def _start_from(objective: AlignmentObjective, path: str) -> None:
    """Take the weights of an old head, if the recipe that trains is of its kind."""
    head = objective.model.head_net
    old = load_old_head(path)
    if not isinstance(head, RecipeHead) or head.spec != old.spec:
        raise ConfigError(
            f"progress.learnable.old_head: {path} is a head with {old.spec}; choose the progress.recipe that "
            "has these inputs"
        )
    head.load_state_dict(old.state_dict())


@torch.no_grad()
def warn_of_lambda(objective: AlignmentObjective, training: VideoSet, reporter: Reporter) -> None:
    """Say so where the progress term leaves the alignment losses nothing to decide."""
    config = objective.config
    batch = next(_batches(config, training, 0, 0))
    objective.eval()
    _, found = objective(batch, 0)
    objective.train()
    last = progress_lambda(objective.schedule.num_epochs - 1, objective.schedule.num_epochs, config.progress)
    ratio = last * abs(float(found["progress_loss"])) / max(abs(float(found[ALIGNMENT])), 1e-9)
    if ratio > DROWNED:
        reporter.message(
            f"warning: progress.lambda_fixed {last:g} makes the progress term {ratio:.2g} times the "
            "alignment term, so that it hardly learns; losses are means here, and 1 weighs both alike"
        )


@torch.no_grad()
def measure_statistics(
    objective: AlignmentObjective, training: VideoSet, device: torch.device, chunk: int = 16
) -> None:
    """Set the normalisers to the exact means over all training videos, `chunk` of them at a time."""
    # Running means lag behind embeddings that still move, and a checkpoint is used with what it holds.
    model = objective.model
    model.distances.video_seen.zero_()
    model.distances.action_seen.zero_()
    rows = []
    if not (model.encodes or model.travels):
        return
    for batch in _chunks(training.videos, training.fps, chunk, device):
        rows.append(model.embed(batch[keys.FEATURES])[batch[keys.MASK]])
    model.follow_embeddings(torch.cat(rows))
    if not model.travels:
        return
    found: dict[str, list[Stretches]] = {"video": [], "action": []}
    for batch in _chunks(training.videos, training.fps, chunk, device):  # the foreground needs the scale
        for name, stretches in travelled(model, model.embed(batch[keys.FEATURES]), batch).items():
            found[name].append(stretches)
    for name, parts in found.items():
        model.distances.follow(name, Stretches(*(torch.cat(column) for column in zip(*parts, strict=True))))


def _batches(config: AlignmentConfig, training: VideoSet, first: int, rank: int) -> Iterator[Batch]:
    return keys.training_batches(
        training,
        config.warp if config.reads_clips else None,
        batch_size=config.train.batch_size,
        condition_rate=config.head.condition_rate if config.head.class_dim else 0.0,
        seed=config.train.seed,
        first=first,
        rank=rank,
        whole=config.reads_whole_videos,
    )


def _validate(
    config: AlignmentConfig,
    training: VideoSet,
    validation: VideoSet | None,
    module: nn.Module,
    device: torch.device,
) -> dict[str, float]:
    """Measure the statistics, then average the losses of the held-out videos over batches of one task."""
    assert isinstance(module, AlignmentObjective)
    measure_statistics(module, training, device)
    if validation is None:
        return {}
    calibrate(module, validation, device)
    totals: dict[str, float] = {}
    courses: list[Course] = []
    for task in range(len(validation.tasks)):
        videos = [video for video in validation.videos if video.task == task]
        for batch in _chunks(videos, validation.fps, config.train.batch_size, device):
            share = len(batch[keys.TASK]) / len(validation)
            for name, value in module.validate(batch).items():
                totals[name] = totals.get(name, 0.0) + value * share
            courses += _courses(module, batch)
    if not courses:
        return totals
    seconds = sum(len(video) for video in training.videos) / len(training) / training.fps
    return totals | course_scores(courses, seconds, config.progress.dense.done_at)


@torch.no_grad()
def calibrate(
    objective: AlignmentObjective, validation: VideoSet, device: torch.device, chunk: int = 16
) -> None:
    """Set the temperatures of success and failure by the held-out videos, where these are learned."""
    net = objective.model.outcome_net
    if net is None:
        return
    found: list[tuple[torch.Tensor, ...]] = []
    for batch in _chunks(validation.videos, validation.fps, chunk, device):
        outcome = objective.model.outcome(batch[keys.FEATURES])
        assert outcome is not None
        done, wrong = (batch[mask] & batch[keys.MASK] for mask in (keys.SUCCESS_MASK, keys.FAILURE_MASK))
        said = (outcome.success[done], batch[keys.SUCCESS][done])
        found.append((*said, outcome.failure[wrong], batch[keys.FAILURE][wrong]))
    success, is_done, failure, kind = (torch.cat(column) for column in zip(*found, strict=True))
    net.calibrate((success, is_done), (failure, kind))


@torch.no_grad()
def _courses(objective: AlignmentObjective, batch: Batch) -> list[Course]:
    """Return what the head says of the progress of whole videos, beside the truth; [] if it says nothing."""
    model = objective.model
    if model.head is None or "video" not in model.head.gives:
        return []
    outputs = model.read(model.embed(batch[keys.FEATURES]), frames_of(batch))
    outcome = model.outcome(batch[keys.FEATURES])
    done = outputs.done.sigmoid() if outcome is None else outcome.success_probability
    columns = (outputs.video, done, batch[keys.PROGRESS], batch[keys.ELAPSED])
    told = batch[keys.PROGRESS_MASK] & batch[keys.MASK]
    return [
        Course(*(column[i, mask].cpu().numpy() for column in columns))
        for i, mask in enumerate(told)
        if mask.any()
    ]


def _chunks(videos: Sequence[Video], fps: float, size: int, device: torch.device) -> Iterator[Batch]:
    """Yield whole videos, `size` at a time; none is left alone, since alignment needs two."""
    starts = list(range(0, len(videos), size))
    if len(starts) > 1 and len(videos) - starts[-1] == 1:
        starts.pop()
    for start, end in zip(starts, [*starts[1:], len(videos)], strict=True):
        yield to_device(whole_videos(videos[start:end], fps), device)


def _texts(
    config: AlignmentConfig, training: VideoSet, source: EpisodeSource | None, text_width: int = 0
) -> dict[str, str]:
    """Return what a checkpoint must hold to be used without the data."""
    about = {
        "kind": config.kind,
        "format_version": ABOUT,
        "labels": list(training.labels),
        "tasks": list(training.tasks),
        "background": sorted(training.background),
        "fps": training.fps,
        "num_features": training.num_features,
        "text_width": text_width,
        "shares": dict(training.shares),
        "failures": list(training.failures),
        "step_seconds": dict(training.seconds),
        "train_videos": [video.annotation.name for video in training.videos],
        "dataset_sha256": _sha256(training),
        "git": git_commit(),
        "tacit_version": tacit.__version__,
    }
    texts = {"config.yaml": to_yaml(config), "about.json": json.dumps(about, indent=1)}
    return texts | (source.texts() if source is not None else {})


def _sha256(videos: VideoSet) -> str:
    digest = hashlib.sha256()
    for video in videos.videos:
        digest.update(video.annotation.name.encode())
        digest.update(video.features.numpy().tobytes())
        digest.update(video.labels.numpy().tobytes())
    return digest.hexdigest()
