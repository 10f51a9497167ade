"""What the episodes of a table share: rig and rate; and how those of other rigs are read, by names."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np

from tacit.config.documents import yaml_mapping
from tacit.episode import EpisodeReader
from tacit.errors import EpisodeError, did_you_mean
from tacit.rig import Rig, is_depth, parse_rig
from tacit_learning.data.rows import Rows
from tacit_learning.data.view import DataConfig, View, make_view, view_of
from tacit_learning.layers.pooling import PIXEL_CENTRE

MAX_RATE_DIFFERENCE = 0.05  # of the first episode's rate; a chunk is indexed by ticks


@dataclass(frozen=True)
class Reading:
    """How the episodes of one rig are read.

    Attributes:
        rig: Theirs.
        view: Streams by the names of the first rig, with transforms from the sizes of this one.
        stored: Name in the file of every camera and sensor of the view.
        columns: Places in the file's state vector of the states of the first rig.
    """

    rig: Rig
    view: View
    stored: dict[str, str]
    columns: tuple[int, ...]

    def pictures(self, reader: EpisodeReader, name: str, ticks: slice) -> Iterable[np.ndarray]:
        """Yield what a model sees of one stream (h, w, 3) at successive ticks."""
        return reader.pictures(self.stored[name], ticks, lambda data: self.view.decoded(name, data))

    def picture(self, reader: EpisodeReader, name: str, tick: int) -> np.ndarray:
        """Return what a model sees of one stream (h, w, 3) at a tick."""
        return reader.picture(self.stored[name], tick, lambda data: self.view.decoded(name, data))

    def states(self, rows: np.ndarray) -> np.ndarray:
        """Return states or actions (T, A) f4 in the order of the first rig."""
        rows = np.asarray(rows, np.float32)
        return rows if self.columns == tuple(range(rows.shape[1])) else rows[:, self.columns]

    def boxes(self, rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return boxes in the policy image, where they may be used, and visibility; (t, N, S, ...)."""
        cameras = [list(self.rig.cameras).index(self.stored[name]) for name in self.view.cameras]
        sensors = [list(self.rig.tactile).index(self.stored[name]) for name in self.view.touch]
        place = np.ix_(range(rows.num_ticks), cameras, sensors)
        boxes = rows.boxes[place]
        for n, transform in enumerate(self.view.cameras.values()):
            boxes[:, n] = transform.boxes(boxes[:, n]) + PIXEL_CENTRE
        return boxes, rows.usable[place], rows.visibility[place]


class Contract:
    """Refuses episodes of another rate or rig; or finds in another rig what the first has, by names.

    Args:
        first: Rows of the episode that all others are held against.
        config: What is read of them, and whether other rigs are.
    """

    def __init__(self, first: Rows, config: DataConfig) -> None:
        self.rig, self.fps = _rig(first), first.fps
        self.view = make_view(self.rig, config)
        self._config = config
        names = (*self.view.cameras, *self.view.touch)
        own = Reading(self.rig, self.view, {n: n for n in names}, tuple(range(len(self.rig.state_names))))
        self._readings = {first.contract: own}

    def reading(self, rows: Rows) -> Reading:
        """Return how an episode is read; equal texts spare the parsing of a rig.

        Raises:
            EpisodeError: Another rate; another rig where those are refused, or one that lacks a name.
        """
        if abs(rows.fps - self.fps) > MAX_RATE_DIFFERENCE * self.fps:
            raise EpisodeError(
                f"{rows.path}: {rows.fps:.2f} ticks per second, the first has {self.fps:.2f}; a policy "
                "has one rate: leave one of the two out of data.datasets"
            )
        if rows.contract not in self._readings:
            self._readings[rows.contract] = self._of_other(rows)
        return self._readings[rows.contract]

    def _of_other(self, rows: Rows) -> Reading:
        rig = _rig(rows)
        same = rig.calibration_id == self.rig.calibration_id and rig.state_names == self.rig.state_names
        if not same and self._config.other_rigs == "refuse":
            raise EpisodeError(
                f"{rows.path}: recorded with another rig or calibration than the first episode; bring it "
                "to the new one with `tacit recompute-boxes`, or read it by names: data.other_rigs: by_name"
            )
        find = Names(self._config.names, str(rows.path))
        states = [find(name, rig.state_names, "joint") for name in self.rig.state_names]
        cameras = {name: find(name, rig.cameras, "camera") for name in self.view.cameras}
        sensors = {name: find(name, rig.tactile, "sensor") for name in self.view.touch}
        for name, theirs in cameras.items():
            if is_depth(rig.cameras[theirs]) != is_depth(self.rig.cameras[name]):
                raise EpisodeError(f"{rows.path}: of {name!r} and {theirs!r} one measures depth, one colour")
        view = view_of(
            {name: rig.cameras[theirs] for name, theirs in cameras.items()},
            {name: rig.tactile[theirs] for name, theirs in sensors.items()},
            self._config,
        )
        if view.taxels != self.view.taxels or set(view.sensors) != set(self.view.sensors):
            raise EpisodeError(f"{rows.path}: its touch sensors are of another kind or size than the first's")
        places = tuple(rig.state_names.index(name) for name in states)
        return Reading(rig, view, cameras | sensors, places)


class Names:
    """Finds in another rig what ours has: under the name that `theirs: ours` gives, or the same.

    Args:
        given: Ours by theirs.
        source: Named in errors.
    """

    def __init__(self, given: dict[str, str], source: str) -> None:
        self._given, self._source = given, source

    def __call__(self, name: str, available: Collection[str], kind: str) -> str:
        """Return their name of ours.

        Raises:
            EpisodeError: There is none, or there are several.
        """
        found = [theirs for theirs in available if self._given.get(theirs, theirs) == name]
        if len(found) != 1:
            raise EpisodeError(
                f"{self._source}: its rig has {len(found)} {kind}s for {name!r} of the first episode; say "
                f"which with data.names, theirs: ours; {did_you_mean(name, available)}"
            )
        return found[0]


def _rig(rows: Rows) -> Rig:
    where = f"{rows.path.name}: contract_yaml"
    return parse_rig(yaml_mapping(rows.contract, where, EpisodeError), where)
