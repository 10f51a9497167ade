"""Skins of taxels and wrenches at a fingertip, from MuJoCo's contact forces and the depth of the contact.

Every taxel carries its share of the force that the pad exerts, by how deep the part stands in it there: of
one channel the pressure, of three the force, of six the whole wrench.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from tacit.geometry.transforms import FloatArray
from tacit.rig import Rig, TaxelSpec
from tacit_sim.rendering import mujoco
from tacit_sim.tactile import TactileCamera

RAYS = 3
"""Rays along each side of a taxel: one alone would miss an edge that covers half of it."""
NOISE_SHARE, OFFSET_SHARE = 0.001, 0.02
"""Of its range: the noise of a taxel (one standard deviation), and how far from 0 it is without contact."""
CHANNELS = {1: [2], 3: [0, 1, 2], 6: [0, 1, 2, 3, 4, 5]}
"""Which parts of the wrench the channels are."""


class TaxelArray:
    """One array.

    Args:
        model: The compiled cell.
        name: The sensor; decides what it says without contact.
        spec: Of the rig; 1, 3 or 6 channels.
        pad: Geom that the contacts are of.
    """

    def __init__(self, model: mujoco.MjModel, name: str, spec: TaxelSpec, pad: int) -> None:
        self._model, self._pad, self._name, self._array = model, pad, name, spec.array
        rows, columns, channels = spec.array.shape
        rays = (RAYS * columns, RAYS * rows)
        self._depth = TactileCamera(model, spec.size_m, rays, *rays)
        self._parts = CHANNELS[channels]
        self._span = spec.array.high - spec.array.low
        random = np.random.default_rng(zlib.crc32(name.encode()))
        self._reference = (OFFSET_SHARE * self._span * random.random(spec.array.shape)).astype(np.float32)

    @property
    def reference(self) -> NDArray[np.float32]:
        """What it says without contact (R, C, K)."""
        return self._reference.copy()

    def reading(self, data: mujoco.MjData, T_world_sensor: FloatArray) -> NDArray[np.float32]:
        """Return what it says now (R, C, K), without noise, cut off at the ends of its range."""
        wrench = contact_wrench(self._model, data, self._pad, T_world_sensor)
        if not wrench.any():
            return self.reference
        carried = self._shares(data, T_world_sensor)[..., None] * wrench[self._parts]
        return np.clip(self._reference + carried, self._array.low, self._array.high).astype(np.float32)

    def sent(
        self, data: mujoco.MjData, T_world_sensor: FloatArray, time_ns: int, blank: bool = False
    ) -> NDArray[np.float32]:
        """Return a reading as it is sent at a time, or would be without contact; noise follows the time."""
        reading = self._reference if blank else self.reading(data, T_world_sensor)
        random = np.random.default_rng(zlib.crc32(f"{self._name} {time_ns}".encode()))
        noise = NOISE_SHARE * self._span * random.standard_normal(reading.shape, np.float32)
        return np.clip(reading + noise, self._array.low, self._array.high).astype(np.float32)

    def _shares(self, data: mujoco.MjData, T_world_sensor: FloatArray) -> FloatArray:
        """Return the part of the force that each taxel carries (R, C); all alike where no depth tells."""
        rows, columns, _ = self._array.shape
        depth = self._depth.indentation(data, T_world_sensor).reshape(rows, RAYS, columns, RAYS).mean((1, 3))
        total = depth.sum()
        return depth / total if total > 0 else np.full((rows, columns), 1.0 / (rows * columns))


class DueArrays:
    """Says which arrays are to be read at a time, each at its own rate."""

    def __init__(self, rig: Rig) -> None:
        self._periods_ns = {name: round(1e9 / spec.rate_hz) for name, spec in rig.taxels.items()}
        self._due_ns = dict.fromkeys(self._periods_ns, 0)

    def at(self, time_ns: int) -> list[str]:
        """Return those that are due; they are then due again a period later."""
        due = [name for name, due_ns in self._due_ns.items() if time_ns >= due_ns]
        self._due_ns |= {name: time_ns + self._periods_ns[name] for name in due}
        return due


def contact_wrench(
    model: mujoco.MjModel, data: mujoco.MjData, geom: int, T_world_sensor: FloatArray
) -> FloatArray:
    """Return force and torque (6,) of a geom on what it touches [N, N m], in and about the sensor's frame."""
    force, torque, local = np.zeros(3), np.zeros(3), np.zeros(6)
    origin, R = T_world_sensor[:3, 3], T_world_sensor[:3, :3]
    for number in np.flatnonzero((data.contact.geom == geom).any(axis=1)):
        contact = data.contact[int(number)]
        mujoco.mj_contactForce(model, data, int(number), local)
        # The first axis of a contact points from its first geom to its second, and so does the force on that.
        sign = 1.0 if contact.geom[0] == geom else -1.0
        pushed = sign * (contact.frame.reshape(3, 3).T @ local[:3])
        force += pushed
        torque += np.cross(contact.pos - origin, pushed)
    return np.concatenate([R.T @ force, R.T @ torque])
