"""The kinds of fault: each a function that spoils a running cell, somewhere, by a seeded choice."""

from __future__ import annotations

import copy
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from benches.faults_world import COMPRESSED_CAMERA, MS, ROBOT_STATE, SECOND, Disturbance, Driver, Timeline
from tacit.images import decode_image, encode_jpeg

JOINTS, GRIPPER, COMMAND = "joints", "gripper_state", "command"
STATES = (JOINTS, GRIPPER)
RAW_IMAGES, JPEG_IMAGES = ("wrist", "left"), (COMPRESSED_CAMERA,)
IMAGES = (*RAW_IMAGES, *JPEG_IMAGES)
STAMPED = (*IMAGES, *STATES)

SILENCE_S = 1.1
"""A stream is lost after a second without a message, found at the next look."""

LATE_S = 2.2
"""Late messages carry true stamps, so nothing false is recorded: their delay is measured over two seconds."""


class Spoiled(Protocol):
    """What a fault may reach into."""

    timeline: Timeline
    drivers: dict[str, Driver]
    nodes: dict[str, list[str]]
    alter_command: Callable[[object], object] | None

    def wrong_now(self) -> None:
        """Note that from here on something is wrong."""

    def topic(self, name: str) -> str:
        """Return the topic of a stream."""


@dataclass(frozen=True)
class Fault:
    """One kind.

    Attributes:
        name: What it is called in the table.
        begin: Spoils the cell.
        holds: A policy must hold; else the samples that are wrong must only be refused.
        at_start: It lasts, so that nothing may start while it does.
        shown: A single observation shows it: the policy must hold within two ticks.
        policy, recorder: Whom it concerns.
        costs: How many samples may be refused for it; None where it lasts.
        named_within_s: How soon the recorder must name it.
        lasts_s: How long it is looked at.
    """

    name: str
    begin: Callable[[Spoiled, np.random.Generator], None]
    holds: bool = True
    at_start: bool = True
    shown: bool = False
    policy: bool = True
    recorder: bool = True
    costs: int | None = None
    named_within_s: float = 1.0
    lasts_s: float = 1.7


def _spoil(
    names: Sequence[str], make: Callable[[np.random.Generator], Disturbance], count: int = 1
) -> Callable[[Spoiled, np.random.Generator], None]:
    """Disturb `count` of some drivers, chosen by the seed, all in the same way."""

    def begin(cell: Spoiled, random: np.random.Generator) -> None:
        wrong = make(random)
        for name in random.choice(list(names), size=min(count, len(names)), replace=False):
            cell.drivers[name].disturbance = copy.copy(wrong)

    return begin


def _shifted(low_s: float, high_s: float, times: int | None = None) -> Callable[..., Disturbance]:
    def make(random: np.random.Generator) -> Disturbance:
        shift_ns = int(random.uniform(low_s, high_s) * SECOND)
        return Disturbance(stamp=lambda stamp_ns: stamp_ns + shift_ns, times=times)

    return make


def _far_ahead(times: int | None = None) -> Callable[..., Disturbance]:
    """Three seconds to an hour, as likely small as large."""

    def make(random: np.random.Generator) -> Disturbance:
        shift_ns = int(np.exp(random.uniform(np.log(3), np.log(3600))) * SECOND)
        return Disturbance(stamp=lambda stamp_ns: stamp_ns + shift_ns, times=times)

    return make


def _set_machine(low_s: float, high_s: float) -> Callable[[Spoiled, np.random.Generator], None]:
    def begin(cell: Spoiled, random: np.random.Generator) -> None:
        cell.timeline.set_wall(int(random.uniform(low_s, high_s) * SECOND))
        for driver in cell.drivers.values():
            driver.disturbance = Disturbance()  # nothing else is wrong with them, but their stamps are

    return begin


def _stamped(stamp: Callable[[Spoiled, int], int]) -> Callable[[Spoiled, np.random.Generator], None]:
    """Replace the stamps of one stream by `stamp(cell, true stamp)`."""

    def begin(cell: Spoiled, random: np.random.Generator) -> None:
        driver = cell.drivers[random.choice(STAMPED)]
        driver.disturbance = Disturbance(stamp=lambda stamp_ns: stamp(cell, stamp_ns))

    return begin


def _looped(cell: Spoiled, random: np.random.Generator) -> None:
    """Stamps of a bag of one to two seconds that is played in a loop."""
    length_ns = int(random.uniform(1.0, 2.0) * SECOND)
    begin_ns = cell.timeline.wall()
    for name in random.choice(STAMPED, size=2, replace=False):
        cell.drivers[name].disturbance = Disturbance(
            stamp=lambda stamp_ns: begin_ns + (stamp_ns - begin_ns) % length_ns - length_ns
        )


def _same_stamp(cell: Spoiled, random: np.random.Generator) -> None:
    begin_ns = cell.timeline.wall()
    cell.drivers[random.choice(STAMPED)].disturbance = Disturbance(stamp=lambda _: begin_ns)


def _one_twice(cell: Spoiled, random: np.random.Generator) -> None:
    cell.drivers[random.choice(STAMPED)].disturbance = Disturbance(
        alter=lambda message: [message, copy.deepcopy(message)], times=1
    )


