"""The GL backend is chosen openly, and its absence names the cure."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("tacit_sim.rendering", reason="mujoco is not installed")

from tacit.errors import MissingDependencyError
from tacit_sim import rendering
from tacit_sim.cell import Cell

pytestmark = pytest.mark.sim


@pytest.mark.parametrize(
    ("installed", "chosen"),
    [(("libEGL.so.1", "libOSMesa.so.8"), "egl"), (("libOSMesa.so.8",), "osmesa"), ((), "disable")],
)
def test_egl_comes_first_then_osmesa_then_none(
    installed: tuple[str, ...], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(rendering, "_loads", installed.__contains__)
    assert rendering.choose_backend() == chosen


def test_choice_of_the_user_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert rendering.choose_backend() == "osmesa"


def test_without_a_backend_physics_work_and_images_name_the_packages(
    cube_cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "disable")
    cube_cell.close()
    cube_cell.step(40_000_000)
    with pytest.raises(MissingDependencyError, match="apt-get install libegl1"):
        cube_cell.render("top")


def test_backends_draw_the_same_picture() -> None:
    """EGL and OSMesa end in the same software renderer where there is no GPU."""
    program = (
        "import hashlib; from tacit.rig import load_rig; from tacit_sim.cell import Cell;"
        "print(hashlib.sha256(Cell(load_rig('nova2_sim')).render('top').tobytes()).hexdigest())"
    )
    inherited = {k: v for k, v in os.environ.items() if k != "PYOPENGL_PLATFORM"}  # set by mujoco here
    pictures = set()
    for backend, library in rendering.BACKENDS.items():
        if not rendering._loads(library):
            pytest.skip(f"{library} is not installed")
        run = subprocess.run(
            [sys.executable, "-c", program],
            env={**inherited, "MUJOCO_GL": backend, "LIBGL_ALWAYS_SOFTWARE": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stderr == ""
        pictures.add(run.stdout)
    assert len(pictures) == 1
