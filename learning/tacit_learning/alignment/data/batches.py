"""Batches of alignment training: whole videos as they are, and clips of them warped in time.

Everything random comes from a generator of (seed, batch number, process), so a resumed run sees the
same batches. Alignment losses and travelled distances read the videos as they are (`FEATURES`, ...);
learnable heads read the clips (`CLIP_...`). Legend: B videos, T frames of the longest, F features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from tacit_learning.alignment.data.outcomes import HANG, HANG_S
from tacit_learning.alignment.data.videos import Video, VideoSet
from tacit_learning.alignment.data.warp import Clip, untouched, warp
from tacit_learning.alignment.model.model import Frames
from tacit_learning.alignment.settings import WarpConfig
from tacit_learning.data.windows import Batch

FEATURES, MASK, TASK = "features", "mask", "task"
LABELS, ACTION, PROGRESS = "labels", "action", "progress"
ACTION_MASK, PROGRESS_MASK = "action_mask", "progress_mask"
SPAN_START, SPAN_END, SPAN_MASK = "span_start", "span_end", "span_mask"
ELAPSED, REMAINING, CONDITION = "elapsed", "remaining", "condition"
MOTION = "motion"
"""Whether the task went back (0), stood still (1) or went on (2) in the last .3 s (B, T) i8."""
SUCCESS, SUCCESS_MASK = "success", "success_mask"
FAILURE, FAILURE_MASK = "failure", "failure_mask"
"""What goes wrong (B, T) i8: 0 nothing, k + 1 kind k."""
FPS = "fps"
"""Rate of all frames [Hz] (scalar)."""
DRAW = "draw"
"""Seed of what the losses draw in this batch (scalar i8)."""
MOTION_S = 0.3  # as far back as the motion net compares (`model.motion.LAG`)
CLIP = "clip_"
"""Prefix of the same keys for warped clips."""


def training_batches(
    videos: VideoSet,
    warping: WarpConfig | None,
    *,
    batch_size: int,
    condition_rate: float,
    seed: int,
    first: int,
    rank: int,
    whole: bool = True,
) -> Iterator[Batch]:
    """Yield batches without end, from batch number `first`; all videos of one are of one task.

    Args:
        videos: Videos to draw from.
        warping: How clips are changed; None: no clips.
        batch_size: Videos per batch; as many as the task has where it has fewer and `whole` is asked for.
        condition_rate: Share of clips whose class is given to the head.
        seed: Seed of the run.
        first: Number of the first batch.
        rank: Number of this process.
        whole: Yield whole videos beside the clips; without them the clips have the plain names.
    """
    number = first
    hang = videos.failures.index(HANG) + 1 if HANG in videos.failures else None
    by_task = [[v for v in videos.videos if v.task == task] for task in range(len(videos.tasks))]
    while True:
        rng = np.random.default_rng([seed, number, rank])
        pool = by_task[videos.videos[int(rng.integers(len(videos)))].task]
        # Alignment needs different videos; clips of one video differ, so a few videos make a full batch.
        drawn = rng.permutation(len(pool))[:batch_size] if whole else rng.integers(0, len(pool), batch_size)
        chosen = [pool[i] for i in drawn]
        batch = whole_videos(chosen, videos.fps) if whole else {}
        draw = torch.tensor(int(rng.integers(2**62)))
        if warping is not None:
            drawn_clips = [warp(len(video), videos.fps, warping, rng) for video in chosen]
            clips = gather(chosen, drawn_clips, videos.fps, hang)
            given = torch.from_numpy(rng.random(len(chosen)) < condition_rate)
            clips[CONDITION] = torch.where(given.unsqueeze(1), clips[LABELS] + 1, 0)
            batch |= {CLIP * whole + key: value for key, value in clips.items()}
        yield batch | {DRAW: draw}
        number += 1


def whole_videos(videos: Sequence[Video], fps: float) -> Batch:
    """Return videos as they are, padded with their last frame, with the stretches of their actions."""
    batch = gather(videos, [untouched(len(video)) for video in videos], fps)
    batch[FPS] = torch.tensor(fps)
    for key, field in ((SPAN_START, "start"), (SPAN_END, "end"), (SPAN_MASK, "mask")):
        batch[key] = _pad([getattr(video.spans, field) for video in videos])
    return batch


def gather(videos: Sequence[Video], clips: Sequence[Clip], fps: float, hang: int | None = None) -> Batch:
    """Return the chosen frames of each video, padded with the last one; time runs evenly.

    `remaining` is how long the video, from the frame that is seen, still took to the end of its last
    action [s]. A rest that a clip has put in and that is longer than a moment's is the failure number `hang`,
    if there is one and the task is not done.
    """
    rows = [torch.from_numpy(clip.frames) for clip in clips]
    pairs = list(zip(videos, rows, strict=True))
    batch = {
        FEATURES: _pad([video.features[row] for video, row in pairs]),
        MASK: _pad([torch.ones(len(row), dtype=torch.bool) for row in rows], repeat=False),
        LABELS: _pad([video.labels[row] for video, row in pairs]),
        ACTION: _pad([video.action[row] for video, row in pairs]),
        PROGRESS: _pad([video.progress[row] for video, row in pairs]),
        ACTION_MASK: _pad([video.action_mask[row] for video, row in pairs], repeat=False),
        PROGRESS_MASK: _pad([video.progress_mask[row] for video, row in pairs], repeat=False),
        REMAINING: _pad([_remaining(video, row, fps) for video, row in pairs]),
        MOTION: _pad([_motion(video, row, fps) for video, row in pairs]),
        SUCCESS: _pad([video.success[row] for video, row in pairs]),
        SUCCESS_MASK: _pad([video.success_mask[row] for video, row in pairs], repeat=False),
        **_failures(pairs, clips, fps, hang),
        TASK: torch.tensor([video.task for video in videos]),
    }
    longest = batch[MASK].shape[1]
    batch[ELAPSED] = (torch.arange(longest) / fps).expand(len(videos), -1).contiguous()
    batch[CONDITION] = torch.zeros_like(batch[LABELS])
    return batch


def frames_of(batch: Batch) -> Frames:
    """Return what the model reads of a batch."""
    return Frames(batch[FEATURES], batch[ELAPSED], batch[TASK], batch[CONDITION])


def clip_of(batch: Batch) -> Batch:
    """Return the warped clips of a batch under their plain names."""
    return {key.removeprefix(CLIP): value for key, value in batch.items() if key.startswith(CLIP)}


def _motion(video: Video, row: Tensor, fps: float) -> Tensor:
    window = max(1, round(MOTION_S * fps))
    before = row[(torch.arange(len(row)) - window).clamp(min=0)]
    return torch.sign((video.progress[row] - video.progress[before]).round(decimals=6)).long() + 1


def _failures(
    pairs: Sequence[tuple[Video, Tensor]], clips: Sequence[Clip], fps: float, hang: int | None
) -> Batch:
    """Return what goes wrong in the chosen frames, with the hangs that put in rests are."""
    failures, masks = [], []
    for (video, row), clip in zip(pairs, clips, strict=True):
        failure, mask = video.failure[row], video.failure_mask[row]
        places = torch.arange(len(row))
        moves = ~torch.from_numpy(clip.rests)
        still_s = (places - torch.where(moves, places, 0).cummax(0).values) / fps
        rests = (failure == 0) & (video.success[row] == 0)
        hangs = rests & (still_s > HANG_S)
        failures.append(torch.where(hangs, hang or 0, failure))
        unclear = rests & (still_s > HANG_S / 2) & (~hangs if hang else True)
        masks.append(mask & ~unclear)
    return {FAILURE: _pad(failures), FAILURE_MASK: _pad(masks, repeat=False)}


def _remaining(video: Video, row: Tensor, fps: float) -> Tensor:
    acting = video.labels.nonzero()
    last = int(acting[-1]) if len(acting) else len(video) - 1
    return (last - row).clamp(min=0) / fps


def _pad(rows: Sequence[Tensor], repeat: bool = True) -> Tensor:
    """Stack rows (T_i, ...) to (B, T, ...), filled up with their last value, or with zeros."""
    longest = max(len(row) for row in rows)
    filled = []
    for row in rows:
        last = row[-1:] if repeat else torch.zeros_like(row[-1:])
        filled.append(torch.cat([row, last.expand(longest - len(row), *row.shape[1:])]))
    return torch.stack(filled)
