"""Gels found by themselves: of three makes, in bad light and clutter; refused where nothing convinces."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from arm_scenes import changed
from episode_kit import PERIOD_NS, START_NS
from gel_scenes import GELS, HOME, HOUSING, OPENINGS, Trouble, draw_gel, gel_pictures, misplaced, table

from tacit.episode import EpisodeReader, EpisodeWriter
from tacit.errors import CalibrationError
from tacit.geometry.transforms import from_translation, pose_error
from tacit.images import encode_jpeg, encode_png
from tacit.record.samples import SampleFolder
from tacit.rig import Rig, load_rig
from tacit.streams import Sample, Tick
from tacit_calibration.checks.gel_drift import gel_drifts
from tacit_calibration.cli import main
from tacit_calibration.touch.gel_regions import edges_along
from tacit_calibration.touch.gel_search import search_gel
from tacit_calibration.touch.outline import solve_outlines
from tacit_calibration.touch.pads import pad_size

RIG = load_rig("nova2_sim_vga")


def of_pad(pad: str) -> Rig:
    spec = RIG.tactile["left"]
    return changed(RIG, "tactile.left", size_m=[*pad_size(pad, spec.size_m), spec.size_m[2]])


@pytest.mark.parametrize(
    ("pad", "colour"), [("digit", "silver"), ("gelsight_mini", "blue"), ("20x24", "orange")]
)
def test_a_gel_is_found_in_clutter_glare_and_uneven_light(pad, colour):
    random = np.random.default_rng(1)
    believed = of_pad(pad)
    built = misplaced(believed, "left", random)
    pictures = gel_pictures(built, believed, random, colour=GELS[colour], openings=OPENINGS[:4])
    outlines = search_gel(believed, "wrist", "left", pictures, fit_size=False)
    result = solve_outlines(believed, "wrist", "left", outlines, fit_size=False)
    error = pose_error(result.T_mount_sensor, built.tactile["left"].T_mount_sensor)
    start = pose_error(believed.tactile["left"].T_mount_sensor, built.tactile["left"].T_mount_sensor)
    assert error.translation < min(5e-4, start.translation / 3) and error.rotation < np.deg2rad(1.0)
    assert error.translation < 4 * result.sigma_m and error.rotation < 4 * result.sigma_rad
    assert 1e-5 < result.sigma_m < 1e-3


def test_one_picture_with_a_hand_before_the_gel_is_left_out():
    random = np.random.default_rng(4)
    built = misplaced(RIG, "left", random)
    pictures = gel_pictures(built, RIG, random, trouble=Trouble(clutter=0))
    hidden = np.full_like(pictures[2].image, (215, 165, 140))
    pictures[2] = replace(pictures[2], image=hidden)
    outlines = search_gel(RIG, "wrist", "left", pictures, fit_size=False)
    assert [o.view.click.image for o in outlines] == ["0.png", "1.png", "3.png", "4.png"]


def test_what_is_not_there_is_refused_with_its_reason():
    random = np.random.default_rng(2)
    grey = gel_pictures(
        RIG, RIG, random, colour=HOUSING, trouble=Trouble(0, glare=False), openings=OPENINGS[:3]
    )
    with pytest.raises(CalibrationError, match="left: not found"):
        search_gel(RIG, "wrist", "left", grey, fit_size=False)
    with pytest.raises(CalibrationError, match="not found: the likeliest region is .* its housing"):
        search_gel(RIG, "wrist", "left", grey)
    dark = [replace(picture, image=picture.image // 40) for picture in grey]
    with pytest.raises(CalibrationError, match="not found: 0 of 3 pictures show a region"):
        search_gel(RIG, "wrist", "left", dark)


def test_something_that_lies_still_is_no_gel_of_a_finger_that_moves():
    """One picture five times, while the driver says that the gripper opens by 35 mm."""
    random = np.random.default_rng(3)
    pictures = gel_pictures(RIG, RIG, random)
    still = [replace(picture, image=pictures[0].image) for picture in pictures]
    with pytest.raises(CalibrationError, match="left: not found"):
        search_gel(RIG, "wrist", "left", still)


def test_edges_are_found_to_a_tenth_of_a_pixel():
    fine = np.full((800, 800, 3), 90, np.uint8)
    fine[253:558, 201:602] = (40, 110, 170)  # edges at 25.3, 55.8 and 20.1, 60.2 of pixels
    image = fine.reshape(80, 10, 80, 10, 3).mean(axis=(1, 3)).astype(np.uint8)
    truth = np.array([[20.1, 25.3], [60.2, 25.3], [60.2, 55.8], [20.1, 55.8]]) - 0.5
    points, support = edges_along(image, truth + np.array([1.3, -0.9]))
    sides = np.stack([np.abs(points[:, [k]] - truth[[0, 2], k]).min(axis=1) for k in (0, 1)])
    assert support == 1.0 and sides.min(axis=0).max() < 0.1


@pytest.mark.parametrize(
    ("pad", "size"),
    [
        ("digit", (0.016, 0.019)),
        ("gelsight_mini", (0.0143, 0.0186)),
        ("20x24", (0.02, 0.024)),
        ("24 x 20 mm", (0.024, 0.02)),
    ],
)
def test_pads_have_their_sizes_with_the_longer_side_where_the_rig_has_it(pad, size):
    assert pad_size(pad, (0.02, 0.024, 0.008)) == pytest.approx(size)


@pytest.mark.parametrize(
    ("pad", "message"), [("digt", "did you mean 'digit'"), (".02x.024", "mm"), ("1x2", "millimetres")]
)
def test_an_unknown_pad_is_named(pad, message):
    with pytest.raises(CalibrationError, match=message):
        pad_size(pad, (0.02, 0.024, 0.008))


def one_gel(rig: Rig) -> Rig:
    data = rig.model_dump(mode="json")
    del data["tactile"]["right"]
    return Rig.model_validate(data)


def test_the_command_takes_the_pad_and_the_page_starts_at_what_was_found(tmp_path):
    random = np.random.default_rng(5)
    built = misplaced(of_pad("digit"), "left", random)
    names = tuple(joint.name for joint in RIG.arms["arm"].joints)
    samples = SampleFolder(tmp_path / "s", "arm", names, "wrist")
    trouble = Trouble(clutter=2, glare=False)
    for picture in gel_pictures(built, RIG, random, trouble=trouble, openings=OPENINGS[:3]):
        samples.add(encode_png(picture.image).tobytes(), tuple(HOME), picture.view.opening_m, None)
    (tmp_path / "rig.yaml").write_text(one_gel(RIG).to_yaml())
    words = [
        "sensor",
        "--camera",
        "wrist",
        "--samples",
        str(tmp_path / "s"),
        "--rig",
        str(tmp_path / "rig.yaml"),
    ]
    out = tmp_path / "out.yaml"
    assert main([*words, "--detect", "--pad", "digit", "--rig-out", str(out)]) == 0
    found = load_rig(out).tactile["left"]
    assert found.size_m == pytest.approx((0.016, 0.019, 0.008))
    assert pose_error(found.T_mount_sensor, built.tactile["left"].T_mount_sensor).translation < 5e-4
    assert main([*words, "--click", "--pad", "digit"]) == 0
    corners = built.sensor_boxes(np.append(HOME, 0.045), "wrist")["left"].corners
    text = (tmp_path / "s" / "corners.html").read_text()
    listed = json.loads(text.split('"found": {"left": ')[1].split("}")[0])
    np.testing.assert_allclose(listed, corners, atol=2.0)


def episode_of(built: Rig, folder) -> EpisodeReader:
    """Four ticks with the gripper open that a rig recorded which believes `RIG`."""
    random, trouble = np.random.default_rng(6), Trouble(clutter=3, glare=False)
    grey = {size: encode_jpeg(np.full((*size, 3), 90, np.uint8)) for size in ((480, 640), (240, 320))}
    reference = np.full((240, 320, 3), 90, np.uint8)
    writer = EpisodeWriter(
        folder, RIG, task="t", instruction="i", sim=True, references=dict.fromkeys(RIG.tactile, reference)
    )
    ground = table(built, "wrist", random, trouble)
    for i, opening in enumerate((0.06, 0.066, 0.072, 0.08)):
        state = np.append(HOME, opening)
        image = draw_gel(built, "wrist", "left", state, ground, GELS["orange"], random, trouble)
        stamp = START_NS + i * PERIOD_NS
        values = {"wrist": encode_jpeg(image), "top": grey[480, 640], "joints": HOME, "stage": 0}
        values |= {"left": grey[240, 320], "right": grey[240, 320], "command": state}
        values |= {"gripper_state": np.array([opening])}
        samples = {name: Sample(value, stamp, stamp, i, True) for name, value in values.items()}
        writer.append(Tick(stamp, i, samples))
    return EpisodeReader(writer.close(True))


def test_an_episode_tells_whether_a_gel_has_moved(tmp_path, capsys):
    T = RIG.tactile["left"].T_mount_sensor @ from_translation([0, 2e-3, 0])
    moved, rig = changed(RIG, "tactile.left", T_mount_sensor=T.tolist()), one_gel(RIG)
    with episode_of(RIG, tmp_path / "still") as reader:
        (drift,), problems = gel_drifts(rig, "wrist", reader)
    assert not problems and drift.sensor == "left" and drift.num_pictures == 4
    assert drift.distance_px < 0.5 and not drift.is_beyond_noise
    with episode_of(moved, tmp_path / "moved") as reader:
        path = str(reader.path)
    (tmp_path / "rig.yaml").write_text(rig.to_yaml())
    words = ["verify", "--camera", "wrist", "--rig", str(tmp_path / "rig.yaml"), "--episode", path]
    assert main([*words, "--detect", "--max-px", "3"]) == 1
    line = capsys.readouterr().out.split("FAILED ")[1]
    state = np.append(HOME, 0.07)
    seen, expected = (r.sensor_boxes(state, "wrist")["left"].corners.mean(axis=0) for r in (moved, RIG))
    numbers = [float(n) for n in re.findall(r"[-+]?\d+\.\d+", line)]
    np.testing.assert_allclose(numbers[2:4], seen - expected, atol=0.5)
    assert numbers[1] == pytest.approx(2.0, rel=0.3) and "beyond its noise" in line


def test_an_episode_with_other_pictures_or_a_closed_gripper_is_named(tmp_path):
    with episode_of(RIG, tmp_path) as reader:
        small = load_rig("nova2_sim")
        with pytest.raises(CalibrationError, match="wrist is 640x480, the rig has 160x120"):
            gel_drifts(small, "wrist", reader)
        found, (problem,) = gel_drifts(one_gel(RIG), "top", reader)  # which is grey all over
    assert found == [] and str(problem).startswith("left: ")
