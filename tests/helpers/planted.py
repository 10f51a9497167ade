"""Run a node with an exception, or a halt, that strikes once a file appears.

`python -m planted module owner:path.of.a.function Error|hang file word ...`
"""

from __future__ import annotations

import builtins
import importlib
import signal
import sys
import time
from pathlib import Path


def main(node: str, target: str, error: str, flag: str, *words: str) -> int:
    """Plant it, and run the node; returns its exit code."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # a suite under nohup hands down that nobody hangs up
    module, _, path = target.partition(":")
    owner = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    real = getattr(owner, name)

    def planted(*args: object, **kwargs: object) -> object:
        while error == "hang" and Path(flag).exists():
            time.sleep(0.01)
        if Path(flag).exists():
            raise getattr(builtins, error)("planted")
        return real(*args, **kwargs)

    setattr(owner, name, planted)
    return int(importlib.import_module(node).main(list(words)))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
