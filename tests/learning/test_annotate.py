"""`tacit annotate`: steps of two clips come to the others, on the page and in every kind of data."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import chromium, console_errors, layout_faults

from tacit.convert.video import write_video
from tacit.episode import EpisodeReader
from tacit.errors import AnnotationError
from tacit_learning.annotate.labels import Cut, Labelling, checked
from tacit_learning.annotate.session import Session
from tacit_learning.annotate.sources import open_collection
from tacit_learning.annotate.transfer import Known, align, transfer
from tacit_learning.data.annotation_files import load_annotation_set
from tacit_learning.data.annotation_importers import ImportOptions, read
from tacit_learning.data.annotations import Segment

FPS = 10.0


def film(path: Path, lengths: tuple[int, ...]) -> tuple[int, ...]:
    """Write a video in which a square moves right, then down, then left, for so many frames each; returns
    where each begins."""
    x, y, frames = 8, 8, []
    for (dx, dy), count in zip(((48, 0), (0, 32), (-48, 0)), lengths, strict=True):
        for k in range(1, count + 1):
            picture = np.full((64, 80, 3), 30, np.uint8)
            left, top = x + dx * k // count, y + dy * k // count
            picture[top : top + 14, left : left + 14] = (230, 200, 40)
            frames.append(picture)
        x, y = x + dx, y + dy
    write_video(path, frames, FPS)
    return tuple(int(start) for start in np.cumsum([0, *lengths[:-1]]))


LENGTHS = {"a": (14, 10, 12), "b": (10, 14, 12), "c": (18, 9, 10), "d": (9, 12, 17)}
NAMES = ("right", "down", "left")


@pytest.fixture
def films(tmp_path: Path) -> dict[str, tuple[int, ...]]:
    """A folder `films` with a video each, and where its steps begin."""
    (tmp_path / "films").mkdir()
    return {name: film(tmp_path / "films" / f"{name}.mp4", lengths) for name, lengths in LENGTHS.items()}


# -- alignment ---------------------------------------------------------------------------------


def test_warping_is_the_dynamic_programme_that_it_claims_to_be() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(7, 2)).astype(np.float32), rng.normal(size=(9, 2)).astype(np.float32)
    distance = np.linalg.norm(a[:, None] - b, axis=-1)
    extra = 0.15 * np.median(distance)
    total = np.full((7, 9), np.inf)
    for i in range(7):
        for j in range(9):
            ways = [total[i - 1, j - 1]] if i and j else []
            ways += [total[i - 1, j] + extra] if i else []
            ways += [total[i, j - 1] + extra] if j else []
            total[i, j] = distance[i, j] + min(ways, default=0.0)
    path = align(a, b)
    diagonal = (np.diff(path.known) == 1) & (np.diff(path.other) == 1)
    found = distance[path.known, path.other].sum() + extra * (~diagonal).sum()
    assert found == pytest.approx(total[-1, -1], rel=1e-5)
    assert (path.known[0], path.other[0], path.known[-1], path.other[-1]) == (0, 0, 6, 8)


def curve(*lengths: int) -> np.ndarray:
    """Walk a square, a side for so many frames."""
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]], np.float32)
    sides = [
        np.linspace(a, b, n, endpoint=False) for a, b, n in zip(corners, corners[1:], lengths, strict=False)
    ]
    return np.concatenate(sides).astype(np.float32)


def test_cuts_follow_what_happens_and_agreement_makes_them_sure() -> None:
    def known(*lengths: int, shift: int = 0) -> Known:
        starts = np.cumsum([0, *lengths[:-1]]).tolist()
        cuts = [Cut(s + (shift if i == 2 else 0), "abcd"[i]) for i, s in enumerate(starts)]
        return Known(curve(*lengths), Labelling(tuple(cuts)))

    other = curve(20, 8, 14, 10)
    agreed = transfer([known(10, 10, 10, 10), known(14, 8, 12, 9)], other, FPS)
    assert [cut.frame for cut in agreed.cuts] == pytest.approx([0, 20, 28, 42], abs=1) and not agreed.by_hand
    argued = transfer([known(10, 10, 10, 10), known(14, 8, 12, 9, shift=7)], other, FPS)
    assert argued.cuts[2].confidence < 0.6 * agreed.cuts[2].confidence
    assert argued.cuts[0].confidence == 1


def test_labels_make_segments_and_a_page_cannot_send_nonsense() -> None:
    said = Labelling((Cut(2, "a"), Cut(5, ""), Cut(8, "b")))
    assert said.segments(10) == [Segment("a", 2, 4), Segment("b", 8, 9)]
    assert Labelling.of_segments(said.segments(10)).segments(10) == said.segments(10)
    for rows in (None, [[1]], [[1, "a"], [1, "b"]], [[-1, "a"]], [[1, "a", 7]], [["1", "a"]], [[99, "a"]]):
        with pytest.raises(AnnotationError, match="clip: "):
            checked(rows, 10, "clip")


# -- every kind of data ------------------------------------------------------------------------


def test_a_session_goes_on_where_it_was_and_belongs_to_its_clips(tmp_path: Path, films: dict) -> None:
    session = Session(open_collection(tmp_path / "films"), tmp_path / "out")
    with pytest.raises(AnnotationError, match="no clip is labelled by hand"):
        session.transfer()
    session.label("a", [[start, name] for start, name in zip(films["a"], NAMES, strict=True)])
    again = Session(open_collection(tmp_path / "films"), tmp_path / "out")
    assert again.labels == session.labels and again.labels["a"].by_hand
    (tmp_path / "films" / "a.mp4").unlink()
    with pytest.raises(AnnotationError, match="session.json: belongs to another set"):
        Session(open_collection(tmp_path / "films"), tmp_path / "out")
    with pytest.raises(AnnotationError, match="holds no episodes, no videos"):
        open_collection(tmp_path / "out")


def test_steps_go_into_recordings_and_back(tmp_path: Path) -> None:
    from episode_kit import write_episode

    for number in range(3):
        write_episode(tmp_path / "set", num_ticks=40 + number)
    session = Session(open_collection(tmp_path / "set"), tmp_path / "out", into_data=True)
    first, *others = session.clips
    given = session.labels[first].segments(session.clips[first].num_frames)
    assert given, "recordings bring the steps that they have"
    assert session.picture(first, 3)[:2] == b"\xff\xd8"
    session.label(first, [[0, "one"], [20, "two"]])
    for name in others:
        session.label(name, [])
    session.transfer()
    assert "steps written into 3 episodes" in session.save()
    clip = session.clips[others[0]]
    with EpisodeReader(clip.path) as reader:
        assert [step.name for step in reader.steps] == ["one", "two"]


def test_steps_go_into_the_columns_that_lerobot_reads(tmp_path: Path) -> None:
    with zipfile.ZipFile(Path(__file__).parents[1] / "data" / "lerobot_v3.zip") as archive:
        archive.extractall(tmp_path)
    place = next(path.parent.parent for path in tmp_path.rglob("info.json"))
    session = Session(open_collection(place), tmp_path / "out", into_data=True)
    first, second = session.clips
    session.label(first, [[0, "reach"], [5, "grasp"]])
    assert "brought to 0" in session.transfer(), "the other episode is of another task"
    session.label(second, [[0, "reach"], [6, "grasp"]])
    session.save()
    found = read("lerobot", place, ImportOptions()).annotations
    assert found.videos[0].action_segments()[0] == Segment("reach", 0, 4)
    assert {video.steps for video in found.videos} == {("reach", "grasp")}
    shares = json.loads((place / "meta" / "temporal_proportions_dense.json").read_text())
    assert sum(shares.values()) == pytest.approx(1)
    written = load_annotation_set(tmp_path / "out")
    assert [video.num_frames for video in written.videos] == [12, 13] and written.splits == ("train",)


# -- the page ----------------------------------------------------------------------------------


@pytest.fixture
def page(tmp_path: Path, films: dict) -> Iterator[str]:
    """The address of a running `tacit annotate`."""
    words = ["annotate", str(tmp_path / "films"), "--out", str(tmp_path / "out"), "--steps", *NAMES]
    process = subprocess.Popen(
        [sys.executable, "-m", "tacit.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said = ""
        assert process.stdout is not None
        while "token=" not in said:
            line = process.stdout.readline()
            assert line, f"the command ended: {said}"
            said += line
        yield re.search(r"http://\S+", said).group(0)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on this machine")
def test_two_clips_are_labelled_by_keys_and_the_rest_is_found(tmp_path: Path, films: dict, page: str) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.ui import WebDriverWait

    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(page.partition("?")[0])
    with chromium(1200, 900) as driver:
        wait = WebDriverWait(driver, 30)
        driver.get(page)
        wait.until(lambda d: len(d.find_elements(By.CSS_SELECTOR, "#clips button")) == 4)
        body = driver.find_element(By.TAG_NAME, "body")

        def press(*keys: str) -> None:
            body.send_keys(*keys)
            if keys[-1] in "0123456789tsxm" or keys[-1] == Keys.ENTER:
                wait.until(lambda d: not d.execute_script("return busy"))

        for name in ("a", "b"):
            driver.find_elements(By.CSS_SELECTOR, "#clips button")[sorted(LENGTHS).index(name)].click()
            for number, start in enumerate(films[name]):
                press(Keys.HOME, *[Keys.ARROW_RIGHT] * start)
                at = int(driver.find_element(By.ID, "where").text.split()[0])
                assert at == start
                press(str(number + 1))
        assert driver.execute_script("return document.getElementById('picture').naturalWidth") > 0
        press("t")
        wait.until(lambda d: "were brought to 2" in d.find_element(By.ID, "said").text)
        press("u")
        assert int(driver.find_element(By.ID, "where").text.split()[0]) > 0, "at the least sure cut"
        press(Keys.ENTER)
        wait.until(lambda d: "cuts" in d.find_element(By.ID, "said").text)
        press("s")
        wait.until(lambda d: "annotations.json" in d.find_element(By.ID, "said").text)
        assert layout_faults(driver, 1400, 900) == [] and layout_faults(driver, 400, 900) == []
        assert console_errors(driver) == []
    found = {video.name: video for video in load_annotation_set(tmp_path / "out").videos}
    for name in ("c", "d"):
        assert found[name].steps == NAMES
        assert np.abs(np.array(found[name].start_frames) - films[name]).max() <= 2
    assert sorted(video.split for video in found.values()) == ["train"] * 3 + ["transferred"]
