"""Joints of a real arm against the rig: signs, units and order by small moves, zeros by many poses."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest
from arm_scenes import changed, look_at_states, robot_views

from tacit.errors import CalibrationError, RigError
from tacit.geometry.kinematics import DH_MODELS, chain_from_dh
from tacit.geometry.rotations import rotation_from_vector
from tacit.geometry.transforms import from_rotation
from tacit.geometry.urdf import chain_from_urdf
from tacit.rig import load_rig
from tacit_calibration.checks.drift import compare_rigs
from tacit_calibration.checks.joint_check import joint_moves, zero_offsets
from tacit_calibration.checks.kinematic_check import compare_chains, second_opinion
from tacit_calibration.cli import main
from tacit_calibration.commands import check as check_command

RIG = load_rig("nova2_sim_vga")
TABLE = from_rotation(np.diag([1.0, -1.0, -1.0]), (-0.45, 0.09, 0.0))
HOME = np.array([-0.3424, 0.0643, 2.0576, -0.5511, -1.5708, 1.2284])
NAMES = [f"joint{i}" for i in range(1, 7)]


def moved_one_by_one(degrees: float = 6.0) -> np.ndarray:
    return np.vstack([HOME, HOME + np.deg2rad(degrees) * np.eye(6)])


def problems(measured: np.ndarray, believed=RIG) -> list[str]:
    """What is said of drivers that report `measured` while the arm makes single moves."""
    views = robot_views(RIG, "wrist", TABLE, moved_one_by_one(), measured=measured, noise_px=0.2)
    return [move.problem for move in joint_moves(believed, "wrist", views)]


def test_right_joints_are_found_right_with_a_camera_whose_place_is_known_to_ten_degrees():
    turned = RIG.cameras["wrist"].T_parent_camera @ from_rotation(rotation_from_vector([0.1, 0.1, 0.1]))
    believed = changed(RIG, "cameras.wrist", T_parent_camera=turned.tolist())
    assert problems(moved_one_by_one(), believed) == [""] * 6


@pytest.mark.parametrize("joint", [0, 2, 4])
def test_a_joint_that_turns_the_other_way_is_named(joint):
    measured = moved_one_by_one()
    measured[1 + joint, joint] = 2 * HOME[joint] - measured[1 + joint, joint]
    found = problems(measured)
    assert "sign to -1" in found[joint]
    assert [bool(text) for text in found] == [i == joint for i in range(6)]


def test_degrees_for_radians_are_named():
    measured = HOME + np.rad2deg(moved_one_by_one() - HOME)  # moves of 6, read as 6 rad
    assert all("degrees" in text for text in problems(measured))


def test_joints_in_another_order_turn_about_other_axes():
    order = [2, 1, 0, 3, 4, 5]
    measured = HOME + (moved_one_by_one() - HOME)[:, order]
    found = problems(measured)
    assert "axis" in found[0] and "axis" in found[2] and found[3] == ""


def test_samples_without_single_moves_are_refused():
    rng = np.random.default_rng(0)
    views = robot_views(RIG, "wrist", TABLE, HOME + rng.uniform(-0.1, 0.1, (6, 6)))
    with pytest.raises(CalibrationError, match="one joint alone"):
        joint_moves(RIG, "wrist", views)


@pytest.mark.parametrize("camera", ["wrist", "top"])
def test_zero_offsets_of_inner_joints_are_found_within_their_uncertainty(camera):
    anchor = TABLE if camera == "wrist" else from_rotation(np.diag([1.0, -1.0, -1.0]), (-0.135, 0.09, 0.25))
    true = look_at_states(RIG, camera, anchor, 25)
    offsets = np.deg2rad([0.4, -0.3, 0.5, 0.0, 0.35, -0.6])
    views = robot_views(RIG, camera, anchor, true, measured=true - offsets, noise_px=0.15)
    found = zero_offsets(RIG, camera, views)
    assert [zero.name for zero in found] == NAMES[1:-1]
    for zero, expected in zip(found, offsets[1:-1], strict=True):
        assert abs(zero.offset - expected) < max(4 * zero.sigma, np.deg2rad(0.03))
        assert zero.is_significant == (expected != 0)


def test_dh_of_the_nova2_equals_its_urdf_within_the_roundings_of_the_file():
    found = compare_chains(chain_from_dh(DH_MODELS["nova2"], NAMES), nova2_urdf())
    assert found.agree and found.differences(NAMES) == []
    assert found.max_m < 2e-5 and found.max_deg < 1e-3


def test_a_urdf_with_axes_turned_round_is_explained():
    found = compare_chains(chain_from_dh(DH_MODELS["nova2"], NAMES), nova2_urdf(flipped=(1, 4, 5)))
    assert not found.agree and found.max_m > 0.3
    named = " ".join(found.differences(NAMES))
    for joint in (1, 4, 5):
        assert f"joint{joint} turns the other way" in named
    assert "joint2 turns" not in named and found.left_m < 5e-5


def test_an_offset_and_another_tool_frame_are_explained():
    rows = list(DH_MODELS["nova2"])
    rows[2] = rows[2]._replace(offset=np.deg2rad(5.0))
    rows[5] = rows[5]._replace(d=0.188)
    found = compare_chains(chain_from_dh(DH_MODELS["nova2"], NAMES), chain_from_dh(rows, NAMES))
    named = " ".join(found.differences(NAMES))
    assert "joint3 has its zero -5.00 deg elsewhere" in named
    assert "tool frames are 100.0 mm" in named
    assert found.left_m < 1e-6


def test_chains_of_other_arms_stay_apart():
    found = compare_chains(chain_from_dh(DH_MODELS["nova2"], NAMES), chain_from_dh(DH_MODELS["nova5"], NAMES))
    assert found.left_m > 0.02


def nova2_text(flipped: tuple[int, ...] = ()) -> str:
    """The vendor's URDF: origins as printed there, axes +z, some turned round."""
    origins = [
        ("0 0 0.2234", "0 0 0"),
        ("0 0 0", "1.5708 1.5708 0"),
        ("-0.28 0 0", "0 0 0"),
        ("-0.22501 0 0.1175", "0 0 -1.5708"),
        ("0 -0.12 0", "1.5708 0 0"),
        ("0 0.088004 0", "-1.5708 0 0"),
    ]
    joints = "".join(
        f'<joint name="joint{i}" type="revolute"><parent link="l{i - 1}"/><child link="l{i}"/>'
        f'<origin xyz="{xyz}" rpy="{rpy}"/><axis xyz="0 0 {-1 if i in flipped else 1}"/></joint>'
        for i, (xyz, rpy) in enumerate(origins, start=1)
    )
    links = "".join(f'<link name="l{i}"/>' for i in range(7))
    return f'<robot name="nova2">{links}{joints}</robot>'


