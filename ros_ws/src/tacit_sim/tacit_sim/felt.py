"""What a policy feels in a control: its own touch, that of another episode, none, or a scrambled one.

A policy that does as well with another episode's touch does not use what it feels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tacit.errors import ConfigError
from tacit_sim.cell import Cell
from tacit_sim.experts import Expert

TouchControl = Literal["real", "other", "blank", "shuffled"]
"""`real`: its own. `other`: while a gel is touched, what a gel of another episode felt as long after its
first contact. `blank`: never a contact. `shuffled`: what touch changes, elsewhere on the gel."""

CONTROLS: tuple[TouchControl, ...] = get_args(TouchControl)
OTHER_SEEDS = 1_000_000
"""The other episode has this seed more: what is hidden in it is drawn independently."""

Touch = Mapping[str, NDArray[np.uint8]]


class FeltTouch:
    """Puts what a control says in place of the touch of a cell's episodes.

    Args:
        cell: Where the policy acts.
        control: What it feels.
    """

    def __init__(self, cell: Cell, control: TouchControl = "real") -> None:
        if control == "other" and cell.rig.taxels:
            raise ConfigError("touch control other: of gels alone; for arrays use blank or shuffled")
        self._cell, self._control = cell, control
        self._others = _OtherEpisode(cell) if control == "other" else None
        self._order: dict[int, NDArray[np.intp]] = {}

    def reset(self, seed: int) -> None:
        """Begin the episode of `seed`."""
        if self._others is not None:
            self._others.reset(seed + OTHER_SEEDS)

    def of(self, touch: Touch) -> dict[str, NDArray[np.uint8]]:
        """Return the images {sensor: (H, W, 3)} that the policy gets for the true ones."""
        return {name: self._one(name, image) for name, image in touch.items()}

    def array(self, name: str) -> NDArray[np.float32]:
        """Return the reading (R, C, K) of an array that the policy gets now."""
        if self._control == "blank":
            return self._cell.reading(name, blank=True)
        reading = self._cell.reading(name)
        if self._control == "real":
            return reading
        free = self._cell.reference(name)
        change = (reading - free).reshape(-1, reading.shape[-1])
        return np.asarray(free + change[self._permutation(len(change))].reshape(reading.shape), np.float32)

    def _one(self, name: str, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._control == "real":
            return image
        if self._control == "shuffled":
            return self._shuffled(image, self._cell.gel_reference(name))
        other = None
        if self._others is not None and self._cell.is_touched(name):
            other = self._others.next(name)
        return self._cell.sensed_reference(name) if other is None else other

    def _shuffled(self, image: NDArray[np.uint8], free: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Put what touch changed (H, W, 3) elsewhere on the gel; a free gel stays as it is."""
        pixels = (image.astype(np.int16) - free).reshape(-1, 3)
        moved = free + pixels[self._permutation(len(pixels))].reshape(image.shape)
        return np.clip(moved, 0, 255).astype(np.uint8)

    def _permutation(self, size: int) -> NDArray[np.intp]:
        if size not in self._order:
            self._order[size] = np.random.default_rng(0).permutation(size)
        return self._order[size]


class _OtherEpisode:
    """What the gels of another episode feel, from their first contact on, played by the expert."""

    def __init__(self, cell: Cell) -> None:
        self._cell = Cell(cell.rig, cell.task.name)
        self._expert = Expert(cell.rig, cell.task)
        self._tick_ns = round(1e9 / cell.rig.alignment.rate_hz)

    def reset(self, seed: int) -> None:
        cell, expert = self._cell, self._expert
        cell.reset(seed)
        expert.start(cell.state(), cell.object_pose(), hidden=cell.hidden)
        self._felt: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in cell.rig.gels}
        self._taken = dict.fromkeys(self._felt, 0)
        for tick in range(expert.num_ticks):
            cell.command(expert.target(tick))
            cell.step(self._tick_ns)
            for name, felt in self._felt.items():
                if cell.is_touched(name):
                    felt.append(np.asarray(cell.sensed(name), dtype=np.uint8))

    def next(self, name: str) -> NDArray[np.uint8] | None:
        """Return the next image of a sensor; None once it has let go.

        The last one for ever would be a part that never leaves the hand: the policy would open a little,
        feel nothing of it, and stay.
        """
        felt, taken = self._felt[name], self._taken[name]
        self._taken[name] = taken + 1
        return felt[taken] if taken < len(felt) else None
