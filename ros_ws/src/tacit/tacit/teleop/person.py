"""A person at the devices: the newest of what they ask for, as the next target of the robot's joints.

Devices are heard on the node's thread, targets are asked for on the one that commands.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tacit.errors import ConfigError, did_you_mean
from tacit.geometry.transforms import FloatArray
from tacit.rig import Rig
from tacit.teleop.devices import PADS, Keyboard, Pad, TwistStream
from tacit.teleop.jog import Jogger
from tacit.teleop.leader import Leader, LeaderMap
from tacit.teleop.wish import FRAMES, Event, Frame, Wish

MOST_LINEAR, MOST_ANGULAR = 0.25, 1.5
"""What a person can still follow: 250 mm/s is the reduced speed of ISO 10218-1 [m/s, rad/s]."""


@dataclass(frozen=True)
class TeleopSettings:
    """How a person moves the robot.

    Attributes:
        arm: Which arm is jogged; empty for the only one.
        frame: Axes of keys and pad: `world` or `tool`.
        linear, angular: Full speed of the tool [m/s, rad/s].
        gripper: Full speed of the gripper's opening [m/s].
        pad: Layout of `sensor_msgs/Joy`.
        leader: Which joints of a leader arm move which of ours; see `LeaderMap.parse`.
        leader_tolerance: How near each must be before the leader takes over [rad, m].
    """

    arm: str = ""
    frame: Frame = "world"
    linear: float = 0.1
    angular: float = 0.6
    gripper: float = 0.1
    pad: str = "gamepad"
    leader: str = ""
    leader_tolerance: float = 0.1

    def __post_init__(self) -> None:
        if self.frame not in FRAMES:
            raise ConfigError(f"frame: {self.frame!r}; {did_you_mean(self.frame, FRAMES)}")
        if self.pad not in PADS:
            raise ConfigError(f"pad: {self.pad!r}; {did_you_mean(self.pad, PADS)}")
        for name, most in (("linear", MOST_LINEAR), ("angular", MOST_ANGULAR), ("gripper", MOST_LINEAR)):
            value = getattr(self, name)
            if not 0 < value <= most:
                raise ConfigError(f"{name}: {value:g}, expected above 0 and at most {most:g}")


class Person:
    """What a person asks of one rig.

    Args:
        rig: The robot.
        settings: Speeds, frames, devices.

    Raises:
        ConfigError: The settings name an arm or joint that the rig does not have.
        RigError: The rig has several arms, and the settings name none.
    """

    def __init__(self, rig: Rig, settings: TeleopSettings | None = None) -> None:
        self.settings = settings or TeleopSettings()
        arm = self.settings.arm or (next(iter(rig.arms)) if len(rig.arms) == 1 else "")
        if arm not in rig.arms:
            raise ConfigError(f"arm: {arm!r} in rig {rig.name}; {did_you_mean(arm, rig.arms)}")
        self._arm = rig.arm_slice(arm)
        gripper = rig.arms[arm].gripper
        self._gripper = None if gripper is None else rig.state_names.index(gripper.name)
        self._full = np.array([self.settings.linear] * 3 + [self.settings.angular] * 3)
        self._jogger = Jogger(rig, arm)
        self.keyboard = Keyboard(self.settings.frame)
        self._pad = Pad(PADS[self.settings.pad])
        self._twists = TwistStream(self._full)
        self._leader = Leader(rig, LeaderMap.parse(rig, self.settings.leader), self.settings.leader_tolerance)
        self._lock = threading.Lock()
        self._refused = ""

    @property
    def leads(self) -> tuple[str, ...]:
        """Names of the leader's joints, in the order that `lead` takes."""
        return self._leader.map.names

    def press(self, keys: str, now_ns: int) -> list[Event]:
        """Take the keys that are down now; returns what they ask for beside motion."""
        with self._lock:
            return self.keyboard.press(keys, now_ns)

    def joy(self, axes: Sequence[float], buttons: Sequence[int], now_ns: int) -> list[Event]:
        """Take a `sensor_msgs/Joy`; returns what its buttons ask for beside motion."""
        with self._lock:
            return self._pad.hear(axes, buttons, now_ns)

    def twist(self, twist: ArrayLike, frame: Frame, now_ns: int) -> bool:
        """Take a twist (6,) [m/s, rad/s] in the axes of `frame`; False where it is no such thing."""
        with self._lock:
            return self._twists.hear(twist, frame, now_ns)

    def lead(self, theirs: Sequence[float], now_ns: int) -> bool:
        """Take the joints of the leader arm, in the order of `leads`; False where they are not finite."""
        with self._lock:
            return self._leader.hear(theirs, now_ns)

    def begin(self) -> None:
        """Forget what was held before the robot became this person's: a leader must match anew."""
        with self._lock:
            self.keyboard.forget()
            self._leader.disengage()
            self._jogger.stand()

    @property
    def refused(self) -> str:
        """Why the leader is not followed now; "" where it is, or where there is none."""
        return self._refused

    def target(self, position: FloatArray, dt: float, now_ns: int) -> FloatArray | None:
        """Return where the robot is to be after `dt` (S,); None to stand still.

        Args:
            position: The last command (S,) [rad, m].
            dt: Time to the next command [s].
            now_ns: The present, on the clock on which the devices were heard.
        """
        with self._lock:
            wish = self._wish(now_ns)
            if wish is None:
                self._jogger.stand()
                led = self._leader.target(position, dt, now_ns)
                self._refused = "" if led is not None else self._leader.mismatch(position, now_ns)
                return led
            self._leader.disengage()
            return self._jogged(position, wish, dt)

    def _wish(self, now_ns: int) -> Wish | None:
        """The wish of the first device that a hand is on; keys first: they are next to the operator."""
        for device in (self.keyboard, self._pad, self._twists):
            wish = device.wish(now_ns)  # type: ignore[attr-defined]  # all of them have it
            if wish is not None:
                return wish
        return None

    def _jogged(self, position: FloatArray, wish: Wish, dt: float) -> FloatArray:
        target = position.copy()
        if wish.twist.any():
            frame = wish.frame or self.settings.frame
            target[self._arm] = self._jogger.step(position[self._arm], wish.twist * self._full, frame, dt)
        else:
            self._jogger.stand()
        if self._gripper is not None and wish.gripper:
            target[self._gripper] += wish.gripper * self.settings.gripper * dt
        return target
