"""Draw windows of a data set, and keep them as files: the sample as mp4, a sheet to compare as png."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from tacit.convert.video import write_video
from tacit.images import encode_png
from tacit.view.draw import film_strip
from tacit_learning.vace_e.data.inputs import NEGATIVE_PROMPT, Inputs, move
from tacit_learning.vace_e.model.signals import pad_text
from tacit_learning.vace_e.model.vace_e import VaceE
from tacit_learning.vace_e.sampling.solver import SamplerSettings, decode_video, sample_latents

SHEET_FRAMES = 6


class SampledClip(NamedTuple):
    """A drawn window beside its control and recording, each (F, H, W, 3) u1, and the mask (F, H, W)."""

    name: str
    control: np.ndarray
    sample: np.ndarray
    target: np.ndarray | None
    mask: np.ndarray
    fps: float


@torch.no_grad()
def draw_window(
    model: VaceE, inputs: Inputs, window: int, settings: SamplerSettings, device: torch.device
) -> SampledClip:
    """Draw one window of a data set.

    Args:
        model: In evaluation mode, on `device`.
        inputs: Encoded windows.
        window: Its number.
        settings: How to draw.
        device: Where.
    """
    clips = move(inputs.clips([window]), device)
    negative, _ = pad_text([inputs.tokens_of(NEGATIVE_PROMPT)], clips.text.shape[1])
    latents = sample_latents(model, clips, settings, negative)
    video = decode_video(inputs.frozen.vae, latents, clips.num_reference)[0]
    item = inputs.pixels(window)
    if item.control is None or item.mask is None:
        raise ValueError(f"window {window} has no control video or no mask")
    number = inputs.dataset.windows[window].number
    name = f"{item.task_name}_{item.episode_name}{f'_{number}' if number else ''}".replace(" ", "_")
    rate = inputs.dataset.rate(window)
    return SampledClip(name, item.control, video, item.video, item.mask, rate)


def save_clip(folder: Path, name: str, clip: SampledClip) -> Path:
    """Write `<name>.mp4`, and `<name>.png` with rows of control, sample and recording."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.mp4"
    write_video(path, clip.sample, clip.fps)
    videos = [video for video in (clip.control, clip.sample, clip.target) if video is not None]
    frames = np.linspace(0, len(clip.sample) - 1, SHEET_FRAMES).astype(int)
    sheet = film_strip([video[i] for video in videos for i in frames], SHEET_FRAMES)
    path.with_suffix(".png").write_bytes(encode_png(sheet).tobytes())
    return path
