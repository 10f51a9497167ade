"""Batches of a run, one ahead: read and drawn in a thread beside the training step."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch

from tacit_learning.engine.stages import Stage
from tacit_learning.vace_e.config import VaceEConfig
from tacit_learning.vace_e.data.batch_choice import FeatureBatchSampler
from tacit_learning.vace_e.data.inputs import NEGATIVE_PROMPT, Clips, FeatureBatch, Inputs, move
from tacit_learning.vace_e.data.noise import (
    FEATURE_DROPOUT,
    Noise,
    Place,
    draw_noise,
    draw_versions,
    drop_cues,
    drop_streams,
)
from tacit_learning.vace_e.data.schedule import Schedule
from tacit_learning.vace_e.model.signals import pad_text


@dataclass(frozen=True)
class Batch:
    """One batch of a step; the feature batch comes with the last of the step."""

    clips: Clips
    noise: Noise
    features: FeatureBatch | None

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`."""
        features = None if self.features is None else move(self.features, device)
        return Batch(move(self.clips, device), self.noise.to(device), features)


class BatchReader:
    """Reads any batch of a run, and the one after it meanwhile.

    Args:
        config: Sizes and shares.
        inputs: Encoded windows.
        schedule: Which windows a step reads.
        place: Seed and part of the global batch.
    """

    def __init__(self, config: VaceEConfig, inputs: Inputs, schedule: Schedule, place: Place) -> None:
        self.config = config
        self.inputs = inputs
        self.schedule = schedule
        self.place = place
        self.sampler = _feature_sampler(config, inputs, place)
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._ahead: tuple[tuple[int, int], Future[Batch]] | None = None

    def next(self, stage: Stage, step: int, micro: int) -> Batch:
        """Return batch `micro` of an optimiser step, and start to read the one after it."""
        if self._ahead is None or self._ahead[0] != (step, micro):
            self._ahead = ((step, micro), self._thread.submit(self.read, stage, step, micro))
        batch = self._ahead[1].result()
        more = micro + 1 < self.config.gradient_accumulation_steps
        after = (step, micro + 1) if more else (step + 1, 0)
        self._ahead = None
        if after[0] < stage.end:
            self._ahead = (after, self._thread.submit(self.read, stage, *after))
        return batch

    def read(self, stage: Stage, step: int, micro: int) -> Batch:
        """Read and draw one batch, on the CPU."""
        config, place = self.config, self.place
        number = step * config.gradient_accumulation_steps + micro
        windows = self.schedule.numbers(step, micro)
        versions = draw_versions(place, number, len(windows), self.inputs.num_versions)
        clips = self.inputs.clips(windows, versions)
        noise = draw_noise(place, number, tuple(clips.latents.shape), config.shift, config.flow_weighting)
        dropout = config.modality_dropout
        signals, unprompted = drop_cues(clips.signals, place, number, dropout)
        empty, _ = pad_text([self.inputs.tokens_of(NEGATIVE_PROMPT)], clips.text.shape[1])
        clips = replace(
            clips, signals=signals, text=torch.where(unprompted[:, None, None], empty, clips.text)
        )
        last = micro == config.gradient_accumulation_steps - 1
        if self.sampler is None or not last or "vace_e" not in stage.groups:
            return Batch(clips, noise, None)
        features = self.inputs.features(self.sampler.batch(step), step)
        signals = drop_streams(features.signals, place, number, FEATURE_DROPOUT, dropout)
        return Batch(clips, noise, replace(features, signals=signals))

    def wait(self) -> None:
        """Wait for the thread, so that somebody else may read the inputs."""
        if self._ahead is not None:
            self._ahead[1].result()

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()


def _feature_sampler(config: VaceEConfig, inputs: Inputs, place: Place) -> FeatureBatchSampler | None:
    if not (config.feature_losses and config.feature_batch):
        return None
    tasks, embodiments = inputs.dataset.label_arrays()
    return FeatureBatchSampler(
        tasks,
        embodiments,
        config.feature_batch,
        views=config.feature_views,
        seed=config.seed,
        rank=place.rank,
        world=place.world,
    )
