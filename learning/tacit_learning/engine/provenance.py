"""Where a checkpoint comes from: the commit of the code and a hash of what it was trained on."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tacit.rig import canonical_hash
from tacit_learning.data.episodes import EpisodeTable


def git_commit() -> str:
    """Return the commit of this code, with `-dirty` where files differ; "unknown" outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()


def dataset_sha256(table: EpisodeTable) -> str:
    """Return a hash of what was trained on: names, states and actions of every episode."""
    rows = [
        [episode.path.name, episode.state.tobytes().hex(), episode.action.tobytes().hex()]
        for episode in table.episodes
    ]
    return canonical_hash(rows)
