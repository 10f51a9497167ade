"""What `tacit doctor --rig` concludes from what arrived."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tacit.rig import Rig, load_rig, parse_rig
from tacit.streams import Finding, Intake
from tacit.tools.survey import Survey, cures, proposed_lines

WALL = 1_700_000_000_000_000_000
PERIOD = 40_000_000  # the rig says 25 Hz


@pytest.fixture
def rig() -> Rig:
    return parse_rig(load_rig("nova2_sim").model_dump(mode="json") | {"simulation": None}, "test")


def reports(rig: Rig, arrivals: list[int]) -> list:
    """What a survey says of camera `top`, its stamps given [ns]; nothing else is heard."""
    intake = Intake(rig)
    survey = Survey(rig, intake)
    random = np.random.default_rng(0)
    for stamp in arrivals:
        picture = random.integers(20, 200, (12, 16, 3), dtype=np.uint8)
        kept = intake.take("top", WALL + stamp, WALL + stamp + 4_000_000, picture, stamp)
        if kept is not None:
            survey.saw("top", kept, WALL + stamp + 4_000_000, picture)
    found = survey.reports(arrivals[-1] / 1e9, lambda name: f"/{name}", lambda name: ["/driver"])
    return [report for report in found if report.name == "top"]


def test_messages_lost_on_the_way_are_not_another_rate_of_the_driver(rig: Rig) -> None:
    found = reports(rig, [n * PERIOD for n in range(125) if n % 5])
    assert found[0].hz == pytest.approx(20, rel=0.02) and found[0].sent_hz == pytest.approx(25)
    assert proposed_lines(rig, found) == ""
    assert any("sends 25.0 Hz, 20.1 Hz arrive" in advice for advice in cures(found))


def test_driver_of_another_rate_is_proposed_to_the_rig(rig: Rig) -> None:
    found = reports(rig, [n * PERIOD * 5 // 4 for n in range(100)])
    assert "rate_hz: 20.0" in proposed_lines(rig, found)
    assert cures(found) == []


def test_driver_that_keeps_no_beat_is_measured_by_its_mean(rig: Rig) -> None:
    bursts = [n // 2 * 2 * PERIOD + n % 2 * 2_000_000 for n in range(126)]
    found = reports(rig, bursts)
    assert found[0].sent_hz == found[0].hz == pytest.approx(25, rel=0.02)
    assert proposed_lines(rig, found) == ""


@pytest.mark.parametrize(("late_s", "hint"), [(-0.4, True), (-3600.0, False)])
def test_a_clock_that_is_an_hour_behind_is_no_slow_way(rig: Rig, late_s: float, hint: bool) -> None:
    (report,) = reports(rig, [n * PERIOD for n in range(50)])
    late = replace(report, offset_s=late_s, finding=Finding("clock_offset", ""))
    said = proposed_lines(rig, [late])
    assert "stamps: receive" in said and ("latency_ms" in said) == hint
