"""Samples from episodes and folders, what capture says of them, and what pictures still lack."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from arm_scenes import look_at_states, robot_views
from board_scenes import look_at_poses, render
from episode_kit import rig as episode_rig
from episode_kit import tick_at, writer_at

from tacit.errors import CalibrationError
from tacit.geometry.rotations import rotation_from_vector
from tacit.geometry.transforms import from_rotation
from tacit.images import encode_png
from tacit.record.samples import SampleFolder, load_samples
from tacit.rig import load_rig
from tacit.streams import Tick
from tacit_calibration.board import Board
from tacit_calibration.cli import main
from tacit_calibration.commands.capture import Watch
from tacit_calibration.coverage import coverage_map, hint, tilts
from tacit_calibration.detection import View
from tacit_calibration.imports import import_episode, import_folder

RIG = load_rig("nova2_sim_vga")
TABLE = from_rotation(np.diag([1.0, -1.0, -1.0]), (-0.45, 0.09, 0.0))


def test_capture_says_why_a_picture_does_not_count(tmp_path, capsys):
    names = tuple(joint.name for joint in RIG.arms["arm"].joints)
    samples = SampleFolder(tmp_path / "set", "arm", names, "wrist")
    sharp = render(look_at_poses(1)[0])
    for i, image in enumerate((sharp, cv2.blur(sharp, (7, 1)), np.full_like(sharp, 90))):
        samples.add(encode_png(image).tobytes(), (0.1 * i,) * 6, 0.05, None)
    watch = Watch(RIG, "wrist", Board(), tmp_path / "set")
    watch.look()
    printed = capsys.readouterr().out.splitlines()
    assert watch.count == 1 and "corners" in printed[0]
    assert "001.png: blurred" in printed[1] and "002.png: fewer than 8" in printed[2]
    samples.add(encode_png(np.ascontiguousarray(sharp[:, ::-1])).tobytes(), (0.5,) * 6, 0.05, None)
    with pytest.raises(CalibrationError, match="mirrored board"):
        watch.look()


def test_still_moments_of_an_episode_become_samples(tmp_path):
    """Ticks 0-24 stand, 25-49 move, 50-74 stand elsewhere: two samples."""
    writer = writer_at(tmp_path / "data")
    for i in range(75):
        tick = tick_at(i)
        angle = 0.02 * np.clip(i - 25, 0, 25)
        q = np.array([angle, -0.3, 1.2, 0.3, -1.57, 0.0])
        samples = dict(tick.samples)
        samples["joints"] = replace(samples["joints"], value=q)
        samples["gripper_state"] = replace(samples["gripper_state"], value=np.array([0.03]))
        writer.append(Tick(tick.stamp_ns, tick.index, samples))
    episode = writer.close(True)
    assert import_episode(episode, episode_rig(), "wrist", tmp_path / "out") == 2
    listed = load_samples(tmp_path / "out")
    assert [sample.q[0] for sample in listed.samples] == pytest.approx([0.0, 0.5], abs=1e-6)
    assert listed.samples[0].gripper_raw == pytest.approx(0.03)
    with pytest.raises(CalibrationError, match="did you mean 'wrist'"):
        import_episode(episode, episode_rig(), "wirst", tmp_path / "out2")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("image,joint1\n", "no column joint2"),
        ("image,joint1,joint2,joint3,joint4,joint5,joint6\na.png,1,2,3,4,5,x\n", "expected numbers"),
        ("image,joint1,joint2,joint3,joint4,joint5,joint6\na.png,90,2,3,4,5,6\n", "look like degrees"),
        ("image,joint1,joint2,joint3,joint4,joint5,joint6\nb.png,1,2,3,4,5,6\n", "no picture"),
    ],
)
def test_a_table_of_joints_that_cannot_be_read_is_named(tmp_path, table, message):
    (tmp_path / "a.png").write_bytes(encode_png(np.zeros((4, 4, 3), np.uint8)).tobytes())
    (tmp_path / "joints.csv").write_text(table)
    with pytest.raises(CalibrationError, match=message):
        import_folder(tmp_path, RIG, "wrist", tmp_path / "out")


def test_a_folder_with_a_table_becomes_samples_by_command(tmp_path):
    source = tmp_path / "pictures"
    source.mkdir()
    for i, pose in enumerate(look_at_poses(2)):
        (source / f"{i}.png").write_bytes(encode_png(render(pose)).tobytes())
    header = "image,joint6,joint1,joint2,joint3,joint4,joint5,gripper_raw\n"
    rows = header + "0.png,6,1,2,3,4,5,0.05\n1.png,6,1,2,3,4,5,0.05\n"
    (source / "joints.csv").write_text(
        rows,
        encoding="utf-8-sig",  # as spreadsheets save it
    )
    assert main(["session", str(tmp_path / "s"), "--rig", "nova2_sim_vga"]) == 0
    words = ["capture", "--session", str(tmp_path / "s"), "--camera", "wrist", "--folder", str(source)]
    assert main([*words, "--views", "2"]) == 0
    listed = load_samples(tmp_path / "s/samples/wrist")
    assert listed.samples[0].q == (1, 2, 3, 4, 5, 6)
    assert (tmp_path / "s/samples/wrist/coverage.png").is_file()
    assert main([*words, "--views", "9"]) == 1


# -- what is lacking ----------------------------------------------------------------------------------


def test_hints_ask_for_what_is_lacking_until_nothing_is():
    lens = RIG.geometry.camera("wrist")
    assert "into the middle" in hint([], lens)
    frontal = robot_views(RIG, "wrist", TABLE, look_at_states(RIG, "wrist", TABLE, 3)).views
    assert "tilt the board" in hint(frontal[:1], lens)
    many = robot_views(RIG, "wrist", TABLE, look_at_states(RIG, "wrist", TABLE, 60, seed=2))
    assert "of the image" in (hint(many.views, lens, many.flange_poses) or "of the image")
    still = np.repeat(many.flange_poses[:1], len(many.views), axis=0)
    assert "turn the flange further" in hint(many.views, lens, still)


def test_the_hint_names_the_edge_that_should_come_nearer():
    """Views in which the left edge of the board is nearer than the right one, and no other lean."""
    lens = RIG.geometry.camera("wrist")
    board = Board()
    R = rotation_from_vector([0.0, -0.5, 0.0])  # turned about y: the left side comes nearer
    p = board.corners_m @ R.T + [-0.1, -0.08, 0.45]
    assert p[board.corners_m[:, 0].argmin(), 2] < p[board.corners_m[:, 0].argmax(), 2]
    view = View("a", lens.project(p), board.corners_m)
    assert tilts([view], lens)[0, 0] < -20
    assert "right edge" in hint([view] * 3, lens)


def test_the_map_tints_what_no_corner_has_covered():
    lens = RIG.geometry.camera("wrist")
    corners = np.stack(np.meshgrid(np.linspace(5, 200, 6), np.linspace(5, 150, 6)), axis=-1).reshape(-1, 2)
    sheet = coverage_map([View("a", corners, np.zeros((36, 3)))], lens.width, lens.height)
    assert sheet[470, 630, 0] > sheet[470, 630, 1] and sheet[60, 30, 0] == sheet[60, 30, 1]


def test_a_table_of_poses_for_joints_says_where_it_belongs(tmp_path):
    (tmp_path / "joints.csv").write_text(
        "image,x_mm,y_mm,z_mm,rx_deg,ry_deg,rz_deg\n00.png,380.0,-120.0,410.0,178.2,-12.5,91.0\n"
    )
    with pytest.raises(CalibrationError, match="handeye .*--poses"):
        import_folder(tmp_path, load_rig("nova2_sim"), "wrist", tmp_path / "samples")
