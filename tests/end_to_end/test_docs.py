"""`make docs` makes pages of the Python interface from its docstrings."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ["tacit", "tacit_ros", "tacit_sim", "tacit_learning", "tacit_calibration"]


def recipe() -> list[str]:
    """The words that `make docs` runs."""
    text = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    line = re.search(r"^docs:.*\n\t(.*)$", text, re.M)
    assert line is not None
    return line.group(1).split()


@pytest.mark.skipif(importlib.util.find_spec("pdoc") is None, reason="pdoc is not installed")
def test_the_recipe_builds_a_page_with_what_a_docstring_says(tmp_path: Path) -> None:
    words = recipe()
    assert words[-5:] == PACKAGES and words[1:3] == ["-m", "pdoc"]
    options = [str(tmp_path) if word == "build/docs" else word for word in words[1:-5]]
    run = subprocess.run(
        [sys.executable, *options, "tacit.geometry.camera"], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr[-2000:]
    page = (tmp_path / "tacit" / "geometry" / "camera.html").read_text()
    assert "pixel centres lie at integers" in page and "Project points to pixels" in page
    assert (tmp_path / "index.html").is_file()
