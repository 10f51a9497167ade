"""What a person wants at this moment, whatever the device: a twist of the tool, the gripper, an event."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal

from tacit.geometry.transforms import FloatArray

Frame = Literal["world", "tool"]
FRAMES: tuple[Frame, ...] = ("world", "tool")


class Event(enum.Enum):
    """What a person asks for beside motion."""

    take = "take"
    back = "back"
    stop = "stop"
    release = "release"


MEANING = {
    Event.take: "take the robot: from now on it follows you",
    Event.back: "hand it back to the policy",
    Event.stop: "stop and hold",
    Event.release: "let go: nothing is sent any more",
}


@dataclass(frozen=True, eq=False)
class Wish:
    """A motion that is wanted now.

    Attributes:
        twist: Part of the full speed (6,), -1 to 1: x, y, z, then about x, y, z.
        gripper: Part of the gripper's full speed, -1 to 1; above 0 opens.
        frame: Axes of the twist; that of the settings if None.
    """

    twist: FloatArray
    gripper: float = 0.0
    frame: Frame | None = None

    @property
    def is_still(self) -> bool:
        """Whether nothing is to move."""
        return not self.gripper and not self.twist.any()
