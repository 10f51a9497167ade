"""The driver of gels: the right camera, the picture that the rig describes, true stamps, nothing twice."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image

from tacit.errors import RigError, TacitError
from tacit.rig import DeviceSpec, GelSpec, Rig, load_rig, parse_rig
from tacit_ros import messages
from tacit_ros.gel.devices import DeviceError, find_device
from tacit_ros.gel.feed import REFERENCE_FRAMES, GelFeed
from tacit_ros.gel.shape import shaped
from tacit_ros.gel.sources import FileSource, Grab, UvcSource, open_source, stamp_of
from tacit_ros.run.stacks import build_stack
from tacit_ros.tactile_camera_node import TactileCameraNode
from tacit_ros.wire import qos

DIGIT = "usb-Facebook_DIGIT_D20118-video-index0"
MINI = "usb-Arducam_Technology_Co.__Ltd._GelSight_Mini_R0B_28F5-K4RR_28F5K4RR-video-index0"
SIZE = (80, 60)
QUARTERS = np.zeros((60, 80, 3), dtype=np.uint8)
QUARTERS[:30, :40], QUARTERS[:30, 40:], QUARTERS[30:, :40], QUARTERS[30:, 40:] = 40, 90, 140, 190


def corners(picture: np.ndarray) -> list[int]:
    """Grey of the four corners: top left, top right, bottom left, bottom right."""
    return [int(picture[y, x, 0]) for y in (2, -3) for x in (2, -3)]


def gel(number: int) -> np.ndarray:
    """A picture like no other: BGR (60, 80, 3)."""
    return np.random.default_rng(number).integers(60, 64, (60, 80, 3)).astype(np.uint8)


@pytest.fixture
def spec(rig: Rig) -> GelSpec:
    """The left sensor of the cell, with a device that takes pictures of its size."""
    device = DeviceSpec(width=SIZE[0], height=SIZE[1])
    return rig.tactile["left"].model_copy(update={"device": device, "serial": "D20118"})


def test_device_is_found_by_the_serial_number_alone(tmp_path: Path) -> None:
    for name in (DIGIT, DIGIT.replace("index0", "index1"), DIGIT.replace("18", "189"), MINI):
        (tmp_path / name).touch()
    assert find_device("D20118", tmp_path).name == DIGIT
    assert find_device("28F5-K4RR", tmp_path).name == MINI
    with pytest.raises(DeviceError, match=r"no device of serial 'D2011'.*DIGIT_D20118-video-index0, "):
        find_device("D2011", tmp_path)
    (tmp_path / DIGIT.replace("Facebook", "Other")).touch()
    with pytest.raises(DeviceError, match="2 devices of serial 'D20118'.*device.path"):
        find_device("D20118", tmp_path)
    with pytest.raises(DeviceError, match="there is no camera"):
        find_device("D20118", tmp_path / "absent")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, [40, 90, 140, 190]),
        ({"rotate_deg": 90}, [140, 40, 190, 90]),
        ({"rotate_deg": 180}, [190, 140, 90, 40]),
        ({"rotate_deg": 270}, [90, 190, 40, 140]),
        ({"flip": "horizontal"}, [90, 40, 190, 140]),
        ({"flip": "vertical"}, [140, 190, 40, 90]),
        ({"rotate_deg": 90, "flip": "horizontal"}, [40, 140, 90, 190]),
        ({"crop": (40, 0, 80, 30)}, [90, 90, 90, 90]),
        ({"crop": (20, 15, 60, 45)}, [40, 90, 140, 190]),
    ],
)
def test_picture_is_cropped_then_turned_then_flipped_then_sized(change: dict, expected: list[int]) -> None:
    picture = shaped(QUARTERS, DeviceSpec(width=80, height=60, **change), (32, 24))
    assert picture.shape == (24, 32, 3) and corners(picture) == expected


def test_picture_is_rgb_and_a_crop_must_lie_inside(spec: GelSpec) -> None:
    blue = np.zeros((60, 80, 3), dtype=np.uint8)
    blue[..., 0] = 200
    assert shaped(blue, DeviceSpec(width=80, height=60), SIZE)[0, 0].tolist() == [0, 0, 200]
    with pytest.raises(ValueError, match="within 80x60 px"):
        DeviceSpec(width=80, height=60, crop=(0, 0, 81, 60))
    with pytest.raises(RigError, match="of a picture of 80x60 px"):
        shaped(blue, DeviceSpec(crop=(0, 0, 640, 480)), SIZE)
    data = load_rig("nova2_sim").model_dump(mode="json")
    data["tactile"]["left"] |= {"serial": "", "device": {}}
    with pytest.raises(RigError, match="tactile.left: device: neither `serial`"):
        parse_rig(data, "my.yaml")


def test_stamp_is_the_drivers_where_it_is_of_the_monotonic_clock() -> None:
    now, wall = 5_000_000_000, 1_700_000_000_000_000_000
    assert stamp_of(4980.0, now, wall) == (wall - 20_000_000, True)
    for unknown_ms in (0.0, -1.0, 3000.0, 5100.0, 1.7e12):  # none, stale, of the future, of another clock
        assert stamp_of(unknown_ms, now, wall) == (wall, False)


class FakeCapture:
    """A camera of Video4Linux as OpenCV shows it; `refuses` are properties that it does not take."""

    refuses: tuple[int, ...] = ()

    def __init__(self, path: str, backend: int) -> None:
        self.path, self.backend, self.open = path, backend, True
        self.set_to: dict[int, float] = {}
        self.age_ms = 12.0

    def isOpened(self) -> bool:
        return self.open

    def set(self, prop: int, value: float) -> bool:
        self.set_to |= {} if prop in self.refuses else {prop: value}
        return prop not in self.refuses

    def get(self, prop: int) -> float:
        if prop == cv2.CAP_PROP_POS_MSEC:
            return time.monotonic_ns() / 1e6 - self.age_ms
        return self.set_to.get(prop, 0.0)

    def grab(self) -> bool:
        return self.open

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, QUARTERS

    def release(self) -> None:
        self.open = False


def test_camera_is_locked_before_its_values_are_set_and_its_buffers_are_stamped() -> None:
    made: list[Any] = []
    device = DeviceSpec(fourcc="MJPG", exposure=120.0, white_balance_k=4600.0, gain=0.0)
    source = UvcSource(Path("/dev/video7"), device, 30.0, lambda *a: made.append(FakeCapture(*a)) or made[0])
    order = list(made[0].set_to)
    assert made[0].backend == cv2.CAP_V4L2 and made[0].path == "/dev/video7"
    assert order.index(cv2.CAP_PROP_FOURCC) < order.index(cv2.CAP_PROP_FRAME_WIDTH)
    assert order.index(cv2.CAP_PROP_AUTO_EXPOSURE) < order.index(cv2.CAP_PROP_EXPOSURE)
    assert made[0].set_to[cv2.CAP_PROP_AUTO_WB] == 0 and made[0].set_to[cv2.CAP_PROP_AUTO_EXPOSURE] == 1
    before = time.time_ns()
    grab = source.grab(threading.Event())
    assert grab.by_driver and 0 < before - grab.stamp_ns < 12_000_001
    made[0].open = False
    assert source.grab(threading.Event()) is None
    assert "refused" not in source.text


def test_camera_that_is_not_what_the_rig_says_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeCapture, "refuses", (cv2.CAP_PROP_EXPOSURE,))
    source = UvcSource(Path("/dev/video7"), DeviceSpec(exposure=1.0), 30.0, FakeCapture)
    assert source.text.endswith("the driver refused to set exposure")
    monkeypatch.setattr(FakeCapture, "refuses", (cv2.CAP_PROP_FRAME_WIDTH,))
    with pytest.raises(DeviceError, match="gives 0x480 px, asked for 640x480"):
        UvcSource(Path("/dev/video7"), DeviceSpec(), 30.0, FakeCapture)
    monkeypatch.setattr(FakeCapture, "isOpened", lambda self: False)
    with pytest.raises(DeviceError, match="is another program using it"):
        UvcSource(Path("/dev/video7"), DeviceSpec(), 30.0, FakeCapture)


class Script:
    """A source that gives these pictures, then is gone."""

    text = "a script"

    def __init__(self, pictures: list[np.ndarray]) -> None:
        self.pictures = iter(pictures)

    def grab(self, stopping: threading.Event) -> Grab | None:
        picture = next(self.pictures, None)
        return None if picture is None else Grab(picture, 1)

    def close(self) -> None:
        self.text = "closed"


def test_no_repeated_and_no_black_picture_is_new_and_a_lost_sensor_is_opened_again(
    spec: GelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tacit_ros.gel.feed.RETRY_S", 0.0)
    a, b, c, black = gel(1), gel(2), gel(3), np.zeros_like(gel(0))
    plugs = iter([Script([black, a, a, a, b, black, black, b, a]), DeviceError("unplugged"), Script([c, c])])
    stopping, seen, said = threading.Event(), [], []

    def opened(spec: GelSpec, device: DeviceSpec) -> Script:
        plug = next(plugs, None)
        if plug is None:
            stopping.set()
            raise DeviceError("over")
        if isinstance(plug, DeviceError):
            raise plug
        return plug

    feed = GelFeed("left", spec, lambda stamp_ns, picture: seen.append(picture), said.append, opened)
    feed.run(stopping)
    expected = [a, b, b, a, c]
    assert len(seen) == len(expected)
    assert all((s == e[:, :, ::-1]).all() for s, e in zip(seen, expected, strict=True))
    assert feed.counts == {"new": 5, "repeated": 4, "black": 2, "lost": 2}
    gone = "left: gone; waiting for it to come back"
    assert said == ["left: a script", gone, "left: unplugged", "left: a script", gone, "left: over"]


def test_reference_is_the_mean_of_a_gel_at_rest_and_refused_while_it_changes(spec: GelSpec) -> None:
    def feed_of(pictures: list[np.ndarray]) -> GelFeed:
        feed = GelFeed("left", spec, lambda *_: None, lambda _: None, lambda *_: Script(pictures))
        threading.Thread(target=lambda: _when_wanted(feed), daemon=True).start()
        return feed

    def _when_wanted(feed: GelFeed) -> None:
        while feed._wanted is None:
            time.sleep(0.001)
        stopping = threading.Event()
        feed._follow(feed._opened(spec, feed._device), stopping)

    rest = [gel(n) for n in range(REFERENCE_FRAMES)]
    mean = feed_of(rest).reference()
    np.testing.assert_allclose(mean, np.mean(rest, axis=0)[:, :, ::-1], atol=0.5)
    moving = [np.full_like(gel(0), 60 + 12 * n) for n in range(REFERENCE_FRAMES)]
    with pytest.raises(TacitError, match="let nothing touch the gel"):
        feed_of(moving).reference()


def test_files_stand_in_for_a_sensor_over_and_over_until_they_are_gone(tmp_path: Path, spec: GelSpec) -> None:
    folder = tmp_path / "gel"
    folder.mkdir()
    for number in range(2):
        cv2.imwrite(str(folder / f"{number}.png"), gel(number))
    device = DeviceSpec(path=str(folder), width=80, height=60, fps=200.0)
    source = open_source(spec, device)
    assert isinstance(source, FileSource)
    begin, stopping = time.monotonic(), threading.Event()
    taken = [source.grab(stopping).taken_bgr for _ in range(5)]
    assert time.monotonic() - begin >= 0.024
    assert [int((t == gel(1)).all()) for t in taken] == [0, 1, 0, 1, 0]
    shutil.rmtree(folder)
    with pytest.raises(DeviceError, match="is the sensor plugged in"):
        open_source(spec, device)


def test_node_publishes_what_the_rig_describes_and_waits_for_a_sensor_that_is_unplugged(
    bench, tmp_path: Path
) -> None:
    folder = tmp_path / "gel"

    def plug() -> None:
        folder.mkdir()
        for number in range(20):
            cv2.imwrite(str(folder / f"{number:02}.png"), gel(number))

    plug()
    data = load_rig("nova2_sim").model_dump(mode="json")
    del data["simulation"]
    data["tactile"]["left"]["device"] = {"path": str(folder), "width": 80, "height": 60, "fps": 50.0}
    path = tmp_path / "rig.yaml"
    path.write_text(parse_rig(data, "test").to_yaml(), encoding="utf-8")
    assert [n.module for n in build_stack("record", str(path)).nodes][0] == "tacit_ros.tactile_camera_node"
    assert "tactile_camera" not in {n.name for n in build_stack("record", "nova2_sim").nodes}
    spec = load_rig(path).tactile["left"]
    heard: list[Image] = []
    references: list[Image] = []
    reports: list[DiagnosticArray] = []
    subscribe = bench.node.create_subscription
    subscribe(Image, spec.topic, heard.append, qos.profile(spec.qos))
    subscribe(Image, "/tactile_camera/left/reference", references.append, qos.latched())
    subscribe(DiagnosticArray, "/diagnostics", reports.append, 10)
    node = TactileCameraNode([Parameter("rig", value=str(path))])
    bench.add(node)
    try:
        bench.until(lambda: len(heard) > 5, "pictures")
        assert (heard[0].width, heard[0].height, heard[0].encoding) == (80, 60, "rgb8")
        known = {gel(n)[:, :, ::-1].tobytes() for n in range(20)}
        assert {bytes(m.data) for m in heard} <= known
        stamps = [messages.header_stamp_ns(m) for m in heard]
        assert (np.diff(stamps) > 0).all() and 0 <= time.time_ns() - stamps[-1] < 20e9
        answer = bench.call("/tactile_camera/reference")
        assert answer.success, answer.message
        bench.until(lambda: references, "the reference")
        shutil.rmtree(folder)
        feed = node.feeds["left"]
        bench.until(lambda: not feed.is_open, "a sensor that is gone")
        bench.until(lambda: any(s.level != b"\x00" for m in reports for s in m.status), "an error")
        count = len(heard)
        plug()
        bench.until(lambda: len(heard) > count + 3, "pictures of a sensor that is back")
        assert feed.counts["lost"] == 1
    finally:
        node.close()


def test_node_refuses_a_rig_that_names_no_device(ros) -> None:
    with pytest.raises(RigError, match="no tactile sensor has a `device`"):
        TactileCameraNode([Parameter("rig", value="nova2_sim")])
    with pytest.raises(RigError, match="did you mean 'left'"):
        TactileCameraNode([Parameter("rig", value="nova2_sim"), Parameter("sensor", value="lft")])
