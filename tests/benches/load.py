"""Busy processes beside what is measured."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

HOG = "while True: pass"


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep `count` cores busy with processes of their own."""
    hogs = [subprocess.Popen([sys.executable, "-c", HOG]) for _ in range(count)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
