"""Validation: loss on a fixed grid of noise, sampled videos against recorded ones, probes of features."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from tacit_learning.engine.processes import Processes
from tacit_learning.losses.flow import add_noise, flow_loss_per_sample, timestep_of
from tacit_learning.vace_e.config import VaceEConfig
from tacit_learning.vace_e.data.batch_choice import Draw
from tacit_learning.vace_e.data.inputs import Inputs, move
from tacit_learning.vace_e.data.noise import fixed_noise
from tacit_learning.vace_e.judge.control import control_scores
from tacit_learning.vace_e.judge.lpips import FILE as LPIPS_FILE
from tacit_learning.vace_e.judge.lpips import load_lpips
from tacit_learning.vace_e.judge.metrics import (
    Score,
    Unavailable,
    as_json,
    mean_scores,
    motion_accuracy,
    numbers,
    video_quality,
)
from tacit_learning.vace_e.judge.probes import Rows, probe
from tacit_learning.vace_e.judge.report import SAMPLES, VALIDATION
from tacit_learning.vace_e.model.vace_e import VaceE
from tacit_learning.vace_e.sampling.from_dataset import draw_window, save_clip
from tacit_learning.vace_e.sampling.solver import in_precision, sampler_settings

PROBE_WINDOWS = 512  # at most, of each set
FEATURE_ROWS = 64  # encoded at a time
T = TypeVar("T")


class Validator:
    """Measures a model on held-out windows, or on training windows where none is held out.

    Processes share the windows and then tell each other what they found. Each takes as many, for those that
    share a sharded model must call it together.

    Args:
        config: What to measure.
        training: Probes are fitted on its features.
        held_out: Everything is measured on it.
        processes: Those that measure together; None: this one alone.
    """

    def __init__(
        self, config: VaceEConfig, training: Inputs, held_out: Inputs, processes: Processes | None = None
    ) -> None:
        self.config = config
        self.processes = processes
        self.rank, self.world = (0, 1) if processes is None else (processes.rank, processes.world)
        self.training = training
        self.held_out = held_out if len(held_out.dataset) else training
        self.has_held_out = len(held_out.dataset) > 0
        self.windows = spread(len(self.held_out.dataset), config.validation.num_samples)

    def run(
        self, model: VaceE, device: torch.device, folder: Path, step: int, write: bool = True
    ) -> dict[str, float]:
        """Measure, and return what are numbers."""
        return numbers(self.measure(model, device, folder, step, write))

    def measure(
        self, model: VaceE, device: torch.device, folder: Path, step: int, write: bool = True
    ) -> dict[str, Score]:
        """Measure; sample videos go into `folder`, and `validation.json` where this process is to `write`."""
        was_training = model.training
        model.eval()
        with torch.no_grad():
            scores = self.flow(model, device)
            wanted = set(self.config.validation.metrics)
            if wanted & {"video_quality", "motion_accuracy"}:
                scores |= self.videos(model, device, folder, step)
            if "control" in wanted:
                scores |= self.control(model, device)
            if "task_alignment" in wanted:
                scores |= self.task_alignment(model, device)
        model.train(was_training)
        if write:
            content = {"step": step, "num_samples": len(self.windows), "scores": as_json(scores)}
            (folder / VALIDATION).write_text(json.dumps(content, indent=1), encoding="utf-8")
        return scores

    def flow(self, model: VaceE, device: torch.device) -> dict[str, Score]:
        """Return the flow loss of every bin of noise levels, and their mean."""
        count = self.config.validation.sigmas
        levels = [(k + 0.5) / count for k in range(count)]
        own: dict[int, list[float]] = {}
        for window in self._share(self.windows):
            own[window] = []
            clips = move(self.held_out.clips([window]), device)
            for sigma in levels:
                noise = fixed_noise(self.config.seed, window, sigma, tuple(clips.latents.shape[1:])).to(
                    device
                )
                noisy = add_noise(clips.latents, noise.values, noise.sigma)
                with in_precision(self.config.mixed_precision, device):
                    condition = model.conditioning(clips.signals, clips.num_reference)
                    time = timestep_of(noise.sigma)
                    velocity = model(noisy, time, clips.control, clips.text, condition)
                loss = flow_loss_per_sample(
                    velocity, clips.latents, noise.values, skip_frames=clips.num_reference
                )
                own[window].append(float(loss))
        found = self._everyone(own)
        losses = np.array([found[window] for window in self.windows])
        bins: dict[str, Score] = {
            f"flow_sigma_{sigma:.2f}": float(value)
            for sigma, value in zip(levels, losses.mean(0), strict=True)
        }
        return {"flow": float(losses.mean())} | bins

    def videos(self, model: VaceE, device: torch.device, folder: Path, step: int) -> dict[str, Score]:
        """Sample a few windows, compare them with what was recorded, and keep them as files."""
        settings = self.config.validation
        sampler = sampler_settings(self.config)
        drawn = self.windows[: settings.num_videos]
        own: dict[int, dict[str, Score]] = {}
        for window in self._share(drawn):
            clip = draw_window(model, self.held_out, window, sampler, device)
            if clip.target is None:
                raise ValueError(f"window {window} has no recorded video to compare with")
            scores: dict[str, Score] = {}
            if "video_quality" in settings.metrics:
                scores |= video_quality(clip.sample, clip.target, clip.mask)
                scores |= perceptual(settings.weights, clip.sample, clip.target)
            if "motion_accuracy" in settings.metrics:
                scores |= motion_accuracy(clip.sample, clip.target, clip.mask)
            own[window] = scores
            if settings.save_videos and window in drawn[self.rank :: self.world]:
                save_clip(folder / SAMPLES, f"step_{step:07d}_{clip.name}", clip)
        self.held_out.frozen.release("vae")
        found = self._everyone(own)
        return mean_scores([found[window] for window in drawn])

    def control(self, model: VaceE, device: torch.device) -> dict[str, Score]:
        """Return whether drawn hands follow their commands, in pixels."""
        if model.encoders is None:
            return {"control_swapped": Unavailable("enable_vace_e is false: no motion is read")}
        settings, batch = sampler_settings(self.config), self.config.batch_size
        return control_scores(model, self.training, self.held_out, self.windows, settings, device, batch)

    def task_alignment(self, model: VaceE, device: torch.device) -> dict[str, Score]:
        """Return what probes read of task and embodiment from both features, on held-out episodes."""
        if model.encoders is None:
            return {"task_of_task_knn": Unavailable("enable_vace_e is false: there are no features")}
        if not self.has_held_out or not len(self.training.dataset):
            return {"task_of_task_knn": Unavailable("needs training episodes and others held out")}
        fitted = self.features(model, self.training, device)
        tested = self.features(model, self.held_out, device)
        scores: dict[str, Score] = {}
        for feature in ("task", "embodiment"):
            for label in ("task", "embodiment"):
                name = f"{label}_of_{feature}"
                scores |= probe(name, fitted.rows(feature, label), tested.rows(feature, label))
        return scores

    def features(self, model: VaceE, inputs: Inputs, device: torch.device) -> FeatureTable:
        """Return features and labels of windows, evenly spread."""
        windows = spread(len(inputs.dataset), PROBE_WINDOWS)
        share = self._share(windows)
        own: dict[int, list[np.ndarray]] = {}
        for start in range(0, len(share), FEATURE_ROWS):
            part = share[start : start + FEATURE_ROWS]
            batch = move(inputs.features([Draw(window, 0) for window in part]), device)
            with in_precision(self.config.mixed_precision, device):
                found = model.features(batch.signals)
            tensors = (found.z_task.float(), found.z_emb.float(), batch.task_label, batch.embodiment_label)
            columns = [tensor.cpu().numpy() for tensor in tensors]
            own |= {window: [column[row] for column in columns] for row, window in enumerate(part)}
        everyone = self._everyone(own)
        rows = zip(*(everyone[window] for window in windows), strict=True)
        return FeatureTable(*(np.stack(column) for column in rows))

    def _share(self, windows: Sequence[int]) -> list[int]:
        """Return the windows of this process; some come twice where they do not share out evenly."""
        if not windows:
            return []
        count = -(-len(windows) // self.world)
        return [windows[(self.rank + k * self.world) % len(windows)] for k in range(count)]

    def _everyone(self, own: dict[int, T]) -> dict[int, T]:
        """Return what all processes found, by window."""
        parts = [own] if self.processes is None else self.processes.everyone([own])
        return {window: value for part in parts for window, value in part.items()}


class FeatureTable(NamedTuple):
    """Features (N, D) and labels (N,) of windows."""

    task: np.ndarray
    embodiment: np.ndarray
    task_label: np.ndarray
    embodiment_label: np.ndarray

    def rows(self, feature: str, label: str) -> Rows:
        """Return one feature with one label."""
        return Rows(getattr(self, feature), getattr(self, f"{label}_label"))


def spread(count: int, limit: int) -> list[int]:
    """Return at most `limit` evenly spread numbers of 0..count-1."""
    if count <= limit:
        return list(range(count))
    return np.linspace(0, count - 1, limit).astype(int).tolist()


def perceptual(weights: str | None, sample: np.ndarray, target: np.ndarray) -> dict[str, Score]:
    """Return scores that need weights of their own; unavailable without them."""
    fvd = Unavailable("no weights of its network that load without pickle")
    if weights is None:
        return {"lpips": Unavailable("no weights given (validation.weights)"), "fvd": fvd}
    distance = load_lpips(weights)
    if distance is None:
        return {"lpips": Unavailable(f"{weights} holds no {LPIPS_FILE}"), "fvd": fvd}
    return {"lpips": distance(sample, target), "fvd": fvd}
