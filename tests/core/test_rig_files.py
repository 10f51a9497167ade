"""A rig file for a new cell: begun from a shipped one, checked line by line, and drawn."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tacit import cli
from tacit.geometry.kinematics import fk_numpy
from tacit.rig import RIGS_FOLDER, load_rig, shipped_rigs
from tacit.rig.review import review
from tacit.view.rig_page import drawing, links, resting, rig_page

TEMPLATE = (RIGS_FOLDER / "ur5e.yaml").read_text()
CAMERAS = ["wrist=/cam_w/color/image_raw", "top=/cam_t/color/image_raw@world"]
CELL = [
    *("rig", "new", "my_robot", "--from", "ur5e", "--cameras", *CAMERAS),
    *("--gels", "left=/gel_l/image_raw", "right=/gel_r/image_raw", "--serials", "left=A1", "right=B2"),
    *("--topics", "joints=/ur/joint_states"),
]

MISTAKES = {
    "degrees": (
        "lower: -3.1416, upper: 3.1416",
        "lower: -180, upper: 180",
        r"joints\.2\.upper: .*write 3\.1416",
    ),
    "degrees a second": ("velocity: 3.1416", "velocity: 180", r"velocity: 180 .*rad/s; .*write 3\.1416"),
    "millimetres": ("upper: 0.085", "upper: 85", r"upper: opens 85 m; millimetres\? Then write 0\.085"),
    "a space": ("/gelsight/left/image_raw", "/gelsight/left image", r"did you mean '/gelsight/left_image'"),
    "half a type": (
        "sensor_msgs/msg/JointState",
        "sensor_msgs/JointState",
        r"'sensor_msgs/msg/JointState'\?",
    ),
    "a misspelt type": ("std_msgs/msg/Bool", "std_msgs/msg/Boolean", r"did you mean 'std_msgs/msg/Bool'"),
    "an unknown type": ("std_msgs/msg/Bool", "my_msgs/msg/Thing", r"'my_msgs/msg/Thing' is not read there"),
    "no version": ("schema_version: tacit-rig 1\n", "", r"line 1: `schema_version` is missing; write"),
    "one serial": ("REPLACE-ME", "X12", r"tactile\.right\.serial: X12 is that of tactile\.left"),
    "one topic": ("/gelsight/right/", "/gelsight/left/", r"right\.topic: .* is that of tactile\.left"),
    "no file": ("urdf: ur5e.urdf", "urdf: ur6e.urdf", r"line \d+: arms\.arm\.urdf: no file .*relative"),
    "no package": ("urdf: ur5e.urdf", "urdf: package://none/a.urdf", r"arm\.urdf: .*source the workspace"),
    "a misspelt key": ("tick_source", "tick_sorce", r"line \d+: alignment.*did you mean 'tick_source'"),
    "a placeholder": ("rate_hz", "rate_hz", r"line 38: a placeholder"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_with_its_line_and_its_cure(name: str, tmp_path: Path) -> None:
    right, wrong, said = MISTAKES[name]
    path = tmp_path / "rig.yaml"
    path.write_text(TEMPLATE.replace(right, wrong))
    (tmp_path / "ur5e.urdf").write_text((RIGS_FOLDER / "ur5e.urdf").read_text())
    assert right in TEMPLATE
    remarks = [str(remark) for remark in review(path)]
    assert any(re.search(said, remark) for remark in remarks), remarks


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    text = TEMPLATE
    for name in ("degrees", "millimetres", "a space", "no version", "no package", "a misspelt key"):
        text = text.replace(*MISTAKES[name][:2])
    (tmp_path / "rig.yaml").write_text(text)
    remarks = [str(remark) for remark in review(tmp_path / "rig.yaml")]
    for name in ("degrees", "millimetres", "a space", "no version", "no package", "a misspelt key"):
        assert any(re.search(MISTAKES[name][2], remark) for remark in remarks), name


@pytest.mark.parametrize("name", shipped_rigs())
def test_shipped_rigs_lack_nothing_but_what_their_placeholders_say(name: str) -> None:
    assert [remark for remark in review(name) if "placeholder" not in remark.text] == []


def test_a_new_rig_is_the_template_with_the_topics_of_the_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(CELL) == 0
    assert "next: tacit rig check my_robot.yaml" in capsys.readouterr().out
    rig = load_rig("my_robot.yaml")
    assert (rig.name, list(rig.cameras), list(rig.tactile)) == (
        "my_robot",
        ["wrist", "top"],
        ["left", "right"],
    )
    assert [spec.parent for spec in rig.cameras.values()] == ["arm.flange", "world"]
    assert rig.cameras["top"].info_topic == "/cam_t/color/camera_info"
    assert [spec.serial for spec in rig.tactile.values()] == ["A1", "B2"]
    assert rig.streams["joints"].topic == "/ur/joint_states"
    assert rig.home is not None and rig.safety.workspace
    assert "# PLACEHOLDER" in Path("my_robot.yaml").read_text()
    assert cli.main(["rig", "check", "my_robot.yaml"]) == 1
    assert cli.main(CELL) == 2
    assert "never overwritten" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my_robot.yaml", "ur5e.urdf"]


def test_words_that_yaml_would_read_as_something_else_stay_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--serials", "left=00123", "right=no", "--topics", "joints=~/joint_states"]
    assert cli.main(["rig", "new", "123", "--from", "nova2", *words]) == 0
    rig = load_rig("123.yaml")
    assert (rig.name, *(spec.serial for spec in rig.tactile.values())) == ("123", "00123", "no")
    assert "~/" not in " ".join(str(remark) for remark in review("123.yaml"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x", "--from", "ur6e"], "did you mean 'ur5e'"),
        (["x", "--from", "ur5e", "--cameras", "wrist"], "expected NAME=VALUE"),
        (["x", "--from", "ur5e", "--topics", "joint=/a"], "did you mean 'joints'"),
        (["x", "--from", "ur5e", "--serials", "thumb=1"], "no 'thumb' in the template"),
        (["x", "--from-dataset", ".", "--gels", "left=/a"], "belongs to --from"),
        (["x"], "give one of --from"),
        (["--from", "ur5e"], "give the name of the rig"),
        (["a b", "--from", "ur5e"], "use letters, digits"),
        (["x", "--from", "ur5e", "--cameras", "wrist=/a", "wrist=/b"], "stands there twice"),
        (["x", "--from", "ur5e", "--cameras", r"wrist=/a\g<9>: # b@world"], "no topic of ROS"),
        (["x", "--from", "ur5e", "--cameras", "joints=/a"], "used twice"),
    ],
)
def test_what_cannot_be_a_rig_is_refused_and_nothing_is_written(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["rig", "new", *words]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["ur5e", "nova2_sim", "xtrainer"])
def test_the_drawn_arm_ends_in_its_flange(name: str) -> None:
    rig = load_rig(name)
    q = resting(rig)
    for arm, robot in rig.geometry.robots.items():
        joints = q[rig.arm_slice(arm)]
        drawn = links(robot.chain, np.eye(4), joints)
        np.testing.assert_allclose(drawn[-1], fk_numpy(robot.chain, joints)[:3, 3], atol=1e-9)
        assert len(drawn) == len(robot.chain.origins) + 2


def test_the_drawn_frustum_holds_what_the_camera_sees_and_the_page_names_all_parts() -> None:
    rig = load_rig("nova2_sim")
    strokes = {stroke.label: stroke.points for stroke in drawing(rig, resting(rig))}
    T = rig.geometry.camera_poses(resting(rig))["top"]
    seen = (strokes["top"][:4] - T[:3, 3]) @ T[:3, :3]
    camera = rig.geometry.camera("top")
    corners = [[0, 0], [camera.width - 1, 0], [camera.width - 1, camera.height - 1], [0, camera.height - 1]]
    np.testing.assert_allclose(camera.project(seen), corners, atol=1e-6)
    text = rig_page(rig).html()
    assert all(f">{name}</text>" in text for name in (*rig.cameras, *rig.tactile, *rig.arms))


@pytest.mark.ros
def test_names_that_differ_from_the_robots_are_told() -> None:
    from tacit_ros.run.rig_live import compare_joints

    rig = load_rig("ur5e")
    names = list(rig.streams["joints"].names)
    home = [0.0, -1.57, 1.57, -1.57, -1.57, 0.0]

    def said(names_heard: list[str], position: list[float]) -> str:
        return " ".join(compare_joints(rig, names, SimpleNamespace(name=names_heard, position=position)))

    assert said(names, home) == ""
    assert "or 'shoulder_pan'?" in said(["shoulder_pan", *names[1:]], home)
    assert "in the order" in said([names[0], names[2], names[1], *names[3:]], home)
    assert "degrees?" in said(names, [0, -90, 90, -90, -90, 0])
