"""Episodes on disk (`tacit-episode` 1.0): write, read, recover, check.

Inside, imports point down: audit > recompute > recover, reader > writer > rows > layout > columns > schema.
"""

from tacit.episode.audit import check_dataset, check_episode
from tacit.episode.files import find_episodes, find_parts, move_to_trash, next_episode_path
from tacit.episode.findings import AuditReport, DatasetReport, Finding
from tacit.episode.index import dataset_index
from tacit.episode.reader import EpisodeReader
from tacit.episode.recompute import Recomputed, recompute_boxes
from tacit.episode.recovery import recover
from tacit.episode.steps import Step, segments, video_progress
from tacit.episode.writer import EpisodeWriter

__all__ = [
    "AuditReport",
    "DatasetReport",
    "EpisodeReader",
    "EpisodeWriter",
    "Finding",
    "Recomputed",
    "Step",
    "check_dataset",
    "check_episode",
    "dataset_index",
    "find_episodes",
    "find_parts",
    "move_to_trash",
    "next_episode_path",
    "recompute_boxes",
    "recover",
    "segments",
    "video_progress",
]
