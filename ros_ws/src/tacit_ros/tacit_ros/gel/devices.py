"""Which /dev/video a sensor is: by its serial number, since the numbers change with every plug."""

from __future__ import annotations

import re
from pathlib import Path

from tacit.errors import TacitError

BY_ID = Path("/dev/v4l/by-id")
"""Where udev names every camera by maker, model and serial number."""


class DeviceError(TacitError):
    """A sensor cannot be opened now; it may be plugged in later."""


def find_device(serial: str, folder: Path = BY_ID) -> Path:
    """Return the video device of a sensor.

    Names end in `-video-index0` for pictures (other indices are metadata); the serial number stands
    between underscores, also before another spelling of it, as GelSight's Mini has it.

    Args:
        serial: As it is printed on the sensor: D20118, 28F5-K4RR.
        folder: Names by udev.

    Raises:
        DeviceError: None has it, or several do; the message lists what is there.
    """
    names = sorted(path.name for path in folder.glob("*-video-index0")) if folder.is_dir() else []
    fitting = [name for name in names if re.search(rf"(^|_){re.escape(serial)}(_|-video)", name)]
    if len(fitting) == 1:
        return folder / fitting[0]
    there = ", ".join(names) or "no camera"
    if fitting:
        raise DeviceError(
            f"{len(fitting)} devices of serial {serial!r}: {', '.join(fitting)}; give `device.path`"
        )
    raise DeviceError(f"no device of serial {serial!r} in {folder}; there is {there}")
