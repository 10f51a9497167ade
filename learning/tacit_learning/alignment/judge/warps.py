"""Successful episodes played otherwise: at half and double speed, with a pause, with a retry.

A clock would be wrong about each of them; what is seen is the same.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from tacit_learning.alignment.data.videos import Video

WARPS = ("half speed", "double speed", "pause", "retry")
FIELDS = (
    *("features", "labels", "action", "progress", "action_mask", "progress_mask"),
    *("success", "success_mask", "failure", "failure_mask"),
)
"""What a video says of each of its frames."""
PAUSE_S, RETRY_S = 0.4, 1.0
"""A rest too short to be a hang; a second that is gone back over and done again."""


def warped(video: Video, name: str, fps: float) -> Video:
    """Return the video with its frames in another order; its annotation and targets go along."""
    rows = frames_of(name, len(video), fps)
    annotation = video.annotation.at_frames(rows, fps, lost="drop")
    chosen = torch.from_numpy(rows)
    return replace(video, annotation=annotation, **{name: getattr(video, name)[chosen] for name in FIELDS})


def frames_of(name: str, num_frames: int, fps: float) -> NDArray[np.int64]:
    """Return the frame numbers of a warp.

    Raises:
        KeyError: No such warp.
    """
    every, middle = np.arange(num_frames), num_frames // 2
    back = min(round(RETRY_S * fps), middle)
    return {
        "half speed": np.repeat(every, 2),
        "double speed": every[::2],
        "pause": np.concatenate([every[:middle], np.full(round(PAUSE_S * fps), middle), every[middle:]]),
        "retry": np.concatenate(
            [every[: middle + 1], every[middle - back : middle][::-1], every[middle - back + 1 :]]
        ),
    }[name]
