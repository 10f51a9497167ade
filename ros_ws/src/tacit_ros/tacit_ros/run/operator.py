"""What an operator does by single keys, whoever reads them: the desk's page, a terminal, a foot pedal."""

from __future__ import annotations

import enum
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from tacit.episode.edit import Labels, label
from tacit.errors import ConfigError, did_you_mean
from tacit_ros.run.commands import Command


class Action(enum.Enum):
    """What one key does."""

    toggle = "toggle"
    start = "start"
    success = "success"
    failure = "failure"
    stop = "stop"
    mark = "mark"
    discard = "discard"
    redo = "redo"
    next = "next"


MEANING = {
    Action.toggle: "start; while recording: stop, to be labelled afterwards",
    Action.start: "start an episode",
    Action.success: "stop, the task was done (or label the last episode so)",
    Action.failure: "stop, the task was not done (or label the last episode so)",
    Action.stop: "stop without a label",
    Action.mark: "mark this moment",
    Action.discard: "move the present episode to the trash",
    Action.redo: "move it (or the last one) to the trash and start anew",
    Action.next: "next instruction",
}
KEYS = {
    " ": Action.toggle,
    "s": Action.start,
    "y": Action.success,
    "n": Action.failure,
    "t": Action.stop,
    "m": Action.mark,
    "d": Action.discard,
    "r": Action.redo,
    "i": Action.next,
}
"""A foot pedal types a key: let it type one of these, or name its key in `keys`."""


class Recorder(Protocol):
    """A recorder that can be asked."""

    def ask(self, command: Command, *, success: bool | None = None) -> str:
        """Send a command and return the answer; raises a TacitError where it refuses."""

    def set_texts(self, **values: str) -> None:
        """Set text parameters."""


class Operator:
    """Does what is asked, one after the other, and keeps count.

    Args:
        recorder: Carries it out.
        instructions: What is to be said to the robot, in turn; the recorder's own when empty.

    Attributes:
        tally: Episodes of this sitting: success, failure, unlabelled, discarded.
        unlabelled: The episode that waits for a label; None when none does.
    """

    def __init__(self, recorder: Recorder, instructions: Sequence[str] = ()) -> None:
        self._recorder = recorder
        self.instructions = [text.strip() for text in instructions if text.strip()]
        self._chosen = 0
        self.tally: Counter[str] = Counter()
        self.unlabelled: Path | None = None
        self._last = ""

    @property
    def instruction(self) -> str:
        """The instruction of the next episode; empty where there is no list."""
        return self.instructions[self._chosen] if self.instructions else ""

    def choose(self, instruction: str) -> None:
        """Take an instruction for the next episodes; a new one joins the list."""
        text = instruction.strip()
        if not text:
            raise ConfigError("instruction: it is empty; write what a person would say to have the task done")
        if text not in self.instructions:
            self.instructions.append(text)
        self._chosen = self.instructions.index(text)

    def do(self, action: Action) -> str:
        """Carry out an action and return what to tell the operator.

        Raises:
            TacitError: The recorder refuses, or there is nothing to act on.
        """
        if action is Action.next:
            return self._next()
        if action is Action.toggle:
            action = Action.stop if self.is_recording() else Action.start
        if action is Action.start:
            return self._start()
        if action in (Action.success, Action.failure, Action.stop):
            return self._stop(action)
        if action is Action.mark:
            return self._recorder.ask(Command.mark)
        return self._throw_away(action)

    def status(self) -> dict[str, Any]:
        """Return the recorder's status."""
        return dict(json.loads(self._recorder.ask(Command.status)))

    def is_recording(self) -> bool:
        """Ask whether an episode is in the making."""
        return bool(self.status()["state"] == "recording")

    def _next(self) -> str:
        if not self.instructions:
            raise ConfigError(
                "there is no list of instructions; write one, or start with `instructions=FILE`"
            )
        self._chosen = (self._chosen + 1) % len(self.instructions)
        return f"next: {self.instruction}"

    def _start(self) -> str:
        if self.instruction:
            self._recorder.set_texts(instruction=self.instruction)
        answer = self._recorder.ask(Command.start)
        if self.unlabelled is not None:
            answer += f"; {self.unlabelled.name} stays unlabelled"
            self.unlabelled = None
        return answer

    def _stop(self, action: Action) -> str:
        success = None if action is Action.stop else action is Action.success
        if success is not None and self.unlabelled is not None and not self.is_recording():
            return self._label(self.unlabelled, success)
        answer = self._recorder.ask(Command.stop, success=success)
        self._last = "unlabelled" if success is None else action.value
        self.tally[self._last] += 1
        if success is None:
            self.unlabelled = Path(answer.removeprefix("saved "))
            answer += "; was the task done?"
        return answer

    def _label(self, path: Path, success: bool) -> str:
        label(path, Labels(success="yes" if success else "no"))
        self.unlabelled = None
        self.tally[self._last] -= 1
        self._last = "success" if success else "failure"
        self.tally[self._last] += 1
        return f"labelled {path.name}: {self._last}"

    def _throw_away(self, action: Action) -> str:
        """Discard or redo what is being recorded; redo takes the last episode where nothing is."""
        took_last = action is Action.redo and not self.is_recording()
        answer = self._recorder.ask(Command[action.value])
        self.tally["discarded"] += 1
        if took_last:
            self.tally[self._last] -= 1
            self.unlabelled = None
        return answer


def keys_with(changes: str) -> dict[str, Action]:
    """Return the keys with some of them changed.

    Args:
        changes: As `success=b,failure=c`: an action and the key that a pedal types for it.

    Raises:
        ConfigError: Not such a list, an unknown action, or one key for two actions.
    """
    by_action = {action: key for key, action in KEYS.items()}
    for word in filter(None, (part.strip() for part in changes.split(","))):
        name, _, key = word.partition("=")
        if name not in Action.__members__ or len(key) != 1:
            raise ConfigError(
                f"keys: {word!r}, expected action=key with one character; "
                f"{did_you_mean(name, Action.__members__)}"
            )
        by_action[Action[name]] = key.lower()
    keys = {key: action for action, key in by_action.items()}
    if len(keys) < len(by_action):
        twice = [key for key, count in Counter(by_action.values()).items() if count > 1]
        raise ConfigError(f"keys: {twice[0]!r} would do two things; choose another key for one of them")
    return keys
