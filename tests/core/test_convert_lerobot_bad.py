"""Damaged, foreign and hostile LeRobot data sets: a clear error, and nothing half-written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from episode_kit import write_episode

from tacit import cli
from tacit.episode import find_episodes

pytest.importorskip("av")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

THEIRS = Path(__file__).parent.parent / "data" / "lerobot_v3.zip"
FRAMES = "data/chunk-000/file-000.parquet"
VIDEO = "videos/observation.images.top/chunk-000/file-000.mp4"
Damage = Callable[[Path], None]


def cut(name: str, share: float) -> Damage:
    """Keep the first part of a file."""

    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(share * len(data))])

    return damage


def gone(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def told(**changes: object) -> Damage:
    """Change `info.json`."""

    def damage(folder: Path) -> None:
        path = folder / "meta/info.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return damage


def renamed(key: str) -> Damage:
    """Give a feature another name."""

    def damage(folder: Path) -> None:
        path = folder / "meta/info.json"
        info = json.loads(path.read_text())
        info["features"][key] = info["features"].pop("observation.images.top")
        path.write_text(json.dumps(info))

    return damage


def column(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Damage:
    """Change a column of the frames."""

    def damage(folder: Path) -> None:
        table = pq.read_table(folder / FRAMES)
        kind = table.schema.field(name).type
        values = change(np.array(table.column(name).to_pylist())).tolist()
        at = table.schema.get_field_index(name)
        pq.write_table(table.set_column(at, name, pa.array(values, kind)), folder / FRAMES)

    return damage


def not_a_number(values: np.ndarray) -> np.ndarray:
    values[15, 1] = np.nan
    return values


def second_slower(values: np.ndarray) -> np.ndarray:
    values[12:] *= 3
    return values


BAD: dict[str, tuple[Damage, str]] = {
    "table cut off": (cut(FRAMES, 0.5), "cut off or damaged"),
    "list cut off": (cut("meta/episodes/chunk-000/file-000.parquet", 0.9), "cut off or damaged"),
    "video cut off": (cut(VIDEO, 0.6), "file-000.mp4: "),
    "video missing": (gone(VIDEO), "not copied whole"),
    "table missing": (gone(FRAMES), "not copied whole"),
    "list missing": (gone("meta/episodes/chunk-000/file-000.parquet"), "no table of episodes"),
    "rate of one episode": (column("timestamp", second_slower), "episode 1 has a frame every 0.1500 s"),
    "rate of all": (told(fps=50), "says 50 Hz"),
    "no rate": (told(fps=None), "fps: None, expected frames per second"),
    "a hole": (column("frame_index", lambda rows: rows + (rows > 5)), "in order; the data set is cut off"),
    "not a number": (column("observation.state", not_a_number), "left_elbow.pos is nan at frame 3"),
    "unknown version": (told(codebase_version="v9.9"), "codebase_version 'v9.9'"),
    "a way out in a name": (renamed("observation.images.../../../etc"), "has parts of a path"),
    "a way out in a template": (told(video_path="../../{video_key}.mp4"), "leads out of the folder"),
    "an object in a template": (told(data_path="{chunk_index.__class__}"), "expected fields like"),
    "features of no kind": (told(features=[]), "expected an object"),
    "no JSON": (cut("meta/info.json", 0.3), "not valid JSON"),
}


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    with zipfile.ZipFile(THEIRS) as archive:
        archive.extractall(tmp_path / "theirs")
    return tmp_path / "theirs"


@pytest.mark.parametrize("case", BAD)
def test_a_damaged_set_is_named_and_nothing_is_left(
    theirs: Path, tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, message = BAD[case]
    damage(theirs)
    assert cli.main(["convert", str(theirs), str(tmp_path / "out"), "--from", "lerobot"]) == 2
    assert message in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["theirs"]


def test_files_of_others_in_the_folder_are_left_alone(theirs: Path, tmp_path: Path) -> None:
    (theirs / "data/chunk-000/notes.parquet").write_bytes(b"no table")
    (theirs / "meta/episodes/.DS_Store").write_bytes(b"x")
    assert cli.main(["convert", str(theirs), str(tmp_path / "out")]) == 0
    assert len(find_episodes(tmp_path / "out")) == 2


def test_a_task_with_parts_of_a_path_stays_below_the_target(theirs: Path, tmp_path: Path) -> None:
    path = theirs / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    tasks = pa.array([["../../../escape"]] * 2)
    pq.write_table(table.set_column(table.schema.get_field_index("tasks"), "tasks", tasks), path)
    assert cli.main(["convert", str(theirs), str(tmp_path / "out")]) == 0
    assert [p.parent for p in find_episodes(tmp_path / "out")] == [tmp_path / "out" / "escape"] * 2


@pytest.mark.parametrize("way", ["in", "out"])
def test_a_full_disk_in_the_middle_leaves_nothing(theirs: Path, tmp_path: Path, way: str) -> None:
    source = theirs
    if way == "out":
        source = tmp_path / "theirs2"
        write_episode(source, 12)
        shutil.rmtree(theirs)
    program = (
        "import resource, sys; from tacit import cli\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384))\n"  # as a full disk: a write fails
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    words = ["convert", str(source), str(tmp_path / "full"), *(["--to", "lerobot"] if way == "out" else [])]
    run = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)
    assert run.returncode == 2 and "disk full" in run.stderr, run.stderr
    assert os.listdir(tmp_path) == [source.name]


def test_episodes_of_two_rates_or_robots_do_not_become_one_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import h5py

    paths = [write_episode(tmp_path / "in", 5) for _ in range(2)]
    with h5py.File(paths[1], "r+") as file:
        file.attrs["fps"] = 12.5
    assert cli.main(["convert", str(tmp_path / "in"), str(tmp_path / "out"), "--to", "lerobot"]) == 2
    assert "12.5 Hz, but episode_0.hdf5 has 25" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["in"]
