"""Robot poses as people have them: every usual form is read, and its convention found from the pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from hand_eye_scenes import B, X, scene
from judged_once import JudgedOnce

from tacit.errors import CalibrationError
from tacit.geometry.rotations import rotation_from_quaternion, rotation_to_quaternion, rotation_to_vector
from tacit.geometry.transforms import invert, pose_error
from tacit_calibration.cli import main
from tacit_calibration.commands import handeye
from tacit_calibration.estimation.directions import directions, upside_down
from tacit_calibration.pose_conventions import read_by_consistency
from tacit_calibration.poses.files import read_poses

G, VIEWS = scene(0, 14, 0.3, 0.02, 0.05, "eye_in_hand")
BOARDS = invert(G @ X) @ B


def rpy_of(R: np.ndarray) -> list[float]:
    """Roll, pitch, yaw about fixed axes, by the textbook."""
    return [np.arctan2(R[2, 1], R[2, 2]), np.arcsin(-R[2, 0]), np.arctan2(R[1, 0], R[0, 0])]


def zyz_of(R: np.ndarray) -> list[float]:
    """Angles about moving z, y and z, by the textbook."""
    around = np.hypot(R[2, 0], R[2, 1])
    return [np.arctan2(R[1, 2], R[0, 2]), np.arctan2(around, R[2, 2]), np.arctan2(R[2, 1], -R[2, 0])]


def text_of(form: str) -> str:
    """The poses as one controller or tool writes them."""
    lines = []
    for T in G:
        x, (qx, qy, qz, qw), v = T[:3, 3], rotation_to_quaternion(T[:3, :3]), rotation_to_vector(T[:3, :3])
        mm, rpy = 1e3 * x, np.rad2deg(rpy_of(T[:3, :3]))
        inverse = invert(T)
        lines.append(
            {
                "UR": f"p[{x[0]}, {x[1]}, {x[2]}, {v[0]}, {v[1]}, {v[2]}]",
                "ABB": f"[[{mm[0]},{mm[1]},{mm[2]}],[{qw},{qx},{qy},{qz}],[0,0,-1,0],[9E+09,9E+09,0,0,0,0]];",
                "Dobot": f"{{{mm[0]},{mm[1]},{mm[2]},{rpy[0]},{rpy[1]},{rpy[2]}}}",
                "Franka": ", ".join(str(n) for n in T.T.ravel()),
                "matrix": " ".join(str(n) for n in T.ravel()),
                "KUKA": f"{mm[0]} {mm[1]} {mm[2]} {rpy[2]} {rpy[1]} {rpy[0]}",
                "inverse": " ".join(f"{n:.9f}" for n in inverse.ravel()),
                "few digits": " ".join(f"{n:.4f}" for n in T.ravel()),
                "Doosan": f"posx({', '.join(map(str, [*mm, *np.rad2deg(zyz_of(T[:3, :3]))]))})",
                "quaternion first": f"{qw} {qx} {qy} {qz} {x[0]} {x[1]} {x[2]}",
                "counted": f"{len(lines)}, {', '.join(map(str, [*mm, *rpy]))}",
                "quaternion": f"{x[0]}, {x[1]}, {x[2]}, {qx}, {qy}, {qz}, {qw}",
            }[form]
        )
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("form", "meaning"),
    [
        ("UR", "flange in base, rotation vector [rad], m"),
        ("ABB", "flange in base, quaternion wxyz, mm"),
        ("Dobot", "flange in base, roll pitch yaw about fixed axes [deg], mm"),
        ("Franka", "flange in base, 4x4 matrix by columns, m"),
        ("matrix", "flange in base, 4x4 matrix, m"),
        ("KUKA", "flange in base, A B C about moving z, y, x [deg], mm"),
        ("inverse", "base in flange (inverse), 4x4 matrix, m"),
        ("few digits", "flange in base, 4x4 matrix, m"),
        ("Doosan", "flange in base, angles about moving z, y, z [deg], mm"),
        ("quaternion first", "flange in base, quaternion wxyz, m"),
        ("counted", "flange in base, roll pitch yaw about fixed axes [deg], mm"),
        ("quaternion", "flange in base, quaternion xyzw, m"),
    ],
)
def test_the_convention_of_a_table_is_found_and_said(tmp_path, form, meaning):
    (tmp_path / "poses.txt").write_text(text_of(form))
    reading = read_by_consistency(read_poses(tmp_path / "poses.txt"), BOARDS, "eye_in_hand")
    assert reading.meaning == meaning
    np.testing.assert_allclose(reading.poses, G, atol=2e-4)


def test_centimetres_are_read_where_columns_say_so(tmp_path):
    rows = [",".join(map(str, [*1e2 * T[:3, 3], *rotation_to_quaternion(T[:3, :3])])) for T in G]
    (tmp_path / "a.csv").write_text("\n".join(["x_cm,y_cm,z_cm,qx,qy,qz,qw", *rows]))
    reading = read_by_consistency(read_poses(tmp_path / "a.csv"), BOARDS, "eye_in_hand")
    assert reading.meaning == "flange in base, quaternion xyzw, cm"
    np.testing.assert_allclose(reading.poses, G, atol=1e-9)


def test_columns_of_a_csv_are_found_by_name_and_may_state_units(tmp_path):
    rows = ["image;rz_deg;ry_deg;rx_deg;z_mm;y_mm;x_mm"]
    for i, T in enumerate(G):
        (roll, pitch, yaw), (x, y, z) = np.rad2deg(rpy_of(T[:3, :3])), 1e3 * T[:3, 3]
        rows.append(f"{i:02d}.png;{yaw};{pitch};{roll};{z};{y};{x}")
    (tmp_path / "poses.csv").write_text("\n".join(rows))
    table = read_poses(tmp_path / "poses.csv")
    assert (table.unit, table.angle) == ("mm", "deg")
    assert table.rows[3].picture == "03.png"
    np.testing.assert_allclose(read_by_consistency(table, BOARDS, "eye_in_hand").poses, G, atol=1e-9)
    (tmp_path / "poses.csv").write_text("image,j1,x,y\na.png,1,2,3\n")
    with pytest.raises(CalibrationError, match="expected x,y,z"):
        read_poses(tmp_path / "poses.csv")


def pairs(form: str) -> str:
    """Robot and board poses as easy_handeye and MoveIt save them."""

    def entry(T):
        q = rotation_to_quaternion(T[:3, :3]).tolist()
        place, turn = (dict(zip("xyzw", v, strict=False)) for v in (T[:3, 3].tolist(), q))
        return {"translation": place, "rotation": turn}

    if form == "moveit":
        return json.dumps([[T.tolist(), C.tolist()] for T, C in zip(G, BOARDS, strict=True)])
    samples = [{"robot": entry(T), "optical": entry(C)} for T, C in zip(G, BOARDS, strict=True)]
    if form == "easy_handeye2":
        samples = [{"robot": s["robot"], "tracking": {"transform": s["optical"]}} for s in samples]
    return yaml.safe_dump({"samples": samples})


@pytest.mark.parametrize(
    ("form", "suffix"), [("moveit", "json"), ("easy_handeye", "yaml"), ("easy_handeye2", "yaml")]
)
def test_pairs_of_poses_are_calibrated_without_pictures_or_arm(tmp_path, capsys, form, suffix):
    source, out = tmp_path / f"samples.{suffix}", tmp_path / "result.yaml"
    source.write_text(pairs(form))
    words = [
        "handeye",
        "--camera",
        "c",
        "--poses",
        str(source),
        "--mounting",
        "eye_in_hand",
        "--out",
        str(out),
    ]
    assert main([*words, "--no-held-out"]) == 0
    assert "poses read as flange in base" in capsys.readouterr().out
    found = np.array(yaml.safe_load(out.read_text())["T_parent_camera"])
    assert pose_error(found, X).translation < 5e-4


def test_a_contradiction_is_not_written_without_accept(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(handeye, "judge", JudgedOnce())
    # The board's poses as of squares 2 % too small: by the arm's moves the board is larger.
    small = BOARDS.copy()
    small[:, :3, 3] *= 0.985
    source, out = tmp_path / "pairs.json", tmp_path / "result.yaml"
    source.write_text(json.dumps([[T.tolist(), C.tolist()] for T, C in zip(G, small, strict=True)]))
    words = [
        "handeye",
        "--camera",
        "c",
        "--poses",
        str(source),
        "--mounting",
        "eye_in_hand",
        "--out",
        str(out),
    ]
    # A size needs no view left out, so it is asked also where none is.
    assert main([*words, "--no-held-out"]) == main(words) == 1
    assert not out.exists()
    assert "CONTRADICTION by the arm's moves the squares are 1.015" in capsys.readouterr().out
    assert main([*words, "--accept"]) == 1
    assert out.exists()


def test_poses_of_other_pictures_are_refused(tmp_path):
    (tmp_path / "poses.txt").write_text(text_of("UR"))
    with pytest.raises(CalibrationError, match=r"other pictures: .* each is taken 3 pictures later"):
        read_by_consistency(read_poses(tmp_path / "poses.txt"), np.roll(BOARDS, 3, axis=0), "eye_in_hand")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3\n", "poses.txt:1: 3 numbers"),
        ("", "no poses"),
        ("1 2 3 4 5 6\n1 2 3 0 0 0 1\n", "poses of 6, 7"),
    ],
)
def test_files_that_are_no_poses_are_named(tmp_path, text, message):
    (tmp_path / "poses.txt").write_text(text)
    with pytest.raises(CalibrationError, match=message):
        read_poses(tmp_path / "poses.txt")


@pytest.mark.parametrize(
    ("line", "numbers"),
    [
        ("CONST robtarget p10:=[[600,0,400],[1,0,0,0],[0,0,0,0],[9E9,9E9,9E9]];", [600, 0, 400, 1, 0, 0, 0]),
        ("Waypoint_1_p=p[0.1, -0.2, 0.3, 1.5, 0, -.5]", [0.1, -0.2, 0.3, 1.5, 0, -0.5]),
        ("0,{473.0,-141.0,469.0,-180.0,0.0,-90.0},GetPose();", [473, -141, 469, -180, 0, -90]),
        ("movel(p[.1,.2,.3,0,0,1], a=1.2, v=0.25)", [0.1, 0.2, 0.3, 0, 0, 1]),
        ("{X 10, Y 20.5, Z 30, A 90, B 0, C -30, S 2, T 35}", [10, 20.5, 30, -30, 0, 90]),
        ("1305031102.1758 1.3 .6 1.6 .6 .6 -.3 -.4", [1.3, 0.6, 1.6, 0.6, 0.6, -0.3, -0.4]),
        ('{"O_T_EE": [' + ", ".join("1000010000105678") + '], "q": [1, 2, 3, 4, 5, 6, 7]}', None),
        ("P1.png 1 2 3 0 0 0", [1, 2, 3, 0, 0, 0]),
    ],
)
def test_a_line_of_a_controller_is_read_without_what_stands_around_it(tmp_path, line, numbers):
    path = tmp_path / "poses.txt"
    path.write_text(line)
    expected = [float(digit) for digit in "1000010000105678"] if numbers is None else numbers
    assert read_poses(path).robot.tolist() == [pytest.approx(expected)]


def test_a_folder_holds_one_pose_for_each_picture(tmp_path):
    for i, T in enumerate(G):
        (tmp_path / f"{i}_pose.json").write_text(json.dumps({"O_T_EE": T.T.ravel().tolist()}))
    (tmp_path / "settings.yaml").write_text("board: [5, 7]\n")
    table = read_poses(tmp_path)
    assert [row.picture for row in table.rows] == [f"{i}_pose" for i in range(len(G))]
    np.testing.assert_allclose(read_by_consistency(table, BOARDS, "eye_in_hand").poses, G, atol=1e-9)


def test_the_arms_turns_tell_which_way_up_a_board_is():
    middle, turned = np.array([0.1, 0.07, 0.0]), np.random.default_rng(1).random(len(G)) < 0.5
    either = np.where(turned[:, None, None], upside_down(BOARDS, middle), BOARDS)
    found = directions(G, either, middle)
    assert (found ^ turned).all() or (found == turned).all()
    np.testing.assert_allclose(upside_down(upside_down(BOARDS, middle), middle), BOARDS, atol=1e-12)
    q = rotation_to_quaternion(BOARDS[0, :3, :3])
    np.testing.assert_allclose(rotation_from_quaternion(q), BOARDS[0, :3, :3], atol=1e-9)
