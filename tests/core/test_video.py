"""Video files: every codec, every frame at its own time, and clear words about damaged ones."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from coded_videos import ramp, shown, write_coded

from tacit.convert import video
from tacit.convert.video import Clock, probe_video, read_clock, read_frames, write_video
from tacit.errors import EpisodeError, MissingDependencyError

av = pytest.importorskip("av")


def test_frames_come_back_in_order_and_repeat_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    assert write_video(path, ramp(12), 15.0) == 12
    assert probe_video(path) == (12, 32, 48, 15.0)
    assert shown(read_frames(path, [0, 3, 3, 11])) == [0, 3, 3, 11]


def test_colours_are_red_green_blue(tmp_path: Path) -> None:
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 255
    write_video(tmp_path / "v.mp4", [red] * 5, 15.0)
    assert read_frames(tmp_path / "v.mp4", [4])[0, 16, 16].tolist() == pytest.approx([255, 0, 0], abs=12)


def test_videos_that_cannot_be_written_say_why(tmp_path: Path) -> None:
    with pytest.raises(EpisodeError, match="no frame to write"):
        write_video(tmp_path / "v.mp4", [], 15.0)
    with pytest.raises(EpisodeError, match="frame 1 is 48x16, the first one 48x32"):
        write_video(tmp_path / "v.mp4", [*ramp(1), ramp(1, 16)[0]], 15.0)
    with pytest.raises(EpisodeError, match="does the folder exist"):
        write_video(tmp_path / "none" / "v.mp4", ramp(1), 15.0)


@pytest.mark.parametrize(
    ("codec", "ending"),
    [("libsvtav1", "mp4"), ("libx265", "mp4"), ("libvpx-vp9", "webm"), ("libx264", "mp4"), ("mpeg4", "avi")],
)
def test_every_codec_is_read_from_any_frame_on(tmp_path: Path, codec: str, ending: str) -> None:
    path = write_coded(tmp_path / f"v.{ending}", ramp(29, 64, 64), 30.0, codec)
    assert probe_video(path)[:3] == (29, 64, 64) and read_clock(path).rate == pytest.approx(30)
    for wanted in ([0, 7, 7, 28], [17, 20], [28]):
        assert shown(read_frames(path, wanted)) == wanted


def test_frames_shown_unevenly_keep_their_stamps(tmp_path: Path) -> None:
    times = [0.0, 0.033, 0.066, 0.1, 0.2, 0.3, 0.4, 0.8]
    path = write_coded(tmp_path / "v.mp4", ramp(8), times)
    clock = read_clock(path)
    np.testing.assert_allclose(clock.times, times, atol=1e-4)
    assert clock.rate == pytest.approx(7 / 0.8) and probe_video(path).fps == pytest.approx(7 / 0.8)
    assert clock.nearest(np.array([-1.0, 0.0, 0.14, 0.16, 0.59, 0.61, 9.0])).tolist() == [0, 0, 3, 4, 6, 7, 7]


def test_an_even_rate_is_not_lost_in_the_ticks_of_a_file(tmp_path: Path) -> None:
    path = write_coded(tmp_path / "v.mp4", ramp(20), 29.97)
    assert read_clock(path) == Clock(20, pytest.approx(29.97, rel=1e-3))  # type: ignore[arg-type]


@pytest.mark.parametrize(("claimed", "found"), [(9, 8), (10, 8), (13, None)])
def test_a_frame_or_two_too_many_in_the_header_are_counted_away(
    tmp_path: Path, claimed: int, found: int | None
) -> None:
    path = write_coded(tmp_path / "v.avi", ramp(8), 15.0, "mpeg4")
    content = bytearray(path.read_bytes())
    at = content.index(b"strh") + 8 + 32  # dwLength of the stream
    content[at : at + 4] = struct.pack("<I", claimed)
    path.write_bytes(content)
    if found is None:
        with pytest.raises(EpisodeError, match="says 13 frames, but only 8 can be decoded"):
            probe_video(path)
    else:
        assert probe_video(path).frames == found


@pytest.mark.parametrize("codec", ["libsvtav1", "libvpx-vp9"])
def test_a_video_that_is_cut_off_or_damaged_is_named(tmp_path: Path, codec: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (30, 64, 64, 3)).astype(np.uint8)
    path = write_coded(tmp_path / ("v.mp4" if codec == "libsvtav1" else "v.webm"), list(noise), 30.0, codec)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(EpisodeError, match=r"v\.\w+: .*(cut off|damaged)"):
        probe_video(path)
    path.write_bytes(whole[: len(whole) // 2] + bytes(900) + whole[len(whole) // 2 + 900 :])
    with pytest.raises(EpisodeError, match=r"v\.\w+: .*(cut off|damaged)"):
        read_frames(path, range(30))


def test_a_video_of_one_frame_is_one_frame(tmp_path: Path) -> None:
    path = write_coded(tmp_path / "v.mp4", ramp(1), 15.0)
    assert probe_video(path).frames == 1 and read_clock(path).times.tolist() == [0.0]


def test_videos_that_cannot_be_read_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "v.mp4"
    with pytest.raises(EpisodeError, match="no such video"):
        probe_video(path)
    write_video(path, ramp(8), 15.0)
    with pytest.raises(EpisodeError, match="ends before frame 8"):
        read_frames(path, [7, 8])
    with pytest.raises(ValueError, match="never decrease"):
        read_frames(path, [3, 2])
    path.write_bytes(b"text")
    with pytest.raises(EpisodeError, match="cannot be opened"):
        read_frames(path, [0])
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingDependencyError, match="pip install av"):
        list(video.iterate_frames(path))


def test_frames_that_all_carry_one_stamp_are_shown_at_the_stated_rate() -> None:
    index = video._Index.__new__(video._Index)
    index.stamps, index._stamped = np.zeros(3, np.int64), True
    index._stream = SimpleNamespace(average_rate=25, base_rate=None, time_base=Fraction(1, 25))
    assert index.clock(3) == Clock(3, 25.0)
