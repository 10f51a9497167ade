"""`handeye --poses` with pictures: each pose goes to its picture, or what is wrong is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from board_scenes import CAMERA, exact_views, look_at_poses
from hand_eye_scenes import B, X
from scipy.spatial.transform import Rotation

from tacit.errors import CalibrationError
from tacit.geometry.camera_info import camera_to_yaml_dict
from tacit.geometry.transforms import from_rotation, invert, pose_error
from tacit_calibration.board import Board
from tacit_calibration.cli import main
from tacit_calibration.commands import from_poses
from tacit_calibration.commands.from_poses import PoseSource, views_of_poses
from tacit_calibration.estimation.directions import upside_down
from tacit_calibration.pose_conventions import read_by_consistency
from tacit_calibration.poses.files import read_poses
from tacit_calibration.samples import RobotViews

NUM = 9
BOARDS = np.array([from_rotation(R, t) for R, t in look_at_poses(NUM)])
FLANGE = B @ invert(X @ BOARDS)
NAMES = [f"shot_{i + 4}.png" for i in range(NUM)]  # as text, shot_10 comes before shot_4


@pytest.fixture(autouse=True)
def corners(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be found in pictures of these names; finding it is tested with `detection`."""
    seen = exact_views(look_at_poses(NUM), noise_px=0.2)
    views = tuple(replace(view, name=name) for view, name in zip(seen.views, NAMES, strict=True))
    order = sorted(range(NUM), key=lambda i: NAMES[i])
    found = replace(seen, views=tuple(views[i] for i in order))
    monkeypatch.setattr(from_poses, "detect_folder", lambda *_: found)
    # Nothing is seen in them, so the corners stay where they were found.
    blank = np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8)
    monkeypatch.setattr(from_poses, "picture_in", lambda _: lambda name: blank)


def lines(poses: np.ndarray) -> list[str]:
    """Poses as a Dobot prints them: millimetres, roll, pitch and yaw in degrees."""
    angles = Rotation.from_matrix(poses[:, :3, :3]).as_euler("xyz", degrees=True)
    return [",".join(map(str, [*1e3 * T[:3, 3], *rpy])) for T, rpy in zip(poses, angles, strict=True)]


def read(folder: Path, text: str) -> RobotViews:
    (folder / "poses.txt").write_text(text)
    source = PoseSource(folder / "poses.txt", folder)
    return views_of_poses(source, Board(), CAMERA, "eye_in_hand")


@pytest.mark.parametrize("by", ["name", "number", "order"])
def test_poses_find_their_pictures(tmp_path, by, capsys):
    named = {"name": NAMES, "number": [f"{i + 4}.jpg" for i in range(NUM)], "order": [""] * NUM}[by]
    rows = [f"{name} {line}" for name, line in zip(named, lines(FLANGE), strict=True)]
    views = read(tmp_path, "\n".join(rows if by == "order" else rows[::-1]))
    for view, T in zip(views.views, views.flange_poses, strict=True):
        np.testing.assert_allclose(T, FLANGE[NAMES.index(view.name)], atol=1e-9)
    assert "flange in base, roll pitch yaw about fixed axes [deg], mm" in capsys.readouterr().out


def test_a_picture_without_a_pose_is_skipped_by_name(tmp_path, capsys):
    rows = [f"{name} {line}" for name, line in zip(NAMES, lines(FLANGE), strict=True)]
    assert len(read(tmp_path, "\n".join(rows[:2] + rows[3:])).views) == NUM - 1
    assert "skipped shot_6.png: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (lines(np.random.default_rng(0).permutation(FLANGE)), "other pictures: .* goes with the pose of"),
        (lines(FLANGE[[6, 7, 8, 0, 1, 2, 3, 4, 5]]), "other pictures: .* names are sorted as text"),
        (lines(np.roll(FLANGE, 1, axis=0)), "other pictures: .* each is taken one picture earlier"),
        (lines(FLANGE)[1:], f"{NUM - 1} poses, .*: {NUM} pictures"),
        ([f"{NAMES[0]} {line}" for line in lines(FLANGE)], r"two poses for shot_4.png"),
    ],
)
def test_what_goes_wrong_between_poses_and_pictures_is_named(tmp_path, rows, message):
    with pytest.raises(CalibrationError, match=message):
        read(tmp_path, "\n".join(rows))


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (np.roll(np.arange(NUM), 1), "one picture earlier"),
        (np.arange(NUM)[::-1], "from the last to the first"),
        (sorted(range(NUM), key=lambda i: NAMES[i]), "sorted as text"),
    ],
)
def test_mixups_are_named_with_a_board_that_looks_the_same_upside_down(tmp_path, order, said):
    (tmp_path / "poses.txt").write_text("\n".join(lines(FLANGE[np.array(order)])))
    middle, turned = np.array([0.08, 0.06, 0.0]), np.arange(NUM) % 3 == 0
    boards = np.where(turned[:, None, None], upside_down(BOARDS, middle), BOARDS)
    table = read_poses(tmp_path / "poses.txt")
    with pytest.raises(CalibrationError, match=f"other pictures: .*{said}"):
        read_by_consistency(table, boards, "eye_in_hand", middle, NAMES)
    (tmp_path / "poses.txt").write_text("\n".join(lines(FLANGE)))
    reading = read_by_consistency(read_poses(tmp_path / "poses.txt"), boards, "eye_in_hand", middle, NAMES)
    assert (reading.turned == turned).all() or (reading.turned ^ turned).all()


def test_the_camera_is_found_from_pictures_and_poses_without_a_rig(tmp_path):
    (tmp_path / "poses.csv").write_text("\n".join(["x_mm,y_mm,z_mm,rx_deg,ry_deg,rz_deg", *lines(FLANGE)]))
    (tmp_path / "lens.yaml").write_text(yaml.safe_dump(camera_to_yaml_dict(CAMERA, "c")))
    words = ["handeye", "--camera", "c", "--poses", f"{tmp_path}/poses.csv", "--images", str(tmp_path)]
    words += ["--lens", f"{tmp_path}/lens.yaml", "--mounting", "eye_in_hand", "--out", f"{tmp_path}/out.yaml"]
    assert main([*words, "--no-held-out"]) == 0
    found = np.array(yaml.safe_load((tmp_path / "out.yaml").read_text())["T_parent_camera"])
    assert pose_error(found, X).translation < 1e-3
