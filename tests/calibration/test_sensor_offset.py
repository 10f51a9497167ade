"""Gels from clicked corners, grippers from corners or a caliper: what was put in comes out."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from arm_scenes import changed

from tacit.errors import CalibrationError
from tacit.geometry.rotations import rotation_from_vector
from tacit.geometry.transforms import from_rotation, pose_error
from tacit.images import encode_png
from tacit.record.samples import SampleFolder
from tacit.rig import GripperSpec, Rig, load_rig
from tacit.rig.units import from_canonical, to_canonical
from tacit_calibration.cli import main
from tacit_calibration.touch.click_page import write_click_page
from tacit_calibration.touch.clicks import FILE_NAME, HEADER, Click, read_clicks
from tacit_calibration.touch.gripper_model import fit_gripper, read_openings
from tacit_calibration.touch.sensor_offset import solve_openings, solve_sensor
from tacit_calibration.touch.touch_views import touch_views

BELIEVED = load_rig("nova2_sim_vga")
HOME = np.array([-0.3424, 0.0643, 2.0576, -0.5511, -1.5708, 1.2284])
OPENINGS = np.linspace(0.005, 0.08, 7)


@pytest.fixture(scope="module")
def truth() -> Rig:
    """A cell whose left gel sits 1.7 mm and 2 degrees elsewhere and is 3 % larger."""
    left = BELIEVED.tactile["left"]
    moved = left.T_mount_sensor @ from_rotation(rotation_from_vector([0.02, 0.02, -0.02]), (1e-3, 1e-3, 1e-3))
    return changed(BELIEVED, "tactile.left", T_mount_sensor=moved.tolist(), size_m=[0.0206, 0.0247, 0.008])


def clicked(rig: Rig, folder, camera: str = "wrist", noise_px: float = 0.0, openings=OPENINGS) -> list[Click]:
    """Samples at several openings in a folder, and the true corners with noise."""
    rng = np.random.default_rng(3)
    names = tuple(joint.name for joint in rig.arms["arm"].joints)
    samples, clicks = SampleFolder(folder, "arm", names, camera), []
    png = encode_png(np.full((480, 640, 3), 90, np.uint8)).tobytes()
    for opening in openings:
        q = HOME if camera == "wrist" else HOME + rng.uniform(-0.2, 0.2, 6)
        raw = from_canonical(rig, "gripper", float(opening))
        sample = samples.add(png, tuple(q.tolist()), raw, None)
        for name, footprint in rig.sensor_boxes(np.append(q, opening), camera).items():
            clicks.append(Click(sample.image, name, footprint.corners + rng.normal(0, noise_px, (4, 2))))
    with (folder / FILE_NAME).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerows([click.image, click.sensor, *click.pixels.ravel().round(3)] for click in clicks)
    return clicks


def of(clicks: list[Click], sensor: str) -> list[Click]:
    return [click for click in clicks if click.sensor == sensor]


@pytest.mark.parametrize("camera", ["wrist", "top"])
def test_exact_clicks_give_back_pose_and_size(truth, tmp_path, camera):
    clicks = of(clicked(truth, tmp_path, camera), "left")
    result = solve_sensor(BELIEVED, camera, "left", touch_views(BELIEVED, camera, tmp_path, clicks))
    error = pose_error(result.T_mount_sensor, truth.tactile["left"].T_mount_sensor)
    assert error.translation < 2e-5 and error.rotation < 2e-3  # clicks are stored to 1/1000 px
    np.testing.assert_allclose(result.size_m, truth.tactile["left"].size_m, atol=2e-5)
    assert result.rms_px < 5e-3 and result.warnings == ()


def test_a_hand_that_is_off_by_a_pixel_is_within_its_stated_sigma(truth, tmp_path):
    clicks = of(clicked(truth, tmp_path, noise_px=1.2), "left")
    result = solve_sensor(BELIEVED, "wrist", "left", touch_views(BELIEVED, "wrist", tmp_path, clicks))
    error = pose_error(result.T_mount_sensor, truth.tactile["left"].T_mount_sensor)
    assert error.translation < 3 * result.sigma_m < 6e-3
    assert error.rotation < 3 * result.sigma_rad
    assert result.rms_px == pytest.approx(1.2 * np.sqrt(2), rel=0.3)


def test_one_wild_click_is_named_and_moves_little(truth, tmp_path):
    clicks = of(clicked(truth, tmp_path, noise_px=0.5), "left")
    before = solve_sensor(BELIEVED, "wrist", "left", touch_views(BELIEVED, "wrist", tmp_path, clicks))
    clicks[3].pixels[1] += [0.0, 45.0]
    after = solve_sensor(BELIEVED, "wrist", "left", touch_views(BELIEVED, "wrist", tmp_path, clicks))
    assert after.warnings and clicks[3].image in after.warnings[0]
    assert pose_error(before.T_mount_sensor, after.T_mount_sensor).translation < 2e-3


@pytest.mark.parametrize("order", [[1, 2, 3, 0], [3, 2, 1, 0]])
def test_corners_in_another_order_are_refused(tmp_path, order):
    clicks = [Click(c.image, c.sensor, c.pixels[order]) for c in clicked(BELIEVED, tmp_path)]
    with pytest.raises(CalibrationError, match="fit the rig in the order"):
        touch_views(BELIEVED, "wrist", tmp_path, clicks)


def test_clicks_of_the_other_sensor_are_refused(truth, tmp_path):
    clicks = [Click(c.image, "left", c.pixels * [3.0, 1.0]) for c in of(clicked(truth, tmp_path), "left")]
    with pytest.raises(CalibrationError, match="are they of this sensor"):
        solve_sensor(BELIEVED, "wrist", "left", touch_views(BELIEVED, "wrist", tmp_path, clicks))


def test_too_few_pictures_and_a_still_gripper_are_named(tmp_path):
    clicks = of(clicked(BELIEVED, tmp_path, noise_px=0.3, openings=[0.03, 0.031, 0.032]), "left")
    views = touch_views(BELIEVED, "wrist", tmp_path, clicks)
    with pytest.raises(CalibrationError, match="clicked in 2 pictures, expected 3"):
        solve_sensor(BELIEVED, "wrist", "left", views[:2])
    assert "open and close" in solve_sensor(BELIEVED, "wrist", "left", views, fit_size=False).warnings[-1]


def test_a_click_without_its_sample_or_opening_is_named(tmp_path):
    clicks = clicked(BELIEVED, tmp_path)
    with pytest.raises(CalibrationError, match="not listed in"):
        touch_views(BELIEVED, "wrist", tmp_path, [Click("none.png", "left", clicks[0].pixels)])
    text = (tmp_path / "samples.yaml").read_text().replace("gripper_raw: 0.005", "gripper_raw: null")
    (tmp_path / "samples.yaml").write_text(text)
    with pytest.raises(CalibrationError, match="no gripper_raw"):
        touch_views(BELIEVED, "wrist", tmp_path, clicks)


def test_samples_of_another_arm_are_refused(tmp_path):
    rig = load_rig("xtrainer")
    names = tuple(joint.name for joint in rig.arms["right"].joints)
    SampleFolder(tmp_path, "right", names, "top").add(b"", (0.0,) * 6, 0.5, None)
    with pytest.raises(CalibrationError, match="take samples of the arm that carries the sensor"):
        touch_views(rig, "top", tmp_path, [Click("000.png", "tactile_left", np.zeros((4, 2)))])


def test_openings_are_found_where_the_gripper_model_is_wrong(tmp_path):
    """The driver's 0..255 mean 80..0 mm; the rig believes 1 mm less per step and 5 mm less in all."""
    truth = changed(BELIEVED, "arms.arm.gripper", scale=-0.08 / 255, offset=0.08)
    believed = changed(BELIEVED, "arms.arm.gripper", scale=-0.075 / 255, offset=0.075)
    clicks = clicked(truth, tmp_path, noise_px=0.4)
    found = solve_openings(believed, "wrist", touch_views(believed, "wrist", tmp_path, clicks))
    expected = [to_canonical(truth, "gripper", raw) for raw in found.raw]
    assert np.abs(found.opening_m - expected).max() < 5e-4
    fit = fit_gripper(believed.arms["arm"].gripper, found.raw, found.opening_m, found.sigma_m)
    assert fit.spec.raw == "linear"
    assert fit.spec.scale == pytest.approx(-0.08 / 255, rel=0.02)
    assert fit.spec.offset == pytest.approx(0.08, abs=5e-4)


