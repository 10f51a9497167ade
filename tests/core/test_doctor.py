"""The doctor's findings: what is missing fails its profile and comes with a cure."""

from __future__ import annotations

from pathlib import Path

import pytest

from tacit.tools import doctor, probes


def fake_versions(installed: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version_of", installed.get)


@pytest.mark.parametrize("version", [(3, 9), (3, 15), (2, 7)])
def test_a_python_out_of_range_is_missing(version: tuple[int, int]) -> None:
    assert doctor.check_python(version).state == "missing"


@pytest.mark.parametrize("version", [(3, 10), (3, 14)])
def test_a_python_in_range_is_fine(version: tuple[int, int]) -> None:
    assert doctor.check_python(version).state == "ok"


def test_a_missing_package_names_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_versions({}, monkeypatch)
    assert "'.[sim]'" in doctor.check_package("mujoco", "sim").cure
    base = doctor.check_package("numpy", "").cure
    assert "-e '.'" in base


def test_torchvision_for_another_torch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_versions({"torch": "2.13.0+cpu"}, monkeypatch)
    assert doctor.check_clashes({"torchvision": "torch==2.13.0"}) == []
    clash = doctor.check_clashes({"torchvision": "torch==2.9.1"})
    assert [check.state for check in clash] == ["missing"]
    assert "pip uninstall torchvision" in clash[0].cure


@pytest.mark.parametrize(("rclpy", "clashes"), [("9.1.2", ["ros distros"]), ("7.1.6", [])])
def test_two_ros_distributions_in_one_environment_are_named(
    rclpy: str, clashes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_versions({"ros-rclpy": rclpy, "ros-jazzy-rclpy": "7.1.6"}, monkeypatch)
    assert [check.name for check in doctor.check_clashes({})] == clashes


def test_two_opencv_wheels_in_one_environment_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_versions({"opencv-python": "5.0.0", "opencv-python-headless": "5.0.0"}, monkeypatch)
    assert [check.name for check in doctor.check_clashes({})] == ["cv2"]


@pytest.mark.parametrize(
    ("value", "state"), [(None, "ok"), ("LOCALHOST", "ok"), ("SUBNET", "note"), ("OFF", "missing")]
)
def test_discovery_beyond_this_host_is_pointed_out(value: str | None, state: str) -> None:
    environment = {} if value is None else {"ROS_AUTOMATIC_DISCOVERY_RANGE": value}
    assert doctor.check_discovery(environment).state == state


def test_a_full_disk_is_pointed_out(tmp_path: Path) -> None:
    assert doctor.check_disk(tmp_path, 0.0).state == "ok"
    assert doctor.check_disk(tmp_path, 1e9).state == "note"


def test_a_probe_that_crashes_is_an_answer_not_a_crash() -> None:
    with pytest.raises(probes.ProbeError, match="ended with code -6"):
        probes.ask("import os; os.abort()")
    with pytest.raises(probes.ProbeError, match="ZeroDivisionError"):
        probes.ask("1 / 0")


def test_a_probe_answers_with_its_last_json_line() -> None:
    assert probes.ask("print('noise'); print('{\"a\": 1}')") == {"a": 1}


def test_a_gl_backend_that_does_not_exist_is_missing_with_the_line_to_type() -> None:
    check = doctor.check_rendering("no-such-backend")
    assert check.state == "missing"
    assert check.cure.startswith("sudo apt-get install")


@pytest.mark.sim
def test_the_red_box_is_seen_by_the_backend_of_this_machine() -> None:
    assert doctor.check_rendering(None).state == "ok"


@pytest.mark.ros
def test_a_node_starts_on_the_loopback() -> None:
    assert doctor.check_rclpy().state == "ok"


def test_missing_parts_fail_the_profile(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    missing = doctor.Check("rclpy", "missing", "not here", "install it")
    monkeypatch.setattr(doctor, "check_rclpy", lambda: missing)
    assert doctor.main(["--profile", "robot", "--path", str(tmp_path)]) == 1
    assert "rclpy: install it" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "check_rclpy", lambda: doctor.Check("rclpy", "ok", "here"))
    assert doctor.main(["--profile", "robot", "--path", str(tmp_path)]) == 0