def _one_old(cell: Spoiled, random: np.random.Generator) -> None:
    """One message is sent again, three periods later."""
    driver = cell.drivers[random.choice(STAMPED)]
    shift_ns = 3 * driver.period_ns
    driver.disturbance = Disturbance(stamp=lambda stamp_ns: stamp_ns - shift_ns, times=1)


def _read(names: Sequence[str], change: Callable[[np.ndarray, np.random.Generator], object]) -> Callable:
    """Change what one of some drivers measures."""

    def make(random: np.random.Generator) -> Disturbance:
        return Disturbance(read=lambda value: change(np.array(value), random))

    return _spoil(names, make)


def _repeated(names: Sequence[str]) -> Callable[[Spoiled, np.random.Generator], None]:
    """The first value that is measured from now on is said again and again."""

    def make(random: np.random.Generator) -> Disturbance:
        first: list[object] = []
        return Disturbance(read=lambda value: (first or first.append(value) or first)[0])  # type: ignore[func-returns-value]

    return _spoil(names, make)


def _message(
    names: Sequence[str], change: Callable[..., None], times: int | None = None
) -> Callable[[Spoiled, np.random.Generator], None]:
    """Change the messages of one of some drivers."""

    def make(random: np.random.Generator) -> Disturbance:
        pick = int(random.integers(1000))

        def alter(message: object) -> list[object]:
            changed = copy.deepcopy(message)
            change(changed, pick)
            return [changed]

        return Disturbance(alter=alter, times=times)

    return _spoil(names, make)


def _zeros_between(cell: Spoiled, random: np.random.Generator) -> None:
    """A second publisher's zeros between the true values, with stamps of their own."""

    def alter(message: object) -> list[object]:
        other = copy.deepcopy(message)
        other.position = array("d", np.zeros(len(message.position)))  # type: ignore[attr-defined]
        other.header.stamp.nanosec = min(other.header.stamp.nanosec + MS, SECOND - 1)  # type: ignore[attr-defined]
        return [message, other]

    cell.drivers[JOINTS].disturbance = Disturbance(alter=alter)


def _nan(message: object, pick: int) -> None:
    message.position[pick % len(message.position)] = float("nan")  # type: ignore[attr-defined]


def _named_twice(message: object, pick: int) -> None:
    message.name[pick % 5 + 1] = message.name[0]  # type: ignore[attr-defined]


def _partial_names(message: object, pick: int) -> None:
    del message.name[pick % 6], message.position[pick % 6]  # type: ignore[attr-defined]


def _other_names(message: object, pick: int) -> None:
    message.name = [f"wheel_{i}" for i in range(len(message.name))]  # type: ignore[attr-defined]


def _short(message: object, pick: int) -> None:
    del message.position[-1 - pick % 3 :]  # type: ignore[attr-defined]


def _cut_jpeg(message: object, pick: int) -> None:
    message.data = message.data[: -2 - pick % 40]  # type: ignore[attr-defined]


def _empty_bgr8(message: object, pick: int) -> None:
    message.encoding, message.data = "bgr8", array("B")  # type: ignore[attr-defined]
    message.height = message.width = message.step = 0  # type: ignore[attr-defined]


def _wrong_size(message: object, pick: int) -> None:
    message.height, message.width = message.width, message.height  # type: ignore[attr-defined]
    message.step = 3 * message.width  # type: ignore[attr-defined]


def _wrong_encoding(message: object, pick: int) -> None:
    message.encoding = ("rgb16", "32FC1", "", "foo")[pick % 4]  # type: ignore[attr-defined]


def _wrong_step(message: object, pick: int) -> None:
    message.step = (0, 1, message.step + 1, message.step * 7)[pick % 4]  # type: ignore[attr-defined]


def _huge(message: object, pick: int) -> None:
    message.height = message.width = 60_000  # type: ignore[attr-defined]
    message.step = 180_000  # type: ignore[attr-defined]


def _black(value: np.ndarray, random: np.random.Generator) -> object:
    """The noise of a sensor in the dark instead of a picture; what is encoded stays encoded."""
    picture = decode_image(value) if value.ndim == 1 else value
    dark = np.abs(random.normal(0, 2, picture.shape)).astype(np.uint8)
    return encode_jpeg(dark) if value.ndim == 1 else dark


def _silent(names: Sequence[str]) -> Callable[[Spoiled, np.random.Generator], None]:
    return _spoil(names, lambda random: Disturbance(alter=lambda message: []))


def _late(random: np.random.Generator) -> Disturbance:
    return Disturbance(late_ns=int(random.uniform(0.35, 0.6) * SECOND))


