"""The data set: windows of episodes as items, labels made once, pixels read on demand."""

from __future__ import annotations

import copy
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from torch.utils.data import Dataset

from tacit.convert.vace_e_files import METADATA_NAME, EpisodeFiles, hide
from tacit.convert.video import read_clock, read_frames
from tacit.images import Image, load_image
from tacit_learning.data.labels import UNKNOWN, Dependence, LabelMaps, embodiment_of, mutual_information
from tacit_learning.vace_e.config import DataOptions
from tacit_learning.vace_e.data.discovery import discover, episode_files
from tacit_learning.vace_e.data.episode_check import DiscoveryReport, EpisodeRecord, Finding
from tacit_learning.vace_e.data.items import VaceEItem
from tacit_learning.vace_e.data.prompts import (
    Metadata,
    camera_of,
    load_metadata,
    make_prompt,
    seen_through,
    task_type,
)
from tacit_learning.vace_e.data.trajectories import Motion, Objects, load_motion, load_objects
from tacit_learning.vace_e.data.windows import (
    check_size,
    choose_windows,
    fit_mask,
    fit_video,
    nearest_shape,
    rows_in_window,
)

OptionsT = TypeVar("OptionsT", bound=DataOptions)
TRIES = 32  # to find another window of one size
INDEX_NAME = "vace_e_index.json"
KEPT_EPISODES = 4096
"""Trajectories held in memory; an episode takes about 100 kB, and feature batches read hundreds a step."""


class Bucket(NamedTuple):
    """Size of a window: items of one bucket stack to a batch."""

    frames: int
    height: int
    width: int


class Window(NamedTuple):
    """One window: its episode, which of the model's frames of it it shows (F,), and its number there."""

    record: EpisodeRecord
    frames: np.ndarray
    number: int


class EpisodeText(NamedTuple):
    """What the metadata make of one task folder; None where they say nothing."""

    prompt: str
    task: str | None
    embodiment: str | None


class Trajectories(NamedTuple):
    """Whole trajectories of one episode; None: missing."""

    motion: Motion | None
    objects: Objects | None


