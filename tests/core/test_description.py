"""Robots as ROS users name them: xacro with its arguments, files in packages, fingertips that mimic."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import yaml

from tacit.errors import MissingDependencyError, RigError
from tacit.geometry.description import in_package, read_description
from tacit.geometry.robot import Robot
from tacit.geometry.urdf import chain_from_urdf
from tacit.rig import RIGS_FOLDER, load_rig, parse_rig

XACRO = 'xmlns:xacro="http://www.ros.org/wiki/xacro"'
MACRO = f"""<robot {XACRO}><xacro:macro name="arm" params="prefix length">
  <joint name="${{prefix}}turn" type="revolute"><parent link="${{prefix}}base"/><child link="${{prefix}}tip"/>
    <origin xyz="${{length}} 0 0" rpy="${{pi/2}} 0 0"/><axis xyz="0 0 1"/></joint>
</xacro:macro></robot>"""
TOP = f"""<robot name="arm" {XACRO}><xacro:arg name="prefix" default=""/>
  <xacro:arg name="length" default="0.5"/>
  <xacro:include filename="$(find my_arm)/urdf/macro.xacro"/>
  <xacro:arm prefix="$(arg prefix)" length="$(arg length)"/></robot>"""
MANIFEST = "<package format='3'><name>my_arm</name><version>1.0.0</version></package>"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ROS package in a source tree, found by ROS_PACKAGE_PATH and not called as its folder is."""
    folder = tmp_path / "src" / "vendor" / "my_arm_description-1.0"
    (folder / "urdf").mkdir(parents=True)
    (folder / "package.xml").write_text(MANIFEST)
    (folder / "urdf" / "macro.xacro").write_text(MACRO)
    (folder / "urdf" / "arm.urdf.xacro").write_text(TOP)
    monkeypatch.setenv("ROS_PACKAGE_PATH", str(tmp_path / "src"))
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    return folder


def test_a_xacro_is_expanded_with_its_arguments(package):
    text = read_description(package / "urdf/arm.urdf.xacro", {"prefix": "left_", "length": 0.7})
    chain = chain_from_urdf(text, "left_base", "left_tip", ["left_turn"])
    np.testing.assert_allclose(chain.origins[0][:3, 3], [0.7, 0, 0])
    assert chain.origins[0][2, 1] == 1.0  # ${pi/2}


def test_a_file_in_an_installed_package_is_found(package, monkeypatch, tmp_path):
    monkeypatch.delenv("ROS_PACKAGE_PATH")
    with pytest.raises(RigError, match="no such ROS package .*ROS_PACKAGE_PATH to the folder that holds"):
        in_package("package://my_arm/urdf/macro.xacro")
    share = tmp_path / "install" / "share"
    share.mkdir(parents=True)
    (share / "my_arm" / "urdf").mkdir(parents=True)
    for file in (package / "urdf").iterdir():  # as `colcon build --symlink-install` does
        (share / "my_arm" / "urdf" / file.name).symlink_to(file)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nowhere:{tmp_path / 'install'}")
    found = in_package("package://my_arm/urdf/arm.urdf.xacro")
    assert "<joint" in read_description(found)
    with pytest.raises(RigError, match=r"no file .*other.xacro"):
        in_package("package://my_arm/urdf/other.xacro")
    with pytest.raises(RigError, match="leads out of the package"):
        in_package("package://my_arm/../../secret.urdf")


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("arm.urdf", "$(arg length)", "$(arg size)", "Undefined substitution argument size"),
        ("macro", "${length}", "${size}", "'size' is not defined .*macro: arm .*macro.xacro"),
        ("macro", "</robot>", "", "XML parsing error.*when processing file: .*macro.xacro"),
        ("arm.urdf", "find my_arm", "find your_arm", "package://your_arm: no such ROS package"),
        ("macro", "${length}", "${[1] * 10**10}", "evaluating expression"),
        ("arm.urdf", f'<robot name="arm" {XACRO}>', "<robot", "XML parsing error"),
    ],
)
def test_what_is_wrong_with_a_xacro_is_said(package, file, old, new, message):
    path = package / "urdf" / f"{file}.xacro"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(RigError, match=message):
        read_description(package / "urdf/arm.urdf.xacro")


def test_without_xacro_the_command_is_named(package, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(MissingDependencyError, match=r"install xacro; .*arm.urdf.xacro a:=1 > .*arm.urdf$"):
        read_description(package / "urdf/arm.urdf.xacro", {"a": 1})


def test_arguments_of_a_plain_urdf_are_refused(tmp_path):
    (tmp_path / "arm.urdf").write_text("<robot/>")
    with pytest.raises(RigError, match="no xacro; found prefix"):
        read_description(tmp_path / "arm.urdf", {"prefix": "left_"})


HAND = """<robot name="hand">
  <joint name="turn" type="revolute"><parent link="base"/><child link="palm"/><axis xyz="0 1 0"/></joint>
  <joint name="left" type="prismatic"><parent link="palm"/><child link="left_pad"/><axis xyz="0 0 1"/></joint>
  <joint name="right" type="prismatic"><parent link="palm"/><child link="right_pad"/><axis xyz="0 0 -1"/>
    <mimic joint="left" multiplier="2" offset="0.01"/></joint>
</robot>"""


def rig_with(folder: Path, names: list[str], **arm: object) -> Path:
    data = yaml.safe_load((RIGS_FOLDER / "ur5e.yaml").read_text())
    entry = data["arms"]["arm"]
    entry["joints"] = [entry["joints"][0] | {"name": name} for name in names]
    data["streams"]["joints"]["names"] = data["commands"]["arm_command"]["names"] = names
    data["arms"]["arm"] = {key: value for key, value in entry.items() if key != "home"} | arm
    (folder / "rig.yaml").write_text(yaml.safe_dump(data))
    return folder / "rig.yaml"


def test_a_rig_names_a_xacro_in_a_package_and_keeps_its_text(package, tmp_path):
    links = {"base_link": "left_base", "tip_link": "left_tip"}
    urdf = {"urdf": "package://my_arm/urdf/arm.urdf.xacro", "xacro": {"prefix": "left_"}}
    rig = load_rig(rig_with(tmp_path, ["left_turn"], **urdf, **links))
    again = parse_rig(yaml.safe_load(rig.to_yaml()), "again")
    assert again == rig and "xacro" not in rig.arms["arm"].urdf
    np.testing.assert_allclose(Robot.from_rig(rig).forward([0.0])[:3, 3], [0.5, 0, 0])


def test_a_rig_may_end_at_a_fingertip_that_follows_another_finger(tmp_path):
    (tmp_path / "hand.urdf").write_text(HAND)
    path = rig_with(tmp_path, ["turn", "left"], urdf="hand.urdf", base_link="base", tip_link="right_pad")
    T = Robot.from_rig(load_rig(path)).forward([np.pi / 2, 0.02])
    np.testing.assert_allclose(T[:3, 3], [-0.05, 0, 0], atol=1e-15)  # the palm's z is the base's x
