"""Facts about interrupted recordings: a kill costs at most half a second, and nothing else is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import h5py
import numpy as np
import pytest
from episode_kit import append_native, camera_bytes, joints_at, tick_at, touch_bytes, write_episode, writer_at

from tacit.episode import EpisodeReader, find_episodes, recover
from tacit.episode.files import part_path
from tacit.episode.finish import content_sha256
from tacit.errors import EpisodeError

RECORD = textwrap.dedent(
    """
    import sys, time
    from episode_kit import append_native, tick_at, writer_at
    writer = writer_at(sys.argv[1])
    for i in range(16):
        append_native(writer, i)
    start = time.monotonic()
    print("ready", flush=True)
    i = 0
    while True:
        append_native(writer, i)
        writer.append(tick_at(i), now_ns=time.monotonic_ns())
        i += 1
        print(i, flush=True)
        time.sleep(max(0.0, start + i / 60 - time.monotonic()))
    """
)


def interrupted(folder, num_ticks, flush=True):
    """A recording that stopped without closing: the file as a kill leaves it."""
    writer = writer_at(folder)
    for i in range(num_ticks):
        append_native(writer, i)
        writer.append(tick_at(i))
    if flush:
        writer.flush()
    copy = writer.part.with_name("episode_7.hdf5.part")
    copy.write_bytes(writer.part.read_bytes())
    writer.discard()
    return copy


def kill_while_recording(folder, seconds):
    """Record at 60 Hz in another process and SIGKILL it; return the ticks it had reported."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", RECORD, str(folder)], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    deadline = time.monotonic() + seconds
    reported = []
    while time.monotonic() < deadline:
        reported.append((time.monotonic(), int(process.stdout.readline())))
    process.send_signal(signal.SIGKILL)
    killed_at = time.monotonic()
    reported += [(killed_at, int(line)) for line in process.stdout.read().splitlines() if line]
    process.wait()
    return killed_at, reported


@pytest.mark.parametrize("seed", range(2))
def test_kill_at_a_random_instant_costs_at_most_half_a_second(tmp_path, seed):
    killed_at, reported = kill_while_recording(tmp_path, random.Random(seed).uniform(0.7, 1.6))
    with EpisodeReader(recover(tmp_path / "place_cube/episode_0.hdf5.part")) as reader:
        safe = max((count for at, count in reported if at <= killed_at - 0.5), default=0)
        assert safe <= reader.num_ticks <= reported[-1][1] + 1
        assert reader.state == "recovered"
        last = reader.num_ticks - 1
        np.testing.assert_array_equal(reader.image_bytes("wrist", last), camera_bytes(last))
        np.testing.assert_array_equal(reader.image_bytes("left", last), touch_bytes(last))
        np.testing.assert_allclose(reader.qpos[last, :6], joints_at(last), atol=1e-6)


def test_recovered_episode_is_finished_like_any_other(tmp_path):
    recovered = recover(interrupted(tmp_path, 35))
    whole = write_episode(tmp_path / "other", 35)
    with EpisodeReader(recovered) as one, EpisodeReader(whole) as other:
        assert recovered.name == "episode_7.hdf5"
        assert one.attribute("recovered_frames") == one.num_ticks == 35
        assert one.steps == other.steps
        np.testing.assert_array_equal(one.file["stats/qpos/q99"], other.file["stats/qpos/q99"])
        assert one.drops.keys() == other.drops.keys()
        assert one.attribute("content_sha256") == content_sha256(one.file)
        assert one.attribute("content_sha256") == other.attribute("content_sha256")
        assert one.file["observations/images/left"] == one.file["observations/left"]
        assert one.reference("left") is not None and one.file["cameras/wrist/K"].shape == (3, 3)


def test_source_goes_to_the_trash_only_after_the_recovered_file_has_its_name(tmp_path, monkeypatch):
    part = interrupted(tmp_path, 10)
    before = part.read_bytes()
    monkeypatch.setattr("tacit.episode.recovery.rename_new", lambda *_: pytest.fail("stopped here"))
    with pytest.raises(pytest.fail.Exception):
        recover(part)
    assert part.read_bytes() == before
    monkeypatch.undo()
    recover(part)
    assert not part.exists()
    assert (part.parent / "trash/episode_7.hdf5.trashed").read_bytes() == before
    assert [p.name for p in find_episodes(tmp_path)] == ["episode_7.hdf5"]


def test_streams_of_unequal_length_are_cut_to_the_common_ticks_and_tables_to_their_own(tmp_path):
    part = interrupted(tmp_path, 30)
    with h5py.File(part, "r+") as file:
        file["observations/left"].resize(22, axis=0)
        file["streams/joints/position"].resize(99, axis=0)
    with EpisodeReader(recover(part)) as reader:
        assert reader.num_ticks == len(reader.qpos) == len(reader.boxes("top", "right")) == 22
        assert {len(v) for v in reader.stream("joints").values()} == {99}


def test_rows_beyond_the_commit_mark_are_not_believed(tmp_path):
    """A kill inside a flush can leave rows that read as zeros; here they are appended on purpose."""
    part = interrupted(tmp_path, 20)
    with h5py.File(part, "r+") as file:
        file["observations/qpos"].resize(25, axis=0)
        for name in ("timestamps/tick_ns", "action"):
            file[name].resize(25, axis=0)
    with EpisodeReader(recover(part)) as reader:
        assert reader.num_ticks == 20


def test_damaged_last_image_costs_its_tick(tmp_path):
    part = interrupted(tmp_path, 20)
    with h5py.File(part, "r+") as file:
        file["observations/images/top"][19] = np.zeros(40, dtype=np.uint8)
    with EpisodeReader(recover(part)) as reader:
        assert reader.num_ticks == 19


def test_complete_file_that_lacked_its_name_gets_it(tmp_path):
    path = write_episode(tmp_path, 5)
    content = path.read_bytes()
    path.rename(part_path(path))
    assert recover(part_path(path)).read_bytes() == content
    os.link(path, part_path(path))  # killed between link and unlink
    assert recover(part_path(path)) == path and not part_path(path).exists()


def test_what_cannot_be_recovered_stays_where_it_is(tmp_path):
    path = write_episode(tmp_path, 5)
    with pytest.raises(EpisodeError, match="nothing to recover"):
        recover(path)
    empty = interrupted(tmp_path, 0)
    with pytest.raises(EpisodeError, match="no whole tick"):
        recover(empty)
    broken = tmp_path / "episode_3.hdf5.part"
    broken.write_bytes(b"not hdf5" * 100)
    with pytest.raises(EpisodeError, match="cannot be opened"):
        recover(broken)
    assert empty.exists() and broken.exists()
    assert not list(tmp_path.rglob("*.recovering"))


def test_running_recording_is_left_alone(tmp_path):
    writer = writer_at(tmp_path)
    writer.append(tick_at(0))
    writer.flush()
    code = "import sys; from tacit.episode import recover; recover(sys.argv[1])"
    result = subprocess.run([sys.executable, "-c", code, str(writer.part)], capture_output=True, text=True)
    assert "cannot be opened" in result.stderr and "lock" in result.stderr
    assert writer.close(True).name == "episode_0.hdf5"
