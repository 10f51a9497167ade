"""What was refused or doubted is repeated by `tacit check`, whoever recorded the episode."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from episode_kit import PERIOD_NS, START_NS, joints_at, opening_at, tick_at, writer_at

from tacit.episode import check_episode
from tacit.episode.findings import AuditReport
from tacit.streams import Sample, StreamCounts, Tick
from tacit.tools.check import main as check
from tacit.view.cli import main as view

COUNT = 120


def joints(root: Path, change: object = lambda i, q: q, native: bool = False) -> AuditReport:
    """The audit of an episode whose joints are changed, stored at ticks alone or at their own rate too."""
    writer = writer_at(root)
    for i in range(COUNT):
        tick = tick_at(i)
        moved = np.asarray(change(i, joints_at(i)))  # type: ignore[operator]
        old = tick.samples["joints"]
        sample = Sample(moved, old.stamp_ns, old.recv_ns, i, True)
        if native:
            for k in range(4):
                stamp_ns = START_NS + i * PERIOD_NS + k * PERIOD_NS // 4
                writer.append_stream("joints", stamp_ns, stamp_ns, {"position": moved + 1e-9 * k})
        writer.append(Tick(tick.stamp_ns, i, dict(tick.samples) | {"joints": sample}))
    return check_episode(writer.close(True))


def found(report: AuditReport) -> dict[str, str]:
    """The findings of the two rules, by rule."""
    return {f.rule: f"{f.where}: {f.message}" for f in report.findings if f.rule in ("E13", "W15")}


def counted(root: Path, stream: str, received: int, kinds: dict[str, int], event: str = "") -> AuditReport:
    """The audit of a good episode whose recorder has counted something."""
    writer = writer_at(root)
    for i in range(COUNT):
        writer.append(tick_at(i))
        if event and i == 41:
            writer.event(START_NS + 41 * PERIOD_NS - 1, event, {"stream": stream})
    counts = StreamCounts(PERIOD_NS, received=received, found=kinds)
    return check_episode(writer.close(True, counts={stream: counts}))


@pytest.mark.parametrize("native", [False, True])
def test_healthy_episode_has_nothing_to_tell(tmp_path: Path, native: bool) -> None:
    assert found(joints(tmp_path, native=native)) == {}


def test_few_refusals_are_a_warning_with_counts_and_the_first_tick(tmp_path: Path) -> None:
    report = counted(tmp_path, "top", COUNT, {"stamp_ahead": 3, "truncated": 1}, "stamp_ahead")
    text = f"top: refused or doubted: stamp_ahead 3, truncated 1 of {COUNT + 4} messages; first at tick 41"
    assert found(report) == {"W15": text}


@pytest.mark.parametrize(
    ("kinds", "serious"),
    [
        ({"clock_offset": 1}, False),
        ({"clock_offset": 3}, True),
        ({"two_publishers": 3}, True),
        ({"frozen": 20}, False),
        ({"frozen": 25}, True),
        ({"stuck": 30}, True),
        ({"jump": 1}, False),
        ({"jump": 3}, True),
        ({"stamp_ahead": 5}, False),
        ({"stamp_ahead": 50}, True),
        ({"truncated": 50}, False),
    ],
)
def test_what_lasts_makes_the_episode_wrong(tmp_path: Path, kinds: dict[str, int], serious: bool) -> None:
    report = counted(tmp_path, "top", COUNT, kinds)
    assert ("E13" in found(report)) == serious and "W15" in found(report)
    assert report.ok != serious


@pytest.mark.parametrize("native", [False, True])
def test_joints_pulled_to_zero_by_a_second_publisher_are_found_in_any_episode(
    tmp_path: Path, native: bool
) -> None:
    report = joints(tmp_path, lambda i, q: 0 * q if i % 20 == 7 else q, native)
    assert "jump" in found(report)["E13"] and "first at tick 7" in found(report)["W15"]


def test_joints_that_repeat_themselves_while_the_action_moves_are_stuck(tmp_path: Path) -> None:
    report = joints(tmp_path, lambda i, q: joints_at(min(i, 40)))
    assert "joints: stuck for" in found(report)["E13"]


def test_all_zero_joints_are_questioned(tmp_path: Path) -> None:
    report = joints(tmp_path, lambda i, q: 0 * q)  # soon they are stuck as well
    assert "zeros" in found(report)["W15"] and "first at tick 0" in found(report)["W15"]


def test_gripper_that_jumps_is_found(tmp_path: Path) -> None:
    writer = writer_at(tmp_path)
    for i in range(COUNT):
        tick = tick_at(i)
        old = tick.samples["gripper_state"]
        opening = np.array([0.0 if i == 50 else 0.08 - 0.1 * opening_at(i)])  # from nearly open to shut
        writer.append(
            Tick(
                tick.stamp_ns,
                i,
                dict(tick.samples) | {"gripper_state": Sample(opening, old.stamp_ns, old.recv_ns, i, True)},
            )
        )
    report = check_episode(writer.close(True))
    assert (
        found(report).keys() == {"W15"}
        and "gripper_state: refused or doubted: jump 1" in found(report)["W15"]
    )


def test_pages_show_what_was_refused(tmp_path: Path) -> None:
    path = counted(tmp_path / "data", "top", COUNT, {"stamp_ahead": 50}, "stamp_ahead").path
    assert check([str(tmp_path / "data"), "--html", str(tmp_path / "set.html")]) == 1
    assert view([str(path), "--out", str(tmp_path / "page.html")]) == 0
    for page in ("set.html", "page.html"):
        text = (tmp_path / page).read_text(encoding="utf-8")
        assert "stamp_ahead" in text and "not to be trusted" in text
