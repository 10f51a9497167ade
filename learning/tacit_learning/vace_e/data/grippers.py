"""Gripper states as people store them, to open 1, closed 0, and whether each is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tacit.errors import ConfigError

OPEN_FROM = 0.5
OPEN_WORDS, CLOSED_WORDS = frozenset({"open", "opened"}), frozenset({"closed", "close"})


class Gripper(NamedTuple):
    """States of one gripper over time."""

    open: np.ndarray  # (T,) f4, 0 or 1
    valid: np.ndarray  # (T,) bool
    warnings: list[str]


def gripper_states(states: np.ndarray, where: str, open_values: Sequence[int] | None = None) -> Gripper:
    """Read states: bool and 0/1 as they are, fractions from 0.5 on as open, "open" and "closed".

    What is not finite or empty takes the value before it (0 at the start) and is not valid.

    Args:
        states: (T,).
        where: Begins every message.
        open_values: Integer codes that mean open; all others then mean closed.

    Raises:
        ConfigError: Words or integer codes whose meaning is not known.
    """
    if states.dtype.kind in "SOU":
        return _held(*_words(states, where), [])
    values = states.astype(np.float64)
    known = np.isfinite(values)
    present = values[known]
    if open_values is not None and (states.dtype.kind in "iu" or _are_codes(present)):
        return _held(np.isin(values, list(open_values)), known, [])
    if states.dtype.kind in "iu" and not np.isin(present, (0, 1)).all():
        raise ConfigError(
            f"{where}: integer codes {np.unique(present).astype(int).tolist()[:8]}, expected 0 closed and "
            "1 open; say which codes mean open with gripper_open_values"
        )
    return _held(values >= OPEN_FROM, known, _doubts(present, where))


def _words(states: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray]:
    words = [s.decode(errors="replace") if isinstance(s, bytes) else str(s) for s in states.tolist()]
    words = [word.strip().lower() for word in words]
    strange = sorted(set(words) - OPEN_WORDS - CLOSED_WORDS - {"", "nan"})
    if strange:
        raise ConfigError(f"{where}: {strange[:4]}, expected 'open' or 'closed'")
    opened = np.array([word in OPEN_WORDS for word in words], bool)
    return opened, np.array([word in OPEN_WORDS | CLOSED_WORDS for word in words], bool)


def _are_codes(present: np.ndarray) -> bool:
    """Whether floats are whole numbers beyond 0 and 1."""
    return bool((present == np.round(present)).all() and (present > 1).any())


def _doubts(present: np.ndarray, where: str) -> list[str]:
    """Numbers that look like a length or like codes."""
    if present.size and 0 < present.max() < OPEN_FROM:
        return [
            f"{where}: no value reaches {OPEN_FROM} (largest {present.max():.3g}), so always closed; metres?"
        ]
    if present.size and (present.max() > 1 or present.min() < 0):
        span = f"{present.min():.3g}..{present.max():.3g}"
        return [f"{where}: values {span}, expected 0..1; open from {OPEN_FROM} on"]
    return []


def _held(opened: np.ndarray, known: np.ndarray, warnings: list[str]) -> Gripper:
    """Hold the last known state where there is none; 0 before the first."""
    last = (
        np.maximum.accumulate(np.where(known, np.arange(len(known)), -1)) if len(known) else np.zeros(0, int)
    )
    values = np.where(last >= 0, opened[np.maximum(last, 0)] if len(known) else False, False)
    return Gripper(values.astype(np.float32), known, warnings)