def gripper() -> GripperSpec:
    return BELIEVED.arms["arm"].gripper


def test_a_gripper_that_is_no_line_becomes_a_table():
    raw = np.linspace(0, 1, 9)
    opening = 0.08 * np.sin(raw * np.pi / 2)
    fit = fit_gripper(gripper(), raw, opening)
    assert fit.spec.raw == "table" and len(fit.spec.table) == 9
    data = BELIEVED.model_dump(mode="json")
    data["arms"]["arm"]["gripper"] = fit.spec.model_dump(mode="json")
    rig = Rig.model_validate(data)
    assert to_canonical(rig, "gripper", 0.5) == pytest.approx(0.08 * np.sin(np.pi / 4))


def test_repeated_driver_values_are_averaged():
    fit = fit_gripper(gripper(), [0, 0, 100, 100], [0.0, 0.0002, 0.05, 0.0498])
    assert fit.spec.scale == pytest.approx(0.0498 / 100) and fit.spec.offset == pytest.approx(0.0001)


def test_openings_that_go_up_and_down_are_refused():
    with pytest.raises(CalibrationError, match="neither rises nor falls"):
        fit_gripper(gripper(), [0, 50, 100], [0.0, 0.05, 0.01])
    with pytest.raises(CalibrationError, match="two or more"):
        fit_gripper(gripper(), [5, 5], [0.01, 0.01])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("raw,opening_m\n1,2\n", "expected raw,opening_mm"),
        ("raw,opening_mm\n1,wide\n", "expected two numbers"),
        ("raw,opening_mm\n0,0.0\n1,0.08\n", "millimetres, not metres"),
    ],
)
def test_a_caliper_table_that_cannot_be_read_is_named(tmp_path, text, message):
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(CalibrationError, match=message):
        read_openings(tmp_path / "c.csv")
    with pytest.raises(CalibrationError, match="no such file"):
        read_openings(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("000.png,lft,1,2,3,4,5,6,7,8", "did you mean 'left'"),
        ("000.png,left,1,2,3,4,5,6,7", "expected 8 numbers"),
        ("000.png,left,1,2,3,4,5,6,7,nan", "not finite"),
    ],
)
def test_a_click_that_cannot_be_read_is_named(tmp_path, line, message):
    path = tmp_path / "c.csv"
    path.write_text("image,sensor,u0,v0,u1,v1,u2,v2,u3,v3\n" + line + "\n")
    with pytest.raises(CalibrationError, match=message):
        read_clicks(path, BELIEVED)