def nova2_urdf(flipped: tuple[int, ...] = ()):
    return chain_from_urdf(nova2_text(flipped), "l0", "l6", NAMES)


@pytest.mark.parametrize(("flipped", "code"), [((), 0), ((1, 4, 5), 1)])
def test_check_compares_a_rig_with_a_urdf(tmp_path, capsys, flipped, code):
    (tmp_path / "arm.urdf").write_text(nova2_text(flipped))
    words = [
        "check",
        "nova2_sim",
        "--urdf",
        str(tmp_path / "arm.urdf"),
        "--base-link",
        "l0",
        "--tip-link",
        "l6",
    ]
    assert main(words) == code
    assert ("joint4 turns the other way" in capsys.readouterr().out) == bool(flipped)
    with pytest.raises(CalibrationError, match="--tip-link"):
        main(words[:-2])


def test_check_expands_a_xacro(tmp_path, monkeypatch, capsys):
    text = nova2_text().replace('"joint', '"$(arg prefix)joint')
    head = '<robot xmlns:xacro="http://www.ros.org/wiki/xacro"><xacro:arg name="prefix" default="left_"/>'
    (tmp_path / "arm").mkdir()
    (tmp_path / "arm/package.xml").write_text("<package><name>arm</name></package>")
    (tmp_path / "arm/arm.urdf.xacro").write_text(text.replace('<robot name="nova2">', head))
    monkeypatch.setenv("ROS_PACKAGE_PATH", str(tmp_path))
    words = ["check", "nova2_sim", "--urdf", "package://arm/arm.urdf.xacro", "--base-link", "l0"]
    assert main([*words, "--tip-link", "l6", "--xacro", "prefix:="]) == 0
    assert "against arm.urdf.xacro: mean 0.0" in capsys.readouterr().out
    with pytest.raises(RigError, match="did you mean 'left_joint1'"):
        main([*words, "--tip-link", "l6"])
    with pytest.raises(CalibrationError, match="argument:=value"):
        main([*words, "--tip-link", "l6", "--xacro", "prefix=left_"])


def planted(monkeypatch, where, name, wrong):
    module = importlib.import_module(f"tacit.geometry.{where}")
    right = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *given: wrong(right, *given))


@pytest.mark.parametrize(
    ("rig", "where", "name", "wrong"),
    [
        ("nova2_sim", "kinematics", "rotate_z", lambda right, angle: right(-angle)),
        (
            "nova2_sim",
            "kinematics",
            "_slide_and_twist",
            lambda right, row: right(row._replace(a=row.d, d=row.a)),
        ),
        ("ur5e", "urdf", "rotation_from_rpy", lambda right, rpy: right(np.round(rpy, 6))),
        ("ur5e", "urdf", "rotation_from_rpy", lambda right, rpy: right(rpy).T),
        ("ur5e", "urdf", "_z_to", lambda right, axis: right(-axis)),
        ("ur5e", "urdf", "_numbers", lambda right, *given: [1.002 * x for x in right(*given)]),
    ],
)
def test_a_fault_in_our_kinematics_is_caught_by_other_code(monkeypatch, capsys, rig, where, name, wrong):
    main(["check", rig])
    assert "fault of tacit" not in capsys.readouterr().out
    planted(monkeypatch, where, name, wrong)
    assert main(["check", rig]) == 1
    assert "WRONG? arms.arm: forward kinematics lies at most" in capsys.readouterr().out


