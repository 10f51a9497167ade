"""Steps of our own recordings: `/annotations/steps` of each episode, on an even clock.

Ticks carry stamps; a camera that lost frames does not stretch a step. The rate is that of the
recording, or `fps` of the options.
"""

from __future__ import annotations

from pathlib import Path

from tacit.episode import EpisodeReader, find_episodes
from tacit.errors import AnnotationError
from tacit_learning.data.annotation_importers.common import Imported, ImportOptions, draw_splits
from tacit_learning.data.annotation_policies import Repairs
from tacit_learning.data.annotations import Annotation, AnnotationSet, Segment
from tacit_learning.data.frame_times import frames_at_stamps


def read(path: Path, options: ImportOptions) -> Imported:
    """Read a data set of episodes; those without steps are `missing`.

    Raises:
        AnnotationError: No episode, or one without steps.
        EpisodeError: A file is damaged.
    """
    files = find_episodes(path)
    if not files:
        raise AnnotationError(f"{path}: holds no episode; give the folder that `tacit record` wrote to")
    splits = draw_splits([file.stem for file in files], options)
    repairs = Repairs()
    videos = []
    for file in files:
        with EpisodeReader(file) as reader:
            if not reader.steps:
                _note_missing(file, options, repairs)
                continue
            fps = options.fps or reader.fps
            videos.append(read_steps(reader, fps, frozenset(options.background), splits[file.stem]))
    return Imported(AnnotationSet.of_videos(videos, frozenset(options.background)), {}, repairs)


def read_steps(
    reader: EpisodeReader, fps: float, background: frozenset[str], split: str = "train"
) -> Annotation:
    """Return the steps of one open episode at `fps`, by the stamps of its ticks."""
    segments = [Segment(step.name, step.start_frame, step.end_frame) for step in reader.steps]
    recorded = Annotation.of_segments(
        reader.path.stem,
        reader.num_ticks,
        reader.fps,
        segments,
        background=background,
        task=reader.task,
        split=split,
    )
    return recorded.at_frames(frames_at_stamps(reader.tick_ns, fps), fps)


def _note_missing(file: Path, options: ImportOptions, repairs: Repairs) -> None:
    if options.missing == "error":
        raise AnnotationError(
            f"{file}: /annotations/steps is empty; record a stream of role steps, or import with "
            "missing: drop"
        )
    repairs.missing.append(file.stem)
