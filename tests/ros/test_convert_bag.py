"""ROS 2 bags: ours are read by rosbags, and a bag is heard as a robot is, by gate, intake and aligner."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from episode_kit import PERIOD_NS, START_NS, joints_at, opening_at, tick_at, write_episode, writer_at
from taxel_kit import write_taxel_episode

pytest.importorskip("rosbags")
pytestmark = pytest.mark.ros

from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer

from tacit import cli
from tacit.episode import EpisodeReader, check_dataset, find_episodes
from tacit.rig import load_rig

TICKS = 50


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An episode whose drivers ran at the rates of the rig."""
    root = tmp_path_factory.mktemp("ours")
    writer = writer_at(root)
    for i in range(TICKS):
        for k in range(4):
            at, stamp = i + k / 4, START_NS + i * PERIOD_NS + k * PERIOD_NS // 4
            joints = {"position": joints_at(at), "velocity": np.full(6, 0.1)}
            writer.append_stream("joints", stamp, stamp + 3_000_000, joints)
            opening = {"position": [opening_at(at)]}
            writer.append_stream("gripper_state", stamp, stamp + 3_000_000, opening)
        command = np.append(joints_at(i + 1), opening_at(i + 1))
        stamp = START_NS + i * PERIOD_NS
        writer.append_stream("command", stamp, stamp + 1_000_000, command)
        writer.append(tick_at(i, stage=False))
    writer.event(START_NS, "mark", {"label": "seen"})
    writer.close(True, outcome="placed")
    return root


