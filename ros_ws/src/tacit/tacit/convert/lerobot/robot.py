"""Which rig a LeRobot data set has, and which of its columns are what of that rig."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tacit.convert.draft import Draft, draft_rig, motion_limits, plain_names
from tacit.convert.lerobot import layout
from tacit.convert.lerobot.source import NUMBERS, Source
from tacit.errors import RigError
from tacit.rig import Rig


class Roles(NamedTuple):
    """What the features of a data set are.

    Attributes:
        joints: Plain names of the elements of the state.
        is_commanded: Whether `action` are commands for these joints.
        has_velocity, has_effort: Whether there is one for each joint.
        extras: Further numbers, and arrays of taxels: key by stream.
        pictures: Key by stream.
        left_out: Notes on what has no place with us.
    """

    joints: tuple[str, ...]
    is_commanded: bool
    has_velocity: bool
    has_effort: bool
    extras: dict[str, str]
    pictures: dict[str, str]
    left_out: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        """The keys of all numbers that are read."""
        named = ((layout.ACTION, self.is_commanded), (layout.VELOCITY, self.has_velocity))
        keys = [layout.STATE, *(key for key, there in named if there)]
        return [*keys, *((layout.EFFORT,) if self.has_effort else ()), *self.extras.values()]


def roles_of(source: Source) -> Roles:
    """Return what each feature is to us."""
    state = source.features[layout.STATE]
    names = state.names or ()
    told = source.features.get(layout.ACTION)
    is_commanded = told is not None and told.shape == state.shape and _agree(names, told.names or ())
    extras, left = {}, []
    taken = {layout.STATE, layout.STAMP_NS, *((layout.ACTION,) if is_commanded else ())}
    beside = {}
    for key in (layout.VELOCITY, layout.EFFORT):
        beside[key] = key in source.features and source.features[key].shape == state.shape
        taken |= {key} if beside[key] else set()
    for key, feature in source.features.items():
        if key in taken or key in source.pictures or key.startswith(layout.GEOMETRY):
            continue
        is_array = key.startswith(layout.TAXELS) and len(feature.shape) == 3
        if feature.dtype in NUMBERS and (len(feature.shape) == 1 or is_array):
            extras[_stream(key)] = key
        else:
            left.append(
                f"{key}: left out, {feature.dtype} of shape {feature.shape} has no place in an episode"
            )
    if told is not None and not is_commanded:
        left.append(
            f"action: kept as the extra stream {_stream(layout.ACTION)!r}, for its {told.shape[0]} elements "
            "are not those of observation.state; what counts as commanded is the measured state"
        )
    pictures = {layout.picture_stream(key): key for key in source.pictures}
    joints = tuple(plain_names(names))
    return Roles(
        joints, is_commanded, beside[layout.VELOCITY], beside[layout.EFFORT], extras, pictures, tuple(left)
    )


def draft_for(source: Source, roles: Roles) -> Rig:
    """Draft a rig from the features, and from the values of every episode."""

    def tracks() -> Iterator[np.ndarray]:
        keys = [layout.STATE, *((layout.ACTION,) if roles.is_commanded else ())]
        for entry in source.entries:
            columns = source.numbers(entry, keys)
            for key in keys:
                values = columns[key].astype(np.float64)
                if np.isfinite(values).all():  # of others, the conversion says where
                    yield values

    extras = {}
    for stream, key in roles.extras.items():
        extras[stream] = plain_names(source.features[key].names or ())
    draft = Draft(
        source.robot,
        roles.joints,
        source.fps,
        *motion_limits(tracks(), source.fps),
        {stream: source.pictures[key].shape[:2] for stream, key in roles.pictures.items()},  # type: ignore[misc]
        extras,
    )
    return draft_rig(draft)


def fit(rig: Rig, roles: Roles, source: Source) -> Roles:
    """Return the roles as far as a given rig knows them.

    Raises:
        RigError: Another robot, rate or picture size than the data set's.
    """
    if set(rig.state_names) != set(roles.joints):
        raise RigError(
            f"rig {rig.name}: joints {', '.join(rig.state_names)}; the data set has {', '.join(roles.joints)}"
            "; draft a rig with these names (tacit rig new --from-dataset) and fill in the rest"
        )
    if abs(rig.alignment.rate_hz - source.fps) > 1e-3 * source.fps:
        raise RigError(
            f"rig {rig.name}: alignment.rate_hz {rig.alignment.rate_hz:g}; the data has {source.fps:g}"
        )
    for stream, key in roles.pictures.items():
        height, width = source.pictures[key].shape[:2]
        spec = rig.images.get(stream)
        if spec is not None and (spec.height, spec.width) != (height, width):
            raise RigError(
                f"rig {rig.name}: {stream} has {spec.width}x{spec.height} px; the data {width}x{height}"
            )
    for stream, key in roles.extras.items():
        if stream in rig.taxels and rig.taxels[stream].array.shape != source.features[key].shape:
            expected = rig.taxels[stream].array.shape
            raise RigError(f"rig {rig.name}: {stream} is {expected}; the data {source.features[key].shape}")
    known = set(rig.images) | set(rig.streams) | set(rig.taxels)
    unknown = [*(set(roles.pictures) - known), *(set(roles.extras) - known)]
    return roles._replace(
        pictures={name: key for name, key in roles.pictures.items() if name in known},
        extras={name: key for name, key in roles.extras.items() if name in known},
        left_out=(
            *roles.left_out,
            *(f"{name}: left out, the rig does not have it" for name in sorted(unknown)),
        ),
    )


def without_arrays(roles: Roles) -> Roles:
    """Return the roles without arrays of taxels: a rig that is drafted does not know where they are."""
    arrays = [stream for stream, key in roles.extras.items() if key.startswith(layout.TAXELS)]
    return roles._replace(
        extras={stream: key for stream, key in roles.extras.items() if stream not in arrays},
        left_out=(
            *roles.left_out,
            *(f"{name}: left out, give a rig that has it with --rig" for name in arrays),
        ),
    )


def order(rig: Rig, roles: Roles) -> list[int]:
    """Return the columns of the data set in the order of the rig's state."""
    return [roles.joints.index(name) for name in rig.state_names]


def _agree(state: Sequence[str], action: Sequence[str]) -> bool:
    """Whether both name the same elements, or one of them names none."""
    numbered = [f"q{index}" for index in range(len(state))]
    return list(state) == list(action) or numbered in (list(state), list(action))


def _stream(key: str) -> str:
    """Return the stream of a key of numbers; the action has a name of its own among streams."""
    return "action.dataset" if key == layout.ACTION else layout.extra_stream(key)
