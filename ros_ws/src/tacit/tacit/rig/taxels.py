"""Touch that is no picture: arrays of taxels, and the wrench at a fingertip, which is an array of one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from tacit.config import Config
from tacit.rig.topics import FrozenAfter, GelSpec, TactileSpec

WRENCH = "geometry_msgs/msg/WrenchStamped"
ArrayType = Literal[
    "std_msgs/msg/Float32MultiArray", "std_msgs/msg/Float64MultiArray", "geometry_msgs/msg/WrenchStamped"
]
Count = Annotated[int, Field(ge=1, le=256)]
MOST_VALUES = 1 << 16
"""Of one reading: a quarter of a megabyte of floats; skins have a few hundred."""


def _ranges(value: Any) -> Any:
    """One [low, high] for all channels, or one for each."""
    plain = isinstance(value, (list, tuple)) and len(value) == 2 and not isinstance(value[0], (list, tuple))
    return [value] if plain else value


Ranges = Annotated[tuple[tuple[float, float], ...], BeforeValidator(_ranges), Field(min_length=1)]


class ArraySpec(Config):
    """One reading: `rows` along the height of the face, `columns` along its width, `channels` per taxel.

    Laid out as a picture of the face is: the first row at -y, the first column at -x. `range` is what a taxel
    can say, [low, high] in `unit`, of all channels or of each: learning scales by it, and a value at its ends
    is saturated.
    """

    rows: Count
    columns: Count
    channels: Count = 1
    unit: str = ""
    range: Ranges

    @model_validator(mode="after")
    def _usable(self) -> ArraySpec:
        if len(self.range) not in (1, self.channels):
            raise ValueError(
                f"range: {len(self.range)} pairs, expected one [low, high], or one for each of the "
                f"{self.channels} channels"
            )
        for low, high in self.range:
            if not (np.isfinite([low, high]).all() and low < high):
                raise ValueError(f"range: low {low} is not below high {high}")
        if self.rows * self.columns * self.channels > MOST_VALUES:
            raise ValueError(f"{self.rows} x {self.columns} x {self.channels} values, at most {MOST_VALUES}")
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns and channels (R, C, K)."""
        return self.rows, self.columns, self.channels

    @property
    def low(self) -> NDArray[np.float32]:
        """Lower end of the range of each channel (K,)."""
        return self._ends(0)

    @property
    def high(self) -> NDArray[np.float32]:
        """Upper end of the range of each channel (K,)."""
        return self._ends(1)

    def _ends(self, side: int) -> NDArray[np.float32]:
        ends = np.array([pair[side] for pair in self.range], np.float32)
        return np.broadcast_to(ends, (self.channels,))


class TaxelSpec(TactileSpec):
    """A touch sensor that sends numbers: a skin of taxels, or force and torque at a fingertip (1 x 1 x 6).

    Arrays carry rows, columns and channels in their layout, or no layout at all. The same reading
    `frozen_after` times in a row, each with a new stamp, is a driver that stands still, unless it is all
    zero: drivers cut off the noise of a skin at rest.
    """

    type: ArrayType = "std_msgs/msg/Float32MultiArray"
    array: ArraySpec
    frozen_after: FrozenAfter = 25
    sensor_type: str = "taxels"

    @model_validator(mode="after")
    def _wrench_is_six_numbers(self) -> TaxelSpec:
        if self.type == WRENCH and self.array.shape != (1, 1, 6):
            raise ValueError(
                f"array: {' x '.join(map(str, self.array.shape))}, but {WRENCH} carries force and torque: "
                "expected {rows: 1, columns: 1, channels: 6}"
            )
        return self


def _either(value: Any) -> Any:
    """Read a mapping as what its keys say it is, so that its mistakes are told by their own path."""
    if isinstance(value, TactileSpec):
        return value
    kind = TaxelSpec if isinstance(value, dict) and "array" in value else GelSpec
    return kind.model_validate(value)


AnyTactile = Annotated[GelSpec | TaxelSpec, BeforeValidator(_either)]
"""A touch sensor of a rig: with `array` it sends numbers, without it pictures."""
