"""Files made to hurt end in a clear error, in two seconds and 500 MB, and tell nothing of other files.

The list is that of `tacit bench hostile`; a process of its own, for here torch may be loaded already.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benches.hostile import MAX_MB, MAX_SECONDS, Outcome
from benches.hostile_cases import CASES, SECRET
from tacit.config.documents import inside
from tacit.errors import ConfigError
from tacit.rig import load_rig, shipped_rigs

TESTS = Path(__file__).parents[1]
RUN = "from benches.hostile import main; raise SystemExit(main(['--json']))"


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", RUN], env=environment, capture_output=True, text=True, timeout=250
    )
    found = [Outcome(**json.loads(line)) for line in done.stdout.splitlines()]
    for outcome in found:  # the table, for whoever runs pytest -s
        cost = f"{outcome.seconds:5.2f} s {outcome.peak_mb:4.0f} MB"
        sys.stdout.write(f"{cost}  {outcome.name:48} {outcome.text[:100]}\n")
    return {outcome.name: outcome for outcome in found}


@pytest.mark.parametrize("name", CASES)
def test_hostile_file_is_refused_clearly_in_time_and_in_memory(
    outcomes: dict[str, Outcome], name: str
) -> None:
    assert outcomes[name].problem == ""


def test_the_judge_of_outcomes_sees_what_is_wrong() -> None:
    name, (_, says) = next(iter(CASES.items()))
    good = {"name": name, "seconds": 0.1, "peak_mb": 200.0, "error": "E", "is_clear": True, "text": says}
    assert Outcome(**good).problem == ""
    for change in (
        {"is_clear": False},
        {"seconds": 1.1 * MAX_SECONDS},
        {"peak_mb": 1.1 * MAX_MB},
        {"text": f"{says} {SECRET}"},
        {"text": "another reason"},
        {"text": says * 5000},
    ):
        assert Outcome(**(good | change)).problem != ""


@pytest.mark.parametrize("name", shipped_rigs())
def test_shipped_rigs_are_within_every_limit(name: str) -> None:
    assert load_rig(name).name


def test_a_path_into_the_own_folder_is_read_whichever_way_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    file = tmp_path / "parts/arm.urdf"
    file.write_text("x")
    (tmp_path / "link.urdf").symlink_to(file)
    for name in ("parts/arm.urdf", str(file), "parts/../parts/arm.urdf", "link.urdf"):
        assert inside(tmp_path, name, "rig.yaml").samefile(file)
    with pytest.raises(ConfigError, match="leads out of the folder"):
        inside(tmp_path / "parts", "../parts", "rig.yaml: urdf")
        inside(tmp_path / "parts", "../other.urdf", "rig.yaml: urdf")
