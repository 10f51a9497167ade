"""Episodes of others become ours: a drafted rig, what they have at their ticks, and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from episode_kit import drawn_image

from tacit.convert.draft import Draft, draft_rig, motion_limits, plain_name, plain_names
from tacit.convert.incoming import Incoming, write_incoming
from tacit.episode import EpisodeReader, check_episode, recompute_boxes
from tacit.errors import EpisodeError, RigError, TacitError
from tacit.images import encode_jpeg
from tacit.rig import Rig, load_rig, parse_rig

T, FPS = 30, 30.0
STAMPS = 1_000 + np.arange(T) * 33_333_333
TRACK = 0.1 * np.sin(np.arange(T)[:, None] * 0.1 + np.arange(3))
SIZES = {"top": (48, 64), "digit_left": (24, 32)}


def pictures(name: str, count: int = T) -> Iterator[np.ndarray]:
    return (encode_jpeg(drawn_image(index, *SIZES[name])) for index in range(count))


def drafted() -> Rig:
    limits = motion_limits([TRACK], FPS)
    return draft_rig(Draft("so 101/../x", ["a", "b", "c"], FPS, *limits, SIZES, {"force": ["x", "y"]}))


def episode(**changes: object) -> Incoming:
    whole = Incoming(
        source="demo 3",
        stamps_ns=STAMPS,
        stamps="nominal",
        qpos=TRACK,
        action=TRACK + 0.01,
        task="pick",
        pictures={name: pictures(name) for name in SIZES},
        extras={"force": np.ones((T, 2))},
        instruction="pick it",
        success=True,
    )
    return dataclasses.replace(whole, **changes)  # type: ignore[arg-type]


def errors(path: Path) -> list[str]:
    return [f"{item.rule} {item.where} {item.message}" for item in check_episode(path).errors]


def test_an_episode_of_others_passes_the_check_and_says_nothing_that_it_was_not_told(tmp_path: Path) -> None:
    path = write_incoming(tmp_path, drafted(), episode())
    assert errors(path) == []
    with EpisodeReader(path) as reader:
        np.testing.assert_array_equal(reader.qpos, TRACK.astype(np.float32))
        np.testing.assert_array_equal(reader.tick_ns, STAMPS)
        assert reader.cameras == ("top",) and reader.tactile == ("digit_left",)
        assert reader.qvel is None and reader.effort is None
        assert not reader.is_located("top", "digit_left")
        found: list[str] = []
        reader.file.visit(found.append)
        told = ("K", "sensor_pose/digit_left", "sensor_bbox/top", "observations/ee_pose/arm")
        assert not [path for path in found if path.endswith(told)]


def test_without_commands_the_action_is_the_measured_state_and_says_so(tmp_path: Path) -> None:
    path = write_incoming(tmp_path, drafted(), episode(action=None))
    with EpisodeReader(path) as reader:
        assert reader.action_source == "measured"
    assert errors(path) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"qpos": np.where(np.arange(T)[:, None] == 7, np.nan, TRACK)}, "state: a is nan at frame 7"),
        ({"action": TRACK[:, :2]}, "action of shape"),
        (
            {"pictures": {"top": pictures("top"), "digit_left": pictures("digit_left", 12)}},
            "12 pictures for 30",
        ),
        ({"pictures": {"top": pictures("top")}}, "no pictures of digit_left"),
        ({"extras": {"forse": np.ones((T, 2))}}, "did you mean 'force'"),
        ({"stamps_ns": STAMPS[::-1]}, "is not after the last one"),
    ],
)
def test_what_would_make_a_damaged_episode_is_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(EpisodeError, match=message):
        write_incoming(tmp_path, drafted(), episode(**changes))


def test_names_of_others_become_plain_names() -> None:
    assert plain_name("../../etc/passwd", "robot") == "etc_passwd"
    assert plain_name("拿起", "task") == "task"
    assert plain_names(["left wrist/pos", "left wrist pos", ""]) == [
        "left_wrist_pos",
        "left_wrist_pos_1",
        "q2",
    ]
    assert drafted().name == "so_101_.._x".replace("..", ".")


def test_limits_hold_every_value_and_speed_of_the_data() -> None:
    rig = drafted()
    velocity = np.abs(np.diff(TRACK, axis=0)).max(axis=0) * FPS
    assert (rig.limits("lower") < TRACK.min(axis=0)).all() and (rig.limits("upper") > TRACK.max(axis=0)).all()
    assert (rig.limits("velocity") > velocity).all()


def test_an_unmeasured_part_has_no_pose_and_a_measured_one_keeps_its_identity(tmp_path: Path) -> None:
    rig = drafted()
    with pytest.raises(RigError, match="is not measured"):
        rig.geometry.camera("top")
    assert rig.geometry.sensor_poses(np.zeros(3)) == {} and rig.geometry.footprints(np.zeros(3)) == {}
    data = rig.model_dump(mode="json")
    measured = parse_rig(data | {"unmeasured": ()}, "measured")
    assert measured.calibration_id != rig.calibration_id and "unmeasured" not in measured.calibration
    with pytest.raises(TacitError, match="no part 'cameras.tob'"):
        parse_rig(data | {"unmeasured": ["cameras.tob"]}, "wrong")
    path = write_incoming(tmp_path, rig, episode())
    with pytest.raises(EpisodeError, match="convert the data set again"):
        recompute_boxes(path, rig)


def test_a_camera_on_an_unmeasured_arm_is_lost_with_it_and_others_stay() -> None:
    data = load_rig("nova2_sim").model_dump(mode="json") | {"unmeasured": ["arms.arm"]}
    geometry = parse_rig(data, "test").geometry
    assert list(geometry.camera_poses(np.zeros(7))) == ["top"]
    workspace = {"workspace": {"arm": {"lower": [-1, -1, 0], "upper": [1, 1, 1]}}}
    with pytest.raises(TacitError, match="it has no place"):
        parse_rig(data | {"safety": workspace}, "test")
