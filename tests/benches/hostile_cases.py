"""The list of hostile files: what makes each, and what its refusal must say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

SECRET = "root:x:0:0:secret-of-another-file"
"""Stands in every file that is not the reader's business; no message may repeat it."""
MB = 1 << 20
Case = Callable[[Path], Callable[[], object]]
"""Makes its files below an empty folder and returns what reads them as the product would."""
CASES: dict[str, tuple[Case, str]] = {}
"""By the name that the table shows: what makes it, and words that its refusal must hold."""


def case(name: str, says: str) -> Callable[[Case], Case]:
    """Register a case: a file refused for another reason than its own would prove nothing."""

    def register(make: Case) -> Case:
        CASES[name] = (make, says)
        return make

    return register
