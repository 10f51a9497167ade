"""Steps that remember being done: a second `tacit demo` goes on where the first one stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from tacit.errors import ConfigError

Result = dict[str, Any]


@dataclass
class Notebook:
    """Results of finished steps as JSON files in one folder.

    A step's file is written after the step returned, through a temporary name, so a crash leaves
    the step undone rather than half done.
    """

    folder: Path
    fingerprint: str
    console: Console = field(default_factory=Console)

    def __post_init__(self) -> None:
        """Refuse a folder that another size of the demo filled."""
        self.folder.mkdir(parents=True, exist_ok=True)
        marker = self.folder / "fingerprint.txt"
        if marker.exists() and marker.read_text() != self.fingerprint:
            raise ConfigError(
                f"{self.folder.parent}: holds a demo with other settings; "
                "give another --output or remove the folder"
            )
        marker.write_text(self.fingerprint)

    def run(self, name: str, title: str, work: Callable[[], Result]) -> Result:
        """Do `work` once; return its result, from the file when it was done before.

        Args:
            name: File name of the step.
            title: One line for the user.
            work: Returns JSON-able numbers; an error leaves the step undone.

        Returns:
            The result with `seconds`, the wall time of the step when it was done.
        """
        path = self.folder / f"{name}.json"
        if path.exists():
            self.console.print(f"[green]done before[/] {title}")
            return dict(json.loads(path.read_text()))
        self.console.print(f"[bold]{title}[/]")
        started = time.monotonic()
        result = work()
        result["seconds"] = round(time.monotonic() - started, 2)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(result, indent=1))
        temporary.rename(path)
        self.console.print(f"[green]done[/] {title} [dim]({result['seconds']:.0f} s)[/]")
        return result
