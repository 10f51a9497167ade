"""Targets that know failure: progress by the steps of the whole task, success, and what goes wrong.

A task has a list of steps, and an episode may lack some: its progress counts all of them, so it ends below 1.
A step that was not finished is taken to go as fast as in the episodes that finished it. Legend: T frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from tacit_learning.data.annotations import Annotation, Segment

STALL = "stall"
UNTOLD = frozenset({"regression", "truncated"})
"""Events after which the share of frames or steps no longer says how far the task is."""
UNFINISHED = 0.9
"""Share of a step that one that was not finished reaches at most."""
HANG = "hang"
HANG_S = 1.0
"""So long nobody can tell a hang from a moment's rest: neither is learned [s]."""


def still_frames(annotation: Annotation) -> Tensor:
    """Return the frames (T,) in which the task does not go on: annotated stalls and failures."""
    still = torch.zeros(annotation.num_frames, dtype=torch.bool)
    for event in annotation.events:
        if event.kind == STALL or event.failure:
            still[event.start : event.end + 1] = True
    return still


def failure_kinds(annotations: Iterable[Annotation]) -> tuple[str, ...]:
    """Return the kinds of failure that occur, in alphabetical order."""
    return tuple(sorted({event.failure for a in annotations for event in a.events if event.failure}))


def is_complete(annotation: Annotation) -> bool | None:
    """Tell whether the task was done at the end; None where nobody can know.

    Without a label it was, if the video has steps, nothing else happened and no step is missing: annotated
    videos are demonstrations.
    """
    if annotation.success is not None:
        return annotation.success
    names = {segment.name for segment in annotation.action_segments()}
    if not names or any(event.kind in UNTOLD or event.failure for event in annotation.events):
        return None
    return True if names >= set(annotation.task_steps) else None


def success_target(annotation: Annotation) -> tuple[Tensor, Tensor]:
    """Return whether the task is done, and well, at each frame (T,), and which frames know it (T,).

    It is from the frame after its last step; a video that ends with that step is done at its last frame.
    """
    done = is_complete(annotation)
    target = torch.zeros(annotation.num_frames)
    segments = annotation.action_segments()
    if done and segments:
        target[min(segments[-1].end + 1, annotation.num_frames - 1) :] = 1.0
    return target, torch.full((annotation.num_frames,), done is not None)


def failure_target(annotation: Annotation, kinds: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return what goes wrong at each frame (T,): 0 nothing, k + 1 kind k; and which frames know it (T,)."""
    target = torch.zeros(annotation.num_frames, dtype=torch.long)
    mask = torch.full((annotation.num_frames,), bool(kinds))
    for event in annotation.events:
        if not event.failure:
            continue
        target[event.start : event.end + 1] = kinds.index(event.failure) + 1 if event.failure in kinds else 0
        until = event.start + round(HANG_S * annotation.fps) if event.failure == HANG else event.start
        known = event.failure in kinds
        mask[event.start : until if known else event.end + 1] = False
    return target, mask


def step_seconds(annotations: Iterable[Annotation]) -> dict[str, float]:
    """Compute per step its mean length where it was finished [s], without frames that stand still."""
    found: dict[str, list[float]] = {}
    for annotation in annotations:
        moves = ~still_frames(annotation).numpy()
        for segment, finished in _finished(annotation):
            if finished:
                length = float(moves[segment.start : segment.end + 1].sum()) / annotation.fps
                found.setdefault(segment.name, []).append(length)
    return {name: float(np.mean(lengths)) for name, lengths in found.items()}


def task_progress(annotation: Annotation, seconds: Mapping[str, float]) -> Tensor:
    """Compute p_t = (k + i_t) / K in step k of the K steps of the whole task; between steps the last holds.

    i_t is the share of the step that has gone: of its frames if it was finished, else of its mean length
    `seconds`, at most `UNFINISHED`. A step that comes again, after a drop, puts progress back to where it
    belongs. Frames that stand still do not count.

    Returns:
        Progress (T,) float32 in 0..1.
    """
    order = annotation.task_steps
    moves = ~still_frames(annotation).numpy()
    progress = torch.zeros(annotation.num_frames)
    for segment, finished in _finished(annotation):
        part = slice(segment.start, segment.end + 1)
        gone = torch.from_numpy(np.cumsum(moves[part]).astype(np.float32))
        if finished:
            inside = gone / max(float(gone[-1]), 1.0)
        else:
            mean = max(seconds.get(segment.name, segment.length / annotation.fps) * annotation.fps, 1.0)
            inside = (gone / mean).clamp(max=UNFINISHED)
        number = order.index(segment.name)
        progress[part] = (number + inside) / len(order)
        progress[segment.end + 1 :] = progress[segment.end]
    return progress


def _finished(annotation: Annotation) -> list[tuple[Segment, bool]]:
    """Return the steps that belong to the task, and whether each was finished: a later one follows it, or
    it is the last of all and the task was done."""
    order = annotation.task_steps or tuple(dict.fromkeys(s.name for s in annotation.action_segments()))
    known = [segment for segment in annotation.action_segments() if segment.name in order]
    numbers = [order.index(segment.name) for segment in known]
    after = [later > number for number, later in zip(numbers, numbers[1:], strict=False)]
    last = bool(known) and is_complete(annotation) is not False and numbers[-1] == len(order) - 1
    return list(zip(known, [*after, last], strict=True)) if known else []
