"""A policy over a recorded episode: errors that can be worked out by hand, the same bits twice, a page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from episode_kit import rig, write_episode
from tiny_bundles import policy_bundle, seeing_bundle

from tacit.bundle.runtime import OnnxPolicy
from tacit.cli import main
from tacit.episode import EpisodeReader
from tacit.errors import BundleError
from tacit.view.replay import groups, replay


@pytest.fixture(scope="module")
def episode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_episode(tmp_path_factory.mktemp("data") / "episode_0.hdf5", 20)


def test_errors_are_those_of_the_definition(episode: Path, tmp_path: Path) -> None:
    policy = OnnxPolicy(policy_bundle(tmp_path, rig()), rig())  # chunk[i] = state * (1 + 0.01 i)
    with EpisodeReader(episode) as reader:
        one = replay(policy, reader, every=3)
        joints = groups(rig())["joints"]
        expected = [
            np.mean([
                np.abs(reader.qpos[t, joints] * (1 + 0.01 * i) - reader.action[t + i, joints])
                for t in range(0, 20, 3) if t + i < 20
            ])
            for i in range(5)
        ]  # fmt: skip
        stands = [
            np.mean(
                [
                    np.abs(reader.qpos[t, joints] - reader.action[t + i, joints])
                    for t in range(0, 20, 3)
                    if t + i < 20
                ]
            )
            for i in range(5)
        ]
    np.testing.assert_allclose(one.error_by_horizon(joints), expected, rtol=1e-5)
    np.testing.assert_allclose(one.standing_error_by_horizon(joints), stands, rtol=1e-5)
    before, after = one.chunks[0], one.chunks[1]
    assert np.abs(after[:2] - before[3:])[:, joints].mean() > 0 and one.inconsistency(joints) > 0


def test_two_bundles_are_compared_on_one_page_and_answer_the_same_bits_twice(
    episode: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    one, other = policy_bundle(tmp_path, rig()), seeing_bundle(tmp_path, rig())
    out = tmp_path / "replay.html"
    words = [
        "replay",
        "bundle",
        str(episode),
        str(one.source),
        str(other.source),
        "--out",
        str(out),
        "--again",
    ]
    assert main(words) == 0
    said, text = capsys.readouterr().out, out.read_text(encoding="utf-8")
    assert "the same bits twice" in said and "policy.onnx" in said and "seeing.onnx" in said
    assert "a policy that stands" in text and all(name in text for name in rig().state_names)


def test_episode_of_another_rate_is_refused(episode: Path, tmp_path: Path) -> None:
    policy = OnnxPolicy(policy_bundle(tmp_path, rig(), rate_hz=50.0), rig())
    with EpisodeReader(episode) as reader, pytest.raises(BundleError, match="25 ticks/s"):
        replay(policy, reader)
