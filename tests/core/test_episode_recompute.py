"""Episodes under a new calibration: what follows from it changes, what was recorded stays."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from episode_kit import PERIOD_NS, START_NS, append_native, opening_at, rig, tick_at, writer_at

from tacit.cli import main
from tacit.episode import EpisodeReader, check_episode, find_episodes, recompute_boxes
from tacit.errors import EpisodeError
from tacit.geometry.footprint import FRESH
from tacit.geometry.transforms import from_translation
from tacit.rig import Rig, load_rig, parse_rig
from tacit.rig.scene import RigGeometry

TICKS = 30


@pytest.fixture
def episode(tmp_path):
    writer = writer_at(tmp_path / "data")
    for i in range(TICKS):
        append_native(writer, i)
        stamp = START_NS + i * PERIOD_NS
        driver = {"position": np.array([opening_at(i)]), "velocity": np.array([0.1])}
        writer.append_stream("gripper_state", stamp, stamp, driver)
        writer.append(tick_at(i))
    return writer.close(True)


def changed(**gripper: float) -> Rig:
    """The rig with the wrist camera 10 mm aside, distortion in the top camera, a larger left gel."""
    data = rig().model_dump(mode="json")
    wrist = np.array(data["cameras"]["wrist"]["T_parent_camera"]) @ from_translation([0.01, 0, 0])
    data["cameras"]["wrist"]["T_parent_camera"] = wrist.tolist()
    data["cameras"]["top"]["D"] = [0.1, -0.02, 0.0, 0.0, 0.0]
    data["tactile"]["left"]["size_m"] = [0.022, 0.025, 0.008]
    data["arms"]["arm"]["gripper"].update(gripper)
    return parse_rig(data, "changed")


def test_boxes_and_poses_are_those_of_the_new_rig_and_the_file_passes_its_audit(episode):
    new = changed()
    result = recompute_boxes(episode, new)
    geometry = RigGeometry(new)
    with EpisodeReader(episode) as reader:
        states = reader.qpos.astype(np.float64)
        for (camera, sensor), track in geometry.footprint_tracks(states).items():
            np.testing.assert_allclose(reader.boxes(camera, sensor), track.box, atol=1e-2)
        np.testing.assert_allclose(reader.camera_pose("wrist"), geometry.camera_poses(states)["wrist"])
        assert reader.rig.calibration_id == new.calibration_id == result.after
        assert reader.attribute("calibration_id") == new.calibration_id
        assert reader.attribute("recorded_calibration_id") == rig().calibration_id == result.before
        (entry,) = json.loads(str(reader.attribute("history_json")))
        assert (entry["from"], entry["to"]) == (result.before, result.after)
    assert not [f for f in check_episode(episode, full=True).findings if f.rule.startswith("E")]
    assert result.shift_px["wrist", "left"] > 3.0


def test_images_and_joints_and_freshness_stay(episode, tmp_path):
    copy = tmp_path / "copy" / "episode_0.hdf5"
    recompute_boxes(episode, changed(), copy)
    with EpisodeReader(episode) as old, EpisodeReader(copy) as new:
        np.testing.assert_array_equal(old.qpos, new.qpos)
        np.testing.assert_array_equal(old.image("wrist", 3), new.image("wrist", 3))
        fresh = [reader.flags("wrist", "left") & FRESH for reader in (old, new)]
        np.testing.assert_array_equal(*fresh)
        assert old.attribute("calibration_id") == rig().calibration_id
        assert not np.array_equal(old.boxes("wrist", "left"), new.boxes("wrist", "left"))


def test_a_new_gripper_model_is_applied_to_what_the_driver_said(episode):
    """raw = opening in the recorded rig; opening = 1.1 raw + 2 mm in the new one."""
    result = recompute_boxes(episode, changed(scale=1.1, offset=0.002))
    assert result.converted == ("gripper",)
    raws = np.array([opening_at(i) for i in range(TICKS)])
    with EpisodeReader(episode) as reader:
        np.testing.assert_allclose(reader.qpos[:, -1], 1.1 * raws + 0.002, atol=1e-6)
        table = reader.file["streams/gripper_state"]
        np.testing.assert_allclose(table["position"][:, 0], 1.1 * raws + 0.002)
        np.testing.assert_allclose(table["velocity"][:, 0], 0.11)
        np.testing.assert_allclose(reader.file["observations/qvel"][:, -1], 0.11, rtol=1e-6)
        assert float(reader.file["stats/qpos/max"][-1]) == pytest.approx(reader.qpos[:, -1].max())
    assert not [f for f in check_episode(episode, full=True).findings if f.rule.startswith("E")]


def test_going_there_and_back_restores_the_boxes(episode):
    with EpisodeReader(episode) as reader:
        before = reader.boxes("top", "right"), reader.qpos.copy()
    recompute_boxes(episode, changed(scale=1.1, offset=0.002))
    recompute_boxes(episode, rig())
    with EpisodeReader(episode) as reader:
        np.testing.assert_allclose(reader.boxes("top", "right"), before[0], atol=1e-2)
        np.testing.assert_allclose(reader.qpos, before[1], atol=1e-6)
        assert reader.attribute("recorded_calibration_id") == rig().calibration_id
        assert len(json.loads(str(reader.attribute("history_json")))) == 2


def test_a_camera_that_moves_from_the_world_to_the_arm_gets_a_pose_per_tick(episode):
    data = rig().model_dump(mode="json")
    data["cameras"]["top"]["parent"] = "arm.flange"
    recompute_boxes(episode, parse_rig(data, "moved"))
    with EpisodeReader(episode) as reader:
        assert reader.file["camera_pose/top"].shape == (TICKS, 4, 4)
    assert not [f for f in check_episode(episode, full=True).findings if f.rule.startswith("E")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["cameras"].update(wrst=d["cameras"].pop("wrist")), "the rig has no 'wrist'"),
        (lambda d: d["cameras"]["top"].update(width=320, height=240), "stored 160x120, the rig has 320x240"),
    ],
)
def test_another_robot_is_refused_and_the_file_stays(episode, change, message):
    data = rig().model_dump(mode="json")
    change(data)
    if "wrst" in data["cameras"]:
        data["alignment"]["tick_source"] = "camera:wrst"
    content = episode.read_bytes()
    with pytest.raises(EpisodeError, match=message):
        recompute_boxes(episode, parse_rig(data, "other"))
    assert episode.read_bytes() == content
    assert list(episode.parent.glob("*recomputing*")) == []


def test_an_interrupted_recording_is_refused(episode):
    with h5py.File(episode, "r+") as file:
        file.attrs["state"] = "recording"
    with pytest.raises(EpisodeError, match="tacit recover"):
        recompute_boxes(episode, changed())


def test_command_does_a_folder_and_leaves_alone_what_is_done(episode, tmp_path, capsys):
    path = tmp_path / "new.yaml"
    path.write_text(changed().to_yaml())
    assert main(["recompute-boxes", str(tmp_path / "data"), "--rig", str(path)]) == 0
    assert "recomputed" in capsys.readouterr().out
    assert main(["recompute-boxes", str(tmp_path / "data"), "--rig", str(path)]) == 0
    assert "unchanged" in capsys.readouterr().out
    out = tmp_path / "out"
    assert main(["recompute-boxes", str(tmp_path / "data"), "--rig", str(path), "--out", str(out)]) == 0
    assert len(find_episodes(out)) == 1
    assert load_rig(path).calibration_id == changed().calibration_id
