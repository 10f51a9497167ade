"""Facts about `tacit check`: a good episode passes; each rule, broken once, is found by its name."""

from __future__ import annotations

import json
import shutil

import h5py
import numpy as np
import pytest
from episode_kit import (
    PERIOD_NS,
    START_NS,
    append_native,
    drawn_image,
    tick_at,
    touch_bytes,
    write_episode,
    writer_at,
)

from tacit.cli import main as tacit
from tacit.episode import EpisodeReader, check_dataset, check_episode
from tacit.episode.findings import Audit
from tacit.episode.rules_warnings import action_lag_s
from tacit.images import encode_jpeg
from tacit.streams import Sample, Tick


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return write_episode(tmp_path_factory.mktemp("good"), 120)


def rules(path, level="error", full=False):
    report = check_episode(path, full)
    return {f.rule for f in report.findings if f.level == level}


def broken(good, tmp_path, change):
    """A copy of the good episode after `change(file)`."""
    path = tmp_path / "episode_0.hdf5"
    shutil.copy(good, path)
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def put(path, where, value):
    def change(file):
        file[path][where] = value

    return change


def attribute(name, value):
    def change(file):
        file.attrs[name] = value

    return change


def shorten(path):
    return lambda file: file[path].resize(len(file[path]) - 1, axis=0)


def mirror(file):
    poses = file["sensor_pose/left"][:]
    poses[:, :3, 0] *= -1
    file["sensor_pose/left"][:] = poses


def shift_pose(file):
    poses = file["sensor_pose/right"][:]
    poses[7, 0, 3] += 2e-6
    file["sensor_pose/right"][:] = poses


def shift_box(file):
    boxes = file["sensor_bbox/top/left"][:]
    boxes[5] += 0.6
    file["sensor_bbox/top/left"][:] = boxes


def test_good_episode_has_no_finding(good):
    report = check_episode(good, full=True)
    assert report.findings == ()
    assert report.facts["ticks"] == 120 and report.facts["lag_ms"] == 40.0


