"""Bundles where nothing was trained: they move the arm slowly, and know nothing of any task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from tiny_bundles import manifest_for, policy_model, progress_bundle

from tacit.bundle import save_bundle
from tacit.rig import load_rig

CHUNK_SIZE = 25
GROWTH = 0.003
"""Of every joint per row: 0.15 rad/s where a joint stands at 2 rad, so that nothing is hit within seconds."""


def slow_policy(folder: Path, rig_name: str) -> Path:
    """Write a policy whose chunk is state * (1 + GROWTH * row); returns its path."""
    rig = load_rig(rig_name)
    manifest = manifest_for(rig, chunk_size=CHUNK_SIZE, obs_skew_max_s=1.0)
    model = onnx.load_from_string(policy_model(manifest))
    rows = next(item for item in model.graph.initializer if item.name == "rows")
    grown = (1 + GROWTH * np.arange(CHUNK_SIZE, dtype=np.float32))[None, :, None]
    rows.CopyFrom(numpy_helper.from_array(grown, "rows"))
    return Path(save_bundle(folder / "policy.onnx", model.SerializeToString(), manifest).source)


def tiny_progress(folder: Path, rig_name: str) -> Path:
    """Write a progress model that counts frames; returns its path."""
    return Path(progress_bundle(folder, load_rig(rig_name), obs_skew_max_s=1.0).source)
