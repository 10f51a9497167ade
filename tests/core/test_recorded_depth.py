"""From message to page: a depth camera, a wrench and a planned motion are recorded, checked and shown."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from tacit.convert.vace_e import choose_camera
from tacit.episode import EpisodeReader, EpisodeWriter, check_episode, recover
from tacit.errors import CalibrationError, EpisodeError
from tacit.images import encode_jpeg
from tacit.images.depth import depth_colours, encode_depth
from tacit.record.capture import Capture
from tacit.record.recorder import RecorderSession, SessionSettings
from tacit.rig import Rig, load_rig, parse_rig
from tacit.streams import Intake, Sample, Tick, Trajectory
from tacit.view.episode_page import boxed_image, episode_page

SECOND = 10**9
BEGIN = 1_700_000_000 * SECOND
TICK = SECOND // 25
NUM_TICKS = 40


@pytest.fixture(scope="module")
def rig() -> Rig:
    data = load_rig("nova2_sim").model_dump(mode="json")
    data["cameras"]["range"] = data["cameras"]["top"] | {
        "kind": "depth",
        "topic": "/range",
        "info_topic": None,
    }
    names = ["fx", "fy", "fz", "tx", "ty", "tz"]
    wrench = {"topic": "/wrench", "type": "geometry_msgs/msg/WrenchStamped", "rate_hz": 25.0, "role": "extra"}
    data["streams"]["wrench"] = wrench | {"names": names}
    data["commands"]["command"]["type"] = "trajectory_msgs/msg/JointTrajectory"
    data["streams"].pop("progress", None)
    return parse_rig(data, "test")


def depth_at(number: int) -> np.ndarray:
    """Distances (120, 160) [mm] that differ from tick to tick, with a hole."""
    mm = np.full((120, 160), 700 + number, np.uint16) + np.arange(160, dtype=np.uint16)
    mm[:20, :20] = 0
    return mm


def motion(first: float, last: float) -> Trajectory:
    """All joints from `first` to `last` in half a second, then still."""
    return Trajectory(np.array([0, SECOND // 2]), np.stack([np.full(7, first), np.full(7, last)]))


SENT, REPLACED = 8, 16
"""Ticks at which a motion from .02 to .07 is sent, and one from .05 to .03 that replaces it under way."""


def value_of(rig: Rig, name: str, number: int) -> object:
    if name == "range":
        return depth_at(number)
    if name in rig.image_names:
        spec = rig.specs[name]
        picture = np.random.default_rng(number).integers(0, 256, (spec.height, spec.width, 3), dtype=np.uint8)
        return picture
    if name == "wrench":
        return np.arange(6.0) + number
    if name == "stage":
        return np.array([0.0])
    return np.full(len(rig.specs[name].names), 0.05)


@pytest.fixture(scope="module")
def episode(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Recorded by the session: raw depth, and two commands of two points each."""
    root = tmp_path_factory.mktemp("depth")
    session = RecorderSession(rig, SessionSettings(root), lambda *_: None, lambda _: None)
    session.receive("command", BEGIN - TICK, BEGIN - TICK, np.full(7, 0.02))
    session.start("reach", "reach out")
    for number in range(NUM_TICKS):
        for name, spec in rig.specs.items():
            if name == "command":
                continue
            for k in range(round(spec.rate_hz / 25)):
                stamp = BEGIN + number * TICK + k * round(SECOND / spec.rate_hz)
                session.receive(name, stamp, stamp + 1_000_000, value_of(rig, name, number))  # type: ignore[arg-type]
        if number in (SENT, REPLACED):
            plan = motion(0.02, 0.07) if number == SENT else motion(0.05, 0.03)
            session.receive("command", BEGIN + number * TICK, BEGIN + number * TICK, plan)
        session._encoders.drain()
    yield session.stop(True)
    session.close()


def test_depth_is_read_back_to_the_millimetre(episode: Path) -> None:
    with EpisodeReader(episode) as reader:
        assert reader.depth_cameras == ("range",) and "range" not in reader.cameras
        for tick in (0, 20, NUM_TICKS - 1):
            found = reader.depth("range", tick)
            assert found.dtype == np.uint16
            np.testing.assert_array_equal(found, depth_at(tick))
        np.testing.assert_array_equal(list(reader.pictures("range", slice(3, 5)))[1], depth_at(4))
        with pytest.raises(EpisodeError, match="depth camera: use depth"):
            reader.image("range", 0)
        stored = reader.file["observations/depth/range"].attrs
        assert (stored["encoding"], stored["dtype"], stored["units"]) == ("png", "uint16", "mm")
        assert reader.boxes("range", "left").shape == (NUM_TICKS, 4)  # touch is located there as well
        assert "range" not in reader.file["observations/images"]  # where others take all for colours


def commanded(seconds: np.ndarray) -> np.ndarray:
    """What was commanded, so long after the first motion was sent."""
    later = seconds - (REPLACED - SENT) / 25
    first = np.interp(seconds, [0.0, 0.5], [0.02, 0.07])
    return np.where(later < -1e-9, first, np.interp(later, [0.0, 0.5], [0.05, 0.03]))


def test_a_planned_motion_is_the_command_until_the_next_replaces_it(episode: Path) -> None:
    with EpisodeReader(episode) as reader:
        seconds = (np.arange(NUM_TICKS) - SENT) / 25
        np.testing.assert_allclose(reader.action[:, 0], commanded(seconds), atol=1e-6)
        table = reader.stream("command")
        after = (table["stamp_ns"] - BEGIN) / SECOND - SENT / 25
        sent = after >= -1e-9
        assert np.diff(table["stamp_ns"]).min() > 0
        np.testing.assert_allclose(table["data"][sent, 0], commanded(after[sent]), atol=1e-9)
        # 0.32 s of the first and 0.5 s of the second at the rate of the stream, and the last point
        rate_hz = reader.rig.commands["command"].rate_hz
        assert after[-1] == pytest.approx(0.82)
        assert sent.sum() == np.ceil(0.32 * rate_hz) + np.ceil(0.5 * rate_hz) + 1


