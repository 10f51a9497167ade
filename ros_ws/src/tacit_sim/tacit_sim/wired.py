"""The simulated cell as the arm behind a fake Dobot controller: what moves it comes through the wire alone.

The cell has a thread of its own; the controller's thread sees what that one showed last, and leaves what it
wants for it to take.
"""

from __future__ import annotations

import threading

import numpy as np

from tacit.errors import ConfigError
from tacit.geometry.transforms import FloatArray
from tacit.rig import Rig
from tacit.rig.units import from_canonical, to_canonical
from tacit.threads import OnFailure
from tacit_sim.fake_dobot.server import FakeDobot

PORTS = {"dashboard_port": 29999, "feedback_port": 30004}
"""Where a controller listens unless the rig's driver is told otherwise."""


class WiredArm:
    """An arm with a gripper for `FakeDobot`.

    Args:
        rig: Of the cell: one arm; its gripper's raw value is the register of the fake's gripper.
        state: Of the cell at the start (7,) [rad, m].
    """

    def __init__(self, rig: Rig, state: FloatArray) -> None:
        self._rig, self._gripper = rig, rig.state_names[-1]
        self._range = rig.limits("lower")[-1], rig.limits("upper")[-1]
        self._lock = threading.Lock()
        self._state, self._velocity = np.array(state), np.zeros_like(state)
        self._wanted: FloatArray | None = None
        self._opening = float(state[-1])

    def show(self, state: FloatArray, velocity: FloatArray) -> None:
        """The cell's thread: tell where it is (7,) [rad, m] and how fast."""
        with self._lock:
            self._state, self._velocity = np.array(state), np.array(velocity)

    def take(self) -> FloatArray | None:
        """The cell's thread: return what is wanted (7,) [rad, m]; None where nothing new is."""
        with self._lock:
            wanted, self._wanted = self._wanted, None
            return wanted

    def restart(self, state: FloatArray) -> None:
        """The cell was set up anew, in `state` (7,) [rad, m]."""
        with self._lock:
            self._state, self._wanted, self._opening = np.array(state), None, float(state[-1])

    def joints(self) -> tuple[FloatArray, FloatArray]:
        """Return angles (6,) [rad] and rates (6,) [rad/s]."""
        with self._lock:
            return self._state[:-1].copy(), self._velocity[:-1].copy()

    def follow(self, q: FloatArray) -> None:
        """Want the arm at `q` (6,) [rad]."""
        with self._lock:
            self._wanted = np.append(q, self._opening)

    def grip(self, value: float) -> None:
        """Want the gripper at a value of its register."""
        with self._lock:
            self._opening = to_canonical(self._rig, self._gripper, value)
            held = self._state[:-1] if self._wanted is None else self._wanted[:-1]
            self._wanted = np.append(held, self._opening)

    def opening(self) -> float:
        """Return the register of the measured opening: it counts no further than the fingers go."""
        with self._lock:
            opening = float(np.clip(self._state[-1], *self._range))
        return from_canonical(self._rig, self._gripper, opening)

    def step(self, seconds: float) -> None:
        """Time passes in the cell."""


def serve_driver(rig: Rig, arm: WiredArm, on_failure: OnFailure) -> FakeDobot:
    """Serve the ports on which the rig's own driver looks for its controller.

    Raises:
        ConfigError: A port is taken, or the rig has not one driver.
    """
    if len(rig.drivers) != 1:
        raise ConfigError(f"rig {rig.name}: {len(rig.drivers)} drivers, the simulated cell has one arm")
    [driver] = rig.drivers.values()
    dashboard, feedback = (int(driver.parameters.get(name, port)) for name, port in PORTS.items())
    try:
        return FakeDobot(arm, on_failure, (dashboard, feedback))
    except OSError as error:
        raise ConfigError(
            f"ports {dashboard} and {feedback} of this machine: {error}; end what listens there, or change "
            f"them in drivers of the rig {rig.name}"
        ) from None
