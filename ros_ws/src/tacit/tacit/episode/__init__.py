"""Episodes on disk (`tacit-episode` 1.0): write, read, recover, check.

Imports point down this list only: audit, ranking > likeness > measures > rules_warnings, writer >
copies, cut, recompute, recovery, rows, rules_claims, rules_errors, rules_touch > index > edit, excerpt >
findings, finish, layout, native > reader > annotated > columns > commit, elements, files, many, reserve,
schema, secure, steps.
"""

from typing import TYPE_CHECKING

from tacit.lazy import lazily

if TYPE_CHECKING:
    from tacit.episode.audit import check_dataset, check_episode
    from tacit.episode.files import find_episodes, find_parts, move_to_trash, next_episode_path
    from tacit.episode.findings import AuditReport, DatasetReport, Finding
    from tacit.episode.reader import EpisodeReader
    from tacit.episode.recompute import Recomputed, recompute_boxes
    from tacit.episode.recovery import recover
    from tacit.episode.steps import Step, segments, video_progress
    from tacit.episode.writer import EpisodeWriter
else:
    __getattr__ = lazily(
        __name__,
        {
            "AuditReport": "findings",
            "DatasetReport": "findings",
            "EpisodeReader": "reader",
            "EpisodeWriter": "writer",
            "Finding": "findings",
            "Recomputed": "recompute",
            "Step": "steps",
            "check_dataset": "audit",
            "check_episode": "audit",
            "find_episodes": "files",
            "find_parts": "files",
            "move_to_trash": "files",
            "next_episode_path": "files",
            "recompute_boxes": "recompute",
            "recover": "recovery",
            "segments": "steps",
            "video_progress": "steps",
        },
    )

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
    "find_episodes",
    "find_parts",
    "move_to_trash",
    "next_episode_path",
    "recompute_boxes",
    "recover",
    "segments",
    "video_progress",
]