def test_clicks_survive_their_file(tmp_path):
    clicks = clicked(BELIEVED, tmp_path)
    back = read_clicks(tmp_path / FILE_NAME, BELIEVED)
    assert [c.name for c in back] == [c.name for c in clicks]
    np.testing.assert_allclose(back[5].pixels, clicks[5].pixels, atol=1e-3)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(CalibrationError, match="expected image,sensor"):
        read_clicks(tmp_path / "other.csv", BELIEVED)


def test_the_page_to_click_on_holds_every_picture_and_the_expected_corners(tmp_path):
    clicks = clicked(BELIEVED, tmp_path)
    text = write_click_page(BELIEVED, "wrist", tmp_path).read_text()
    assert text.count("data:image/png;base64") == 1 and text.count('"png"') == len(OPENINGS)
    assert f"{clicks[0].pixels[0, 0]:.2f}".rstrip("0") in text
    assert "http://" not in text and "https://" not in text


BROWSER = """
const made = {}, fills = [];
const brush = new Proxy({}, {get: () => () => {},
  set: (_, k, v) => (k === "fillStyle" && fills.push(v), true)});
const element = id => made[id] ??= {id, addEventListener(kind, f) { this[kind] = f; },
  getContext: () => brush, clientWidth: WIDTH, clientHeight: 500,
  getBoundingClientRect: () => ({left: 10, top: 20, width: WIDTH, height: 500}), click() {}};
const document = {getElementById: element, createElement: () => element("link")}, window = {};
class Image { width = 640; height = 480; set src(_) { this.onload(); } }
class Blob { constructor(parts) { made.text = parts.join(""); } }
URL.createObjectURL = () => "";
"""
HAND = """
const press = (key, shiftKey = false) => document.onkeydown({key, shiftKey, preventDefault() {}});
const zoomed = [], wanted = tasks[0].shot.expected[tasks[0].name];
for (const [i, point] of wanted.entries()) {  // zoom about another place before each click
  const under = toPicture(50 + 31 * i, 70), scale = view.scale;
  element("view").wheel({deltaY: i % 2 ? 1 : -1, clientX: 60 + 31 * i, clientY: 90, preventDefault() {}});
  const stays = toPicture(50 + 31 * i, 70).every((value, k) => Math.abs(value - under[k]) < 1e-6);
  zoomed.push(stays && view.scale !== scale);
  const [x, y] = toCanvas(point); element("view").onclick({clientX: x + 10, clientY: y + 20});
}
const before = [...cross];
press("ArrowRight"); press("ArrowDown", true); press("+"); press("Enter");
const keyed = tasks[1].points[0]; press("Backspace"); press(" "); press("k");
element("save").onclick();
console.log(JSON.stringify({rows: made.text.trim().split("\\n"), wanted, at, undone: tasks[1].points.length,
  zoomed, moved: [keyed[0] - before[0], keyed[1] - before[1]], fills, legend: element("legend").innerHTML}));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed; it runs the page's script")
@pytest.mark.parametrize("width", [400, 1400])
def test_clicks_and_keys_on_the_zoomed_page_are_pixels_of_the_picture(tmp_path, width):
    clicks = clicked(BELIEVED, tmp_path)
    seen = Click(clicks[2].image, sorted(BELIEVED.tactile)[0], clicks[2].pixels + 3.25)
    guesses = {(seen.image, seen.sensor): seen.pixels}
    text = write_click_page(BELIEVED, "wrist", tmp_path, guesses).read_text()
    script = re.search("<script>(.*)</script>", text, re.DOTALL).group(1).replace('"use strict";', "")
    (tmp_path / "page.js").write_text(BROWSER.replace("WIDTH", str(width)) + script + HAND)
    run = subprocess.run(["node", str(tmp_path / "page.js")], capture_output=True, text=True, check=True)
    found = json.loads(run.stdout)
    assert found["rows"][0] == ",".join(HEADER) and len(found["rows"]) == 3
    numbers = np.array(found["rows"][1].split(",")[2:], dtype=float).reshape(4, 2)
    np.testing.assert_allclose(numbers, found["wanted"], atol=2e-3)
    kept = np.array(found["rows"][2].split(",")[2:], dtype=float).reshape(4, 2)
    np.testing.assert_allclose(kept, seen.pixels, atol=1e-2)
    assert found["rows"][2].startswith(seen.name.replace(" ", ","))
    assert found["zoomed"] == [True] * 4
    assert found["moved"] == [1, 10] and found["undone"] == 0 and found["at"] == 3
    assert set(found["fills"]) == set(re.findall("background:(#[0-9a-f]{6})", found["legend"]))


def test_commands_write_gripper_and_gels_into_the_rig(truth, tmp_path, capsys):
    built = changed(truth, "arms.arm.gripper", scale=1.05, offset=0.001)
    folder, out = tmp_path / "openings", tmp_path / "rig.yaml"
    clicked(built, folder, noise_px=0.3)
    rows = [f"{from_canonical(built, 'gripper', o)},{1e3 * o}" for o in (0.0, 0.04, 0.08)]
    (tmp_path / "caliper.csv").write_text("raw,opening_mm\n" + "\n".join(rows) + "\n")
    words = ["--rig", "nova2_sim_vga", "--rig-out", str(out)]
    assert main(["gripper", "--measured", str(tmp_path / "caliper.csv"), *words]) == 0
    words = ["--rig", str(out), "--rig-out", str(out), "--samples", str(folder), "--camera", "wrist"]
    assert main(["sensor", *words]) == 0
    rig = load_rig(out)
    assert rig.arms["arm"].gripper.scale == pytest.approx(1.05)
    error = pose_error(rig.tactile["left"].T_mount_sensor, truth.tactile["left"].T_mount_sensor)
    assert error.translation < 1.5e-3
    record = rig.calibrations["tactile.left.pose"]
    assert (record.parent, record.child, record.num_views) == ("arm.finger_left", "left", len(OPENINGS))
    assert record.replaces != rig.calibration_id and record.sigma_mm > 0
    assert main(["verify", "--rig", str(out), "--samples", str(folder), "--camera", "wrist"]) == 0
    assert main(["verify", "--rig", "nova2_sim_vga", "--samples", str(folder), "--camera", "wrist"]) == 1
    assert "FAILED gel corners" in capsys.readouterr().out
