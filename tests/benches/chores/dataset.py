"""A synthetic data set for alignment and progress: annotations, features, and the truth of every frame.

Splits: `train`, `test` (ordinary videos), `train_special` (some of every special kind) and one test
split per special kind. Folder: that of `annotation_files`, and `truth/<name>.npz`, `frames/<name>.npy`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.console import Console

from benches.chores.images import FeatureMap, ImageConfig, Images, draw_images
from benches.chores.scripts import REGRESSION, SPECIAL, STALL, Script, ScriptConfig, draw_script
from benches.chores.world import ACTIONS, IDLE
from tacit.config import Config
from tacit.config.arguments import Count, CountOrNone, NewFolder, Seed, parse_words
from tacit_learning.alignment.commands.data import summary
from tacit_learning.data.annotation_files import save_annotation_set, save_features
from tacit_learning.data.annotations import Annotation, AnnotationSet

BACKGROUND = frozenset({IDLE})
FIT_IMAGES = 1500  # PCA needs no more; frames of one video resemble each other
TRAIN, TEST, TRAIN_SPECIAL = "train", "test", "train_special"


class SyntheticConfig(Config):
    """Sizes and chances of a synthetic set; also the flags of `tacit simulate alignment`."""

    seed: Seed = 0
    """Another seed is another set."""
    train: Count = 32
    """Ordinary training videos."""
    test: CountOrNone = 12
    """Ordinary test videos."""
    train_special: CountOrNone = 4
    """Training videos of each special kind."""
    special: CountOrNone = 10
    """Test videos of each special kind."""
    features: Count = 64
    """Features of a frame: principal components of its image."""
    keep_frames: bool = False
    """Also write the images, for raw-video training and overlay videos (half a megabyte per video)."""
    script: tyro.conf.Suppress[ScriptConfig] = ScriptConfig()
    image: tyro.conf.Suppress[ImageConfig] = ImageConfig()


@dataclass(frozen=True)
class Truth:
    """The state of the task at every frame (T,), whatever the clock says.

    action: index in `ACTIONS`, -1 in background. action_progress: of the step, 0 in background.
    video_progress: (steps done + progress of the step) / steps. stalled, regressed: inside an event.
    """

    action: NDArray[np.int64]
    action_progress: NDArray[np.float32]
    video_progress: NDArray[np.float32]
    stalled: NDArray[np.bool_]
    regressed: NDArray[np.bool_]


class SyntheticVideo(NamedTuple):
    """One generated video in memory."""

    annotation: Annotation
    truth: Truth
    images: Images


@dataclass(frozen=True)
class SyntheticSet:
    """A whole set in memory: annotations, and features and truth by name of the video."""

    annotations: AnnotationSet
    features: dict[str, NDArray[np.float32]]
    truth: dict[str, Truth]


def make_set(config: SyntheticConfig, folder: Path | None = None) -> SyntheticSet:
    """Generate a set; with a folder also write it there.

    Every video has a random stream of its own, so adding some changes no other.
    """
    videos = list(make_videos(config))
    training = np.concatenate([v.images for v in videos if v.annotation.split == TRAIN])
    chosen = np.random.default_rng([config.seed, len(training)]).permutation(len(training))[:FIT_IMAGES]
    to_features = FeatureMap.fit(training[chosen], config.features, config.seed)
    annotations = AnnotationSet(tuple(v.annotation for v in videos), BACKGROUND, ACTIONS)
    features = {v.annotation.name: to_features(v.images) for v in videos}
    made = SyntheticSet(annotations, features, {v.annotation.name: v.truth for v in videos})
    if folder is not None:
        _save(made, videos, folder, config.keep_frames)
    return made


def make_videos(config: SyntheticConfig) -> Iterator[SyntheticVideo]:
    """Generate the videos of every split."""
    parts = [(TRAIN, "ordinary", config.train), (TEST, "ordinary", config.test)]
    parts += [(TRAIN_SPECIAL, kind, config.train_special) for kind in SPECIAL]
    parts += [(kind, kind, config.special) for kind in SPECIAL]
    for part, (split, kind, count) in enumerate(parts):
        for number in range(count):
            rng = np.random.default_rng([config.seed, part, number])
            name = (
                f"{split}_{number:03d}"
                if split == kind or kind == "ordinary"
                else f"{split}_{kind}_{number:03d}"
            )
            script = draw_script(kind, config.script, rng)
            images = draw_images(script.course, script.sites, config.image, rng)
            yield SyntheticVideo(_annotation(name, split, script, config), _truth(script), images)


def _annotation(name: str, split: str, script: Script, config: SyntheticConfig) -> Annotation:
    return Annotation.of_segments(
        name,
        len(script.course),
        config.script.fps,
        script.segments,
        background=BACKGROUND,
        task="chores",
        split=split,
        features=f"features/{name}.npy",
        events=script.events,
    )


def _truth(script: Script) -> Truth:
    course = script.course
    inside = {kind: np.zeros(len(course), bool) for kind in (STALL, REGRESSION)}
    for event in script.events:
        if event.kind in inside:
            inside[event.kind][event.start : event.end + 1] = True
    return Truth(
        course.action,
        course.action_progress.astype(np.float32),
        course.video_progress.astype(np.float32),
        inside[STALL],
        inside[REGRESSION],
    )


def _save(made: SyntheticSet, videos: list[SyntheticVideo], folder: Path, keep_frames: bool) -> None:
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    for name, values in made.features.items():
        save_features(folder, name, values)
        truth = made.truth[name]
        np.savez(folder / "truth" / f"{name}.npz", **{f.name: getattr(truth, f.name) for f in fields(Truth)})
    if keep_frames:
        (folder / "frames").mkdir(exist_ok=True)
        for video in videos:
            np.save(folder / "frames" / f"{video.annotation.name}.npy", video.images)
    save_annotation_set(made.annotations, folder)


@dataclass(frozen=True)
class Arguments:
    """Make the synthetic set: a two-link arm, six chores, and everything that fools a clock.

    Re-ordered, repeated and missing steps, pauses, rewinds, cut videos, slipping and unmoved objects,
    with the true progress of every frame under truth/.
    """

    out: Annotated[NewFolder, tyro.conf.Positional]
    """Folder to write."""
    config: tyro.conf.OmitArgPrefixes[SyntheticConfig] = SyntheticConfig()


def main(argv: Sequence[str]) -> int:
    """Run `tacit simulate alignment`; returns the exit code."""
    arguments = parse_words(Arguments, argv, "tacit simulate alignment")
    made = make_set(arguments.config, arguments.out)
    console = Console()
    console.print(summary(made.annotations))
    console.print(f"{arguments.out}: annotations.json, features/, truth/", highlight=False)
    return 0
