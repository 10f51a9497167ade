"""What `tacit view touch` is asked.

Apart from the verbs themselves, which import torch: so a verb's help, and a wrong word, are answered at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from tacit.config.arguments import Count, NewFile


@dataclass(frozen=True)
class ViewTouch:
    """Write a page with heat maps of touch over held-out wrist pictures."""

    run: Annotated[Path, tyro.conf.Positional]
    """A run folder, or a checkpoint folder; trained with HSA."""
    out: NewFile
    """Page to write."""
    frames: Count = 12
    """How many frames to show."""
