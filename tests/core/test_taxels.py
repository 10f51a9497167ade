"""Facts about touch that is no picture: in the rig, on its way in, in the file, in the check, on a page."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from episode_kit import START_NS, rig
from recorder_feed import BEGIN, TICK
from taxel_kit import reading_at, record_taxels, taxel_rig, write_taxel_episode

from tacit.control.free_taxels import FreeTaxels
from tacit.episode import EpisodeReader, EpisodeWriter, check_episode, recover
from tacit.episode.cut import trim
from tacit.episode.measures import measure
from tacit.errors import EpisodeError, RigError
from tacit.images.taxels import taxel_colours
from tacit.record.monitor import monitors_of
from tacit.record.references import TouchReferences
from tacit.rig import Rig, parse_rig
from tacit.streams import Intake
from tacit.view.draw import touch_picture
from tacit.view.episode_page import episode_page


@pytest.fixture(scope="module")
def episode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_taxel_episode(tmp_path_factory.mktemp("taxels"))


def changed(sensor: str, **fields: object) -> Rig:
    data = taxel_rig().model_dump(mode="json")
    data["tactile"][sensor] |= fields
    return parse_rig(data, "x")


ARRAY = {"rows": 12, "columns": 10, "channels": 2, "range": [0, 1]}
WRENCH = "geometry_msgs/msg/WrenchStamped"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"aray": {}}, "tactile.left.aray: unknown key; did you mean 'array'"),
        ({"array": ARRAY | {"colums": 3}}, "array.colums: unknown key; did you mean 'columns'"),
        ({"array": ARRAY | {"range": [1, 0]}}, "low 1.0 is not below high 0.0"),
        ({"array": ARRAY | {"range": [[0, 1]] * 3}}, "3 pairs, expected one"),
        ({"array": ARRAY | {"rows": 0}}, "array.rows"),
        ({"array": ARRAY | {"rows": 256, "columns": 256}}, "at most 65536"),
        ({"type": WRENCH}, "carries force and torque"),
        ({"type": "sensor_msgs/msg/Image"}, "tactile.left.type"),
    ],
)
def test_a_mistake_in_an_array_is_named_with_its_place(fields: dict, message: str) -> None:
    with pytest.raises(RigError, match=message.replace("[", r"\[")):
        changed("left", **fields)


def test_a_wrench_at_a_fingertip_is_an_array_of_one_taxel() -> None:
    array = {"rows": 1, "columns": 1, "channels": 6, "range": [[-10, 10]] * 3 + [[-1, 1]] * 3}
    spec = changed("left", type=WRENCH, array=array).taxels["left"]
    assert spec.array.shape == (1, 1, 6) and spec.array.high.tolist() == [10, 10, 10, 1, 1, 1]


def test_an_array_is_where_a_gel_in_its_place_would_be() -> None:
    q = [0.1, 0.2, 1.1, 0.4, -1.5, 0.6, 0.03]
    for camera in rig().cameras:
        gels, arrays = rig().sensor_boxes(q, camera), taxel_rig().sensor_boxes(q, camera)
        for name in gels:
            np.testing.assert_array_equal(arrays[name].box, gels[name].box)
    assert taxel_rig().calibration == rig().calibration


def heard(readings: list[np.ndarray]) -> tuple[list[str | None], Intake]:
    """What the intake says after each reading."""
    intake, said = Intake(taxel_rig()), []
    for k, reading in enumerate(readings):
        stamp_ns = START_NS + k * 20_000_000
        intake.take("left", stamp_ns, stamp_ns, reading, stamp_ns)
        finding = intake.findings().get("left")
        said.append(finding.kind if finding else None)
    return said, intake


def test_what_is_no_number_or_of_another_size_is_refused_and_counted() -> None:
    good = reading_at("left", START_NS)
    bad = good.copy()
    bad[3, 4, 0] = np.nan
    said, intake = heard([good, bad, good[:5], good])
    assert said[1:3] == ["not_finite", "size"] and intake.accepted["left"] == 2
    assert "1 of 120 values" in heard([bad])[1].problems["left"].text and intake.num_refused("left") == 2


def test_a_driver_that_repeats_itself_is_doubted_and_a_skin_at_rest_is_not() -> None:
    good, still = reading_at("left", START_NS), np.zeros((12, 10, 1), np.float32)
    assert heard([good] * 25)[0] == [None] * 24 + ["frozen"]
    assert heard([still] * 40)[0] == [None] * 40
    assert heard([good * 100])[0] == ["out_of_limits"]  # hundredths, where the rig says newtons


def test_episode_holds_each_reading_at_its_own_rate_and_the_nearest_at_each_tick(episode: Path) -> None:
    with EpisodeReader(episode) as reader:
        assert (reader.taxels, reader.gels) == (("left", "right"), ())
        for name in reader.taxels:
            sent = reader.stream(name)
            assert len(sent["data"]) == 80 and sent["data"].dtype == np.float32
            for stamp_ns, reading in zip(sent["stamp_ns"], sent["data"], strict=True):
                np.testing.assert_array_equal(reading, reading_at(name, int(stamp_ns)))
            at_ticks = [reading_at(name, int(stamp)) for stamp in reader.tick_ns]
            np.testing.assert_array_equal(reader.readings(name), at_ticks)
            np.testing.assert_array_equal(reader.reference(name), np.full_like(at_ticks[0], 0.1))
            assert reader.timestamps(name)["fresh"].all()
        box = taxel_rig().sensor_boxes(reader.qpos[7], "wrist")["right"].box
        np.testing.assert_allclose(reader.boxes("wrist", "right")[7], box, atol=1e-3)
        with pytest.raises(EpisodeError, match="no image stream 'left'"):
            reader.touch("left", 0)
    assert {f.rule for f in check_episode(episode, full=True).findings} <= {"W05", "W13", "W14"}


def test_a_cut_episode_keeps_its_readings(episode: Path, tmp_path: Path) -> None:
    with EpisodeReader(episode) as reader:
        before = reader.readings("right")
    path = shutil.copy(episode, tmp_path / "episode_0.hdf5")
    trim(path, 5, 30)
    with EpisodeReader(path) as reader:
        np.testing.assert_array_equal(reader.readings("right"), before[5:31])
        assert reader.reference("right") is not None and reader.is_located("top", "right")
    assert check_episode(path, full=True).ok


def test_an_interrupted_recording_keeps_the_readings_that_were_flushed(tmp_path: Path) -> None:
    recording = record_taxels(tmp_path / "killed", 20)
    recording.writer.flush()
    (tmp_path / "left").mkdir()
    part = Path(shutil.copy(recording.writer.part, tmp_path / "left"))
    recording.discard()
    path = recover(part)
    with EpisodeReader(path) as reader:
        assert reader.num_ticks >= 18 and len(reader.stream("left")["data"]) >= 38
        at_ticks = [reading_at("right", int(stamp)) for stamp in reader.tick_ns]
        np.testing.assert_array_equal(reader.readings("right"), at_ticks)
    assert check_episode(path, full=True).ok


def damaged(episode: Path, folder: Path, change: object) -> dict[str, str]:
    """What the check says of a copy in which `change(readings of left)` was done at both rates."""
    path = shutil.copy(episode, folder / "episode_0.hdf5")
    with h5py.File(path, "r+") as file:
        for where in ("observations/tactile_arrays/left", "streams/left/data"):
            values = file[where][:]
            change(values)  # type: ignore[operator]
            file[where][...] = values
    found = check_episode(path).findings
    return {f.rule: f"{f.where}: {f.message}" for f in found if f.rule in ("E05", "W16")}


def _freeze(values: np.ndarray) -> None:
    values[20:] = values[20]


def _kill(values: np.ndarray) -> None:
    values[:, 2, 3] = 0.1


def _saturate(values: np.ndarray) -> None:
    values[: len(values) // 4, 4, 5] = 2.0


def _lose(values: np.ndarray) -> None:
    values[9] = np.nan


@pytest.mark.parametrize(
    ("change", "rule", "message"),
    [
        (_freeze, "W16", "the same reading 60 times in a row, from reading 20"),
        (_kill, "W16", "dead: taxel [2, 3] never changes while others do"),
        (_saturate, "W16", "saturated: taxel [4, 5] at the end of the range in up to 25%"),
        (lambda values: values.fill(0.0), "W16", "no taxel ever changes"),
        (_lose, "E05", "not finite at tick 9"),
    ],
)
def test_check_names_what_is_wrong_with_an_array(
    episode: Path, tmp_path: Path, change: object, rule: str, message: str
) -> None:
    assert message in damaged(episode, tmp_path, change)[rule]


def test_offset_is_the_mean_of_readings_before_contact_alone() -> None:
    monitors = monitors_of(taxel_rig())
    references = TouchReferences(taxel_rig(), monitors)

    def show(tick: int, opening: float, level: float) -> None:
        stamp_ns = BEGIN + tick * TICK
        monitors["gripper_state"].saw(stamp_ns, stamp_ns, np.array([0.08 * opening]))
        monitors["left"].saw(stamp_ns, stamp_ns, np.full((12, 10, 1), level, np.float32))
        references.saw("left")

    show(0, 0.2, 1.5)
    references.refresh()
    assert references.missing == ["left", "right"]
    for tick in range(1, 11):
        show(tick, 0.9, 0.1 + 0.01 * (tick % 2))
    references.refresh()
    np.testing.assert_allclose(references.images["left"], 0.105, atol=1e-6)
    show(11, 0.2, 1.5)
    references.refresh()
    np.testing.assert_allclose(references.images["left"], 0.105, atol=1e-6)
    show(12, 0.9, 0.3)  # it has drifted: those before the grasp no longer count
    references.refresh()
    np.testing.assert_allclose(references.images["left"], 0.3, atol=1e-6)


def test_a_reference_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EpisodeError, match=r"expected \(12, 10, 1\)"):
        EpisodeWriter(tmp_path, taxel_rig(), task="t", references={"left": np.zeros((3, 3, 1), np.float32)})


def test_contact_is_measured_and_seen_as_colour(episode: Path, tmp_path: Path) -> None:
    measures = measure(episode)
    assert measures is not None and measures.values["contact"] == 1.0
    bare = write_taxel_episode(tmp_path, 8, references=False)
    assert {"W10"} <= {f.rule for f in check_episode(bare).findings}
    with EpisodeReader(episode) as reader:
        picture = touch_picture(reader, "left", 0)
        page = episode_page(reader, check_episode(episode)).html()
    assert "left" in page and "orange is more than without contact" in page
    assert picture.shape == (60, 50, 3)
    reading = np.zeros((2, 2, 1))
    reading[0, 1] = 1.0
    reading[1, 0] = -1.0
    tile = taxel_colours(reading, [-1.0], [1.0])
    dark, more, less = (tile[y, x].astype(int) for y, x in ((0, 0), (0, 59), (59, 0)))
    assert more[0] > dark[0] + 50 > more[2] and less[2] > dark[2] + 50 and (tile[59, 59] == dark).all()


def test_a_run_takes_its_offset_untouched_or_does_not_start() -> None:
    free, quiet = FreeTaxels(taxel_rig(), ["left"]), np.full((12, 10, 1), 0.2, np.float32)
    assert "no reading yet" in str(free.take(""))
    for level in (0.19, 0.21):
        free.saw("left", np.full((12, 10, 1), level))
    free.saw("right", np.zeros((4, 4, 3)))  # which the bundle does not read
    assert str(free.take("gripper is open by 3 mm")) == "touch_reference: gripper is open by 3 mm"
    assert free.take("") is None and list(free.offsets) == ["left"]
    np.testing.assert_allclose(free.against("left", quiet + 0.5), 0.5, atol=1e-6)
    pressed = quiet.copy()
    pressed[4, 4] = 0.8
    free.saw("left", pressed)
    assert "left changes by 24% of its range" in str(free.take("")) and "is it touched" in str(free.take(""))
    assert free.take("gripper is open by 3 mm") is None  # goes on with the offset of the run before
    np.testing.assert_allclose(free.offsets["left"], 0.2, atol=1e-6)
