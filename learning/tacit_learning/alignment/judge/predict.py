"""What a trained model says of whole videos: embeddings, progress in every mode, classes, completion.

Modes of progress in the action: `online` sees the stream alone; `class` is also told the class of every
frame; `start` restarts at the true first frame of each action; `start+class` is told both.
Legend: T frames, D embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tacit_learning.alignment.data import batches as keys
from tacit_learning.alignment.data.batches import frames_of
from tacit_learning.alignment.data.videos import Video, VideoSet
from tacit_learning.alignment.model.heads import DistanceHead, HeadOutputs, ProgressHead
from tacit_learning.alignment.model.model import AlignmentModel
from tacit_learning.alignment.model.motion import direction

MODES = ("online", "class", "start", "start+class")
CHUNK = 16
"""Videos that are run at once."""


@dataclass(frozen=True)
class Prediction:
    """One video: embeddings (T, D); progress of the action (T,) by mode; progress of the video (T,);
    action per frame (T,), -1 background; probability of done (T,); motion in -1..1 (T,); probability of
    success (T,), of nothing and of each kind of failure (T, 1 + K), and of the background (T,). None where
    the model does not say."""

    embeddings: NDArray[np.float32]
    action: dict[str, NDArray[np.float32]]
    video: NDArray[np.float32] | None
    classes: NDArray[np.int64] | None
    done: NDArray[np.float32] | None
    motion: NDArray[np.float32] | None = None
    success: NDArray[np.float32] | None = None
    failure: NDArray[np.float32] | None = None
    background: NDArray[np.float32] | None = None


@torch.no_grad()
def predict(model: AlignmentModel, videos: VideoSet) -> list[Prediction]:
    """Run the model over every video; its progress at a frame uses frames up to it."""
    predictions: list[Prediction] = []
    for start in range(0, len(videos), CHUNK):
        chosen = videos.videos[start : start + CHUNK]
        predictions += _predict(model, chosen, videos.fps)
    return predictions


def _predict(model: AlignmentModel, videos: Sequence[Video], fps: float) -> list[Prediction]:
    batch = keys.whole_videos(videos, fps)
    embeddings = model.embed(batch[keys.FEATURES])
    motion, outcome = model.motion(batch[keys.FEATURES]), model.outcome(batch[keys.FEATURES])
    plain = told = None
    if model.head is not None:
        frames = frames_of(batch)
        plain = model.read(embeddings, frames)
        if isinstance(model.head, ProgressHead) and model.head.condition is not None:
            # Class c is condition c + 1, since 0 says that nothing is told.
            told = model.read(embeddings, frames._replace(condition=batch[keys.LABELS] + 1))
    predictions = []
    for i, video in enumerate(videos):
        own = embeddings[i, : len(video)]
        online, with_class = (_row(outputs, i, len(video)) for outputs in (plain, told))
        moves = None if motion is None else direction(motion[i, : len(video)]).numpy()
        actions = _actions(model, video, own, fps, online, with_class)
        said = _prediction(model, own, actions, online, moves)
        if outcome is not None:
            success, failure = outcome.success_probability[i], outcome.failure_probabilities[i]
            length = len(video)
            said = replace(said, success=success[:length].numpy(), failure=failure[:length].numpy())
        predictions.append(said)
    return predictions


def _prediction(
    model: AlignmentModel,
    embeddings: Tensor,
    actions: dict[str, NDArray[np.float32]],
    said: HeadOutputs | None,
    motion: NDArray[np.float32] | None,
) -> Prediction:
    """Gather what is said of one video; outputs that the head does not give are left out."""
    if model.head is None or said is None:
        return Prediction(embeddings.numpy(), actions, None, None, None, motion)
    gives = model.head.gives
    video = said.video.numpy() if "video" in gives else None
    classes = said.classes.argmax(-1).numpy() - 1 if "classes" in gives else None
    told = Prediction(embeddings.numpy(), actions, video, classes, said.done.sigmoid().numpy(), motion)
    if classes is None:
        return told
    return replace(told, background=said.classes.softmax(-1)[:, 0].numpy())


def _row(outputs: HeadOutputs | None, i: int, length: int) -> HeadOutputs | None:
    return None if outputs is None else HeadOutputs(*(field[i, :length] for field in outputs))


def _actions(
    model: AlignmentModel,
    video: Video,
    embeddings: Tensor,
    fps: float,
    plain: HeadOutputs | None,
    told: HeadOutputs | None,
) -> dict[str, NDArray[np.float32]]:
    """Return progress of the action by mode, for the modes that the head knows."""
    found: dict[str, NDArray[np.float32]] = {}
    if model.head is None or plain is None:
        return found
    if "action" in model.head.gives:
        found["online"] = plain.action.numpy()
        found["start"] = _from_starts(model, video, embeddings, fps, given=False)
    if "action" in model.head.gives and told is not None:
        found["class"] = told.action.numpy()
    if "class" in found or isinstance(model.head, DistanceHead):
        found["start+class"] = _from_starts(model, video, embeddings, fps, given=True)
    return found


def _from_starts(
    model: AlignmentModel, video: Video, embeddings: Tensor, fps: float, given: bool
) -> NDArray[np.float32]:
    """Run the head over each action from its true start; 0 between actions."""
    progress = np.zeros(len(video), np.float32)
    segments = video.annotation.action_segments()
    if not segments:
        return progress
    longest = max(segment.length for segment in segments)
    within = torch.arange(longest)
    rows = [torch.clamp(segment.start + within, max=segment.end) for segment in segments]
    labels = torch.tensor([int(video.labels[segment.start]) for segment in segments])
    seconds = (within / fps).expand(len(segments), -1)
    told = torch.full_like(labels, given, dtype=torch.bool)
    frames = torch.stack(rows)
    task = torch.full_like(labels, video.task)
    outputs = model.read_segments(embeddings[frames], video.features[frames], seconds, labels, told, task)
    for i, segment in enumerate(segments):
        progress[segment.start : segment.end + 1] = outputs.action[i, : segment.length].numpy()
    return progress
