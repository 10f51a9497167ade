"""Facts about a written episode: what goes in comes out, in the documented places and units."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import textwrap

import cv2
import h5py
import numpy as np
import pytest
import yaml
from episode_kit import (
    PERIOD_NS,
    START_NS,
    camera_bytes,
    drawn_image,
    joints_at,
    opening_at,
    rig,
    tick_at,
    write_episode,
    writer_at,
)

from tacit.episode import EpisodeReader, EpisodeWriter, columns, recover
from tacit.episode.writer import FLUSH_NS
from tacit.errors import EpisodeError
from tacit.rig import parse_rig
from tacit.rig.scene import RigGeometry
from tacit.streams import Tick


@pytest.fixture(scope="module")
def episode(tmp_path_factory):
    return write_episode(tmp_path_factory.mktemp("data"))


def test_reader_returns_what_the_writer_was_given(episode):
    with EpisodeReader(episode) as reader:
        assert (reader.num_ticks, reader.fps, reader.task, reader.success) == (50, 25.0, "place_cube", True)
        assert reader.instruction == "put the cube on the plate"
        assert reader.state == "complete" and reader.rig.rig_id == rig().rig_id
        np.testing.assert_array_equal(reader.tick_ns, START_NS + PERIOD_NS * np.arange(50))
        expected = np.array([[*joints_at(i), opening_at(i)] for i in range(51)], dtype=np.float32)
        np.testing.assert_array_equal(reader.qpos, expected[:50])
        np.testing.assert_array_equal(reader.action, expected[1:])
        np.testing.assert_array_equal(reader.image_bytes("wrist", 7), camera_bytes(7))
        np.testing.assert_array_equal(reader.reference("left"), drawn_image(0, 60, 80))
        assert abs(reader.image("top", 3).astype(int) - drawn_image(3, 120, 160)).mean() < 5
        assert reader.touch("right", 49).shape == (60, 80, 3)
        assert len(reader.stream("joints")["position"]) == 200


@pytest.mark.parametrize(("shape", "dtype"), [((), np.int64), ((2, 3), np.float32), ((), np.uint8)])
def test_rows_that_come_in_any_portions_are_read_as_they_were_given(tmp_path, shape, dtype):
    random = np.random.default_rng(len(shape))
    rows = random.integers(0, 100, (57, *shape)).astype(dtype)
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        column = columns.Column(file, "some/rows", shape, dtype, chunk=8)
        start = 0
        while start < len(rows):
            part = rows[start : start + random.integers(1, 20)]
            if random.random() < 0.5:
                column.extend(part)
            else:
                for row in part:
                    column.append(row)
            start += len(part)
            if random.random() < 0.7:
                column.flush()
                np.testing.assert_array_equal(file["some/rows"][:], rows[:start])
        column.flush()
        assert column.digest() == hashlib.sha256(rows.tobytes()).hexdigest()
    with h5py.File(tmp_path / "rows.h5") as file:
        np.testing.assert_array_equal(file["some/rows"][:], rows)


def test_steps_are_inclusive_segments_that_cover_the_episode(episode):
    with EpisodeReader(episode) as reader:
        names = ["reach", "lift", "carry", "place", "retreat"]
        assert [tuple(s) for s in reader.steps] == [(n, 10 * k, 10 * k + 9) for k, n in enumerate(names)]


def test_stored_poses_and_boxes_are_those_of_the_stored_joints(episode):
    geometry = RigGeometry(rig())
    with EpisodeReader(episode) as reader:
        for i in (0, 13, 49):
            q = reader.qpos[i].astype(np.float64)
            for sensor, pose in geometry.sensor_poses(q).items():
                np.testing.assert_allclose(reader.sensor_pose(sensor)[i], pose, atol=1e-12)
            np.testing.assert_allclose(
                reader.camera_pose("wrist")[i], geometry.camera_poses(q)["wrist"], atol=1e-12
            )
            for (camera, sensor), footprint in geometry.footprints(q).items():
                np.testing.assert_allclose(reader.boxes(camera, sensor)[i], footprint.box, rtol=1e-6)
                np.testing.assert_allclose(reader.corners(camera, sensor)[i], footprint.corners, rtol=1e-6)
                assert reader.visibility(camera, sensor)[i] == pytest.approx(footprint.visibility)
                assert reader.flags(camera, sensor)[i] == footprint.flags | 8


def test_file_holds_little_more_than_its_images(episode):
    with EpisodeReader(episode) as reader:
        streams = (*reader.cameras, *reader.tactile)
        image_bytes = sum(len(reader.image_bytes(s, i)) for s in streams for i in range(50))
    assert image_bytes < episode.stat().st_size < image_bytes + 1_500_000


def test_old_act_code_reads_the_images(episode):
    with h5py.File(episode) as root:
        assert root.attrs["sim"] and root.attrs["compress"]
        for name in ("wrist", "top", "left"):
            bgr = cv2.imdecode(root[f"/observations/images/{name}"][3], 1)
            assert bgr.shape[2] == 3
        link = root["/observations/images/left"]
        assert link == root["/observations/left"]  # one dataset, two names


def test_attributes_prove_themselves(episode):
    with h5py.File(episode) as root:
        text = root.attrs["calibration_yaml"]
        assert hashlib.sha256(text.encode()).hexdigest() == root.attrs["calibration_id"]
        assert yaml.safe_load(text) == rig().calibration
        assert root["cameras/wrist/K"][0, 2] == 79.5
        assert json.loads(root["action"].attrs["names"])[-1] == "gripper"
        assert root["observations/qpos"].attrs["gripper_indices"].tolist() == [6]
        assert root["observations/images/wrist"].attrs["encoding"] == "jpeg"
        assert list(root["tactile/left"].attrs["size_m"]) == [0.02, 0.024]


def test_content_hash_follows_its_recipe_and_ignores_labels(episode, tmp_path):
    lines = []
    with h5py.File(episode) as root:

        def visit(name):
            item = root[name]
            if isinstance(item, h5py.Group) or name.startswith(("stats", "drops")):
                return
            sha = hashlib.sha256()
            for value in item[()] if item.dtype.kind == "O" else [item[()]]:
                data = value if isinstance(value, bytes) else value.tobytes()
                sha.update((len(data).to_bytes(8, "little") if item.dtype.kind == "O" else b"") + data)
            lines.append(f"{name} {sha.hexdigest()}")

        names = []
        root.visit(names.append)
        links = {f"observations/images/{s}": f"observations/{s}" for s in ("left", "right")}
        for name in names:  # HDF5 lists one of two names of a dataset, ours is the short one
            visit(links.get(name, name))
        assert hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest() == root.attrs["content_sha256"]
    again = write_episode(tmp_path, success=False, operator="someone else")
    with EpisodeReader(again) as other, EpisodeReader(episode) as one:
        assert other.attribute("content_sha256") == one.attribute("content_sha256")
        assert other.attribute("episode_uuid") != one.attribute("episode_uuid")


def test_statistics_are_those_of_the_rows(episode):
    with EpisodeReader(episode) as reader:
        stats = reader.file["stats/qpos"]
        rows = reader.qpos.astype(np.float64)
        np.testing.assert_allclose(stats["mean"], rows.sum(0) / 50)
        np.testing.assert_allclose(stats["std"], np.sqrt(((rows - rows.mean(0)) ** 2).sum(0) / 50))
        np.testing.assert_array_equal(stats["max"], np.sort(rows, axis=0)[-1])
        assert stats["count"][()] == 50


def test_velocity_comes_with_the_native_stream_and_absent_is_not_zero(tmp_path):
    writer = writer_at(tmp_path)
    writer.append_stream("joints", 1, 2, {"position": np.zeros(6), "velocity": np.ones(6)})
    writer.append_stream("joints", 3, 4, {"position": np.zeros(6)})
    writer.append(tick_at(0))
    with EpisodeReader(writer.close(None)) as reader:
        velocity = reader.stream("joints")["velocity"]
        assert velocity[0].tolist() == [1.0] * 6 and np.isnan(velocity[1]).all()
        assert reader.success is None


def test_velocity_at_a_tick_is_that_of_a_message_stamped_the_latency_later(tmp_path):
    """A driver that is 20 ms late stamps at t + 20 ms what the joints did at t."""
    data = rig().model_dump(mode="json")
    data["streams"]["joints"]["latency_ms"] = 20.0
    writer = EpisodeWriter(tmp_path, parse_rig(data, "test"), task="lift")
    for index in range(30):
        stamp = START_NS + index * 10_000_000
        writer.append_stream("joints", stamp, stamp, {"position": np.zeros(6), "velocity": np.full(6, index)})
    for index in range(3):
        writer.append(tick_at(index))
    with EpisodeReader(writer.close(True)) as reader:
        np.testing.assert_allclose(reader.qvel[:, 0], [2.0, 6.0, 10.0], atol=1e-6)


def test_velocity_is_held_over_a_gap_that_the_aligner_would_not_bridge(tmp_path):
    writer = writer_at(tmp_path)
    for index, milliseconds in enumerate((0, 10, 20, 90, 100)):
        stamp = START_NS + milliseconds * 1_000_000
        writer.append_stream("joints", stamp, stamp, {"position": np.zeros(6), "velocity": np.full(6, index)})
    for index in range(3):
        writer.append(tick_at(index))
    with EpisodeReader(writer.close(True)) as reader:
        np.testing.assert_allclose(reader.qvel[:, 0], [0.0, 2.0, 2.0], atol=1e-6)


def test_velocity_at_the_ticks_is_linear_between_the_native_samples(tmp_path):
    writer = writer_at(tmp_path)
    for index in range(4):
        stamp = START_NS + index * 30_000_000
        writer.append_stream("joints", stamp, stamp, {"position": np.zeros(6), "velocity": np.full(6, index)})
        writer.append_stream("gripper_state", stamp, stamp, {"position": np.zeros(1)})
    for index in range(3):
        writer.append(tick_at(index))
    with EpisodeReader(writer.close(True)) as reader:
        seconds = (reader.tick_ns - START_NS) / 1e9
        expected = np.minimum(seconds / 0.03, 3.0)
        np.testing.assert_allclose(reader.qvel[:, :6], np.tile(expected[:, None], 6), atol=1e-6)
        assert np.isnan(reader.qvel[:, 6]).all()
        assert reader.effort is None


def test_events_are_kept(tmp_path):
    writer = writer_at(tmp_path)
    writer.append(tick_at(0))
    writer.event(START_NS, "mark", {"label": "slip"})
    with EpisodeReader(writer.close(False, reason="estop")) as reader:
        assert reader.events == [(START_NS, "mark", {"label": "slip"})]
        assert reader.state == "aborted" and reader.success is False


def test_flush_happens_at_least_every_half_second(tmp_path):
    writer = writer_at(tmp_path)
    for i in range(30):
        writer.append(tick_at(i))
        on_disk = writer._file["action"].shape[0]
        assert (writer.num_ticks - on_disk) * PERIOD_NS <= 400_000_000
    writer.discard()


def test_no_dataset_keeps_the_megabyte_of_chunks_that_hdf5_offers_each(tmp_path):
    writer = writer_at(tmp_path)
    per_dataset = writer._file.id.get_access_plist().get_cache()[2]
    number = sum(1 for _ in columns.datasets(writer._file))
    assert number > 50 and number * per_dataset < 10e6, (
        "ninety megabytes would grow for as long as it records"
    )
    writer.discard()


def test_nothing_is_overwritten_and_discard_keeps_the_file(tmp_path):
    first = write_episode(tmp_path, 3)
    with pytest.raises(EpisodeError, match="never overwritten"):
        writer_at(first)
    writer = writer_at(tmp_path)
    with pytest.raises(EpisodeError, match="tacit recover"):
        writer_at(writer.path)
    writer.append(tick_at(0))
    trashed = writer.discard()
    assert trashed.name == "episode_1.hdf5.trashed" and trashed.parent.name == "trash"
    assert write_episode(tmp_path, 3).name == "episode_2.hdf5"


def test_name_taken_meanwhile_costs_nothing(tmp_path):
    writer = writer_at(tmp_path)
    writer.append(tick_at(0))
    writer.path.write_text("someone else's")
    path = writer.close(True)
    assert path.name == "episode_1.hdf5"
    assert (path.parent / "episode_0.hdf5").read_text() == "someone else's"


def test_wrong_ticks_are_refused_with_their_reason(tmp_path):
    writer = writer_at(tmp_path)
    writer.append(tick_at(5))
    with pytest.raises(EpisodeError, match="not after the last"):
        writer.append(tick_at(5))
    good = tick_at(6)
    for name, value, message in (
        ("joints", np.zeros(5), r"shape \(5,\)"),
        ("wrist", drawn_image(0, 120, 160), "encode_jpeg"),
    ):
        sample = good.samples[name]
        bad = dict(good.samples) | {name: type(sample)(value, sample.stamp_ns, 0, 6, True)}
        with pytest.raises(EpisodeError, match=message):
            writer.append(Tick(good.stamp_ns, 6, bad))
    missing = {k: v for k, v in good.samples.items() if k != "command"}
    with pytest.raises(EpisodeError, match="without command stream"):
        writer.append(Tick(good.stamp_ns, 6, missing))
    with pytest.raises(EpisodeError, match="did you mean 'joints'"):
        writer.append_stream("joint", 1, 1, np.zeros(6))
    writer.append(good)  # refused ticks left nothing behind
    with EpisodeReader(writer.close(True)) as reader:
        assert reader.num_ticks == 2


def test_episode_without_a_tick_is_not_kept_as_one(tmp_path):
    writer = writer_at(tmp_path)
    with pytest.raises(EpisodeError, match="no tick was recorded"):
        writer.close(True)
    assert writer.discard().parent.name == "trash"


FULL_DISK = textwrap.dedent(
    """
    import resource, signal, sys
    from episode_kit import tick_at, writer_at
    from tacit.errors import EpisodeError
    import tacit.episode.reserve
    if "unreserved" in sys.argv:
        tacit.episode.reserve.Reserve.take = lambda *_: None
    writer = writer_at(sys.argv[1])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit = 1_500_000 + (0 if "unreserved" in sys.argv else tacit.episode.reserve.MARGIN_BYTES)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        for i in range(2000):
            writer.append(tick_at(i))
    except EpisodeError as problem:
        print(writer.num_ticks, problem)
    if "unreserved" not in sys.argv:
        writer.close(None, reason="error")
    """
)


def fill_disk(folder, *options):
    """Record where a file may take 1.5 MB of data; return the ticks at the error, and its text."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", FULL_DISK, str(folder), *options]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    ticks, _, message = result.stdout.partition(" ")
    return int(ticks), message


def test_full_disk_ends_the_episode_in_order_and_loses_nothing(tmp_path):
    ticks, message = fill_disk(tmp_path)
    assert "disk full (File too large)" in message and "reason='error'" in message
    with EpisodeReader(tmp_path / "place_cube/episode_0.hdf5") as reader:
        assert reader.state == "aborted" and reader.num_ticks == ticks > 50
        assert reader.image("top", ticks - 1).shape == (120, 160, 3)


def test_failure_inside_hdf5_neither_crashes_nor_costs_more_than_two_blocks(tmp_path):
    """A block may share a heap with the one before it, which a torn write then spoils too."""
    ticks, message = fill_disk(tmp_path, "unreserved")
    assert "run `tacit recover`" in message and "File too large" in message
    with EpisodeReader(recover(tmp_path / "place_cube/episode_0.hdf5.part")) as reader:
        assert ticks - reader.num_ticks <= 2 * (FLUSH_NS // PERIOD_NS + 1)
        assert reader.image("top", reader.num_ticks - 1).shape == (120, 160, 3)
