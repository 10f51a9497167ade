"""`tacit calibrate`: from a folder of pictures to a rig, and a rig that is checked."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from arm_scenes import changed
from board_scenes import CAMERA, look_at_poses, render

from tacit.errors import CalibrationError, ConfigError
from tacit.geometry.camera_info import camera_from_yaml_dict
from tacit.geometry.robot import Robot
from tacit.geometry.rotations import rotation_from_rpy
from tacit.geometry.transforms import from_rotation, invert, pose_error
from tacit.images import encode_png
from tacit.rig import load_rig, parse_rig
from tacit_calibration.board import Board
from tacit_calibration.checks.rig_check import check_rig, field_of_view_deg, views_of_sensors
from tacit_calibration.cli import main
from tacit_calibration.commands import intrinsics
from tacit_calibration.commands.intrinsics import rig_snippet
from tacit_calibration.lens_files import read_lens
from tacit_calibration.rig_update import with_intrinsics

TRUE_WRIST = from_rotation(rotation_from_rpy(np.deg2rad([-17.0, 3.0, 2.0])), [0.004, -0.07, 0.05])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for i, pose in enumerate(look_at_poses(10)):
        (folder / f"{i:02d}.png").write_bytes(encode_png(render(pose, seed=i)).tobytes())
    return folder


@pytest.fixture
def data() -> dict:
    return load_rig("nova2_sim").model_dump(mode="json")


def findings(data: dict) -> str:
    return "\n".join(str(finding) for finding in check_rig(parse_rig(data, "test")))


def test_pictures_become_a_camera_info_file_and_a_rig(pictures, tmp_path, capsys):
    info, rig_file = tmp_path / "wrist.yaml", tmp_path / "mine.yaml"
    words = ["intrinsics", "--images", str(pictures), "--camera", "wrist", "--out", str(info)]
    opencv, kalibr = tmp_path / "cv.yml", tmp_path / "camchain.yaml"
    words += ["--opencv-out", str(opencv), "--kalibr-out", str(kalibr), "--model", "no_k3"]
    assert main([*words, "--rig", "nova2", "--rig-out", str(rig_file)]) == 0
    camera = camera_from_yaml_dict(yaml.safe_load(info.read_text()))
    # Kalibr has no k3; all files hold one lens.
    for file in (opencv, kalibr):
        again = read_lens(file)
        np.testing.assert_allclose([again.K.ravel(), camera.K.ravel()], [camera.K.ravel()] * 2)
        np.testing.assert_allclose(again.D[:4], camera.D[:4])
    rig = load_rig(rig_file)
    np.testing.assert_allclose(rig.cameras["wrist"].K, camera.K)
    np.testing.assert_allclose(rig.cameras["wrist"].D, camera.D)
    assert rig.calibration_id != load_rig("nova2").calibration_id
    assert camera.K[0, 0] == pytest.approx(600, rel=5e-3)
    printed = capsys.readouterr().out
    assert "held out" in printed
    assert "10 views used" in printed


def test_of_a_session_only_its_samples_are_looked_at_and_not_the_map_of_what_they_cover(
    tmp_path, monkeypatch
):
    for name in ("000.png", "coverage.png"):
        (tmp_path / name).write_bytes(encode_png(np.zeros((4, 4, 3), np.uint8)))
    listed = {"arm": "arm", "joint_names": ["j"], "samples": [{"image": "000.png", "q": [0.0]}]}
    (tmp_path / "samples.yaml").write_text(yaml.safe_dump(listed))
    monkeypatch.setattr(intrinsics, "detect_images", lambda pictures, *_: [name for name, _ in pictures])
    assert intrinsics._detected(tmp_path, Board()) == ["000.png"]


def test_the_printed_lines_are_the_yaml_of_a_rig():
    camera = load_rig("nova2").geometry.camera("wrist")
    section = yaml.safe_load(rig_snippet(camera))
    np.testing.assert_allclose(section["K"], camera.K, atol=1e-6)
    assert (section["width"], section["height"], section["model"]) == (640, 480, "pinhole")
    assert len(section["D"]) == 5


def test_a_lens_calibrated_at_full_size_is_scaled_to_the_stored_image():
    rig = load_rig("nova2")
    full = rig.geometry.camera("wrist").scaled(1280, 960)
    np.testing.assert_allclose(with_intrinsics(rig, "wrist", full).cameras["wrist"].K, rig.cameras["wrist"].K)
    with pytest.raises(CalibrationError, match="another aspect"):
        with_intrinsics(rig, "wrist", full.scaled(1280, 720))
    with pytest.raises(CalibrationError, match="did you mean 'wrist'"):
        with_intrinsics(rig, "wirst", full)


def test_a_rig_without_a_file_to_write_is_refused(pictures):
    with pytest.raises(CalibrationError, match="belong together"):
        main(["intrinsics", "--images", str(pictures), "--rig", "nova2"])


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """A robot whose wrist camera looks at a board: joints by inverse kinematics, pictures rendered."""
    folder, rig = tmp_path_factory.mktemp("samples"), load_rig("nova2")
    robot, listed = Robot.from_rig(rig), []
    T_base_board = from_rotation(np.diag([1.0, -1, -1]), [-0.46, 0.09, -0.15])
    q0 = np.array([-0.3424, 0.0643, 2.0576, -0.5511, -1.5708, 1.2284])
    for i, (R, t) in enumerate(look_at_poses(12, seed=4)):
        T_base_camera = T_base_board @ invert(from_rotation(R, t))
        solution = robot.inverse(T_base_camera @ invert(TRUE_WRIST), q0)
        if solution.ok:
            name = f"{i:02d}.png"
            (folder / name).write_bytes(encode_png(render((R, t), seed=i)).tobytes())
            listed.append({"image": name, "q": solution.q[::-1].tolist()})
    names = [f"joint{i}" for i in range(6, 0, -1)]
    text = yaml.safe_dump({"arm": "arm", "joint_names": names, "samples": listed})
    (folder / "samples.yaml").write_text(text)
    return folder


@pytest.fixture
def rig_with_lens(tmp_path):
    lens = {"K": CAMERA.K.tolist(), "D": list(CAMERA.D)}
    (tmp_path / "lens.yaml").write_text(changed(load_rig("nova2"), "cameras.wrist", **lens).to_yaml())
    return str(tmp_path / "lens.yaml")


def test_pictures_and_joints_become_the_camera_pose_of_a_rig(samples, rig_with_lens, tmp_path, capsys):
    out = tmp_path / "posed.yaml"
    words = ["handeye", "--samples", str(samples), "--rig", rig_with_lens, "--camera", "wrist"]
    assert main([*words, "--rig-out", str(out)]) == 0
    error = pose_error(load_rig(out).cameras["wrist"].T_parent_camera, TRUE_WRIST)
    assert error.translation < 1e-3
    assert np.rad2deg(error.rotation) < 0.1
    assert "one sigma" in capsys.readouterr().out


def test_samples_that_do_not_fit_the_rig_are_refused(samples, rig_with_lens, tmp_path):
    words = ["handeye", "--rig", rig_with_lens, "--samples"]
    with pytest.raises(CalibrationError, match="did you mean 'wrist'"):
        main([*words, str(samples), "--camera", "wrst"])
    with pytest.raises(ConfigError, match="no such file"):
        main([*words, str(tmp_path), "--camera", "wrist"])
    broken = yaml.safe_load((samples / "samples.yaml").read_text())
    for change, message in (
        ({"joint_names": ["a"] * 6}, "arm arm has joint1"),
        ({"samples": [{"image": "none.png", "q": [0.0] * 6}]}, "no such picture"),
        ({"samples": [{"image": "00.png", "q": [0.0] * 5}]}, "expected 6 finite"),
    ):
        (tmp_path / "samples.yaml").write_text(yaml.safe_dump(broken | change))
        with pytest.raises(CalibrationError, match=message):
            main([*words, str(tmp_path), "--camera", "wrist"])


def test_board_command_writes_its_files(tmp_path, capsys):
    assert main(["board", "--out", str(tmp_path), "--columns", "5", "--rows", "4"]) == 0
    assert len(list(tmp_path.iterdir())) == 3
    assert "174 x 144 mm" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["world"], ["board", "--nonsense", "1"]])
def test_what_does_not_exist_is_not_offered(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2


def test_the_simulated_cell_is_believable(capsys):
    assert main(["check", "nova2_sim"]) == 0
    assert "nothing looks wrong" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["nova2", "nova5", "xtrainer", "ur5e"])
def test_a_template_is_not_ready_and_nothing_else_is_wrong(name, capsys):
    assert main(["check", name]) == 1
    wrong = [line for line in capsys.readouterr().out.splitlines() if line.startswith("WRONG?")]
    assert len(wrong) == 1
    assert "placeholders" in wrong[0]


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("cameras.wrist", "K", [[82.0, 0, 40.0], [0, 82.0, 59.5], [0, 0, 1]], "principal point"),
        ("cameras.wrist", "K", [[82.0, 0, 79.5], [0, 110.0, 59.5], [0, 0, 1]], "square"),
        ("cameras.wrist", "K", [[2000.0, 0, 79.5], [0, 2000.0, 59.5], [0, 0, 1]], "field of view"),
        ("cameras.wrist", "D", [-0.9, 0.0, 0.0, 0.0], "folds over inside"),
        ("cameras.wrist", "T_parent_camera", {"xyz": [0, -75.0, 45.0]}, "metres"),
        ("tactile.left", "size_m", [20.0, 24.0, 8.0], "3-80 mm"),
        ("tactile.left", "T_mount_sensor", {"xyz": [0, 0, 197.0]}, "metres"),
        ("tactile.left", "T_mount_sensor", {"xyz": [0, 0, -0.45]}, "no camera sees it"),
        (
            "tactile.left",
            "T_mount_sensor",
            {"xyz": [0, 0, 0.197], "rpy_deg": [0, 90, 0]},
            "look at each other",
        ),
    ],
)
def test_a_likely_mistake_is_found(data, section, key, value, message):
    node = data
    for part in section.split("."):
        node = node[part]
    node[key] = value
    if message == "no camera sees it":
        data["cameras"]["top"]["T_parent_camera"] = {"xyz": [0, 0, 1.0]}  # looks at the sky
    assert message in findings(data)


def test_field_of_view_follows_the_focal_length():
    camera = load_rig("nova2_sim").geometry.camera("wrist")
    assert field_of_view_deg(camera) == pytest.approx(
        2 * np.rad2deg(np.arctan(80 / camera.K[0, 0])), abs=1e-9
    )


def test_a_wrist_camera_sees_its_fingers_whatever_the_joints():
    shares = {(pair.camera, pair.sensor): pair for pair in views_of_sensors(load_rig("nova2_sim"))}
    assert shares["wrist", "left"].seen == 1.0
    assert 0 < shares["top", "left"].seen < 1.0
    assert all(pair.facing <= pair.seen for pair in shares.values())
