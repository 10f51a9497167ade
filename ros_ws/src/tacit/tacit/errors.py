"""Errors a user can fix: each says what is wrong, where, what was expected and what to do.

The command line prints them without a traceback and exits with code 2; broken invariants of the
code itself are `ValueError` and keep their traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TacitError(Exception):
    """Base of every error that the user can mend (a file, an option, a missing part)."""


class ConfigError(TacitError):
    """A configuration file or an option is wrong."""


class RigError(ConfigError):
    """A rig file contradicts itself or the data that is read with it."""


class EpisodeError(TacitError):
    """An episode file cannot be written, or is not what it claims to be."""


class AnnotationError(TacitError):
    """Step annotations contradict themselves, or the video or features that they belong to."""


class CalibrationError(TacitError):
    """Calibration input is too poor, or its result is not believable."""


class BundleError(TacitError):
    """A policy bundle is damaged, of another kind, or made for another rig."""


class ImageError(TacitError):
    """An image cannot be decoded, or is not of the size and type that the rig says."""


class MissingDependencyError(TacitError):
    """An optional library is needed for what was asked."""


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Name the close matches of `name`, else every choice, as the end of an error message.

    Args:
        name: What the user wrote.
        choices: What would have been valid.

    Returns:
        "did you mean 'topic'?" or "valid: a, b, c".
    """
    options = sorted(choices)
    close = difflib.get_close_matches(name, options, n=2, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(repr(match) for match in close) + "?"
    return "valid: " + (", ".join(options) or "(none)")
