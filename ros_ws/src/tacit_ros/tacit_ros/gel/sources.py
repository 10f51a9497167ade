"""Where pictures of a gel come from: a UVC camera by Video4Linux, or files that stand in for one."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

# Seconds that a read may wait for a camera that sends nothing, instead of OpenCV's ten; read at its import.
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "2")

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.rig import DeviceSpec, GelSpec
from tacit_ros.gel.devices import DeviceError, find_device

MANUAL_EXPOSURE = 1.0
"""V4L2_EXPOSURE_MANUAL, as the Video4Linux backend of OpenCV hands it on."""
OLDEST_NS = 1_000_000_000
"""A driver's stamp further back than this is of another clock than the monotonic one, or none at all."""
PICTURES = (".png", ".jpg", ".jpeg", ".bmp")


@dataclass(frozen=True)
class Grab:
    """One picture as taken: BGR (H, W, 3), and when, on the machine's clock.

    Attributes:
        by_driver: Whether the stamp is the driver's, of the moment its buffer was filled; else of reception.
    """

    taken_bgr: NDArray[np.uint8]
    stamp_ns: int
    by_driver: bool = False


class Source(Protocol):
    """An open sensor; `text` says what it is and how it was set."""

    text: str

    def grab(self, stopping: threading.Event) -> Grab | None:
        """Wait for the next picture; None where the sensor is gone, or `stopping` was set."""

    def close(self) -> None:
        """Release it."""


def open_source(spec: GelSpec, device: DeviceSpec) -> Source:
    """Open a sensor: files where `path` is a folder or a video, else the camera by path or serial number.

    Raises:
        DeviceError: It is not there, or does not open.
    """
    rate_hz = device.fps or spec.rate_hz
    path = Path(device.path) if device.path else find_device(spec.serial)
    if not path.exists():
        raise DeviceError(f"no {path}: is the sensor plugged in?")
    if path.is_dir() or path.is_file():
        return FileSource(path, rate_hz)
    return UvcSource(path, device, rate_hz)


def stamp_of(driver_ms: float, monotonic_ns: int, wall_ns: int) -> tuple[int, bool]:
    """Return when a picture was taken on the machine's clock, and whether the driver said so.

    Args:
        driver_ms: What the driver says, on the monotonic clock [ms]; 0 or less where it says nothing.
        monotonic_ns, wall_ns: The present on both clocks.
    """
    age_ns = monotonic_ns - round(driver_ms * 1e6)
    known = driver_ms > 0 and 0 <= age_ns <= OLDEST_NS
    return (wall_ns - age_ns, True) if known else (wall_ns, False)


class UvcSource:
    """A UVC camera.

    Exposure, white balance and gain stand still: what a gel shows are differences of brightness, and a
    camera that adapts takes them away.

    Args:
        path: Device, or a link to it.
        device: Size, coding and settings.
        rate_hz: Pictures per second to ask for.
        capture: Opens it; OpenCV's by default.

    Raises:
        DeviceError: It does not open, or sends pictures of another size.
    """

    def __init__(
        self, path: Path, device: DeviceSpec, rate_hz: float, capture: Callable[..., Any] = cv2.VideoCapture
    ) -> None:
        self._capture = capture(str(path.resolve()), cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise DeviceError(
                f"{path} does not open: is another program using it, and may this user read it?"
            )
        refused = [
            name for name, prop, value in _settings(device, rate_hz) if not self._capture.set(prop, value)
        ]
        width, height = (
            int(self._capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        if (width, height) != (device.width, device.height):
            self.close()
            raise DeviceError(
                f"{path} gives {width}x{height} px, asked for {device.width}x{device.height}; "
                f"`v4l2-ctl --list-formats-ext -d {path}` lists what it can, set `device` to one of them"
            )
        self.text = f"{path.name}, {width}x{height} at {self._capture.get(cv2.CAP_PROP_FPS):g} Hz"
        if refused:
            self.text += f"; the driver refused to set {', '.join(refused)}"

    def grab(self, stopping: threading.Event) -> Grab | None:
        """Wait for the next buffer."""
        if stopping.is_set() or not self._capture.grab():
            return None
        now = time.monotonic_ns(), time.time_ns()
        stamp_ns, by_driver = stamp_of(self._capture.get(cv2.CAP_PROP_POS_MSEC), *now)
        whole, picture = self._capture.retrieve()
        return Grab(picture, stamp_ns, by_driver) if whole else None

    def close(self) -> None:
        """Release the device."""
        self._capture.release()


def _settings(device: DeviceSpec, rate_hz: float) -> Iterator[tuple[str, int, float]]:
    """Yield (name, property, value) as drivers want them: coding before size, automatic off before values."""
    if device.fourcc:
        yield "coding", cv2.CAP_PROP_FOURCC, float(cv2.VideoWriter.fourcc(*device.fourcc))
    yield "width", cv2.CAP_PROP_FRAME_WIDTH, float(device.width)
    yield "height", cv2.CAP_PROP_FRAME_HEIGHT, float(device.height)
    yield "rate", cv2.CAP_PROP_FPS, rate_hz
    if device.locked:
        yield "manual exposure", cv2.CAP_PROP_AUTO_EXPOSURE, MANUAL_EXPOSURE
        yield "manual white balance", cv2.CAP_PROP_AUTO_WB, 0.0
    if device.exposure is not None:
        yield "exposure", cv2.CAP_PROP_EXPOSURE, device.exposure
    if device.white_balance_k is not None:
        yield "white balance", cv2.CAP_PROP_WB_TEMPERATURE, device.white_balance_k
    if device.gain is not None:
        yield "gain", cv2.CAP_PROP_GAIN, device.gain


class FileSource:
    """A folder of pictures, or a video, as a sensor: over and over at its rate, until the files are gone.

    Args:
        path: Folder or video.
        rate_hz: Pictures per second.

    Raises:
        DeviceError: There is no picture in it.
    """

    def __init__(self, path: Path, rate_hz: float) -> None:
        self._path, self._period_s = path, 1.0 / rate_hz
        self._due = time.monotonic()
        self._pictures = self._read()
        self.text = f"files of {path}"

    def grab(self, stopping: threading.Event) -> Grab | None:
        """Wait until the next picture is due."""
        self._due += self._period_s
        if stopping.wait(max(0.0, self._due - time.monotonic())):
            return None
        picture = next(self._pictures, None)
        if picture is None:
            self._pictures = self._read()
            picture = next(self._pictures, None)
        return None if picture is None else Grab(picture, time.time_ns())

    def close(self) -> None:
        """Nothing is held."""

    def _read(self) -> Iterator[NDArray[np.uint8]]:
        if self._path.is_dir():
            files = sorted(p for p in self._path.iterdir() if p.suffix.lower() in PICTURES)
            return (_bytes(picture) for p in files if (picture := cv2.imread(str(p))) is not None)
        return _frames(self._path)


def _frames(path: Path) -> Iterator[NDArray[np.uint8]]:
    video = cv2.VideoCapture(str(path))
    while (read := video.read())[0]:
        yield _bytes(read[1])
    video.release()


def _bytes(picture: NDArray[Any]) -> NDArray[np.uint8]:
    return picture.astype(np.uint8, copy=False)
