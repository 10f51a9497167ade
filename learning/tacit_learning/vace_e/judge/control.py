"""Whether the drawn hand follows its command: the motion, body and objects of one clip given to another.

A video that looks right proves nothing where the mask tells the same as the motion. So the motion of another
recording is commanded: the hand must go there, and not where it was recorded. Legend: N clips, F frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tacit_learning.vace_e.config_model import STREAMS
from tacit_learning.vace_e.data.inputs import NEGATIVE_PROMPT, Clips, Inputs, hidden, move
from tacit_learning.vace_e.data.masks import MaskKind, loosened
from tacit_learning.vace_e.judge.metrics import Score, Unavailable
from tacit_learning.vace_e.judge.tracker import ColourTracker, mask_path
from tacit_learning.vace_e.model.conditioning import encode_halves, encode_latents, join_control, to_signed
from tacit_learning.vace_e.model.signals import Signals, pad_text
from tacit_learning.vace_e.model.vace_e import VaceE
from tacit_learning.vace_e.sampling.solver import SamplerSettings, decode_video, sample_latents

Trial = Literal["own", "swapped", "absent", "body", "objects"]
TRIALS: tuple[Trial, ...] = ("own", "swapped", "absent", "body")
"""Motion of the clip itself, of its partner, none; the picture of another body with the clip's own motion.
`objects`, the tracks of the partner's objects under an open mask, needs a tracker of objects."""
FITTED = 64  # recordings that the tracker learns from
RESAMPLED = 2000  # times, for an interval


@dataclass(frozen=True)
class Scene:
    """The clips of a measurement, and whose motion and whose body each gets."""

    inputs: Inputs
    windows: list[int]
    partners: list[int]  # of the motion
    others: list[int]  # of the body; the window itself where no other body is known
    videos: np.ndarray  # (N, F, H, W, 3) u1, the recordings
    controls: np.ndarray  # (N, F, H, W, 3) u1, hands hidden
    masks: np.ndarray  # (N, F, H, W) bool, as the data set has them
    partner_masks: np.ndarray

    @property
    def recorded(self) -> np.ndarray:
        """Where the hands were (N, F, 2) [px]."""
        return np.stack([mask_path(mask) for mask in self.masks])

    @property
    def commanded(self) -> np.ndarray:
        """Where the hands of the partners were (N, F, 2) [px]."""
        return np.stack([mask_path(mask) for mask in self.partner_masks])

    def bodies(self, windows: Sequence[int]) -> np.ndarray:
        """Return the embodiment labels of windows (N,)."""
        return np.array([self.inputs.dataset.embodiment_label(window) for window in windows])


def make_scene(inputs: Inputs, windows: Sequence[int]) -> Scene:
    """Pair windows of one size: each gets the motion of one half the list away, and another body's picture.

    Raises:
        ValueError: Fewer than two windows of one size.
    """
    dataset = inputs.dataset
    alike = [window for window in windows if dataset.bucket(window) == dataset.bucket(windows[0])]
    if len(alike) < 2:
        raise ValueError("needs two windows of one size")
    others = []
    for place, window in enumerate(alike):
        label, rolled = dataset.embodiment_label(window), [*alike[place:], *alike[:place]]
        others.append(next((each for each in rolled if -1 < dataset.embodiment_label(each) != label), window))
    half = len(alike) // 2
    partners = [*alike[half:], *alike[:half]]
    items = [dataset.item(window, reference=False) for window in alike]
    videos, controls, masks = (
        np.stack([getattr(item, name) for item in items]) for name in ("video", "control", "mask")
    )
    partner_masks = np.stack([dataset.mask(partner) for partner in partners])
    return Scene(inputs, alike, partners, others, videos, controls, masks, partner_masks)


def fit_tracker(inputs: Inputs, windows: Sequence[int]) -> ColourTracker:
    """Learn colours from recordings.

    Raises:
        ValueError: The masks do not tell a place.
    """
    items = [inputs.dataset.item(window, reference=False) for window in windows]
    shown = [(item.video, item.mask, item.embodiment_label) for item in items]
    return ColourTracker(*zip(*shown, strict=True)) if shown else ColourTracker([], [], [])


def draw_trial(
    model: VaceE, scene: Scene, trial: Trial, settings: SamplerSettings, device: torch.device, batch: int
) -> np.ndarray:
    """Draw all clips of a scene under one trial: (N, F, H, W, 3) u1."""
    inputs, videos = scene.inputs, []
    for first in range(0, len(scene.windows), batch):
        part = slice(first, first + batch)
        clips = move(_clips(scene, trial, part), device)
        negative, _ = pad_text([inputs.tokens_of(NEGATIVE_PROMPT)], clips.text.shape[1])
        latents = sample_latents(model, clips, replace(settings, seed=settings.seed + first), negative)
        videos.append(decode_video(inputs.frozen.vae, latents, clips.num_reference))
    return np.concatenate(videos)


def through_codec(scene: Scene) -> np.ndarray:
    """Return the recordings as the video autoencoder gives them back (N, F, H, W, 3) u1."""
    frozen, videos = scene.inputs.frozen, []
    for video in scene.videos:
        signed = to_signed(torch.from_numpy(video[None]).to(frozen.device))
        videos.append(decode_video(frozen.vae, encode_latents(frozen.vae, signed))[0])
    return np.stack(videos)