BROKEN = {
    "E01 schema": ("E01", attribute("schema_version", "2.0.0")),
    "E01 state": ("E01", attribute("state", "recording")),
    "E02 rows": ("E02", shorten("observations/qpos")),
    "E02 attribute": ("E02", attribute("num_ticks", 119)),
    "E03 backwards": ("E03", put("timestamps/tick_ns", 10, START_NS)),
    "E03 late": ("E03", put("timestamps/tick_ns", 119, START_NS + 130 * PERIOD_NS)),
    "E04 damaged": ("E04", put("observations/images/top", 119, np.zeros(30, np.uint8))),
    "E04 size": ("E04", put("observations/left", 0, encode_jpeg(drawn_image(0, 30, 80)))),
    "E05": ("E05", put("action", (3, 2), np.nan)),
    "E06 mirror": ("E06", mirror),
    "E06 scale": ("E06", put("sensor_pose/left", (3, 0, 0), 1.5)),
    "E06 last row": ("E06", put("camera_pose/wrist", (3, 3), [0, 0, 1, 1])),
    "E07 order": ("E07", put("sensor_bbox/top/left", 4, [50, 50, 40, 60])),
    "E07 flag": ("E07", put("sensor_flags/top/left", 4, 0)),
    "E07 visibility": ("E07", put("sensor_visibility/wrist/left", 4, 0.5)),
    "E08 pose": ("E08", shift_pose),
    "E08 box": ("E08", shift_box),
    "E09 text": ("E09", attribute("calibration_yaml", "{}")),
    "E10": ("E10", put("observations/qpos", (9, 2), 2.85)),
    "E11 back": ("E11", put("timestamps/top/index", 50, 3)),
    "E11 repeated": ("E11", put("timestamps/command/index", 50, 49)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_error_rule_finds_its_fault(good, tmp_path, name):
    rule, change = BROKEN[name]
    assert rule in rules(broken(good, tmp_path, change))


@pytest.mark.parametrize("stream", ["top", "left"])
def test_one_image_without_its_end_is_found_wherever_it_stands(good, tmp_path, stream):
    def cut(file):
        images = file[f"observations/images/{stream}"]
        images[33] = images[33][:-2]

    path = broken(good, tmp_path, cut)
    found = [f for f in check_episode(path).findings if f.rule == "E04"]
    assert [f.where for f in found] == [f"{stream}, tick 33"] and "end marker" in found[0].message


def test_changed_contents_show_in_the_full_check_alone(good, tmp_path):
    path = broken(good, tmp_path, put("events/kind", slice(0, 0), []))
    with h5py.File(path, "r+") as file:
        file["observations/left"][5] = touch_bytes(6)
    assert rules(path) == set()
    assert rules(path, full=True) == {"E09"}


def test_damage_between_the_sampled_images_is_found_by_the_full_check(good, tmp_path):
    no_picture = np.frombuffer(bytes(30) + b"\xff\xd9", np.uint8)  # with an end marker: only decoding tells
    path = broken(good, tmp_path, put("observations/images/top", 7, no_picture))
    assert "E04" not in rules(path) and "E04" in rules(path, full=True)


def recorded(tmp_path, ticks, **options):
    """An episode of given ticks, closed as a success."""
    writer = writer_at(tmp_path, **{"sync": False, **options})
    for i, tick in enumerate(ticks):
        append_native(writer, i)
        writer.append(tick)
    return writer.close(True)


def changed(i, name, value=None, fresh=True, index=None, stamp_ns=None):
    """Tick i with one sample replaced."""
    tick = tick_at(i)
    old = tick.samples[name]
    new = Sample(
        old.value if value is None else value,
        old.stamp_ns if stamp_ns is None else stamp_ns,
        old.recv_ns,
        old.index if index is None else index,
        fresh,
    )
    return Tick(tick.stamp_ns, i, dict(tick.samples) | {name: new})


def still(i, at=0):
    """Tick i of a robot that stands where it is at tick `at`, in all dimensions."""
    tick, first = tick_at(i), tick_at(at)
    frozen = {name: first.samples[name].value for name in ("joints", "gripper_state", "command")}
    samples = {
        name: Sample(frozen.get(name, s.value), s.stamp_ns, s.recv_ns, s.index, s.fresh)
        for name, s in tick.samples.items()
    }
    return Tick(tick.stamp_ns, i, samples)


def jump(i):
    value = np.asarray(tick_at(i).samples["command"].value).copy()
    value[1] += 0.5 if i == 40 else 0.0
    return changed(i, "command", value)


DARK = encode_jpeg(np.full((120, 160, 3), 3, np.uint8))
PLAIN = encode_jpeg(np.full((120, 160, 3), 90, np.uint8))
LATE = 25_000_000

POOR = {
    "W01": lambda i: changed(i, "top", stamp_ns=START_NS + i * PERIOD_NS - LATE),
    "W02": lambda i: changed(i, "top", fresh=i % 20 != 0, index=i - (i % 20 == 0) if i else 0),
    "W03": lambda i: tick_at(i, stamp_ns=START_NS + (i + 3 * (i > 40)) * PERIOD_NS),
    "W04 black": lambda i: changed(i, "top", DARK),
    "W04 blurred": lambda i: changed(i, "top", PLAIN),
    "W04 frozen": lambda i: changed(i, "wrist", tick_at(min(i, 40)).samples["wrist"].value),
    "W05": still,
    "W06": jump,
    "W07": lambda i: still(i, 30) if i < 30 else tick_at(i),
    "W12": lambda i: changed(i, "command", np.append(tick_at(i - 8).samples["joints"].value, 0.04)),
    "W13": lambda i: changed(i, "gripper_state", np.array([0.04])),
}


@pytest.mark.parametrize("name", POOR)
def test_each_warning_rule_finds_its_fault(tmp_path, name):
    path = recorded(tmp_path, [POOR[name](i) for i in range(80)])
    assert name.split()[0] in rules(path, "warning")
    assert rules(path) == set()


def test_hole_of_a_second_is_an_error_and_noted_as_a_gap(tmp_path):
    ticks = [tick_at(i, stamp_ns=START_NS + (i + 26 * (i > 40)) * PERIOD_NS) for i in range(80)]
    path = recorded(tmp_path, ticks)
    assert rules(path) == {"W03"}  # not E03: the writer left an event
    with EpisodeReader(path) as reader:
        ((stamp, kind, data),) = reader.events
        assert (stamp, kind, data["ms"]) == (ticks[41].stamp_ns, "gap", 1080.0)


def test_labels_and_references_are_asked_for(tmp_path):
    path = write_episode(tmp_path, 120, success=None, instruction="", references=None)
    assert rules(path, "warning") == {"W09", "W10"}


@pytest.mark.parametrize("sim", [True, False])
def test_images_that_repeat_as_often_as_the_rig_allows_are_frozen_simulated_or_not(tmp_path, sim):
    for repeats, expected in ((4, False), (5, True)):
        ticks = [changed(i, "left", touch_bytes(0 if i < repeats else i)) for i in range(60)]
        path = recorded(tmp_path / str(repeats), ticks, sim=sim)
        assert ("W04" in rules(path, "warning")) == expected


@pytest.mark.parametrize("shift", [0, 1, 4])
def test_lag_is_the_shift_between_action_and_state(tmp_path, shift):
    ticks = [
        changed(i, "command", np.append(tick_at(i + shift).samples["joints"].value, 0.04)) for i in range(80)
    ]
    with EpisodeReader(recorded(tmp_path, ticks)) as reader:
        assert action_lag_s(Audit(reader)) == pytest.approx(shift * 0.04)


def test_duplicates_odd_lengths_and_mixtures_show_between_episodes(tmp_path):
    for n in range(9):
        ticks = [tick_at(i + n) for i in range(40 + n % 3)]
        recorded(tmp_path, ticks)
    recorded(tmp_path, [tick_at(i + 50) for i in range(150)])
    first = tmp_path / "place_cube/episode_0.hdf5"
    shutil.copy(first, tmp_path / "place_cube/episode_77.hdf5")
    with h5py.File(tmp_path / "place_cube/episode_3.hdf5", "r+") as file:
        file.attrs["embodiment"] = "another"
    report = check_dataset(tmp_path)
    found = {(f.rule, f.where.rpartition("/")[2]) for f in report.findings}
    assert {rule for rule, _ in found} == {"E12", "W08", "W11"}
    assert ("W08", "episode_9.hdf5") in found and ("W11", "embodiment") in found
    assert not report.ok


def test_command_line_says_it_in_codes_and_files(good, tmp_path, capsys):
    assert tacit(["check", str(good)]) == 0
    bad = broken(good, tmp_path, put("action", (3, 2), np.nan))
    out = tmp_path / "report.json"
    assert tacit(["check", str(tmp_path), "--json", str(out), "--html", str(tmp_path / "r.html")]) == 1
    assert "E05 error action" in capsys.readouterr().out
    data = json.loads(out.read_text())
    assert not data["ok"] and data["episodes"][0]["path"] == str(bad)
    assert "E05" in (tmp_path / "r.html").read_text()
    assert tacit(["check", str(tmp_path / "nowhere")]) == 2


def test_interrupted_recordings_are_pointed_out_and_recovered(tmp_path, capsys):
    write_episode(tmp_path, 60)
    writer = writer_at(tmp_path)
    writer.append(tick_at(0))
    writer.flush()
    left_behind = writer.part.read_bytes()
    writer.discard()
    writer.part.write_bytes(left_behind)
    tacit(["check", str(tmp_path)])
    assert "tacit recover" in capsys.readouterr().out
    assert tacit(["recover", str(tmp_path), "--dry-run"]) == 0 and writer.part.exists()
    assert tacit(["recover", str(tmp_path)]) == 0
    assert "1 ticks" in capsys.readouterr().out and not writer.part.exists()
    assert tacit(["recover", str(tmp_path / "nowhere")]) == 2