@pytest.fixture(scope="module")
def bag(ours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bags") / "out"
    assert convert(ours, out, "--to", "rosbag2") == 0
    return out / "place_cube" / "episode_0"


def convert(*words: object) -> int:
    return cli.main(["convert", *map(str, words)])


def test_rosbags_reads_what_we_write(ours: Path, bag: Path) -> None:
    """Pictures, joints, poses, lenses and outlines, each in the type that Foxglove shows."""
    with AnyReader([bag]) as reader, EpisodeReader(find_episodes(ours)[0]) as episode:
        counts = {connection.topic: connection.msgcount for connection in reader.connections}
        assert counts["/camera/wrist/image/compressed"] == counts["/tacit/sensors/wrist"] == TICKS
        assert counts["/joint_states"] == 4 * TICKS and counts["/tf"] == TICKS and counts["/tf_static"] == 1
        first: dict[str, Any] = {}
        for connection, _, data in reader.messages():
            if connection.topic not in first:
                first[connection.topic] = reader.deserialize(data, connection.msgtype)
        picture = first["/camera/wrist/image/compressed"]
        assert (picture.data == episode.image_bytes("wrist", 0)).all() and picture.format == "jpeg"
        np.testing.assert_allclose(first["/joint_states"].position, joints_at(0))
        np.testing.assert_allclose(first["/joint_states"].velocity, 0.1)
        assert first["/camera/top/camera_info"].k[0] == episode.rig.cameras["top"].K[0, 0]
        outlines = {text.text: points for points, text in _pairs(first["/tacit/sensors/wrist"])}
        corners = [[point.x, point.y] for point in outlines["left"].points]
        np.testing.assert_allclose(corners, episode.corners("wrist", "left")[0])
        flange = next(t for t in first["/tf"].transforms if t.child_frame_id == "arm.flange").transform
        expected = episode.file["observations/ee_pose/arm"][0, :3, 3]
        np.testing.assert_allclose([getattr(flange.translation, axis) for axis in "xyz"], expected)
        assert '"seen"' in first["/tacit/events"].data


def _pairs(annotations: Any) -> list[tuple]:
    return list(zip(annotations.points, annotations.texts, strict=True))


def test_a_bag_comes_back_through_gate_intake_and_aligner(ours: Path, bag: Path, tmp_path: Path) -> None:
    assert convert(bag.parent, tmp_path / "back") == 0, "recognised by itself, with the rig that it carries"
    assert check_dataset(tmp_path / "back", full=True).ok
    with EpisodeReader(find_episodes(ours)[0]) as a, EpisodeReader(*find_episodes(tmp_path / "back")) as b:
        assert (a.task, a.instruction, a.success) == (b.task, b.instruction, b.success)
        np.testing.assert_array_equal(a.tick_ns, b.tick_ns)
        np.testing.assert_allclose(b.qpos[:-1], a.qpos[:-1], atol=1e-6)
        np.testing.assert_allclose(b.action, a.action, atol=1e-6)
        assert (a.image_bytes("top", 9) == b.image_bytes("top", 9)).all()
        assert (a.image_bytes("left", 9) == b.image_bytes("left", 9)).all()
        np.testing.assert_array_equal(a.reference("left"), b.reference("left"))
        assert b.state == "complete" and len(b.stream("joints")["stamp_ns"]) == 4 * TICKS
        np.testing.assert_allclose(b.corners("wrist", "left"), a.corners("wrist", "left"), atol=1e-2)


def test_arrays_of_taxels_come_back_reading_by_reading(tmp_path: Path) -> None:
    write_taxel_episode(tmp_path / "ours", 50)
    assert convert(tmp_path / "ours", tmp_path / "bags", "--to", "rosbag2") == 0
    assert convert(tmp_path / "bags", tmp_path / "back") == 0
    with (
        EpisodeReader(*find_episodes(tmp_path / "ours")) as a,
        EpisodeReader(*find_episodes(tmp_path / "back")) as b,
    ):
        for name in a.taxels:
            one, two = a.stream(name), b.stream(name)
            start = len(one["data"]) - len(two["data"])  # the gate of the recorder needs a moment
            assert len(two["data"]) > 40
            np.testing.assert_array_equal(two["data"], one["data"][start:])
            np.testing.assert_array_equal(b.reference(name), a.reference(name))


def rewrite(
    bag: Path, target: Path, change: Callable[[str, int, int], tuple[str, int] | None], plugin: StoragePlugin
) -> Path:
    """Copy a bag message by message: `change` takes (topic, number, log) and gives where it goes, or None."""
    with AnyReader([bag]) as reader, Writer(target, version=9, storage_plugin=plugin) as out:
        made: dict[str, object] = {}
        numbers: dict[str, int] = {}
        for connection, log_ns, data in reader.messages():
            number = numbers[connection.topic] = numbers.get(connection.topic, -1) + 1
            place = change(connection.topic, number, log_ns)
            if place is not None:
                topic, log_ns = place
                if topic not in made:
                    made[topic] = out.add_connection(topic, connection.msgtype, typestore=reader.typestore)
                out.write(made[topic], log_ns, data)  # type: ignore[arg-type]
    return target


def test_a_rig_is_drafted_from_the_topics_of_a_bag(
    ours: Path, bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = rewrite(bag, tmp_path / "bag", lambda topic, _, log_ns: (topic, log_ns), StoragePlugin.MCAP)
    assert convert(foreign, tmp_path / "none") == 2
    assert "tacit rig new --from-dataset" in capsys.readouterr().err
    path = tmp_path / "rig.yaml"
    assert cli.main(["rig", "new", "--from-dataset", str(foreign), "--out", str(path)]) == 0
    rig, known = load_rig(path), load_rig("nova2_sim")
    assert set(rig.state_names) == set(known.state_names) and rig.alignment.rate_hz == 25
    assert {spec.topic for spec in rig.streams.values()} == {"/joint_states", "/gripper/state"}
    assert [spec.topic for spec in rig.commands.values()] == [spec.topic for spec in known.commands.values()]
    np.testing.assert_array_equal(rig.cameras["top"].K, known.cameras["top"].K)
    assert "cameras.top" in rig.unmeasured and rig.cameras["top"].topic == "/camera/top/image/compressed"
    assert set(rig.cameras) == set(known.cameras) and set(rig.tactile) == {"touch_left", "touch_right"}
    assert convert(foreign, tmp_path / "back", "--rig", path) == 0
    with EpisodeReader(*find_episodes(ours)) as a, EpisodeReader(*find_episodes(tmp_path / "back")) as b:
        assert b.num_ticks == a.num_ticks and set(b.cameras) == set(a.cameras)
        columns = [b.state_names.index(name) for name in a.state_names[:6]]
        np.testing.assert_allclose(b.qpos[:-1, columns], a.qpos[:-1, :6], atol=1e-6)


def test_a_silent_camera_ends_the_episode_as_it_would_while_recording(
    bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And sqlite3 is read as mcap is; where the bag does not carry our metadata, the rig is given."""

    def kill_top(topic: str, number: int, log_ns: int) -> tuple[str, int] | None:
        return None if topic.startswith("/camera/top/image") and number > 8 else (topic, log_ns)

    rewrite(bag, tmp_path / "bag", kill_top, StoragePlugin.SQLITE3)
    words = ["--rig", "nova2_sim", "--task", "place", "--label", "success"]
    assert convert(tmp_path / "bag", tmp_path / "out", "--from", "rosbag2", *words) == 0
    assert "kept as aborted after 1.3 s: required stream top lost" in capsys.readouterr().out
    with EpisodeReader(*find_episodes(tmp_path / "out")) as reader:
        assert reader.state == "aborted" and reader.success is None and 8 < reader.num_ticks < TICKS
        assert reader.drops["top"]["received"] == 9 and reader.drops["top"]["stale_ticks"] > 0


def lacking(topic: str) -> Callable[[Path, Path], Path]:
    def make(bag: Path, target: Path) -> Path:
        keep = lambda name, number, log_ns: None if name == topic else (name, log_ns)  # noqa: E731
        return rewrite(bag, target, keep, StoragePlugin.MCAP)

    return make


def cut(bag: Path, target: Path) -> Path:
    shutil.copytree(bag, target)
    path = next(target.glob("*.mcap"))
    os.truncate(path, path.stat().st_size // 2)
    return target


def killed(bag: Path, target: Path) -> Path:
    shutil.copytree(bag, target)
    (target / "metadata.yaml").write_text("rosbag2_bagfile_information: {}")
    return target


def bomb(bag: Path, target: Path) -> Path:
    """Aliases of aliases: a few lines that stand for ten thousand million values."""
    shutil.copytree(bag, target)
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    (target / "metadata.yaml").write_text("\n".join(lines))
    return target


@pytest.mark.parametrize(
    ("make", "words", "message"),
    [
        (
            lacking("/joint_states"),
            ["--rig", "nova2_sim"],
            "joints: /joint_states (sensor_msgs/msg/JointState)",
        ),
        (lacking("/tf"), [], "give the rig of the robot with --rig; the bag holds /tf_static"),
        (lacking("/tf"), ["--rig", "nova2_sim", "--task", "../x"], "expected a plain name"),
        (cut, ["--rig", "nova2_sim"], "cannot be read as a bag"),
        (killed, ["--rig", "nova2_sim"], "ros2 bag reindex"),
        (bomb, ["--rig", "nova2_sim"], "metadata.yaml"),
        (lacking("/tf"), ["--rig", "xtrainer"], "lacks what the rig xtrainer requires"),
    ],
)
def test_a_bag_that_cannot_be_an_episode_is_named_and_leaves_nothing(
    bag: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path, Path], Path],
    words: list[str],
    message: str,
) -> None:
    source = make(bag, tmp_path / "in")
    assert convert(source, tmp_path / "out", "--from", "rosbag2", *words) == 2
    assert message in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["in"]


def test_a_driver_at_another_rate_is_refused_by_the_gate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The grippers of this episode were stored at the ticks alone, at 25 Hz."""
    write_episode(tmp_path / "ours", 20)
    assert convert(tmp_path / "ours", tmp_path / "bags", "--to", "rosbag2") == 0
    assert convert(tmp_path / "bags", tmp_path / "out") == 2
    assert "/gripper/state runs at 25.0 Hz, the rig says 100 Hz" in capsys.readouterr().err
    words = ["--from", "rosbag2", "--rate-tolerance", "0.8"]
    assert convert(tmp_path / "bags", tmp_path / "out", *words) == 0, "whoever knows better says so"


def test_what_came_long_before_the_gate_opened_is_left_out(
    bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A camera that starts late must not keep all that came before in memory."""
    monkeypatch.setattr("tacit_ros.bag.KEPT_NS", 400_000_000)

    def late_top(topic: str, number: int, log_ns: int) -> tuple[str, int] | None:
        return None if topic.startswith("/camera/top/image") and number < 25 else (topic, log_ns)

    rewrite(bag, tmp_path / "bag", late_top, StoragePlugin.MCAP)
    words = ["--from", "rosbag2", "--rig", "nova2_sim"]
    assert convert(tmp_path / "bag", tmp_path / "out", *words) == 0
    assert "s late: top: " in capsys.readouterr().out
    with EpisodeReader(*find_episodes(tmp_path / "out")) as reader:
        assert reader.state == "complete" and reader.tick_ns[0] >= START_NS + 24 * PERIOD_NS