def distances(paths: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the mean distance of every path (N, F, 2) from where it should be (N,) [px]."""
    return np.nanmean(np.linalg.norm(paths - wanted, axis=-1), axis=-1)


def control_rows(
    scene: Scene, tracker: ColourTracker, middle: np.ndarray, draw: Callable[[Trial], np.ndarray]
) -> dict[str, np.ndarray]:
    """Measure the trials and what to compare them with; a value for every clip (N,), distances in pixels.

    Args:
        scene: The clips.
        tracker: Fitted to other recordings.
        middle: Mean place of the hand in recordings (2,) as x, y: the best guess that knows no clip.
        draw: Draws the clips of a trial.
    """
    recorded, commanded = scene.recorded, scene.commanded
    videos = {trial: draw(trial) for trial in TRIALS}
    paths = {trial: np.stack([tracker.path(video) for video in drawn]) for trial, drawn in videos.items()}
    own = np.stack([tracker.path(video) for video in scene.videos])
    coded = np.stack([tracker.path(video) for video in through_codec(scene)])
    rows = {
        "own": distances(paths["own"], recorded),
        "swapped": distances(paths["swapped"], commanded),
        "swapped_to_recording": distances(paths["swapped"], recorded),
        "absent": distances(paths["absent"], recorded),
        "tracker": distances(own, recorded),
        "codec": distances(coded, recorded),
        "middle": distances(np.broadcast_to(middle, recorded.shape), recorded),
        "other_path": distances(commanded, recorded),
    }
    wanted, bodies = scene.bodies(scene.others), scene.bodies(scene.windows)
    if (wanted != bodies).any():
        found = np.array([tracker.kind(video) for video in videos["body"]])
        real = np.array([tracker.kind(video) for video in scene.videos])
        rows["body"] = distances(paths["body"], recorded)
        rows["body_right"] = (found == wanted)[wanted != bodies].astype(float)
        rows["tracker_body_right"] = (real == bodies)[bodies >= 0].astype(float)
    return rows


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Return the mean of rows and the ends of its 95 % interval, by resampling the clips."""
    drawn = np.random.default_rng(0).integers(len(values), size=(RESAMPLED, len(values)))
    low, high = np.quantile(values[drawn].mean(1), [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def control_scores(
    model: VaceE,
    training: Inputs,
    held_out: Inputs,
    windows: Sequence[int],
    settings: SamplerSettings,
    device: torch.device,
    batch: int,
) -> dict[str, Score]:
    """Return the means of `control_rows` as `control_<name>`; unavailable where nothing can be told."""
    count = len(training.dataset)
    fitted = np.linspace(0, count - 1, min(FITTED, count)).astype(int).tolist()
    try:
        scene = make_scene(held_out, windows)
        tracker = fit_tracker(training, fitted)
    except ValueError as problem:
        return {"control_swapped": Unavailable(str(problem))}
    middle = mean_place(training, fitted)
    rows = control_rows(
        scene, tracker, middle, lambda trial: draw_trial(model, scene, trial, settings, device, batch)
    )
    return {f"control_{name}": float(np.mean(values)) for name, values in rows.items()}


def mean_place(inputs: Inputs, windows: Sequence[int]) -> np.ndarray:
    """Return the mean place of the hand in recordings (2,) as x, y [px]."""
    paths = [mask_path(inputs.dataset.mask(window)) for window in windows]
    return np.nanmean(np.concatenate(paths), axis=0)


def _clips(scene: Scene, trial: Trial, part: slice) -> Clips:
    """Return the inputs of some clips of a scene under one trial."""
    windows, partners, others = (each[part] for each in (scene.windows, scene.partners, scene.others))
    count = len(windows)
    together = scene.inputs.clips([*windows, *partners, *others])  # one batch, so that all are padded alike
    rows = [slice(k * count, (k + 1) * count) for k in range(3)]
    own, partner, other = (together.signals.rows(row) for row in rows)
    slots = together.control[rows[2] if trial == "body" else rows[0], :16, : together.num_reference]
    signals = {
        "own": own,
        "swapped": _with(own, partner, "motion"),
        "absent": own.without(["motion"]),
        "body": _with(own, other, "embodiment"),
        "objects": _with(own, partner, "objects"),
    }[trial]
    control = _control(scene, trial, part, slots)
    return replace(
        together,
        latents=together.latents[rows[0]],
        control=control,
        share=together.share[rows[0]],
        text=together.text[rows[0]],
        signals=signals,
        task_label=together.task_label[rows[0]],
        embodiment_label=together.embodiment_label[rows[0]],
    )


def _control(scene: Scene, trial: Trial, part: slice, slots: Tensor) -> Tensor:
    """Hide the hand as recorded and, unless masks are tight, where it is sent; in every trial alike."""
    kind: MaskKind = "open" if trial == "objects" else scene.inputs.dataset.options.masks
    pairs = zip(scene.masks[part], scene.partner_masks[part], strict=True)
    masks = np.stack([own if kind == "tight" else loosened(own | other, kind) for own, other in pairs])
    videos = np.stack([hidden(*pair) for pair in zip(scene.controls[part], masks, strict=True)])
    device, vae = scene.inputs.frozen.device, scene.inputs.frozen.vae
    white = torch.from_numpy(masks).to(device)
    signed = to_signed(torch.from_numpy(videos).to(device))
    if kind != "tight":  # exactly nothing, as in training
        signed = torch.where(white[:, None], 0.0, signed)
    halves = encode_halves(signed, white, vae)
    inactive, reactive = (half.float() for half in halves)
    return join_control(inactive, reactive, white, slots.to(device) if slots.shape[2] else None)


def _with(signals: Signals, others: Signals, stream: Literal["motion", "objects", "embodiment"]) -> Signals:
    """Return signals with one stream of others."""
    names = {
        "motion": ("motion", "motion_valid", "motion_times"),
        "objects": ("objects", "object_valid", "object_ids", "object_times"),
        "embodiment": ("image",),
    }[stream]
    place = STREAMS.index(stream)
    present = signals.present.clone()
    present[:, place] = others.present[:, place]
    return replace(signals, present=present, **{name: getattr(others, name) for name in names})
