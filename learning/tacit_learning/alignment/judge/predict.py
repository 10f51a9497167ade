"""What a trained model says of whole videos: embeddings, progress in every mode, classes, completion.

Modes of progress in the action: `online` sees the stream alone; `class` is also told the class of every
frame; `start` restarts at the true first frame of each action; `start+class` is told both.
Legend: T frames, D embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tacit_learning.alignment.data import batches as keys
from tacit_learning.alignment.data.batches import frames_of
from tacit_learning.alignment.data.videos import Video, VideoSet
from tacit_learning.alignment.model.heads import DistanceHead, HeadOutputs, ProgressHead
from tacit_learning.alignment.model.model import AlignmentModel, Frames
from tacit_learning.alignment.model.motion import direction
from tacit_learning.data.windows import Batch

MODES = ("online", "class", "start", "start+class")
CHUNK = 16
"""Videos that are run at once."""


@dataclass(frozen=True)
class Prediction:
    """One video: embeddings (T, D); progress of the action (T,) by mode; progress of the video (T,);
    action per frame (T,), -1 background; probability of done (T,); motion in -1..1 (T,). None where the
    head does not say."""

    embeddings: NDArray[np.float32]
    action: dict[str, NDArray[np.float32]]
    video: NDArray[np.float32] | None
    classes: NDArray[np.int64] | None
    done: NDArray[np.float32] | None
    motion: NDArray[np.float32] | None = None


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
    gives = model.head.gives if model.head is not None else frozenset()
    plain = model.read(embeddings, frames_of(batch)) if gives else None
    told = model.read(embeddings, _told(batch)) if _takes_class(model) else None
    motion = model.motion(batch[keys.FEATURES])
    return [
        Prediction(
            embeddings[i, : len(video)].numpy(),
            _actions(model, video, embeddings[i, : len(video)], fps, _row(plain, i), _row(told, i)),
            plain.video[i, : len(video)].numpy() if plain is not None and "video" in gives else None,
            _classes(plain, i, len(video)) if "classes" in gives else None,
            plain.done[i, : len(video)].sigmoid().numpy() if plain is not None else None,
            direction(motion[i, : len(video)]).numpy() if motion is not None else None,
        )
        for i, video in enumerate(videos)
    ]


def _takes_class(model: AlignmentModel) -> bool:
    return isinstance(model.head, ProgressHead) and model.head.condition is not None


def _told(batch: Batch) -> Frames:
    """Tell the head the class of every frame."""
    return frames_of(batch)._replace(condition=batch[keys.LABELS] + 1)


def _row(outputs: HeadOutputs | None, i: int) -> HeadOutputs | None:
    return None if outputs is None else HeadOutputs(*(field[i] for field in outputs))


def _classes(outputs: HeadOutputs | None, i: int, length: int) -> NDArray[np.int64]:
    assert outputs is not None
    return outputs.classes[i, :length].argmax(-1).numpy() - 1


def _actions(
    model: AlignmentModel,
    video: Video,
    embeddings: torch.Tensor,
    fps: float,
    plain: HeadOutputs | None,
    told: HeadOutputs | None,
) -> dict[str, NDArray[np.float32]]:
    """Return progress of the action by mode, for the modes that the head knows."""
    if model.head is None:
        return {}
    found: dict[str, NDArray[np.float32]] = {}
    if "action" in model.head.gives and plain is not None:
        found["online"] = plain.action[: len(video)].numpy()
        found["start"] = _from_starts(model, video, embeddings, fps, given=False)
    if "action" in model.head.gives and told is not None:
        found["class"] = told.action[: len(video)].numpy()
        found["start+class"] = _from_starts(model, video, embeddings, fps, given=True)
    if isinstance(model.head, DistanceHead):
        found["start+class"] = _from_starts(model, video, embeddings, fps, given=True)
    return found


def _from_starts(
    model: AlignmentModel, video: Video, embeddings: torch.Tensor, fps: float, given: bool
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
    outputs = model.read_segments(embeddings[torch.stack(rows)], seconds, labels, told)
    for i, segment in enumerate(segments):
        progress[segment.start : segment.end + 1] = outputs.action[i, : segment.length].numpy()
    return progress
