"""Facts about reading: hostile, damaged and foreign files, the index, and clear messages."""

from __future__ import annotations

import shutil

import cv2
import h5py
import numpy as np
import pytest
from episode_kit import drawn_image, rig, tick_at, write_episode, writer_at

from tacit.episode import EpisodeReader
from tacit.episode.steps import Step, segments
from tacit.errors import EpisodeError
from tacit.rig import parse_rig


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return write_episode(tmp_path_factory.mktemp("good"), 10)


@pytest.fixture
def copy(good, tmp_path):
    return shutil.copy(good, tmp_path / "episode_0.hdf5")


def test_an_image_that_cannot_be_decoded_is_named_by_file_stream_and_tick(copy):
    with h5py.File(copy, "r+") as file:
        for stream in ("top", "left"):
            images = file[f"observations/images/{stream}"]
            images[7] = images[7][:-2]
    with EpisodeReader(copy) as reader:
        with pytest.raises(EpisodeError, match=r"episode_0.hdf5: top, tick 7: .*end marker"):
            reader.image("top", 7)
        with pytest.raises(EpisodeError, match=r"episode_0.hdf5: left, tick 7: .*end marker"):
            reader.touch("left", 7)
        for ticks in (slice(5, None), slice(None)):
            with pytest.raises(EpisodeError, match=r"episode_0.hdf5: top, tick 7: "):
                list(reader.pictures("top", ticks))
        assert len(list(reader.pictures("top", slice(8, None)))) == 2


def soft_link(file):
    file["tactile/left/other"] = h5py.SoftLink("/action")


def external_link(file):
    file["observations/secret"] = h5py.ExternalLink("other.hdf5", "/action")


def external_storage(file):
    file.create_dataset("secret", (8,), "u1", external=[("/etc/hostname", 0, 8)])


def virtual_dataset(file):
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("other.hdf5", "x", (3,))
    file.create_virtual_dataset("secret", layout)


def plugin_filter(file):
    file.create_dataset("packed", data=np.zeros(64), chunks=(64,), compression="lzf")


def reference_type(file):
    file.create_dataset("pointer", (1,), h5py.ref_dtype)


def void_type(file):
    file.create_dataset("opaque", (1,), np.dtype("V8"))


def huge(file):
    file.create_dataset("huge", (1 << 40, 64), "f8", chunks=(1, 64))


def deep(file):
    file.create_group("/".join("abcdefghijklmnop"))


HOSTILE = {
    soft_link: "soft link",
    external_link: "another file",
    external_storage: "another file",
    virtual_dataset: "another file",
    plugin_filter: "filters",
    reference_type: "type",
    void_type: "type",
    huge: "GiB",
    deep: "nested",
}


@pytest.mark.parametrize("change", HOSTILE, ids=lambda f: f.__name__)
def test_hostile_file_is_refused_before_it_is_read(copy, change):
    with h5py.File(copy, "r+") as file:
        change(file)
    with pytest.raises(EpisodeError, match=HOSTILE[change]):
        EpisodeReader(copy)


def test_cycle_of_hard_links_ends(copy):
    with h5py.File(copy, "r+") as file:
        file["observations/again"] = file["/"]
    assert EpisodeReader(copy).num_ticks == 10


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_file_cut_in_transfer_says_so(good, tmp_path, share):
    data = good.read_bytes()
    path = tmp_path / "cut.hdf5"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(EpisodeError, match=r"cut\.hdf5.*(recover|copied again)"):
        EpisodeReader(path)


def test_other_majors_and_other_schemas_are_refused_and_unknown_groups_ignored(copy):
    with h5py.File(copy, "r+") as file:
        file.create_dataset("of_a_later_minor/version", data=[1])
        file.attrs["schema_version"] = "1.9.0"
    assert EpisodeReader(copy).num_ticks == 10
    for name, value in (("schema_version", "2.0.0"), ("schema", "other")):
        with h5py.File(copy, "r+") as file:
            file.attrs[name] = value
        with pytest.raises(EpisodeError, match=r"expected tacit-episode 1\.x"):
            EpisodeReader(copy)


