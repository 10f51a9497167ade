"""What colcon builds of the core, tested without ROS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tacit
from tacit import cli
from tacit.rig import load_rig

PACKAGE = Path(__file__).resolve().parents[1]
RIGS = sorted(path.stem for path in (Path(tacit.__file__).parent / "rigs").glob("*.yaml"))


def test_marker_carries_the_name_of_the_package() -> None:
    assert (PACKAGE / "resource" / "tacit").is_file()


@pytest.mark.parametrize("name", RIGS)
def test_shipped_rig_loads_and_its_cameras_stand_somewhere(name: str) -> None:
    rig = load_rig(name)
    assert rig.state_names
    for camera in rig.cameras.values():
        rotation = np.asarray(camera.T_parent_camera)[:3, :3]
        assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
        assert np.linalg.det(rotation) > 0


def test_command_line_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert tacit.__version__ in capsys.readouterr().out
