"""A rig against pictures, and sessions: a true rig passes, a wrong one is told by how much."""

from __future__ import annotations

import datetime

import numpy as np
import pytest
import yaml
from arm_scenes import changed, look_at_states, robot_views
from board_scenes import CAMERA, look_at_poses, render
from episode_kit import tick_at, writer_at
from judged_once import JudgedOnce

from tacit.errors import CalibrationError
from tacit.geometry.robot import Robot
from tacit.geometry.rotations import rotation_from_rpy, rotation_from_vector
from tacit.geometry.transforms import from_rotation, invert, pose_error
from tacit.images import decode_image, encode_png
from tacit.record.samples import SampleFolder
from tacit.rig import load_rig
from tacit_calibration.board import Board
from tacit_calibration.checks.rig_check import check_records
from tacit_calibration.checks.verify import PixelErrors, verify
from tacit_calibration.cli import main
from tacit_calibration.commands import handeye
from tacit_calibration.commands import world as world_command
from tacit_calibration.commands.place import next_commands
from tacit_calibration.pictures import overlays
from tacit_calibration.rig_update import record_of, with_base, with_camera_pose, with_intrinsics, with_sensor
from tacit_calibration.session import Session

RIG = load_rig("nova2_sim_vga")
TABLE = from_rotation(np.diag([1.0, -1.0, -1.0]), (-0.45, 0.09, 0.0))
HELD = from_rotation(np.diag([1.0, -1.0, -1.0]), (-0.135, 0.09, 0.25))
ANCHORS = {"wrist": TABLE, "top": HELD}


@pytest.fixture(scope="module")
def joints() -> dict[str, np.ndarray]:
    return {camera: look_at_states(RIG, camera, anchor, 8) for camera, anchor in ANCHORS.items()}


@pytest.mark.parametrize("camera", ["wrist", "top"])
def test_the_true_rig_predicts_every_corner(joints, tmp_path, camera):
    views = robot_views(RIG, camera, ANCHORS[camera], joints[camera], noise_px=0.2)
    found = verify(RIG, camera, views, tmp_path)
    assert found.board.rms == pytest.approx(0.2 * np.sqrt(2), rel=0.2) and found.failures(1.0) == []
    assert pose_error(found.T_anchor_board, ANCHORS[camera]).translation < 5e-4


@pytest.mark.parametrize("camera", ["wrist", "top"])
def test_a_camera_that_was_bumped_fails_by_about_its_shift(joints, tmp_path, camera):
    """Five milliradians of tilt are about 2-3 px; the board, which is fitted, can not absorb them."""
    T = RIG.cameras[camera].T_parent_camera @ from_rotation(rotation_from_vector([0.008, 0.008, 0.0]))
    bumped = changed(RIG, f"cameras.{camera}", T_parent_camera=T.tolist())
    views = robot_views(RIG, camera, ANCHORS[camera], joints[camera])
    found = verify(bumped, camera, views, tmp_path)
    assert 1.0 < found.board.rms < 20.0
    assert found.failures(0.5)[0].startswith("board corners")


def test_a_folder_that_shows_nothing_cannot_verify_anything(tmp_path):
    with pytest.raises(CalibrationError, match="nothing to verify"):
        verify(RIG, "wrist", None, tmp_path)


def test_a_recorded_episode_shows_the_boxes_of_the_rig(tmp_path):
    writer = writer_at(tmp_path / "data")
    for i in range(12):
        writer.append(tick_at(i))
    episode, out = writer.close(True), tmp_path / "sheet.png"
    words = ["verify", "--camera", "wrist", "--episode", str(episode), "--picture", str(out)]
    assert main([*words, "--rig", "nova2_sim"]) == 0
    assert decode_image(out.read_bytes()).shape == (2 * 120 + 4, 3 * 160 + 8, 3)
    with pytest.raises(CalibrationError, match="wrist is 160x120, the rig has 640x480"):
        main([*words, "--rig", "nova2_sim_vga"])
    with pytest.raises(CalibrationError, match="the rig has left_joint1"):
        main(["verify", "--camera", "top", "--episode", str(episode), "--rig", "xtrainer"])


def test_statistics_are_those_of_the_distances():
    errors = PixelErrors.of(np.arange(101) / 10)
    assert (errors.count, errors.median, errors.worst) == (101, 5.0, 10.0)
    assert errors.p95 == pytest.approx(9.5) and errors.rms == pytest.approx(np.sqrt(33.5))