def test_a_wrench_is_stored_at_ticks_and_at_its_own_rate(episode: Path) -> None:
    with EpisodeReader(episode) as reader:
        np.testing.assert_allclose(reader.file["observations/extra/wrench"][7], np.arange(6.0) + 7)
        np.testing.assert_allclose(reader.stream("wrench")["data"][9], np.arange(6.0) + 9)


def findings(path: Path, full: bool = False) -> list[tuple[str, str, str]]:
    return [(f.rule, f.where, f.message) for f in check_episode(path, full).findings]


def test_check_reads_depth_as_depth(episode: Path) -> None:
    found = findings(episode, full=True)
    assert not [f for f in found if f[0].startswith("E")]
    assert not [f for f in found if "range" in f[1]]  # 12 % holes are not darkness, nor is a plane blurred


def spoiled(episode: Path, tmp_path: Path, tick: int, data: np.ndarray) -> Path:
    path = Path(shutil.copy(episode, tmp_path / "episode_0.hdf5"))
    with h5py.File(path, "r+") as file:
        file["observations/depth/range"][tick] = data
    return path


def test_check_names_a_depth_image_without_any_distance(episode: Path, tmp_path: Path) -> None:
    path = spoiled(episode, tmp_path, 11, encode_depth(np.zeros((120, 160), np.uint16)))
    for full in (False, True):
        assert ("W04", "range", "tick 11: no pixel holds a distance") in findings(path, full)


@pytest.mark.parametrize("kind", ["cut", "colours", "size"])
def test_check_names_a_depth_image_that_is_none(episode: Path, tmp_path: Path, kind: str) -> None:
    data = {
        "cut": encode_depth(depth_at(0))[:-4],
        "colours": encode_jpeg(np.zeros((120, 160, 3), np.uint8)),
        "size": encode_depth(depth_at(0)[:60]),
    }[kind]
    path = spoiled(episode, tmp_path, 0, data)
    assert [f[1] for f in findings(path) if f[0] == "E04"] == ["range, tick 0"]
    with EpisodeReader(path) as reader:
        if kind != "size":
            with pytest.raises(EpisodeError, match="range, tick 0"):
                reader.depth("range", 0)


def test_page_shows_depth_in_colours(episode: Path) -> None:
    with EpisodeReader(episode) as reader:
        html = episode_page(reader, check_episode(episode)).html()
        assert "Depth goes from near (red) to far (blue)" in html
        picture = boxed_image(reader, "range", 3)
        np.testing.assert_array_equal(picture[::2, ::2][5, 100], depth_colours(depth_at(3))[5, 100])


def test_a_video_of_colours_is_not_made_of_depth(episode: Path) -> None:
    with EpisodeReader(episode) as reader:
        with pytest.raises(EpisodeError, match="'range' is a depth camera.*choose one of top, wrist"):
            choose_camera(reader, "range")
        assert choose_camera(reader, None) == "top"


def test_recovery_keeps_depth(rig: Rig, tmp_path: Path) -> None:
    writer = EpisodeWriter(tmp_path / "episode_0.hdf5", rig, task="t", sync=False)
    for number in range(3):
        writer.append(tick_of(rig, number))
    writer.flush()
    part = shutil.copy(writer.part, tmp_path / "episode_7.hdf5.part")
    writer.discard()
    with EpisodeReader(recover(part)) as reader:
        np.testing.assert_array_equal(reader.depth("range", 2), depth_at(2))


def tick_of(rig: Rig, number: int, depth: np.ndarray | None = None) -> Tick:
    stamp = BEGIN + number * TICK
    values = {name: value_of(rig, name, number) for name in rig.specs}
    values |= {name: encode_jpeg(values[name]) for name in rig.image_names if name != "range"}  # type: ignore[arg-type]
    values["range"] = encode_depth(depth_at(number)) if depth is None else depth
    return Tick(stamp, number, {name: Sample(v, stamp, stamp, number, True) for name, v in values.items()})


def test_writer_takes_no_colours_for_depth(rig: Rig, tmp_path: Path) -> None:
    writer = EpisodeWriter(tmp_path / "episode_0.hdf5", rig, task="t", sync=False)
    with pytest.raises(EpisodeError, match="'range': expected a 16-bit grey PNG"):
        writer.append(tick_of(rig, 0, encode_jpeg(np.zeros((120, 160, 3), np.uint8))))
    writer.append(tick_of(rig, 0))
    writer.discard()


@pytest.mark.parametrize("encoded", [True, False])
def test_a_depth_camera_that_measures_nothing_is_named_and_one_with_holes_is_not(
    rig: Rig, encoded: bool
) -> None:
    intake, empty = Intake(rig), np.zeros((120, 160), np.uint16)
    for k, (mm, expected) in enumerate([(depth_at(0), None), (empty, "black"), (depth_at(1), None)]):
        stamp = BEGIN + k * TICK
        assert intake.take("range", stamp, stamp, encode_depth(mm) if encoded else mm, stamp) == stamp
        found = intake.findings().get("range")
        assert (found.kind if found else None) == expected
    # Encoded, one picture of many bytes in 25 is decoded to look; an empty one has few.


def test_a_depth_camera_cannot_look_at_a_board(rig: Rig, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="'range' is a depth camera"):
        Capture(rig, "arm", "range", tmp_path)
