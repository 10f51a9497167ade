"""What to look at first in a data set: the planted faults come on top, each for its own reason."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from episode_kit import PERIOD_NS, START_NS, drawn_image, joints_at, opening_at, tick_at, writer_at

from tacit.cli import main
from tacit.episode import AuditReport, check_episode, find_episodes
from tacit.episode.findings import Finding
from tacit.episode.likeness import near_duplicates, odd_ends
from tacit.episode.measures import Measures, measure
from tacit.episode.ranking import Ranked, deviations, rank
from tacit.images import encode_jpeg
from tacit.streams import Tick

TICKS = 16
NUM_GOOD = 7
FROZEN, WRONG, TWIN, SLOW = (NUM_GOOD + i for i in range(4))
UNTOUCHED = [encode_jpeg(drawn_image(0, 60, 80), quality) for quality in range(95, 88, -1)]
"""By turns: a sensor that repeats a few pictures to the byte is a frozen one."""


def write(root: Path, take: int, *, fault: str = "") -> Path:
    """Write a take of the task, each along a way of its own; the faults are those that labs meet."""
    writer = writer_at(root, sync=False)
    ticks, pace = TICKS + take % 3, 3 if fault == "slow" else 1
    for i in range(pace * ticks):
        done = i // pace  # how far the task is
        shown, phase = 13 * take + done, 13 * take + i / pace
        tick = tick_at(shown, stamp_ns=START_NS + (take * 10_000 + i) * PERIOD_NS)
        samples = {name: replace(sample, index=i) for name, sample in tick.samples.items()}
        samples["stage"] = replace(samples["stage"], value=min(done // 3, 4))
        samples["joints"] = replace(samples["joints"], value=joints_at(phase))
        samples["gripper_state"] = replace(samples["gripper_state"], value=np.array([opening_at(phase)]))
        touched = 4 <= done < 12 and fault != "never touched"
        if not touched:
            samples |= {
                name: replace(samples[name], value=UNTOUCHED[i % len(UNTOUCHED)])
                for name in ("left", "right")
            }
        if fault == "frozen" and i > 3:
            samples["top"] = replace(samples["top"], value=encode_jpeg(drawn_image(13 * take + 4, 120, 160)))
        if fault == "never touched":
            samples["stage"] = replace(samples["stage"], value=min(done // 3, 1))
        if fault == "compressed again":
            again = {n: encode_jpeg(drawn_image(shown % 50, 120, 160), 80) for n in ("top", "wrist")}
            samples |= {name: replace(samples[name], value=value) for name, value in again.items()}
        writer.append(Tick(tick.stamp_ns, i, samples))
    return writer.close(True)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("planted")
    for take in range(NUM_GOOD):
        write(root, take)
    write(root, FROZEN, fault="frozen")
    write(root, WRONG, fault="never touched")
    write(root, 3, fault="compressed again")
    write(root, SLOW, fault="slow")
    return root


def ranked(*roots: Path) -> list[Ranked]:
    paths = [path for root in roots for path in find_episodes(root)]
    return rank([check_episode(path) for path in paths], [measure(path) for path in paths], roots)


class Seen(NamedTuple):
    """The planted set, checked and measured once."""

    reports: list[AuditReport]
    measures: list[Measures | None]


@pytest.fixture(scope="module")
def seen(planted: Path) -> Seen:
    paths = find_episodes(planted)
    return Seen([check_episode(path) for path in paths], [measure(path) for path in paths])


def number(item: Ranked) -> int:
    return int(item.report.path.stem.rpartition("_")[2])


def test_the_planted_faults_are_on_top_each_for_its_reason(seen: Seen) -> None:
    order = rank(*seen)
    reasons = {number(item): item.doubts[0] for item in order[:4]}
    assert set(reasons) == {FROZEN, WRONG, TWIN, SLOW}
    assert reasons[FROZEN].kind == "W04" and "top" in reasons[FROZEN].text
    assert reasons[WRONG].kind == "label" and "place" in reasons[WRONG].text
    assert reasons[TWIN].kind == "duplicate" and "episode_3.hdf5" in reasons[TWIN].text
    assert reasons[SLOW].kind == "seconds" and "long" in reasons[SLOW].text
    assert order[3].score > 1.5 * order[4].score


def test_a_wrong_label_is_doubted_by_touch_alone(seen: Seen) -> None:
    order = rank(seen.reports, [None if one is None else replace(one, steps=()) for one in seen.measures])
    wrong = next(item for item in order if number(item) == WRONG)
    assert any(doubt.kind == "label" and "touched" in doubt.text for doubt in wrong.doubts)


def test_what_is_in_training_and_in_validation_is_told(tmp_path: Path) -> None:
    for take in range(3):
        write(tmp_path / "train", take)
    write(tmp_path / "validation", 1, fault="compressed again")
    first, *others = ranked(tmp_path / "train", tmp_path / "validation")
    assert "validation" in first.report.path.parts
    assert "validated on was trained on" in first.doubts[0].text
    assert all(doubt.kind != "duplicate" for item in others for doubt in item.doubts)
    twins = [tmp_path / part / "place_cube" for part in ("train", "validation")]
    files = [str(next(twins[0].glob("*_1.hdf5"))), str(next(twins[1].glob("*_0.hdf5")))]
    assert main(["check", *files, "--json", str(tmp_path / "found.json")]) == 0
    (found,) = json.loads((tmp_path / "found.json").read_text())["look_first"]
    assert "shows the same" in found["doubts"][0]["text"] and "validated" not in str(found)


def test_the_command_writes_pages_that_open_each_other(
    planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, numbers = tmp_path / "set.html", tmp_path / "set.json"
    assert main(["check", str(planted), "--html", str(page), "--json", str(numbers), "--pages", "1"]) == 0
    told = capsys.readouterr().out
    assert "look at first" in told and "shows the same as" in told
    first = json.loads(numbers.read_text())["look_first"]
    assert {Path(item["path"]).stem for item in first[:4]} == {
        f"episode_{n}" for n in (FROZEN, WRONG, TWIN, SLOW)
    }
    links = set(re.findall(r'href="(set_episodes/[^"]+)"', page.read_text()))
    assert len(links) == 1 and all((tmp_path / link).is_file() for link in links)


def test_what_all_episodes_share_weighs_nothing(seen: Seen) -> None:
    report = seen.reports[0]
    still = Finding("W05", "warning", "qpos", "constant: joint6")
    alike, clean = replace(report, findings=(still,)), replace(report, findings=())
    assert all(item.score == 0 for item in rank([alike] * 4, [None] * 4))
    assert rank([clean, alike], [None] * 2)[0].score == 1


def test_a_few_episodes_have_no_middle_to_be_far_from(seen: Seen) -> None:
    order = rank(*([column[n] for n in (0, 1, SLOW)] for column in seen))
    assert not any(doubt.kind == "seconds" for item in order for doubt in item.doubts)


def test_deviations_are_those_of_a_normal_distribution() -> None:
    values = np.random.default_rng(0).normal(5.0, 2.0, 20_000)
    np.testing.assert_allclose(deviations(values, 0.1), (values - 5) / 2, atol=0.1)
    assert not deviations(np.full(9, 3.0), 0.1).any()


def test_a_file_that_cannot_be_read_is_not_measured_and_comes_first(seen: Seen, tmp_path: Path) -> None:
    broken = tmp_path / "episode_0.hdf5"
    broken.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(40))
    assert measure(broken) is None
    order = rank([seen.reports[0], check_episode(broken)], [seen.measures[0], None])
    assert order[0].report.path == broken


def test_thousands_of_episodes_are_compared_in_seconds() -> None:
    rng = np.random.default_rng(0)
    paths = rng.normal(size=(1500, 32, 7)).astype(np.float32)
    paths[1400] = paths[17] + 1e-3
    blank = np.zeros(48, np.float32)
    episodes = {n: Measures({}, path, blank, blank, blank) for n, path in enumerate(paths)}
    begun = time.process_time()
    assert [tuple(pair) for pair in near_duplicates(episodes)] == [(17, 1400)]
    assert len(odd_ends(episodes)) == 1500
    assert time.process_time() - begun < 10