def test_overlays_draw_boxes_where_the_rig_has_them(tmp_path):
    state = np.array([-0.3424, 0.0643, 2.0576, -0.5511, -1.5708, 1.2284, 0.06])
    names = tuple(joint.name for joint in RIG.arms["arm"].joints)
    grey = np.full((480, 640, 3), 90, np.uint8)
    SampleFolder(tmp_path, "arm", names, "wrist").add(
        encode_png(grey).tobytes(), tuple(state[:6].tolist()), 0.06, None
    )
    views = robot_views(RIG, "wrist", TABLE, state[None, :6])
    found = verify(RIG, "wrist", views, tmp_path)
    sheet = overlays(RIG, "wrist", tmp_path, None, found)
    for footprint in RIG.sensor_boxes(state, "wrist").values():
        x, y = int(footprint.box[0]), int(footprint.box[[1, 3]].mean())
        assert (sheet[y, x - 2 : x + 3] != 90).any()
    assert (sheet[400:, :100] == 90).all()


# -- sessions, from rendered pictures of the board by a wrist camera --------------------------------

HOME = np.array([-0.34, 0.06, 2.06, -0.55, -1.57, 1.23])
TRUE_WRIST = from_rotation(rotation_from_rpy(np.deg2rad([-17.0, 3.0, 2.0])), [0.004, -0.07, 0.05])


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A session on the rig nova2 whose samples show the board from a dozen poses."""
    folder = tmp_path_factory.mktemp("session")
    assert main(["session", str(folder / "s"), "--rig", "nova2"]) == 0
    robot = Robot.from_rig(load_rig("nova2"))
    names = tuple(joint.name for joint in load_rig("nova2").arms["arm"].joints)
    base = robot.forward(HOME) @ TRUE_WRIST
    poses = look_at_poses(26)
    T_base_board = base @ from_rotation(poses[0][0], poses[0][1])
    samples = SampleFolder(folder / "s/samples/wrist", "arm", names, "wrist")
    for i, (R, t) in enumerate(poses):
        flange = T_base_board @ invert(from_rotation(R, t)) @ invert(TRUE_WRIST)
        starts = HOME + np.random.default_rng(i).uniform(-0.8, 0.8, (30, 6))
        found = next((s for start in starts if (s := robot.inverse(flange, start)).ok), None)
        if found is not None:
            samples.add(encode_png(render((R, t), seed=i)).tobytes(), tuple(found.q.tolist()), None, None)
    return folder / "s"


@pytest.fixture(scope="module")
def finished(session):
    """The session after its three steps."""
    words = ["--session", str(session), "--camera", "wrist"]
    assert "intrinsics --camera wrist" in next_commands(Session.open(session))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handeye, "judge", JudgedOnce())
        for command in ("intrinsics", "handeye", "verify"):
            assert main([command, *words]) == 0
        yield session


def test_a_session_goes_from_pictures_to_a_rig_that_verifies(finished, capsys):
    session = finished
    rig, before = load_rig(session / "rig.yaml"), load_rig(session / "rig_before.yaml")
    assert pose_error(rig.cameras["wrist"].T_parent_camera, TRUE_WRIST).translation < 2e-3
    assert rig.calibration_id != before.calibration_id == load_rig("nova2").calibration_id
    lens, pose = (rig.calibrations[f"cameras.wrist.{part}"] for part in ("lens", "pose"))
    assert lens.replaces == before.calibration_id and pose.replaces not in ("", lens.replaces)
    assert pose.parent == "arm.flange" and pose.rms_px < 1.0 and len(pose.inputs_sha256) == 64
    for name in ("intrinsics-wrist", "handeye-wrist", "verify-wrist"):
        assert decode_image((session / "results" / f"{name}.png").read_bytes()).std() > 5
        assert yaml.safe_load((session / "results" / f"{name}.yaml").read_text())
    capsys.readouterr()
    assert main(["session", str(session)]) == 0
    shown = capsys.readouterr().out
    assert "done    cameras.wrist.pose" in shown and "intrinsics --camera wrist" not in shown


def test_a_step_can_be_done_again_and_gives_the_same(finished):
    first = load_rig(finished / "rig.yaml").cameras["wrist"].T_parent_camera
    assert main(["handeye", "--session", str(finished), "--camera", "wrist"]) == 0
    again = load_rig(finished / "rig.yaml").cameras["wrist"].T_parent_camera
    np.testing.assert_allclose(again, first, atol=1e-9)


def test_mistakes_with_sessions_are_named(session, tmp_path):
    with pytest.raises(CalibrationError, match="begin one with"):
        main(["session", str(tmp_path)])
    with pytest.raises(CalibrationError, match="either --session, or --rig"):
        main(["handeye", "--camera", "wrist", "--session", str(session), "--rig", "nova2"])
    with pytest.raises(CalibrationError, match="there are: wrist"):
        main(["handeye", "--camera", "top", "--session", str(session)])
    with pytest.raises(CalibrationError, match="is a session already"):
        Session.create(session, "nova2", Board())


def test_a_wrong_square_size_is_named(session):
    words = ["handeye", "--camera", "wrist", "--rig", str(session / "rig.yaml"), "--samples"]
    with pytest.raises(CalibrationError, match="square"):
        main([*words, str(session / "samples/wrist"), "--square-mm", "33", "--marker-mm", "23.1"])


# -- rigs -----------------------------------------------------------------------------------------


def test_a_mirror_or_a_wrong_aspect_never_enters_a_rig():
    with pytest.raises(Exception, match="determinant -1"):
        with_sensor(RIG, "left", np.diag([1.0, 1.0, -1.0, 1.0]), (0.02, 0.02, 0.008), None)
    with pytest.raises(CalibrationError, match="another aspect"):
        with_intrinsics(RIG, "wrist", CAMERA.cropped(0, 0, 640, 360))
    with pytest.raises(CalibrationError, match="did you mean 'arm'"):
        with_base(RIG, "amr", np.eye(4), None)


def test_records_do_not_vouch_for_values_that_were_changed_or_are_old():
    now = datetime.datetime.fromisoformat("2026-06-01T12:00:00+00:00")
    record = record_of(
        RIG, "handeye", parent="arm.flange", child="wrist", num_views=20, sigma_mm=float("nan")
    )
    assert record.sigma_mm is None
    rig = with_camera_pose(RIG, "wrist", np.asarray(RIG.cameras["top"].T_parent_camera), record)
    dated = datetime.datetime.fromisoformat(record.date)
    assert check_records(rig, dated) == [] and rig.calibrations["cameras.wrist.pose"].value_sha256
    touched = changed(rig, "cameras.wrist", T_parent_camera={"xyz": [0, 0, 0.1]})
    assert "changed after tacit calibrate handeye" in str(check_records(touched, dated)[0])
    assert check_records(changed(rig, "cameras.wrist", rate_hz=10.0), dated) == []
    assert "200 days old" in str(check_records(rig, dated + datetime.timedelta(days=200, hours=1))[0])
    gone = changed(rig, "calibrations", **{"cameras.side.pose": record.model_dump(mode="json")})
    assert "no such entry" in " ".join(map(str, check_records(gone, now)))


def test_a_fisheye_lens_enters_the_rig_as_one():
    from tacit.geometry.camera import FisheyeCamera

    lens = FisheyeCamera(CAMERA.K, (0.01, 0.002, -0.001, 0.0), 640, 480)
    rig = with_intrinsics(RIG, "wrist", lens)
    assert rig.cameras["wrist"].model == "fisheye"
    p = [0.3, -0.2, 0.5]
    np.testing.assert_allclose(rig.geometry.camera("wrist").project(p), lens.project(p))


# -- two arms -------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["one board before both wrist cameras", "one fixed camera"])
def test_the_base_of_a_second_arm_is_found(tmp_path, monkeypatch, way, capsys):
    """The rig believes the second base 20 mm and 3 degrees from where it is."""
    truth = load_rig("xtrainer")
    T_true = np.asarray(truth.arms["right"].T_world_base)
    T_wrong = T_true @ from_rotation(rotation_from_vector([0, 0, 0.05]), (0.02, 0, 0))
    believed = changed(truth, "arms.right", T_world_base=T_wrong.tolist())
    (tmp_path / "rig.yaml").write_text(believed.to_yaml())
    if way == "one fixed camera":
        cameras = {"left": "top", "right": "top"}
        truth = changed(
            truth, "cameras.top", T_parent_camera={"xyz": [-0.35, 0, 0.9], "rpy_deg": [180, 0, 90]}
        )
        anchors = dict.fromkeys(cameras, from_rotation(np.diag([1.0, 1.0, 1.0]), (-0.135, -0.09, 0.05)))
    else:
        cameras = {"left": "left_wrist", "right": "right_wrist"}
        anchors = dict.fromkeys(cameras, from_rotation(np.diag([1.0, -1.0, -1.0]), (-0.45, 0.09, 0.0)))
    seen = {}
    for arm, camera in cameras.items():
        q = look_at_states(truth, camera, anchors[arm], 15, arm=arm)
        seen[arm] = robot_views(truth, camera, anchors[arm], q, noise_px=0.15, arm=arm)
    monkeypatch.setattr(world_command, "read_samples", lambda folder, rig, board: seen[folder.name])
    words = ["world", "--first", cameras["left"], "--second", cameras["right"]]
    words += ["--first-samples", str(tmp_path / "left"), "--second-samples", str(tmp_path / "right")]
    words += ["--rig", str(tmp_path / "rig.yaml"), "--rig-out", str(tmp_path / "out.yaml")]
    assert main(words) == 0
    assert capsys.readouterr().out.count("000.png is gone") == 2  # no pictures here, only their corners
    rig = load_rig(tmp_path / "out.yaml")
    error = pose_error(rig.arms["right"].T_world_base, T_true)
    record = rig.calibrations["arms.right.base"]
    assert 1e3 * error.translation < max(4 * record.sigma_mm, 1.0)
    assert np.rad2deg(error.rotation) < max(4 * record.sigma_deg, 0.1)
    seen["right"] = seen["left"]
    mistake = "one of each arm" if way == "one fixed camera" else "the samples move arm 'left'"
    with pytest.raises(CalibrationError, match=mistake):
        main(words)
