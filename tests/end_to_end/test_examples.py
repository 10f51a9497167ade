"""Every script of `examples` runs, on data made small."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import tiny_bundles
from episode_kit import rig, write_episode

from tacit.rig import load_rig

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def main_of(name: str) -> object:
    """The `main` of a script, which is imported but not started."""
    return runpy.run_path(str(EXAMPLES / name), run_name="example")["main"]


def test_episodes_become_arrays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_episode(tmp_path, 12)
    main_of("read_episodes.py")(str(tmp_path))  # type: ignore[operator]
    assert "12 ticks, qpos (12, 7), picture (120, 160, 3)" in capsys.readouterr().out


def test_touch_is_projected(capsys: pytest.CaptureFixture[str]) -> None:
    main_of("project_touch.py")("nova2_sim", "top")  # type: ignore[operator]
    said = capsys.readouterr().out
    assert said.count("in top:") == 4 and "nan" not in said


def test_a_bundle_runs_over_a_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_bundles.policy_bundle(tmp_path, rig())
    episode = write_episode(tmp_path / "data", 12)
    main_of("run_bundle.py")(str(tmp_path / "policy.onnx"), str(episode))  # type: ignore[operator]
    assert capsys.readouterr().out.count("mean error") == len(rig().state_names)


def test_episodes_are_converted(tmp_path: Path) -> None:
    write_episode(tmp_path / "data", 12)
    main_of("convert.py")(str(tmp_path / "data"), str(tmp_path / "aloha"))  # type: ignore[operator]
    assert list((tmp_path / "aloha").rglob("episode_0.hdf5"))


def test_the_table_names_every_script() -> None:
    table = (EXAMPLES / "README.md").read_text()
    scripts = [path.name for path in EXAMPLES.glob("*.py")]
    assert len(scripts) >= 5 and all(f"`{name}`" in table for name in scripts)


@pytest.mark.ros
@pytest.mark.sim
def test_a_policy_is_stopped_by_progress_in_lockstep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rclpy", reason="rclpy is not installed")
    pytest.importorskip("tacit_sim.rendering", reason="mujoco is not installed")
    from benches.testing import isolated_domain

    rig = load_rig("nova2_sim")
    # Told done from the tenth frame on, which the thresholds believe half a second later.
    wide = {"state_min": (-7.0,) * 7, "state_max": (7.0,) * 7, "detector": {"done_above": 0.9}}
    bundles = [tiny_bundles.policy_bundle(tmp_path, rig), tiny_bundles.progress_bundle(tmp_path, rig, **wide)]
    with isolated_domain():
        main = main_of("watched_policy.py")
        files = (str(bundle.source) for bundle in bundles)
        main(*files, str(tmp_path / "out"), "3", "simulator.real_time_factor=4")  # type: ignore[operator]
    said = capsys.readouterr().out
    assert "seed 3: no success" in said and "the policy is HOLD" in said and "'done')" in said
    assert list((tmp_path / "out").glob("*.mp4"))
