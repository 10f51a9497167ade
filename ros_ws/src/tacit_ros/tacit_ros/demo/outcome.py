"""What a finished demo amounts to: the machine it ran on, which step fell short, what to expect of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tacit.config import load_yaml
from tacit.errors import ConfigError
from tacit_ros.demo.settings import DemoSettings

EXPECTED = {
    "full": "about 15 minutes on two cores; 19 or 20 of 20 starts where both trainings take all their steps",
    "quick": "two or three minutes; it proves that every part runs, and hardly any start succeeds",
}
"""By size: what was seen where nothing else ran."""


def machine() -> str:
    """Return processor, threads that this process may use, memory and system, in words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    threads = len(os.sched_getaffinity(0))
    return f"{platform.machine()}, {threads} threads, {memory:.0f} GiB of memory, {platform.system()}"


def steps_wanted(run: Path) -> int:
    """Return the optimiser steps that a run was to take, from the configuration in its last checkpoint.

    Raises:
        ConfigError: The checkpoint names none.
    """
    path = run / "checkpoints" / "last" / "config.yaml"
    steps = load_yaml(path).get("train", {}).get("steps")
    if not isinstance(steps, int):
        raise ConfigError(f"{path}: train.steps is {steps!r}, expected a number of steps")
    return steps


def shortfalls(settings: DemoSettings, numbers: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each step that did less than it should, with what to do; none is best.

    Args:
        settings: The demo.
        numbers: What `tacit_ros.demo.numbers.collect` returned.
    """
    said = []
    recorded, wanted = numbers["recorded_episodes"], settings.demonstrations
    if recorded < wanted:
        said.append(f"Recording fell short: {recorded} of {wanted} demonstrations; see logs/record.log.")
    for name, words in (("policy", "the policy"), ("progress", "the progress estimator")):
        reached, steps = numbers[f"{name}_steps"], numbers[f"{name}_steps_wanted"]
        if reached < steps:
            said.append(
                f"Training of {words} fell short: its time was over after {reached} of {steps} steps "
                f"({100 * reached / steps:.0f} %). Expect fewer successes; on a machine with nothing else to "
                "do, or with a larger train.max_seconds, it takes all of them."
            )
    if numbers["success_rate"] < settings.min_success_rate:
        said.append(
            f"Acting fell short: {numbers['successes']} of {numbers['episodes']} starts succeeded, "
            f"{100 * settings.min_success_rate:.0f} % are wanted. The report shows how the others failed."
        )
    return said


def expectation(settings: DemoSettings, numbers: Mapping[str, Any]) -> str:
    """Return what this size of the demo usually takes and reaches, and what it took here."""
    minutes = numbers["total_seconds"] / 60
    return f"The {settings.name} demo: {EXPECTED[settings.name]}. Here it took {minutes:.1f} minutes."
