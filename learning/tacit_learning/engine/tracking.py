"""Where metrics go: `metrics.jsonl` always, TensorBoard when asked, a reporter for people."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tacit.errors import MissingDependencyError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Reporter(Protocol):
    """Shows progress to a person."""

    def metrics(self, kind: str, step: int, share: float, values: Mapping[str, float]) -> None:
        """Show metrics; `kind` is train or val, `share` the part of the training that is over."""

    def message(self, text: str) -> None:
        """Show one line."""


class SilentReporter:
    """Shows nothing."""

    def metrics(self, kind: str, step: int, share: float, values: Mapping[str, float]) -> None:
        """Do nothing."""

    def message(self, text: str) -> None:
        """Do nothing."""


class Tracker:
    """Append metrics to `<folder>/metrics.jsonl` and, when asked, to TensorBoard.

    Args:
        folder: The run.
        reporter: Shows them too.
        tensorboard: Also write event files.
    """

    def __init__(self, folder: Path, reporter: Reporter, tensorboard: bool = False) -> None:
        self._path = folder / "metrics.jsonl"
        self._reporter = reporter
        self._writer = _summary_writer(folder) if tensorboard else None

    def log(self, kind: str, step: int, share: float, values: Mapping[str, float]) -> None:
        """Record `values` (non-finite ones become null) of `kind` train or val at `step`."""
        row = {k: (v if math.isfinite(v) else None) for k, v in values.items()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "step": step, **row}) + "\n")
        if self._writer is not None:
            for key, value in values.items():
                self._writer.add_scalar(f"{kind}/{key}", value, step)
        self._reporter.metrics(kind, step, share, values)

    def close(self) -> None:
        """Flush the event files."""
        if self._writer is not None:
            self._writer.close()


def _summary_writer(folder: Path) -> SummaryWriter:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingDependencyError(
            "train.tensorboard: tensorboard is not installed; pip install tensorboard"
        ) from None
    return SummaryWriter(str(folder / "tensorboard"))
