"""From one message of a rig topic to its canonical value, or a MessageError that says what is wrong.

Images become RGB (H, W, 3) uint8, depth (H, W) uint16 millimetres, or stay encoded (1-D uint8) when the
topic is compressed; arrays of taxels (R, C, K) float32; numbers become float64 in the order of the rig's
names, converted to rad and m.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

from tacit.errors import RigError, did_you_mean
from tacit.rig import CameraSpec, CommandSpec, GelSpec, Rig, StreamSpec, TaxelSpec, is_depth
from tacit.rig.units import efforts_to_canonical, rates_to_canonical, to_canonical
from tacit.streams import JointReading, Trajectory, Value
from tacit_ros import messages

Decoder = Callable[[object], Value]
JOINT_STATE = "sensor_msgs/msg/JointState"
COMPRESSED = "sensor_msgs/msg/CompressedImage"


def decoder_of(rig: Rig, name: str) -> Decoder:
    """Return the function that reads messages of stream `name`.

    Raises:
        RigError: The rig has no such stream.
    """
    specs = rig.specs
    if name not in specs:
        raise RigError(f"rig {rig.name}: no stream {name!r}; {did_you_mean(name, specs)}")
    spec = specs[name]
    if isinstance(spec, TaxelSpec):
        return lambda message: messages.read_taxels(message, spec.array)
    if isinstance(spec, (CameraSpec, GelSpec)):
        return _image_decoder(spec)
    assert isinstance(spec, (StreamSpec, CommandSpec))
    return _number_decoder(rig, name, spec)


def joint_reading_of(rig: Rig, name: str) -> Callable[[object], JointReading]:
    """Return the function that reads position, velocity and effort of a JointState stream."""
    spec, position_of = rig.streams[name], decoder_of(rig, name)
    converts = bool(_converted_names(rig, spec))

    def read(message: object) -> JointReading:
        reading: JointReading = {"position": cast("NDArray[np.float64]", position_of(message))}
        for field, convert in (("velocity", rates_to_canonical), ("effort", efforts_to_canonical)):
            values = messages.read_joint_field(message, field, spec.names)  # type: ignore[arg-type]
            if values is not None and converts:
                raw = cast("NDArray[np.float64]", messages.read_named(message, spec.type, spec.names))
                values = convert(rig, spec.names, values, raw)
            if values is not None:
                reading[field] = values
        return reading

    return read


def has_joint_reading(rig: Rig, name: str) -> bool:
    """Tell whether a stream is a measured state that may carry velocity and effort."""
    return name in rig.states and rig.states[name].type == JOINT_STATE


def _image_decoder(spec: CameraSpec | GelSpec) -> Decoder:
    """The reader of a camera's or sensor's pictures; its size is checked before a pixel is touched."""
    expected = (spec.height, spec.width)
    depth = is_depth(spec)
    read_raw = messages.read_depth if depth else messages.read_image
    read_encoded = messages.read_compressed_depth if depth else messages.read_compressed

    def raw(message: Image) -> Value:
        _check_size((message.height, message.width), expected)
        return read_raw(message)

    def compressed(message: CompressedImage) -> Value:
        header = messages.compressed_header(message)
        _check_size((header.height, header.width), expected)
        return read_encoded(message, header)

    return cast(Decoder, compressed if spec.type == COMPRESSED else raw)


def _check_size(found: tuple[int, int], expected: tuple[int, int]) -> None:
    if found != expected:
        raise messages.MessageError(
            f"image is {found[1]}x{found[0]}, the rig says {expected[1]}x{expected[0]} (width x height); "
            "set the camera to that size, or calibrate the rig for the new one",
            "size",
        )


def _number_decoder(rig: Rig, stream: str, spec: StreamSpec | CommandSpec) -> Decoder:
    names, type_name = spec.names, spec.type
    if isinstance(spec, StreamSpec) and spec.role == "steps":
        names = (stream,)  # one number under the stream's own name: an index into spec.names
    if isinstance(spec, StreamSpec) and spec.role != "state":
        return lambda message: messages.read_named(message, type_name, names)
    converted = _converted_names(rig, spec)

    def numbers(message: object) -> Value:
        values = messages.read_named(message, type_name, names)
        rows = values.positions if isinstance(values, Trajectory) else values[None]
        for row in rows if converted else ():
            for index, name in converted:
                row[index] = to_canonical(rig, name, float(row[index]))
        return values

    return numbers


def _converted_names(rig: Rig, spec: StreamSpec | CommandSpec) -> list[tuple[int, str]]:
    """Return the elements whose driver unit differs from ours: the rest is left alone, at 100 Hz."""
    return [(i, name) for i, name in enumerate(spec.names) if not _is_identity(rig, name)]


def _is_identity(rig: Rig, name: str) -> bool:
    member = rig.members[rig.state_names.index(name)]
    plain_joint = getattr(member, "sign", 1) == 1 and member.offset == 0.0
    plain_gripper = getattr(member, "raw", "linear") == "linear" and getattr(member, "scale", 1.0) == 1.0
    return plain_joint and plain_gripper
