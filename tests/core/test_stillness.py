"""Standing still, new poses, and the folder that samples are kept in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.errors import CalibrationError, ConfigError
from tacit.record.samples import FILE_NAME, SampleFolder, load_samples
from tacit.record.stillness import StillDetector, Tolerances, is_new

MS = 1_000_000
TOLERANCE = np.array([1e-3, 1e-3])


def fed(values, period_ms: int = 10, window_ms: int = 500) -> tuple[StillDetector, int]:
    """A detector that has heard `values`, and the stamp of the last one."""
    detector = StillDetector(TOLERANCE, window_ms * MS)
    for i, value in enumerate(values):
        detector.add(i * period_ms * MS, value)
    return detector, (len(values) - 1) * period_ms * MS


def test_an_arm_that_rests_is_still_at_the_mean_of_the_window():
    noise = np.random.default_rng(0).uniform(-4e-4, 4e-4, (80, 2))
    detector, now = fed([0.5, -0.2] + noise)
    found = detector.still_at(now)
    np.testing.assert_allclose(found, ([0.5, -0.2] + noise[-51:]).mean(axis=0))


@given(st.floats(0.01, 2.0))
def test_an_arm_that_turns_is_never_still(speed):
    detector, now = fed([[speed * 0.01 * i, 0.0] for i in range(80)])
    assert detector.still_at(now) is None


def test_it_is_still_only_once_the_whole_window_has_passed_since_the_move():
    track = [[0.1 * i, 0.0] for i in range(20)] + [[2.0, 0.0]] * 80
    detector, _ = fed(track)
    stopped = 20 * 10 * MS
    assert detector.still_at(stopped + 490 * MS) is None
    np.testing.assert_allclose(detector.still_at(stopped + 520 * MS), [2.0, 0.0])


def test_silence_is_not_stillness():
    detector = StillDetector(TOLERANCE, 500 * MS)
    for ms in (0, 10, 20, 480, 490, 500):
        detector.add(ms * MS, [0.0, 0.0])
    assert detector.still_at(500 * MS) is None
    assert StillDetector(TOLERANCE).still_at(0) is None


def test_a_clock_that_jumps_back_starts_anew():
    detector, now = fed([[0.0, 0.0]] * 80)
    detector.add(now - 200 * MS, [0.0, 0.0])
    assert detector.still_at(now - 200 * MS) is None


def test_a_pose_is_new_when_one_joint_or_the_gripper_has_moved_enough():
    new = Tolerances.of(6, has_gripper=True).new
    pose = np.zeros(7)
    assert is_new(pose, [], new) and not is_new(pose, [pose + 0.5 * new], new)
    for i in range(7):
        moved = pose.copy()
        moved[i] += 1.01 * new[i]
        assert is_new(moved, [pose], new)


def test_samples_are_listed_whole_and_a_folder_is_taken_up_again(tmp_path):
    first = SampleFolder(tmp_path, "arm", ("j1", "j2"), "wrist")
    first.add(b"one", (0.1, 0.2), 0.03, 5)
    again = SampleFolder(tmp_path, "arm", ("j1", "j2"), "wrist")
    assert again.add(b"two", (0.3, 0.4), None, None).image == "001.png"
    listed = load_samples(tmp_path)
    assert [s.q for s in listed.samples] == [(0.1, 0.2), (0.3, 0.4)]
    assert (tmp_path / "000.png").read_bytes() == b"one" and listed.samples[0].gripper_raw == 0.03
    assert again.drop_last().image == "001.png" and not (tmp_path / "001.png").exists()
    assert again.add(b"three", (0.5, 0.6), None, None).image == "001.png"


@pytest.mark.parametrize(
    "other", [("left", ("j1", "j2"), "wrist"), ("arm", ("j2", "j1"), "wrist"), ("arm", ("j1", "j2"), "top")]
)
def test_a_folder_of_something_else_is_refused(tmp_path, other):
    SampleFolder(tmp_path, "arm", ("j1", "j2"), "wrist").add(b"x", (0.0, 0.0), None, None)
    with pytest.raises(CalibrationError, match="holds samples of arm 'arm', camera 'wrist'"):
        SampleFolder(tmp_path, *other)


def test_a_list_without_samples_or_with_a_typo_is_named(tmp_path):
    (tmp_path / FILE_NAME).write_text("arm: arm\njoint_names: [a]\n")
    with pytest.raises(CalibrationError, match="is empty"):
        load_samples(tmp_path)
    (tmp_path / FILE_NAME).write_text("arm: arm\njoint_names: [a]\nsmaples: []\n")
    with pytest.raises(ConfigError, match="did you mean 'samples'"):
        load_samples(tmp_path)
