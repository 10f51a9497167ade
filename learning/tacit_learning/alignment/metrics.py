"""The metrics of alignment and progress under the path that other code imports; see `judge`."""

from __future__ import annotations

from tacit_learning.alignment.judge.metrics_pairs import (
    boundary_targets,
    enclosed_area,
    kendall_tau,
    kendall_tau_wild,
    nearest_action_accuracy,
    nearest_frames,
    phase_classification,
    phase_progression,
    true_matches,
)
from tacit_learning.alignment.judge.metrics_progress import overall_progress_error

__all__ = [
    "boundary_targets",
    "enclosed_area",
    "kendall_tau",
    "kendall_tau_wild",
    "nearest_action_accuracy",
    "nearest_frames",
    "overall_progress_error",
    "phase_classification",
    "phase_progression",
    "true_matches",
]
