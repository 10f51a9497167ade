"""Between the page and the recorder: carries out the operator's actions in turn, and knows the latest status.

A thread with a ROS node of its own: a service call waits for its answer, and a page must not.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from tacit.episode.files import part_path
from tacit.errors import TacitError
from tacit.threads import OnFailure, WatchedThread
from tacit_ros.run.operator import Action, Operator

LOOK_S = 0.5
"""Time between two looks at the recorder."""


class Clerk:
    """Carries out actions one after the other.

    Args:
        operator: Acts; used by the clerk's thread alone.
        rate_hz: Ticks per second of the recordings.
        on_failure: Told what ended the thread.

    Attributes:
        report: The latest status, ready for JSON.
    """

    def __init__(self, operator: Operator, rate_hz: float, on_failure: OnFailure) -> None:
        self._operator = operator
        self._asked: queue.SimpleQueue[tuple[Callable[[], str], Future[str]]] = queue.SimpleQueue()
        self.report: Mapping[str, Any] = {"reached": False, "problem": "no recorder has answered yet"}
        self._rate = DiskRate(rate_hz)
        self._thread = WatchedThread("desk clerk", self._work, on_failure)
        self._thread.start()

    def do(self, action: Action) -> Future[str]:
        """Ask for an action; the future holds the answer, or the TacitError that says why not."""
        return self._ask(lambda: self._operator.do(action))

    def choose(self, instruction: str) -> Future[str]:
        """Ask for another instruction, from the next episode on."""

        def choose() -> str:
            self._operator.choose(instruction)
            return f"next: {self._operator.instruction}"

        return self._ask(choose)

    def close(self) -> None:
        """End the thread."""
        self._thread.stop()

    def _ask(self, action: Callable[[], str]) -> Future[str]:
        future: Future[str] = Future()
        self._asked.put((action, future))
        return future

    def _work(self) -> None:
        while not self._thread.stopping.is_set():
            self._serve(time.monotonic() + LOOK_S)
            self.report = self._look()

    def _serve(self, until_s: float) -> None:
        """Carry out what is asked; returns after an action, or when it is time to look."""
        try:
            action, future = self._asked.get(timeout=max(0.0, until_s - time.monotonic()))
        except queue.Empty:
            return
        try:
            future.set_result(action())
        except (TacitError, OSError) as problem:
            future.set_exception(problem)

    def _look(self) -> Mapping[str, Any]:
        operator = self._operator
        try:
            status = operator.status()
        except TacitError as problem:
            return {"reached": False, "problem": str(problem)}
        waiting = operator.unlabelled
        return {
            "reached": True,
            "recorder": status,
            "tally": dict(operator.tally),
            "unlabelled": None if waiting is None else waiting.name,
            "instruction": operator.instruction,
            "instructions": list(operator.instructions),
            "disk_minutes": self._rate.minutes(status),
            "num_episodes": num_episodes(status),
        }


class DiskRate:
    """How fast recording fills the disk, at `rate_hz` ticks per second."""

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz, self._bytes_per_s = rate_hz, 0.0

    def minutes(self, status: Mapping[str, Any]) -> float | None:
        """Return how long can be recorded until the disk is full [min]; None before anything was recorded.

        Args:
            status: Of the recorder; its growing episode is measured.
        """
        if status["path"] and status["num_ticks"] > self._rate_hz:
            part = part_path(Path(status["path"]))
            if part.is_file():
                self._bytes_per_s = part.stat().st_size * self._rate_hz / status["num_ticks"]
        if not self._bytes_per_s:
            return None
        return float(status["free_gb"]) * 1e9 / self._bytes_per_s / 60.0


def num_episodes(status: Mapping[str, Any]) -> int | None:
    """Return how many finished episodes the folder of the present task holds; None before a task is known."""
    if not status["task"]:
        return None
    return sum(1 for _ in (Path(status["root"]) / status["task"]).glob("episode_*.hdf5"))
