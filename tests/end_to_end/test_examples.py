"""Every script and the notebook of `examples` run, on data made small."""

from __future__ import annotations

import json
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


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_notebook_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its cells are run as they stand, in one room, without a kernel."""
    for needed in ("mujoco", "torch", "matplotlib"):
        pytest.importorskip(needed)
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((EXAMPLES / "first_steps.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells), (
        "kept without output"
    )
    script = tmp_path / "cells.py"
    script.write_text("\n\n".join("".join(cell["source"]) for cell in cells))
    room = runpy.run_path(str(script))
    said = capsys.readouterr().out
    assert said.count("mean error") == len(rig().state_names) and "success: True" in said
    assert (tmp_path / "runs" / "notebook" / "policy.onnx").is_file()
    assert len(list((tmp_path / "runs" / "notebook" / "aloha").rglob("*.hdf5"))) == room["EPISODES"]


def test_the_table_names_every_example() -> None:
    table = (EXAMPLES / "README.md").read_text()
    scripts = [path.name for path in (*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.ipynb"))]
    assert len(scripts) >= 7 and all(f"`{name}`" in table for name in scripts)


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
