"""Tiny episodes in memory: a world in which camera, touch and state decide the action."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tacit.config import load
from tacit.episode import Step
from tacit.images import ImageTransform
from tacit.rig import Rig, load_rig
from tacit_learning.act_hsa.config import ActHsaConfig
from tacit_learning.act_hsa.train import TrainedPolicy
from tacit_learning.alignment.data.episode_videos import TRAIN, VALIDATION, make_source
from tacit_learning.alignment.settings import AlignmentConfig
from tacit_learning.alignment.train_alignment import train_on
from tacit_learning.data.episodes import CachedImages, Episode, EpisodeTable
from tacit_learning.data.view import View
from tacit_learning.engine.loop import Result
from tacit_learning.engine.tracking import SilentReporter

IMAGE, TOUCH = (32, 32), (16, 16)


def tiny_rig() -> Rig:
    """Return the simulated rig."""
    return load_rig("nova2_sim")


def tiny_view(rig: Rig) -> View:
    """Return transforms of both cameras and both fingers to tiny sizes."""
    cameras = {n: ImageTransform(c.height, c.width, *IMAGE) for n, c in rig.cameras.items()}
    sensors = {n: ImageTransform(t.height, t.width, *TOUCH) for n, t in rig.tactile.items()}
    return View(cameras, sensors)


def tiny_table(num_episodes: int = 3, length: int = 30, seed: int = 0, folder: str = "tiny") -> EpisodeTable:
    """Return random episodes with boxes inside the images and one step that lasts throughout."""
    rig, rng = tiny_rig(), np.random.default_rng(seed)
    view = tiny_view(rig)
    episodes, cameras, touch = [], [], []
    for number in range(num_episodes):
        state = np.cumsum(rng.normal(size=(length, 7)) * 0.02, 0).astype(np.float32)
        corner = rng.uniform(0, 16, size=(length, 2, 2, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(6, 12, size=corner.shape)], -1)
        episodes.append(
            Episode(
                path=Path(folder) / f"episode_{number}.hdf5",
                state=state,
                action=(state + rng.normal(size=(length, 7)) * 0.05).astype(np.float32),
                boxes=boxes.astype(np.float32),
                box_valid=np.ones((length, 2, 2), bool),
                visibility=np.ones((length, 2, 2), np.float32),
                steps=(Step("move", 0, length - 1),),
                fps=25.0,
            )
        )
        cameras.append(rng.integers(0, 256, (length, 2, *IMAGE, 3), dtype=np.uint8))
        touch.append(rng.integers(0, 256, (length, 2, *TOUCH, 3), dtype=np.uint8))
    references = np.full((2, *TOUCH, 3), 128, np.uint8)
    return EpisodeTable(episodes, rig, view, references, CachedImages(cameras, touch))


def tiny_config(output: Path, **changes: object) -> ActHsaConfig:
    """Return a small ACT-HSA configuration; `changes` are `section__key=value`."""
    data: dict = {
        "data": {
            "datasets": ["unused"],
            "image_height": 32,
            "image_width": 32,
            "touch_height": 16,
            "touch_width": 16,
        },
        "model": {
            "backbone": "conv",
            "conv": {"channels": [8, 16], "strides": [4, 2], "norm": "group"},
            "touch_conv": {"channels": [8, 16], "strides": [2, 2], "norm": "group"},
            "dim": 32,
            "heads": 2,
            "feedforward": 64,
            "num_encoder_layers": 2,
            "num_latent_layers": 1,
            "latent_dim": 4,
            "chunk_size": 5,
            "dropout": 0.0,
            "norm": "pre",
            "camera_embedding": True,
        },
        "hsa": {"weight": 0.5, "feature_dim": 16, "num_tokens": 4, "time_gap": 2, "third_person": "any"},
        "train": {
            "output": str(output),
            "steps": 4,
            "batch_size": 6,
            "lr": 1e-3,
            "clip_norm": 1.0,
            "ema_decay": 0.9,
            "device": "cpu",
            "log_every": 1,
            "validate_every": None,
            "save_every": None,
            "threads": 1,
        },
    }
    for key, value in changes.items():
        section, name = key.split("__")
        data.setdefault(section, {})[name] = value
    return ActHsaConfig.model_validate(data)


PRESET = Path(__file__).parents[2] / "learning" / "configs" / "progress.yaml"


def tiny_progress(output: Path, policy: Path | None, *changes: str) -> AlignmentConfig:
    """Return the shipped progress preset with a small head, on the features of `policy` or a random net."""
    frames = f"data.frames.checkpoint={policy}" if policy else "data.frames.checkpoint=null"
    small = [
        frames,
        *([] if policy else ["data.frames.backbone=conv"]),
        "data.frames.conv={channels: [8, 16], strides: [4, 2], norm: group}",
        *(f"data.episodes.image_{side}={IMAGE[0]}" for side in ("height", "width")),
        *(f"data.episodes.touch_{side}={TOUCH[0]}" for side in ("height", "width")),
        *("head.width=16", "head.hidden=16", "head.dropout=0"),
        *(f"train.output={output}", "train.steps=3", "train.batch_size=4", "train.warmup_steps=0"),
        *("train.log_every=1", "train.validate_every=null", "train.device=cpu", "train.threads=1"),
    ]
    return load(AlignmentConfig, PRESET, [*small, *changes])


def train_tiny_progress(
    config: AlignmentConfig,
    training: EpisodeTable,
    validation: EpisodeTable | None,
    policy: TrainedPolicy | None,
) -> Result:
    """Train the progress estimator on tables in memory."""
    assert config.data.frames is not None
    source = make_source(config.data.frames, training, policy)
    tables = {TRAIN: training} | ({} if validation is None else {VALIDATION: validation})
    return train_on(config, source.annotate(tables, torch.device("cpu")), source, SilentReporter())