class VaceEDataset(Dataset[VaceEItem]):
    """Windows of all usable episodes, in the order of task folder and episode number.

    Args:
        options: Folders, sizes, limits.
        labels: Maps of a checkpoint; None: made from the metadata and the folders found.
        extend: Give texts that `labels` does not know new ids (training), or leave them -1 (evaluation).
        require_target: Training needs the target video; sampling does not.
        index: File that keeps what was found between runs; None: in `cache_path`, if there is one.
        seed: Another seed, other random windows.

    Raises:
        EpisodeError: No usable episode.
        ConfigError: Metadata, sizes or gripper codes that need mending.
    """

    def __init__(
        self,
        options: DataOptions,
        *,
        labels: LabelMaps | None = None,
        extend: bool = True,
        require_target: bool = True,
        index: Path | None = None,
        seed: int = 0,
    ) -> None:
        self.sizes = ((options.height, options.width), *options.other_sizes)
        for height, width in self.sizes:
            check_size(height, width, options.num_frames)
        self.options = options
        self.seed = seed
        self.require_target = require_target
        self.metadata = load_metadata(options.task_metadata_path) if options.task_metadata_path else None
        if index is None and options.cache_path is not None:
            index = Path(options.cache_path) / INDEX_NAME
        records, report = discover(options, require_target=require_target, index=index)
        self.records: list[EpisodeRecord] = records
        self.report: DiscoveryReport = replace(report, notes=(*report.notes, *self._unnamed_tasks()))
        self.texts = {task: describe_task(self.metadata, task, options) for task in self._tasks()}
        self.labels = self._make_labels(labels, extend)
        self._kept: OrderedDict[str, Trajectories] = OrderedDict()
        self.windows = self._make_windows()

    def __len__(self) -> int:
        return len(self._spans[self.options.num_frames])

    def __getitem__(self, i: int) -> VaceEItem:
        """Return window i with its pixels."""
        return self.item(i)

    def item(self, i: int, *, video: bool = True, reference: bool = True) -> VaceEItem:
        """Return window i; `video` and `reference` False leave those pixels unread."""
        record, moments = self.record(i), self.moments(i)
        target, control, mask = self._read_videos(i) if video else (None, None, None)
        motion, objects = self.trajectories(i)
        shown, options = record.clock.times, self.options
        return VaceEItem(
            video=target,
            control=control,
            mask=mask,
            reference=self.reference(i) if reference else None,
            prompt=self.texts[record.task].prompt,
            task_name=record.task,
            episode_name=record.episode,
            task_label=self.task_label(i),
            embodiment_label=self.embodiment_label(i),
            num_frames=len(moments),
            camera=self.camera(i),
            **windowed_motion(motion, shown, moments, options.max_hand_motion_length),
            **windowed_objects(objects, shown, moments, options.max_object_trajectory_length),
        )

    def mask_like(self, i: int, number: int) -> np.ndarray:
        """Return the mask of a drawn window of the size of window i (F, H, W) bool, or its own."""
        rng = self.draws(i, number)
        tries = (int(j) for j in rng.integers(len(self.windows), size=TRIES))
        chosen = next((j for j in tries if self.bucket(j) == self.bucket(i)), i)
        return self.mask(chosen)

    def mask(self, i: int) -> np.ndarray:
        """Return the mask of window i as the data set has it (F, H, W) bool."""
        return fit_mask(read_frames(self.files(i).mask, self.frames(i)["mask"]), *self.bucket(i)[1:])

    def draws(self, i: int, number: int) -> np.random.Generator:
        """Return a generator of one window, whatever its place in the data set."""
        window = self.windows[i]
        place = (window.number, zlib.crc32(window.record.identity.encode()))
        return np.random.default_rng([self.seed, number, *place])

    def bucket(self, i: int) -> Bucket:
        """Return the size of window i: of the sizes, the one whose shape is nearest to its video's."""
        record = self.record(i)
        return Bucket(len(self.windows[i].frames), *nearest_shape((record.height, record.width), self.sizes))

    def record(self, i: int) -> EpisodeRecord:
        """Return the episode of window i."""
        return self.windows[i].record

    def moments(self, i: int) -> np.ndarray:
        """Return when the main video shows the frames of window i (F,), from its start [s].

        They are the frames nearest to the moments of the model; motion is told at these times, so that it
        agrees with what is seen.
        """
        clock = self.record(i).clock
        return clock.times[clock.nearest(self._asked(i))]

    def rate(self, i: int) -> float:
        """Return at which rate window i is to be played [Hz]."""
        asked = self._asked(i)
        return (len(asked) - 1) / float(asked[-1] - asked[0])

    def frames(self, i: int) -> dict[str, np.ndarray]:
        """Return which frames of each video window i holds (F,) i8: those nearest in time."""
        clocks, files = self.record(i).clocks, self.files(i)
        if "target" not in clocks and files.target.is_file():  # not needed, so not looked at before
            clocks = clocks | {"target": read_clock(files.target)}
        moments = self.moments(i)
        return {name: clock.nearest(moments) for name, clock in clocks.items()}

    def turns(self, length: int | None = None) -> list[list[int]]:
        """Return the windows that take turns, epoch by epoch: the random ones of an episode; else none.

        Args:
            length: Frames of the windows, where a stage has windows of its own; None: the usual ones.
        """
        span = self._spans[length or self.options.num_frames]
        if self.options.window != "random":
            return [[i] for i in span]
        by_record: dict[str, list[int]] = {}
        for i in span:
            by_record.setdefault(self.record(i).identity, []).append(i)
        return list(by_record.values())

    def files(self, i: int) -> EpisodeFiles:
        """Return where the files of window i are."""
        record = self.record(i)
        return episode_files(self.options, record.task, record.episode)

    def prompt(self, i: int) -> str:
        """Return the prompt of window i."""
        return self.texts[self.record(i).task].prompt

    def task_label(self, i: int) -> int:
        """Return the task label of window i; -1 when unknown."""
        text = self.texts[self.record(i).task].task
        return UNKNOWN if text is None else self.labels.task_id(text)

    def embodiment_label(self, i: int) -> int:
        """Return the embodiment label of window i; -1 when unknown."""
        text = self.texts[self.record(i).task].embodiment
        return UNKNOWN if text is None else self.labels.embodiment_id(text)

    def label_arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the task and embodiment labels of all windows (E,), (E,) i8."""
        numbers = range(len(self))
        task = np.array([self.task_label(i) for i in numbers], np.int64)
        return task, np.array([self.embodiment_label(i) for i in numbers], np.int64)

    def dependence(self) -> Dependence:
        """Return how much task and embodiment labels of the windows know of each other; -1 left out."""
        task, embodiment = self.label_arrays()
        known = (task != UNKNOWN) & (embodiment != UNKNOWN)
        return mutual_information(task[known].tolist(), embodiment[known].tolist())

    def reference(self, i: int) -> Image | None:
        """Return the image of the end effector of window i (h, w, 3), in its own size."""
        name = self.record(i).reference
        return None if name is None else load_image(self.files(i).folder / name)

    def camera(self, i: int) -> np.ndarray:
        """Return the camera of window i (3, 4), world to shares of the picture; zeros: unknown."""
        record = self.record(i)
        found = None if self.metadata is None else camera_of(self.metadata, record.task)
        if found is None:
            return np.zeros((3, 4), np.float32)
        return seen_through(found, (record.height, record.width), self.bucket(i)[1:])

    def trajectories(self, i: int) -> Trajectories:
        """Return the whole trajectories of the episode of window i; the last ones stay in memory."""
        record = self.record(i)
        if record.identity not in self._kept:
            files, options = self.files(i), self.options
            motion = load_motion(files.hands, options.gripper_open_values) if record.has_motion else None
            objects = load_objects(files.objects, options.max_objects) if record.has_objects else None
            self._kept[record.identity] = Trajectories(motion, objects)
            if len(self._kept) > KEPT_EPISODES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(record.identity)
        return self._kept[record.identity]

    def subset(self, indices: Sequence[int]) -> VaceEDataset:
        """Return the data set of some episodes; labels are those of the whole."""
        part = copy.copy(self)
        part.records = [self.records[i] for i in indices]
        part.windows = part._make_windows()
        return part

    def _asked(self, i: int) -> np.ndarray:
        """Return the moments of window i at the rate of the model (F,) [s]."""
        return self.record(i).times(self.options.fps)[self.windows[i].frames]

    def _make_windows(self) -> list[Window]:
        """Return all windows, episode by episode; after the usual ones those of stages with shorter ones."""
        found: list[Window] = []
        self._spans: dict[int, range] = {}
        for length in self.options.lengths:
            first = len(found)
            found += [window for record in self.records for window in self._windows_of(record, length)]
            self._spans[length] = range(first, len(found))
        return found

    def _windows_of(self, record: EpisodeRecord, length: int) -> list[Window]:
        options = self.options
        chosen = choose_windows(
            len(record.times(options.fps)),
            length,
            options.window,
            record.identity,
            self.seed,
            options.window_stride,
            options.random_windows,
        )
        return [Window(record, frames, number) for number, frames in enumerate(chosen)]

    def _tasks(self) -> list[str]:
        """Task folders found and those that only the metadata know, sorted."""
        named = self.metadata.per_task_attributes if self.metadata is not None else {}
        return sorted({*named, *(record.task for record in self.records)})

    def _unnamed_tasks(self) -> list[Finding]:
        """Say which task folders the metadata do not name, and where metadata may lie."""
        path = self.options.task_metadata_path
        where = f"{path} does not name this folder" if path else "task_metadata_path is null"
        if path is None and (Path(self.options.dataset_base_path) / METADATA_NAME).is_file():
            where += f", but {self.options.dataset_base_path}/{METADATA_NAME} is there"
        known = {} if self.metadata is None else self.metadata.per_task_attributes
        unnamed = sorted({record.task for record in self.records} - set(known))
        told = f"{where}; its prompt is its name, its embodiment unknown"
        return [Finding(task, "task without metadata", told) for task in unnamed]

    def _make_labels(self, labels: LabelMaps | None, extend: bool) -> LabelMaps:
        tasks = [text.task for text in self.texts.values() if text.task is not None]
        bodies = [text.embodiment for text in self.texts.values() if text.embodiment is not None]
        if labels is None:
            return LabelMaps.build(tasks, bodies)
        return labels.extended(tasks, bodies) if extend else labels

    def _read_videos(self, i: int) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray]:
        """Read target, control and mask of one window, all cut alike."""
        files, size, frames = self.files(i), self.bucket(i)[1:], self.frames(i)
        mask = self.mask(i)
        has_target = "target" in frames
        target = fit_video(read_frames(files.target, frames["target"]), *size) if has_target else None
        if not self.options.control_from_mask:
            return target, fit_video(read_frames(files.control, frames["control"]), *size), mask
        control = (
            None if target is None else np.stack([hide(*pair) for pair in zip(target, mask, strict=True)])
        )
        return target, control, mask


def find_metadata(options: OptionsT) -> OptionsT:
    """Return options that name the metadata beside the tasks, where none are named and some lie there."""
    beside = Path(options.dataset_base_path) / METADATA_NAME
    if options.task_metadata_path is not None or not beside.is_file():
        return options
    return options.model_copy(update={"task_metadata_path": str(beside)})


def describe_task(metadata: Metadata | None, task: str, options: DataOptions) -> EpisodeText:
    """Return prompt and label texts of a task folder.

    A folder without metadata has no known embodiment, and a task only where prompts are the labels.
    """
    known = None if metadata is None else metadata.per_task_attributes.get(task)
    prompt = make_prompt(known, task)
    by_prompt = options.task_label_by == "prompt"
    if known is None:
        return EpisodeText(prompt, prompt if by_prompt else None, None)
    embodiment = embodiment_of(known.embodiment_type, options.embodiment_label)
    return EpisodeText(prompt, prompt if by_prompt else task_type(known), embodiment)


def windowed_motion(
    motion: Motion | None, shown: np.ndarray, moments: np.ndarray, longest: int
) -> dict[str, np.ndarray]:
    """Return the fields of a `VaceEItem` for the rows of a motion that lie in a window of the video.

    Args:
        motion: Motion of the whole episode; None: missing.
        shown: When the frames of the whole video are shown, in any unit.
        moments: Those of the window (F,), in the same unit.
        longest: Most rows to keep.
    """
    if motion is None:
        return {}
    window = rows_in_window(len(motion.values), shown, moments, longest)
    return {
        "motion": motion.values[window.rows],
        "motion_valid": motion.valid[window.rows],
        "motion_times": window.times,
    }


def windowed_objects(
    objects: Objects | None, shown: np.ndarray, moments: np.ndarray, longest: int
) -> dict[str, np.ndarray]:
    """Return the fields of a `VaceEItem` for the rows of objects, as `windowed_motion` does for hands."""
    if objects is None:
        return {}
    window = rows_in_window(objects.values.shape[1], shown, moments, longest)
    return {
        "objects": objects.values[:, window.rows],
        "object_valid": objects.valid[:, window.rows],
        "object_ids": objects.ids,
        "object_times": window.times,
    }
