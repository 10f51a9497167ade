"""From our episodes to videos, masks and trajectories: geometry agrees, and nothing is half written."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from episode_kit import opening_at, rig, write_episode

from tacit import cli
from tacit.convert import vace_e
from tacit.convert.gripper_mask import Body, GripperShape, draw_masks, gripper_bodies
from tacit.convert.vace_e import end_effector_image, sides_of
from tacit.convert.vace_e_files import EpisodeFiles, TaskAttributes, write_metadata
from tacit.convert.video import probe_video, read_frames
from tacit.episode import EpisodeReader
from tacit.errors import EpisodeError
from tacit.geometry.camera import PinholeCamera
from tacit.rig import Rig, load_rig
from tacit.rig.scene import RigGeometry

TICKS = 12


@pytest.fixture(scope="module")
def episode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_episode(tmp_path_factory.mktemp("episodes"), TICKS)


@pytest.fixture(scope="module")
def converted(episode: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("vace_e")
    words = ["--task-type", "placing", "--objects", "cube.", "--camera", "wrist"]
    assert cli.main(["convert", "vace_e", str(episode), "--out", str(out), *words]) == 0
    return out


def files_of(root: Path) -> EpisodeFiles:
    return EpisodeFiles(root / "place_cube" / "episode_0")


def test_the_videos_show_the_camera_and_hide_the_gripper(converted: Path, episode: Path) -> None:
    files = files_of(converted)
    with EpisodeReader(episode) as reader:
        images = np.stack([reader.image("wrist", i) for i in range(TICKS)])
    target, control, mask = (
        read_frames(path, range(TICKS)) for path in (files.target, files.control, files.mask)
    )
    assert probe_video(files.target)[:3] == (TICKS, 120, 160)
    assert np.abs(target.astype(int) - images).mean() < 6
    white = cv2.erode((mask[..., 0] > 127).astype(np.uint8).transpose(1, 2, 0), np.ones((5, 5))).astype(bool)
    hidden = control.transpose(1, 2, 0, 3)[white]
    assert white.any() and np.abs(hidden.astype(int) - 128).mean() < 10


def test_the_mask_covers_every_sensor_where_the_episode_says_it_is(converted: Path, episode: Path) -> None:
    """The corners were projected and stored when the episode was recorded."""
    mask = read_frames(files_of(converted).mask, range(TICKS))[..., 0] > 127
    inside = 0
    with EpisodeReader(episode) as reader:
        for sensor in reader.tactile:
            for i, corners in enumerate(reader.corners("wrist", sensor)):
                for x, y in np.rint(corners[np.isfinite(corners).all(axis=1)]).astype(int):
                    if 0 <= x < 160 and 0 <= y < 120:
                        inside += 1
                        assert mask[i, y, x], (sensor, i, x, y)
    assert inside > 20


def test_the_wrist_is_the_flange_behind_the_sensors(converted: Path, episode: Path) -> None:
    """The tool point, 197 mm before the flange, lies midway between the recorded sensors."""
    with EpisodeReader(episode) as reader:
        middle = np.mean([reader.sensor_pose(name)[:, :3, 3] for name in reader.tactile], axis=0)
    with h5py.File(files_of(converted).hands) as file:
        assert "left_wrist" not in file, "one arm is one hand"
        position, rotation = file["right_wrist/positions"][:], file["right_wrist/rotations_6d"][:]
        opened = file["right_hand_states"][:]
    z = np.cross(rotation[:, :3], rotation[:, 3:])
    np.testing.assert_allclose(position + 0.197 * z, middle, atol=1e-5)
    assert opened.tolist() == [int(float(np.float32(opening_at(i))) >= 0.04) for i in range(TICKS)]


def test_metres_would_read_as_closed_but_states_do_not(converted: Path) -> None:
    with h5py.File(files_of(converted).hands) as file:
        assert set(file["right_hand_states"][:].tolist()) <= {0, 1} and file["right_hand_states"][:].any()


def test_the_metadata_name_the_task_for_its_prompt(converted: Path) -> None:
    metadata = json.loads((converted / "metadata.json").read_text())
    assert metadata["per_task_attributes"] == {
        "place_cube": {
            "task_type": "placing",
            "embodiment_type": "nova2_sim",
            "left_hand": False,
            "right_hand": True,
            "objects": "cube.",
        }
    }
    assert metadata["metadata"]["cameras"]["wrist"]["width"] == 160
    assert "T_world_camera" not in metadata["metadata"]["cameras"]["wrist"], "it moves with the arm"


def test_the_image_of_the_end_effector_is_cut_from_the_video(converted: Path) -> None:
    (path,) = files_of(converted).references
    image = cv2.imread(str(path))
    assert image is not None and min(image.shape[:2]) > 8 and image.shape[0] <= 120


def test_other_side_and_stride_may_be_asked_for(episode: Path, tmp_path: Path) -> None:
    words = ["--side", "left", "--stride", "2", "--embodiment", "human_glove"]
    assert cli.main(["convert", "vace_e", str(episode), "--out", str(tmp_path), *words]) == 0
    files = files_of(tmp_path)
    info = probe_video(files.target)
    assert info.frames == TICKS // 2 and info.fps == pytest.approx(12.5)
    with h5py.File(files.hands) as file:
        assert set(file) == {"left_wrist", "left_hand_states"} and len(file["left_hand_states"]) == TICKS // 2
    metadata = json.loads((tmp_path / "metadata.json").read_text())
    assert metadata["per_task_attributes"]["place_cube"]["embodiment_type"] == "human_glove"
    (camera,) = metadata["metadata"]["cameras"].values()  # the one in the world
    assert camera["T_world_camera"] == pytest.approx(rig().cameras["top"].T_parent_camera), "where it stands"


def test_a_second_run_leaves_what_is_there(
    episode: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["convert", "vace_e", str(episode), "--out", str(tmp_path)]
    assert cli.main(words) == 0
    before = files_of(tmp_path).target.stat().st_mtime_ns
    assert cli.main(words) == 0
    assert "skipped 1: already there" in capsys.readouterr().out
    assert files_of(tmp_path).target.stat().st_mtime_ns == before
    assert cli.main([*words, "--overwrite"]) == 0
    assert files_of(tmp_path).target.stat().st_mtime_ns > before


def test_failures_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_episode(tmp_path / "in", TICKS, success=False)
    words = ["convert", "vace_e", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    assert cli.main(words) == 1
    assert "skipped 1: failed" in capsys.readouterr().out
    assert cli.main([*words, "--no-only-success"]) == 0


def test_a_kill_leaves_no_half_episode(
    episode: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tacit.convert.vace_e_files.write_hands", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    assert cli.main(["convert", "vace_e", str(episode), "--out", str(tmp_path)]) == 130
    assert not files_of(tmp_path).folder.exists() and not (tmp_path / "metadata.json").exists()
    monkeypatch.undo()
    assert cli.main(["convert", "vace_e", str(episode), "--out", str(tmp_path)]) == 0
    assert not (tmp_path / "place_cube" / ".part").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--camera", "tpo"], "no camera 'tpo'; did you mean 'top'?"),
        (["--stride", "0"], "--stride 0: expected 1 or more"),
    ],
)
def test_wrong_options_name_the_right_ones(
    episode: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["convert", "vace_e", str(episode), "--out", str(tmp_path), *words]) == 2
    assert message in capsys.readouterr().err


def test_two_sources_of_one_place_are_refused(
    episode: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_episode(tmp_path / "other", TICKS)
    assert cli.main(["convert", "vace_e", str(episode), str(other), "--out", str(tmp_path / "out")]) == 2
    assert "would both become" in capsys.readouterr().err


def test_no_episode_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["convert", "vace_e", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "no episode below" in capsys.readouterr().err


# -- hands and masks -------------------------------------------------------------------------------


def with_arms(*names: str) -> Rig:
    single = rig()
    arm = next(iter(single.arms.values()))
    return single.model_copy(update={"arms": dict.fromkeys(names, arm)})


def test_arms_are_hands_by_their_names_else_in_order() -> None:
    assert sides_of(with_arms("arm"), "left") == {"arm": "left"}
    assert sides_of(with_arms("left", "right"), "right") == {"left": "left", "right": "right"}
    assert sides_of(with_arms("right_arm", "left_arm"), "right") == {"right_arm": "right", "left_arm": "left"}
    assert sides_of(with_arms("a", "b"), "right") == {"a": "left", "b": "right"}
    with pytest.raises(EpisodeError, match="3 arms"):
        sides_of(with_arms("a", "b", "c"), "right")


def test_both_arms_of_a_dual_rig_have_a_mask_and_a_track() -> None:
    dual = load_rig("xtrainer")
    geometry = RigGeometry(dual)
    Q = np.zeros((3, len(dual.state_names)))
    tracks = vace_e.hand_tracks(geometry, Q, "right")
    assert set(tracks) == {"left", "right"} and tracks["left"].positions.shape == (3, 3)
    names = {body.name.partition(".")[0] for body in gripper_bodies(geometry, Q, GripperShape())}
    assert names == set(dual.arms)


def box_at(x: float, y: float, z: float, half: float = 0.05) -> Body:
    signs = np.array(np.meshgrid(*[(-1, 1)] * 3)).reshape(3, 8).T
    return Body("box", (np.array([x, y, z]) + half * signs)[None])


CAMERA = PinholeCamera(np.array([[100.0, 0, 49.5], [0, 100.0, 39.5], [0, 0, 1]]), (), 100, 80)


def masked(body: Body) -> np.ndarray:
    return draw_masks([body], np.eye(4)[None], CAMERA, grow_px=0)[0]


def test_a_box_fills_the_pixels_of_its_near_face() -> None:
    """Half 50 mm at 0.45 m (the near face of a box centred at 0.5 m) is 100 * .05 / .45 = 11.1 px."""
    rows, columns = np.nonzero(masked(box_at(0, 0, 0.5)))
    assert (columns.min(), columns.max()) == (round(49.5 - 11.11), round(49.5 + 11.11))
    assert (rows.min(), rows.max()) == (round(39.5 - 11.11), round(39.5 + 11.11))
    assert masked(box_at(0, 0, 0.5)).sum() == len(set(rows)) * len(set(columns)), "a full rectangle"


def test_what_is_behind_the_camera_is_not_drawn() -> None:
    assert not masked(box_at(0, 0, -0.5)).any()


def test_a_body_that_reaches_behind_the_camera_fills_its_side_of_the_picture() -> None:
    """A box to the right that the camera stands beside covers the right edge, not the left."""
    mask = masked(box_at(0.06, 0, 0.0, half=0.05))
    assert mask[:, -1].all() and not mask[:, :50].any()


def test_a_rod_that_passes_the_camera_reaches_the_edge_of_the_picture() -> None:
    """From a metre behind to a metre before: the far end is 2 to 4 px off the centre, the near one unseen."""
    corners = np.array([[x, y, z] for x in (0.02, 0.04) for y in (-0.01, 0.01) for z in (-1.0, 1.0)])
    mask = masked(Body("rod", corners[None]))
    assert mask[39:41, 54:].all() and not mask[:, :51].any()


def test_a_finger_reaches_from_the_palm_to_beyond_its_sensor() -> None:
    geometry, Q = RigGeometry(rig()), np.append(np.zeros(6), 0.06)[None]
    shape = GripperShape()
    T_flange_world = np.linalg.inv(geometry.flange_poses(Q)["arm"])
    for body in gripper_bodies(geometry, Q, shape)[1:]:
        z = (body.points[0] @ T_flange_world[0, :3, :3].T + T_flange_world[0, :3, 3])[:, 2]
        assert z.min() == pytest.approx(shape.palm[2])
        assert z.max() == pytest.approx(0.197 + 0.012 + shape.margin), "sensor at 197 mm, 24 mm high"


def test_the_arm_is_masked_when_a_radius_says_how_thick_it_is() -> None:
    geometry = RigGeometry(rig())
    Q = np.append([0.0, -0.3, 1.2, 0.3, -1.57, 0.0], 0.04)[None]
    plain = gripper_bodies(geometry, Q, GripperShape())
    whole = gripper_bodies(geometry, Q, GripperShape(arm_radius=0.05))
    links = [body for body in whole if "link" in body.name]
    assert len(whole) == len(plain) + len(links) and len(links) == 6
    flange = geometry.flange_poses(Q)["arm"][0, :3, 3]
    np.testing.assert_allclose(links[-1].points[0, 8:].mean(axis=0), flange, atol=1e-9)
    np.testing.assert_allclose(links[0].points[0, :8].mean(axis=0), 0, atol=1e-9)


def test_a_gripper_without_sensors_has_fingers_all_the_same() -> None:
    bare = rig().model_copy(update={"tactile": {}})
    Q = np.append(np.zeros(6), 0.06)[None]
    geometry = RigGeometry(bare)
    left, right = (b for b in gripper_bodies(geometry, Q, GripperShape()) if "finger" in b.name)
    gap = np.linalg.norm(left.points.mean(axis=1) - right.points.mean(axis=1))
    assert gap == pytest.approx(0.06 + GripperShape().back)


def test_no_image_of_the_end_effector_without_a_gripper_in_view() -> None:
    frames = [np.zeros((8, 8, 3), np.uint8)] * 2
    assert end_effector_image(frames, np.zeros((2, 8, 8), bool)) is None


def test_metadata_of_other_tasks_stay(tmp_path: Path) -> None:
    path = tmp_path / "metadata.json"
    write_metadata(path, {"a": TaskAttributes("x", "r1", False, True, "")}, {"top": {}})
    write_metadata(path, {"b": TaskAttributes("y", "r2", False, True, "")}, {"side": {}})
    content = json.loads(path.read_text())
    assert set(content["per_task_attributes"]) == {"a", "b"}
    assert content["metadata"]["task_types"] == ["x", "y"] and set(content["metadata"]["cameras"]) == {
        "top",
        "side",
    }
    assert content["metadata"]["embodiment_type_camera"] == {"r1": ["top"], "r2": ["side"]}
    for width in (1, 2, 2):  # another camera of that name, and the same again
        write_metadata(path, {"c": TaskAttributes("z", "r3", False, True, "")}, {"top": {"width": width}})
    content = json.loads(path.read_text())["metadata"]
    assert content["cameras"] == {"top": {}, "side": {}, "top of r3": {"width": 2}}
    assert content["embodiment_type_camera"] == {"r1": ["top"], "r2": ["side"], "r3": ["top of r3"]}
