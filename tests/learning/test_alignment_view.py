"""`tacit view alignment`: a page for any set, overlay videos where it has pictures, signals of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tiny_videos import tiny_alignment, tiny_annotated

from tacit.cli import main
from tacit.convert.video import probe_video, read_frames
from tacit_learning.alignment.train_alignment import train_on
from tacit_learning.data.annotation_files import save_annotation_set, save_features
from tacit_learning.engine.tracking import SilentReporter


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of annotations and features, and a run that was trained on it."""
    annotated = tiny_annotated()
    folder = tmp_path / "data"
    videos = [
        replace(v, features=save_features(folder, v.name, annotated.features[v.name]))
        for v in annotated.annotations.videos
    ]
    save_annotation_set(replace(annotated.annotations, videos=tuple(videos)), folder)
    config = tiny_alignment(tmp_path / "run", train__steps=2, data__folder=str(folder))
    train_on(config, annotated, None, SilentReporter())
    return folder


def add_pictures(folder: Path, name: str, length: int) -> None:
    (folder / "frames").mkdir()
    pictures = np.full((length, 20, 30, 3), 40, np.uint8)
    np.save(folder / "frames" / f"{name}.npy", pictures)


def test_the_page_shows_every_video_and_films_those_with_pictures(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    annotated = tiny_annotated().annotations.split("validation")
    add_pictures(data, annotated[0].name, annotated[0].num_frames)
    arguments = ["view", "alignment", str(tmp_path / "run"), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--split", "validation"]) == 0
    page = (tmp_path / "out" / "index.html").read_text()
    assert all(video.name in page for video in annotated) and "true match" in page
    film = tmp_path / "out" / f"{annotated[0].name}.mp4"
    assert probe_video(film).frames == annotated[0].num_frames
    (frame,) = read_frames(film, [2])
    assert frame[:-60].mean() < 70 < frame[-40:].max()  # the dark picture, and bars below it
    assert not (tmp_path / "out" / f"{annotated[1].name}.mp4").exists()


def test_pictures_of_another_length_are_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    name = tiny_annotated().annotations.split("validation")[0].name
    add_pictures(data, name, 3)
    arguments = ["view", "alignment", str(tmp_path / "run"), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--split", "validation"]) == 2
    assert f"{name}.npy" in capsys.readouterr().err


def test_signals_of_a_run_have_a_row_per_frame(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "signals.parquet"
    run = str(tmp_path / "run")
    assert (
        main(["export", "signals", run, "--data", str(data), "--out", str(out), "--splits", "validation"])
        == 0
    )
    videos = tiny_annotated().annotations.split("validation")
    rows = pq.read_table(out).to_pydict()
    assert rows["episode"] == [video.name for video in videos for _ in range(video.num_frames)]
    assert all(0 <= value <= 1 for value in rows["weight"])
    assert rows["timestamp"][1] == pytest.approx(0.1)