def _jump(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return values + np.where(np.arange(len(values)) == 0, 0.8, 0.0)


def _publisher(name: str) -> Callable[[Spoiled, np.random.Generator], None]:
    """Another node begins to publish the topic of a stream."""

    def begin(cell: Spoiled, random: np.random.Generator) -> None:
        cell.nodes[cell.topic(name)].append("/other")
        cell.wrong_now()

    return begin


def _state(index: int, value: float) -> Callable[[Spoiled, np.random.Generator], None]:
    """The robot says something else of itself."""

    def change(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
        values[index] = value
        return values

    return _read([ROBOT_STATE], change)


def _nan_command(cell: Spoiled, random: np.random.Generator) -> None:
    pick = int(random.integers(7))

    def alter(message: object) -> object:
        _nan(message, pick)
        return message

    cell.alter_command = alter


FAULTS: tuple[Fault, ...] = (
    Fault("clock of one stream 5 to 6 s back", _spoil(STAMPED, _shifted(-6, -5)), at_start=False),
    Fault("clocks of three streams back", _spoil(STAMPED, _shifted(-6, -5), 3), at_start=False),
    Fault("clocks of all streams back", _spoil(STAMPED, _shifted(-6, -5), 9), at_start=False),
    Fault("this machine's clock back", _set_machine(-6, -5), at_start=False),
    Fault("clock of one stream ahead", _spoil(STAMPED, _far_ahead()), at_start=False),
    Fault("clocks of three streams ahead", _spoil(STAMPED, _far_ahead(), 3), at_start=False),
    Fault("clocks of all streams ahead", _spoil(STAMPED, _far_ahead(), 9), at_start=False),
    Fault("this machine's clock ahead", _set_machine(3, 60), at_start=False),
    Fault("one stamp ahead", _spoil(STAMPED, _far_ahead(1)), holds=False, at_start=False, costs=1),
    Fault("six stamps ahead", _spoil(STAMPED, _far_ahead(6)), holds=False, at_start=False, costs=6),
    Fault("one stream .3 s ahead", _spoil(STAMPED, _shifted(0.3, 0.3))),
    Fault("one stream 5 s ahead", _spoil(STAMPED, _shifted(5, 5))),
    Fault("one stream 1 s behind", _spoil(STAMPED, _shifted(-1, -1))),
    Fault("joints .2 s ahead", _spoil([JOINTS], _shifted(0.2, 0.2))),
    Fault("uptime stamps", _stamped(lambda cell, _: cell.timeline.steady())),
    Fault("empty stamps", _stamped(lambda cell, _: 0)),
    Fault("looped stamps", _looped),
    Fault("one stamp for all", _same_stamp),
    Fault("one message twice", _one_twice, holds=False, at_start=False, costs=1),
    Fault("one message out of order", _one_old, holds=False, at_start=False, costs=1),
    Fault("one stream .4 to .6 s late", _spoil(STAMPED, _late), named_within_s=LATE_S, lasts_s=LATE_S),
    Fault("six zeros", _read([JOINTS], lambda q, _: np.zeros(6)), shown=True),
    Fault("last value repeated", _repeated([JOINTS]), at_start=False),
    Fault("zeros between true values", _zeros_between, shown=True),
    Fault("NaN in one joint", _message(STATES, _nan), shown=True),
    Fault("joint named twice", _message([JOINTS], _named_twice)),
    Fault("a joint not named", _message([JOINTS], _partial_names)),
    Fault("other joints' names", _message([JOINTS], _other_names), named_within_s=SILENCE_S),
    Fault("too few values", _message([JOINTS], _short)),
    Fault("degrees", _read([JOINTS], lambda q, _: np.rad2deg(q)), shown=True),
    Fault("a joint jumps", _read([JOINTS], _jump), at_start=False, shown=True),
    Fault("frozen picture", _repeated(IMAGES)),
    Fault("black picture", _read(IMAGES, _black), shown=True),
    Fault("JPEG without end", _message(JPEG_IMAGES, _cut_jpeg)),
    Fault("one JPEG without end", _message(JPEG_IMAGES, _cut_jpeg, 1), holds=False, at_start=False, costs=1),
    Fault("one empty bgr8", _message(RAW_IMAGES, _empty_bgr8, 1), holds=False, at_start=False, costs=1),
    Fault("empty bgr8", _message(RAW_IMAGES, _empty_bgr8)),
    Fault("wrong size", _message(RAW_IMAGES, _wrong_size)),
    Fault("wrong encoding", _message(RAW_IMAGES, _wrong_encoding)),
    Fault("wrong step", _message(RAW_IMAGES, _wrong_step)),
    Fault("huge size", _message(RAW_IMAGES, _huge)),
    Fault("camera silent", _silent(IMAGES), named_within_s=SILENCE_S),
    Fault("joints silent", _silent([JOINTS]), named_within_s=SILENCE_S),
    Fault("gripper silent", _silent([GRIPPER]), named_within_s=SILENCE_S),
    Fault("second publisher of joints", _publisher(JOINTS)),
    Fault("second commander", _publisher(COMMAND)),
    Fault("robot in fault", _state(1, 7.0), shown=True, recorder=False),
    Fault("protective stop", _state(2, 1.0), shown=True, recorder=False),
    Fault("robot disabled", _state(0, 0.0), shown=True, recorder=False),
    Fault("robot state silent", _silent([ROBOT_STATE]), named_within_s=SILENCE_S),
    Fault("NaN in a command", _nan_command, policy=False, at_start=False),
)
