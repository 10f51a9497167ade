"""One frame in, progress out, with explicit memory: the graphs that are exported, and features at work.

The whole memory is one flat vector `hidden`, so the progress node runs any alignment model as it runs
any other progress bundle. Time comes from stamps: `elapsed` 0 marks the first frame, whose memory is not
read. Models of features alone (no images) run through `FeatureStream`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tacit.bundle.inference import make_session, run_session
from tacit.bundle.onnx_file import check_file, read_metadata
from tacit.config import Config, parse
from tacit.config.documents import json_mapping
from tacit.errors import BundleError
from tacit_learning.alignment.frames import FrameEncoder, frame_features
from tacit_learning.alignment.model.heads import ProgressHead
from tacit_learning.alignment.model.model import AlignmentModel
from tacit_learning.alignment.model.motion import direction
from tacit_learning.alignment.model.recipe_head import RecipeHead

STREAM_KEY = "tacit.alignment"
"""Key of the metadata of a model of features."""
OUTPUTS = ("progress", "done", "hidden_out")
"""What every graph gives; then, where its head says so, what `DETAILS` names."""
DETAILS = {name: name for name in ("classes", "remaining", "motion", "success", "failure")}
DETAILS |= {"action": "action_progress"}


class FeatureGraph(nn.Module):
    """The interface of a model of features: (features, hidden, elapsed) -> the outputs that `names` lists.

    Args:
        model: Trained.
        level: Which progress comes out as `progress`: `action`, or else that of the video.
        task: Number of the task that is followed.
    """

    def __init__(self, model: AlignmentModel, level: str, task: int = 0) -> None:
        super().__init__()
        self.model, self.by_action, self.task = model, level == "action", task
        gives = model.head.gives if model.head is not None else frozenset()
        gives |= {"motion"} if model.motion_net is not None else set()
        if model.outcome_net is not None:
            gives |= {"success", "failure"} if model.shape.num_failures else {"success"}
        self.details = tuple(name for name in DETAILS if name in gives)

    @property
    def names(self) -> list[str]:
        """Names of the outputs, in order."""
        return [*OUTPUTS, *(DETAILS[name] for name in self.details)]

    def forward(self, features: Tensor, hidden: Tensor, elapsed: Tensor) -> tuple[Tensor, ...]:
        """Map (1, F), (1, S), (1, 1) [s] to progress and done (1, 1), the new memory (1, S), and what the
        model knows of: class probabilities (1, C), remaining time [s], motion in -1..1, success (1, 1),
        failure (1, 1 + K) with the probability of none first, progress of the action. `done` is success
        where that was learned."""
        outputs, motion, hidden, outcome = self.model.step(features, elapsed, hidden, self.task)
        done = outputs.done.sigmoid() if outcome is None else outcome.success_probability
        details = {
            "action": outputs.action,
            "classes": outputs.classes.squeeze(1).softmax(-1),
            "remaining": outputs.remaining,
            "motion": elapsed if motion is None else direction(motion),
            "success": done,
            "failure": elapsed if outcome is None else outcome.failure_probabilities.squeeze(1),
        }
        progress = outputs.action if self.by_action else outputs.video
        return progress, done, hidden, *(details[name] for name in self.details)


class FrameGraph(nn.Module):
    """The interface of a model of images: (state, hidden, elapsed, images...) -> those of its features.

    Args:
        graph: What runs on the features of a frame.
        encoder: Frozen, from images to features.
        num_cameras: How many of the images are of cameras; the others are of touch.
    """

    def __init__(self, graph: FeatureGraph, encoder: FrameEncoder, num_cameras: int) -> None:
        super().__init__()
        self.of_features, self.encoder, self.num_cameras = graph, encoder, num_cameras

    def forward(self, state: Tensor, hidden: Tensor, elapsed: Tensor, *images: Tensor) -> tuple[Tensor, ...]:
        """Take state (1, A) and images (1, H, W, 3) u1, cameras then touch; see `FeatureGraph`."""
        cameras = torch.stack(images[: self.num_cameras], 1)
        touch = list(images[self.num_cameras :])
        blank = torch.zeros(len(state), 0, 1, 1, 3, dtype=torch.uint8)
        features = self.encoder(cameras, torch.stack(touch, 1) if touch else blank)
        return self.of_features(frame_features(features, state), hidden, elapsed)


def check_streams(model: AlignmentModel, level: str, source: str) -> None:
    """Refuse a model that cannot run frame by frame.

    Raises:
        BundleError: No progress head, a head that runs every prefix anew, or one that does not tell
            progress at that level, or when the task is done.
    """
    head = model.head
    if head is None:
        raise BundleError(f"{source}: was trained without progress (progress.enabled); nothing to stream")
    if isinstance(head, RecipeHead) and not head.streams:
        raise BundleError(
            f"{source}: recipe v3 (positions in a prefix) runs every prefix anew and cannot stream; train "
            "v2, v4 or dense"
        )
    if isinstance(head, ProgressHead) and "done" not in head.gives and model.outcome_net is None:
        raise BundleError(
            f"{source}: never learned when the task is done (progress.dense.done is 0), which every stream "
            "tells; train it with a weight, such as 0.1"
        )
    wanted = "action" if level == "action" else "video"
    if wanted not in head.gives:
        raise BundleError(
            f"{source}: its head needs to be told where each action starts, so it cannot stream level "
            f"{level!r}; train progress.level=video"
        )


class StreamInfo(Config):
    """What a model of features says of itself."""

    schema_version: str = "tacit-alignment 1"
    num_features: int
    hidden_size: int
    fps: float
    level: str
    labels: tuple[str, ...]
    failures: tuple[str, ...] = ()
    task: str = ""
    train: dict[str, object] = {}


@dataclass(frozen=True)
class StreamEstimate:
    """One frame: progress and done in 0..1, seconds since the first frame; and where the head knows of
    them progress of the action, class probabilities (C,) with the background first, remaining time,
    whether the task goes back (-1), stands still (0) or goes on (1), success in 0..1, and the
    probabilities (1 + K,) that nothing or each kind of failure goes wrong."""

    progress: float
    done: float
    elapsed_s: float
    action_progress: float | None
    classes: NDArray[np.float32] | None
    remaining_s: float | None
    motion: float | None
    success: float | None = None
    failure: NDArray[np.float32] | None = None


class FeatureStream:
    """An exported model of features at work: one frame in, an estimate out.

    Args:
        path: Written by `tacit export` from a run on features.
        num_threads: Threads of one inference.

    Raises:
        BundleError: Not such a file.
    """

    def __init__(self, path: str | Path, num_threads: int = 1) -> None:
        check_file(Path(path))
        data = Path(path).read_bytes()
        text = read_metadata(data).get(STREAM_KEY)
        if text is None:
            raise BundleError(f"{path}: no {STREAM_KEY!r} in its metadata; export a run on features")
        self.info = parse(StreamInfo, json_mapping(text, str(path), BundleError), str(path))
        self._session = make_session(data, num_threads)
        self.reset()

    def reset(self) -> None:
        """The next frame is the first of its video."""
        self._hidden = np.zeros((1, self.info.hidden_size), np.float32)
        self._started_ns: int | None = None

    def step(self, features: NDArray[np.float32], stamp_ns: int) -> StreamEstimate:
        """Take the features (F,) of one frame; time is read from the stamp alone.

        Raises:
            BundleError: Another number of features.
        """
        if features.shape != (self.info.num_features,):
            raise BundleError(f"features {features.shape}, expected ({self.info.num_features},)")
        if self._started_ns is None:
            self._started_ns = stamp_ns
        elapsed = max(stamp_ns - self._started_ns, 0) / 1e9
        inputs = {
            "features": features[None].astype(np.float32),
            "hidden": self._hidden,
            "elapsed": np.array([[elapsed]], np.float32),
        }
        outputs = run_session(self._session, inputs)
        self._hidden = outputs["hidden_out"]
        numbers = {name: float(value[0, 0]) for name, value in outputs.items() if value.shape == (1, 1)}
        return StreamEstimate(
            numbers["progress"],
            numbers["done"],
            elapsed,
            numbers.get("action_progress"),
            outputs["classes"][0] if "classes" in outputs else None,
            numbers.get("remaining"),
            numbers.get("motion"),
            numbers.get("success"),
            outputs["failure"][0] if "failure" in outputs else None,
        )