def test_wrong_names_list_the_right_ones(good):
    with EpisodeReader(good) as reader:
        with pytest.raises(EpisodeError, match="did you mean 'wrist'"):
            reader.image("wirst", 0)
        with pytest.raises(EpisodeError, match="valid: left, right"):
            reader.boxes("top", "thumb")
        with pytest.raises(EpisodeError, match="no stream"):
            reader.timestamps("nothing")


def test_arrays_outlive_the_file(good):
    with EpisodeReader(good) as reader:
        qpos = reader.qpos
    assert reader.qpos is qpos and len(qpos) == 10


def test_fixed_camera_has_one_pose(good):
    with EpisodeReader(good) as reader:
        poses = reader.camera_pose("top")
        assert poses.shape == (10, 4, 4)
        np.testing.assert_array_equal(poses[3], rig().cameras["top"].T_parent_camera)


def write_aloha(path, encode):
    """A file as ACT++ writes it: BGR-agnostic JPEG padded to the longest, or raw frames."""
    frames = [drawn_image(i, 48, 64) for i in range(4)]
    with h5py.File(path, "w") as file:
        file["action"] = np.zeros((4, 14), np.float32)
        file["observations/qpos"] = np.ones((4, 14), np.float32)
        if encode:
            coded = [cv2.imencode(".jpg", frame[..., ::-1])[1].reshape(-1) for frame in frames]
            longest = max(map(len, coded))
            padded = np.stack([np.pad(c, (0, longest - len(c))) for c in coded])
            file["observations/images/cam_high"] = padded
        else:
            file["observations/images/cam_high"] = np.stack(frames)
    return frames


@pytest.mark.parametrize("encode", [True, False])
def test_images_of_act_files_are_read(tmp_path, encode):
    frames = write_aloha(tmp_path / "episode_0.hdf5", encode)
    with EpisodeReader(tmp_path / "episode_0.hdf5") as reader:
        assert reader.is_foreign and reader.cameras == ("cam_high",) and reader.num_ticks == 4
        assert np.abs(reader.image("cam_high", 2).astype(int) - frames[2]).mean() < 6
        assert reader.fps == 50 and len(reader.tick_ns) == 4
        with pytest.raises(EpisodeError, match="holds no rig"):
            _ = reader.rig


def test_file_of_no_kind_is_refused(tmp_path):
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        file["numbers"] = [1]
    with pytest.raises(EpisodeError, match="neither"):
        EpisodeReader(tmp_path / "x.hdf5")


@pytest.mark.parametrize(
    ("indices", "expected"),
    [
        ([], []),
        ([0, 0, 1], [Step("a", 0, 1), Step("b", 2, 2)]),
        ([-1, 1, 1, -1, 0], [Step("b", 1, 2), Step("a", 4, 4)]),
        ([0, 7, 0], [Step("a", 0, 0), Step("a", 2, 2)]),
    ],
)
def test_segments_are_runs_and_background_is_none(indices, expected):
    assert segments(indices, ["a", "b"]) == expected


def test_other_rig_without_touch_or_steps_is_written_and_read(tmp_path):
    data = rig().model_dump(mode="json")
    data["tactile"] = {}
    data["streams"] = {k: v for k, v in data["streams"].items() if v["role"] == "state"}
    plain = parse_rig(data, "test")
    from tacit.episode import EpisodeWriter

    writer = EpisodeWriter(tmp_path, plain, task="wave")
    for i in range(5):
        writer.append(tick_at(i, stage=False))
    with EpisodeReader(writer.close(True)) as reader:
        assert reader.tactile == () and reader.steps == [] and reader.rig.rig_id == plain.rig_id


def test_writer_takes_a_path_of_its_own(tmp_path):
    writer = writer_at(tmp_path / "somewhere/take.hdf5")
    writer.append(tick_at(0))
    assert writer.close(True) == tmp_path / "somewhere/take.hdf5"
