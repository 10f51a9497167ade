"""Tiny annotated videos: features that show which action runs and how far it is, and some noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tacit_learning.alignment.data.videos import Annotated
from tacit_learning.alignment.settings import AlignmentConfig
from tacit_learning.data.annotations import FAILURE, Annotation, AnnotationSet, Event, Segment

FPS, FEATURES = 10.0, 8
ACTIONS = ("reach", "grip", "lift")


def tiny_video(name: str, seed: int, task: str = "", split: str = "train") -> tuple[Annotation, np.ndarray]:
    """Return one video of three actions of 5 to 12 frames with idling between them."""
    rng = np.random.default_rng(seed)
    segments, features, at = [], [], 0
    for number, action in enumerate(ACTIONS):
        idle, length = int(rng.integers(0, 3)), int(rng.integers(5, 13))
        features.append(np.zeros((idle, FEATURES)))
        rows = np.zeros((length, FEATURES))
        rows[:, number] = 1.0
        rows[:, 3 + number] = np.arange(1, length + 1) / length
        features.append(rows)
        segments.append(Segment(action, at + idle, at + idle + length - 1))
        at += idle + length
    values = np.concatenate(features) + 0.05 * rng.normal(size=(at, FEATURES))
    annotation = Annotation.of_segments(name, at, FPS, segments, task=task, split=split)
    return annotation, values.astype(np.float32)


def tiny_annotated(count: int = 6, tasks: tuple[str, ...] = ("",), validation: int = 2) -> Annotated:
    """Return videos of each task, and two of them for validation."""
    made = [
        tiny_video(f"{task}{split}{i}", 100 * t + 10 * s + i, task, split)
        for t, task in enumerate(tasks)
        for s, (split, number) in enumerate((("train", count), ("validation", validation)))
        for i in range(number)
    ]
    annotations = AnnotationSet.of_videos([annotation for annotation, _ in made])
    return Annotated(annotations, {annotation.name: features for annotation, features in made})


def tiny_failing(count: int) -> Annotated:
    """Videos that succeed, with a second after it, and that lose the part: feature 6 shows the end well
    done, feature 7 that the part is gone."""
    videos, features = [], {}
    for split, number in (("train", count), ("validation", 4)):
        for i in range(number):
            annotation, rows = tiny_video(f"{split}{i}", 1000 + 50 * (split == "train") + i, split=split)
            fails, last = bool(i % 2), annotation.num_frames
            rest = np.zeros((12, FEATURES), np.float32)
            rest[:, 7 if fails else 6] = 1.0
            steps = annotation.segments()[: 2 if fails else 3]
            events = (Event(f"{FAILURE}drop", steps[-1].end + 1, last + 11),) if fails else ()
            values = np.concatenate([rows, rest])
            if fails:
                values[steps[-1].end + 1 :, 7] = 1.0
            told = {"split": split, "task_steps": ACTIONS, "success": not fails, "events": events}
            videos.append(Annotation.of_segments(annotation.name, last + 12, FPS, steps, **told))
            features[annotation.name] = values + np.float32(0.05) * np.random.default_rng(i).normal(
                size=values.shape
            ).astype(np.float32)
    return Annotated(AnnotationSet.of_videos(videos), features)


def tiny_alignment(output: Path, **changes: object) -> AlignmentConfig:
    """Return a small configuration; `changes` are `section__key=value`."""
    data: dict = {
        "data": {"folder": "unused"},
        "encoder": {"dim": 8, "width": 12, "head_widths": [8], "dilations": [1, 2]},
        "head": {"width": 16, "hidden": 16, "dropout": 0.0, "class_dim": 4, "dilations": [1]},
        "losses": {"frames": 10, "gtcc": {"n_components": 2}},
        "progress": {"protas": {"stages": 2, "layers": 2, "maps": 8, "dropout": 0.1}},
        "train": {"output": str(output), "steps": 2, "batch_size": 3, "lr": 3e-3, "device": "cpu"}
        | {"log_every": 1, "validate_every": 2, "save_every": None, "threads": 1, "clip_norm": 1.0},
    }
    for key, value in changes.items():
        section, name = key.split("__")
        data[section] = {**data[section], name: value}
    return AlignmentConfig.model_validate(data)


def write_mstcn(root: Path, repeat: int) -> Path:
    """Write tiny videos as MS-TCN's files, each frame `repeat` times."""
    for folder in ("groundTruth", "splits", "features"):
        (root / folder).mkdir(parents=True)
    annotated = tiny_annotated(5, validation=1)
    (root / "mapping.txt").write_text("0 background\n1 reach\n2 grip\n3 lift\n")
    lists: dict[str, str] = {"train": "#bundle\n", "test": ""}
    for video in annotated.annotations.videos:
        rows = np.repeat(annotated.features[video.name], repeat, axis=0)
        np.save(root / "features" / f"{video.name}.npy", rows.T)
        names = [*video.steps, "background"]
        labels = [names[n] for n in video.step_per_frame() for _ in range(repeat)]
        (root / "groundTruth" / f"{video.name}.txt").write_text("\n".join(labels) + "\n")
        lists["train" if video.split == "train" else "test"] += f"{video.name}.txt\n"
    for split, text in lists.items():
        (root / "splits" / f"{split}.split1.bundle").write_text(text)
    return root
