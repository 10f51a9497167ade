"""The judge of the calibration bench: a true rig passes, the rig as believed does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tacit_sim.rendering", reason="mujoco is not installed")

from rich.console import Console

from benches.calibration_sim import CalibrationBench, CalibrationSimArguments, compare, passes
from tacit.record.samples import SampleFolder, load_samples
from tacit.rig import load_rig

pytestmark = pytest.mark.sim


def made(folder: Path, **options: object) -> CalibrationBench:
    return CalibrationBench(CalibrationSimArguments(out=folder, **options), Console())  # type: ignore[arg-type]


def test_the_truth_passes_and_what_was_believed_does_not(tmp_path: Path) -> None:
    bench = made(tmp_path, joint_error_deg=0.0, zero_error_deg=0.0)
    numbers = compare(bench, bench.truth)
    for name, row in numbers.items():
        assert row["after"] == pytest.approx(0.0, abs=1e-5), name
    assert passes(numbers)
    assert not passes(compare(bench, bench.believed))
    assert numbers["wrist: box centre, median [px]"]["before"] > 10


def test_joint_errors_move_boxes_of_the_fixed_camera_alone(tmp_path: Path) -> None:
    bench = made(tmp_path, joint_error_deg=0.1, zero_error_deg=0.0)
    errors = bench.centre_errors(bench.truth)
    assert errors["wrist"].max() < 1e-6 < 0.3 < np.median(errors["top"])


def test_the_person_clicks_and_measures_with_the_stated_errors(tmp_path: Path) -> None:
    bench = made(tmp_path)
    names = tuple(joint.name for joint in bench.believed.arms["arm"].joints)
    samples = SampleFolder(tmp_path / "samples/openings", "arm", names, "wrist")
    for raw in np.linspace(0.0, 0.07, 8):
        samples.add(b"", (-0.34, 0.06, 2.06, -0.55, -1.57, 1.23), float(raw), None)
    bench._click("wrist")
    bench._measure_gripper()
    gripper = bench.truth.arms["arm"].gripper
    assert gripper is not None
    table = np.loadtxt(tmp_path / "caliper.csv", delimiter=",", skiprows=1)
    assert np.abs(1e-3 * table[:, 1] - (gripper.scale * table[:, 0] + gripper.offset)).max() < 4e-4
    clicks = np.genfromtxt(tmp_path / "samples/openings/corners.csv", delimiter=",", skip_header=1)[:, 2:]
    true = []
    for sample in load_samples(tmp_path / "samples/openings").samples:
        opening = gripper.scale * (sample.gripper_raw or 0.0) + gripper.offset
        boxes = bench.truth.sensor_boxes(np.append(sample.q, opening), "wrist")
        true += [footprint.corners.ravel() for footprint in boxes.values()]
    assert np.std(clicks - true) == pytest.approx(1.2, rel=0.25)


def test_fisheyes_by_choice(tmp_path: Path) -> None:
    bench = made(tmp_path, fisheye=True)
    assert {camera.model for camera in bench.truth.cameras.values()} == {"fisheye"}
    assert load_rig(tmp_path / "believed.yaml") == bench.believed
