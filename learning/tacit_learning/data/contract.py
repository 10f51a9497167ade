"""What the episodes of a table share: rig and rate; and how those of other rigs are read, by names."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np

from tacit.episode import EpisodeReader
from tacit.errors import EpisodeError, did_you_mean
from tacit.rig import is_depth
from tacit_learning.data.view import DataConfig, View, make_view, view_of

MAX_RATE_DIFFERENCE = 0.05  # of the first episode's rate; a chunk is indexed by ticks


@dataclass(frozen=True)
class Reading:
    """How the episodes of one rig are read.

    Attributes:
        view: Streams by the names of the first rig, with transforms from the sizes of this one.
        stored: Name in the file of every camera and sensor of the view.
        columns: Places in the file's state vector of the states of the first rig.
    """

    view: View
    stored: dict[str, str]
    columns: tuple[int, ...]

    def pictures(self, reader: EpisodeReader, name: str, ticks: slice) -> Iterable[np.ndarray]:
        """Yield what a model sees of one stream (h, w, 3) at successive ticks."""
        return reader.pictures(self.stored[name], ticks, lambda data: self.view.decoded(name, data))

    def states(self, rows: np.ndarray) -> np.ndarray:
        """Return states or actions (T, A) f4 in the order of the first rig."""
        rows = np.asarray(rows, np.float32)
        return rows if self.columns == tuple(range(rows.shape[1])) else rows[:, self.columns]


class Contract:
    """Refuses episodes of another rate or rig; or finds in another rig what the first has, by names.

    Args:
        first: The episode that all others are held against.
        config: What is read of them, and whether other rigs are.
    """

    def __init__(self, first: EpisodeReader, config: DataConfig) -> None:
        self.rig, self.fps = first.rig, first.fps
        self.view = make_view(self.rig, config)
        self._config = config
        names = (*self.view.cameras, *self.view.sensors)
        own = Reading(self.view, {n: n for n in names}, tuple(range(len(self.rig.state_names))))
        self._readings = {_text(first): own}

    def reading(self, reader: EpisodeReader) -> Reading:
        """Return how an episode is read; equal texts spare the parsing of a rig.

        Raises:
            EpisodeError: Another rate; another rig where those are refused, or one that lacks a name.
        """
        if abs(reader.fps - self.fps) > MAX_RATE_DIFFERENCE * self.fps:
            raise EpisodeError(
                f"{reader.path}: {reader.fps:.2f} ticks per second, the first has {self.fps:.2f}; a policy "
                "has one rate: leave one of the two out of data.datasets"
            )
        text = _text(reader)
        if text not in self._readings:
            self._readings[text] = self._of_other(reader)
        return self._readings[text]

    def _of_other(self, reader: EpisodeReader) -> Reading:
        rig = reader.rig
        same = rig.calibration_id == self.rig.calibration_id and rig.state_names == self.rig.state_names
        if not same and self._config.other_rigs == "refuse":
            raise EpisodeError(
                f"{reader.path}: recorded with another rig or calibration than the first episode; bring it "
                "to the new one with `tacit recompute-boxes`, or read it by names: data.other_rigs: by_name"
            )
        find = Names(self._config.names, str(reader.path))
        states = [find(name, rig.state_names, "joint") for name in self.rig.state_names]
        cameras = {name: find(name, rig.cameras, "camera") for name in self.view.cameras}
        sensors = {name: find(name, rig.tactile, "sensor") for name in self.view.sensors}
        for name, theirs in cameras.items():
            if is_depth(rig.cameras[theirs]) != is_depth(self.rig.cameras[name]):
                raise EpisodeError(
                    f"{reader.path}: of {name!r} and {theirs!r} one measures depth, one colour"
                )
        view = view_of(
            {name: rig.cameras[theirs] for name, theirs in cameras.items()},
            {name: rig.tactile[theirs] for name, theirs in sensors.items()},
            self._config,
        )
        places = tuple(rig.state_names.index(name) for name in states)
        return Reading(view, cameras | sensors, places)


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


def _text(reader: EpisodeReader) -> str:
    return str(reader.attribute("contract_yaml"))