def test_an_oblique_axis_is_computed_the_second_time_by_its_definition():
    joints = changed(
        RIG,
        "arms.arm",
        model=None,
        urdf=nova2_text().replace("0 0 1", "1 2 -2"),
        base_link="l0",
        tip_link="l6",
    )
    found = second_opinion(joints.arms["arm"])
    assert found.agrees and found.max_m < 1e-12  # 1.5708 is read as it stands


def test_check_goes_on_without_roboticstoolbox(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "roboticstoolbox", None)
    assert main(["check", "nova2_sim"]) == 0
    assert "not computed a second time" in capsys.readouterr().out


def test_check_compares_two_dates(tmp_path, capsys):
    T = RIG.cameras["wrist"].T_parent_camera @ from_rotation(rotation_from_vector([0, 0.02, 0]))
    (tmp_path / "new.yaml").write_text(changed(RIG, "cameras.wrist", T_parent_camera=T.tolist()).to_yaml())
    assert main(["check", str(tmp_path / "new.yaml"), "--against", "nova2_sim_vga"]) == 1
    assert "box of left in wrist has drifted" in capsys.readouterr().out
    assert main(["check", "nova2_sim_vga", "--against", "nova2_sim_vga"]) == 0


def test_check_finds_a_wrong_sign_and_writes_zeros(tmp_path, monkeypatch, capsys):
    measured = moved_one_by_one()
    measured[3, 2] = 2 * HOME[2] - measured[3, 2]
    views = robot_views(RIG, "wrist", TABLE, moved_one_by_one(), measured=measured, noise_px=0.2)
    monkeypatch.setattr(check_command, "read_samples", lambda *_: views)
    words = ["check", "nova2_sim_vga", "--camera", "wrist", "--samples", str(tmp_path)]
    assert main(words) == 1
    assert "WRONG? joint3: turns the other way" in capsys.readouterr().out
    true = look_at_states(RIG, "wrist", TABLE, 20)
    offset = np.deg2rad([0, 0.5, 0, 0, 0, 0])
    views = robot_views(RIG, "wrist", TABLE, true, measured=true - offset, noise_px=0.1)
    assert main([*words, "--rig-out", str(tmp_path / "zeros.yaml")]) == 1
    joints = load_rig(tmp_path / "zeros.yaml").arms["arm"].joints
    assert [joint.offset for joint in joints] == pytest.approx(offset, abs=np.deg2rad(0.03))
    with pytest.raises(CalibrationError, match="give --camera too"):
        main(["check", "nova2_sim_vga", "--samples", str(tmp_path)])


def test_drift_is_what_was_moved_and_what_boxes_felt():
    T = RIG.cameras["wrist"].T_parent_camera @ from_rotation(
        rotation_from_vector([0, 0.01, 0]), (0.002, 0, 0)
    )
    drift = compare_rigs(RIG, changed(RIG, "cameras.wrist", T_parent_camera=T.tolist()))
    by_path = {moved.path: moved for moved in drift.moved}
    assert by_path["cameras.wrist.pose"].millimetres == pytest.approx(2.0)
    assert by_path["cameras.wrist.pose"].degrees == pytest.approx(np.rad2deg(0.01))
    assert by_path["cameras.top.pose"].millimetres == 0 and by_path["cameras.top.pose"].is_significant is None
    assert drift.boxes_px["wrist", "left"][0] > 3 and drift.boxes_px["top", "left"] == (0.0, 0.0)


def test_drift_knows_its_uncertainty_where_both_dates_do():
    records = [
        {"date": f"2026-0{month}-01", "method": "m", "sigma_mm": 0.3, "sigma_deg": 0.05} for month in (1, 6)
    ]
    rigs = []
    for record, shift in zip(records, (0.0, 0.004), strict=True):
        T = RIG.cameras["wrist"].T_parent_camera @ from_rotation(np.eye(3), (shift, 0, 0))
        moved = changed(RIG, "cameras.wrist", T_parent_camera=T.tolist())
        rigs.append(changed(moved, "calibrations", **{"cameras.wrist.pose": record}))
    found = next(m for m in compare_rigs(*rigs).moved if m.path == "cameras.wrist.pose")
    assert found.sigma_mm == pytest.approx(0.3 * np.sqrt(2)) and found.is_significant
    assert found.dates == ("2026-01-01", "2026-06-01")


def test_rigs_of_other_cells_cannot_be_compared():
    with pytest.raises(CalibrationError, match="no camera 'wrist'"):
        compare_rigs(RIG, load_rig("xtrainer"))
