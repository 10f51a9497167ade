"""Every stamp from outside is judged once, against its reception and the other clocks."""

from __future__ import annotations

import numpy as np
import pytest
from fed_intake import DELAY, RATES, SECOND, WALL, real, robot_of

from tacit.rig import Rig
from tacit.streams import Intake
from tacit.streams.stamps import StampJudge


@pytest.mark.parametrize(
    "start_ns", [WALL, 5 * SECOND, WALL - 86_400 * SECOND], ids=["wall", "uptime", "bag"]
)
def test_healthy_robot_loses_nothing_and_is_found_healthy(rig: Rig, start_ns: int) -> None:
    robot = robot_of(real(rig), start_ns=start_ns)
    robot.run(20)
    assert len(robot.accepted) == 20 * sum(RATES.values())
    assert robot.kinds == {} and not any(robot.intake.counts.values())
    assert robot.intake.is_foreign == (start_ns != WALL)


@pytest.mark.parametrize("speed", [0.1, 0.5, 3.0])
def test_bag_of_a_real_robot_may_be_played_at_any_speed(rig: Rig, speed: float) -> None:
    robot = robot_of(real(rig), start_ns=WALL - 86_400 * SECOND)
    robot.speed = speed
    odd = lambda name, t, s: s - 60_000_000 * (name == "joints" and round(100 * t) % 200 == 0)  # noqa: E731
    robot.bend = odd  # driver threads do that; it must not make a slow bag a clock that was set back
    robot.run(20)
    refused = robot.intake.counts["joints"]["out_of_order"]
    assert 5 <= refused <= 10 and robot.intake.num_steps == 0
    assert len(robot.accepted) + refused == 20 * sum(RATES.values())
    assert not {*robot.kinds.values()} - {"out_of_order"}
    assert not any({*counts} - {"out_of_order"} for counts in robot.intake.counts.values())


def test_two_clocks_20_ms_apart_with_jitter_and_loss_are_healthy(rig: Rig) -> None:
    robot = robot_of(real(rig))
    jitter = lambda name, t, s: s + 20_000_000 * (name == "top") + int(robot.random.integers(-2e6, 2e6))  # noqa: E731
    robot.bend = jitter
    robot.run(30)
    assert robot.kinds == {} and not any(robot.intake.counts.values())


@pytest.mark.parametrize("ahead_s", [0.2, 3.0, 60.0, 3600.0])
@pytest.mark.parametrize("many", [1, 6])
@pytest.mark.parametrize("name", ["joints", "top"])
@pytest.mark.parametrize("is_sim", [True, False])
def test_odd_stamps_ahead_cost_themselves_not_their_successors(
    rig: Rig, name: str, many: int, ahead_s: float, is_sim: bool
) -> None:
    robot = robot_of(rig if is_sim else real(rig))
    rate = RATES[name]
    odd = range(4 * rate, 4 * rate + many)
    robot.bend = lambda n, t, s: s + round(ahead_s * SECOND) * (n == name and round(t * rate) in odd)
    robot.run(8)
    assert robot.intake.counts[name] == {"stamp_ahead": many}
    assert len(robot.stamps(name)) == 8 * rate - many
    assert np.diff(robot.stamps(name)).max() == (many + 1) * SECOND // rate


def test_simulated_clock_of_any_speed_refuses_an_odd_stamp(rig: Rig) -> None:
    robot = robot_of(rig, start_ns=SECOND)
    robot.speed = 20.0
    robot.bend = lambda n, t, s: s + 60 * SECOND * (n == "top" and 5 < t < 5.2)
    robot.run(60)
    assert len(robot.stamps("top")) == 60 * 25 - robot.intake.counts["top"]["stamp_ahead"]
    assert 1 <= robot.intake.counts["top"]["stamp_ahead"] <= 5 and robot.kinds == {}


@pytest.mark.parametrize("speed", [2.5, 20.0])
def test_hole_in_a_fast_simulation_is_a_gap_and_no_clock_that_stepped(rig: Rig, speed: float) -> None:
    robot = robot_of(rig, start_ns=SECOND)
    robot.speed = speed
    robot.run(20)
    robot.now_ns += round(0.6 * speed * SECOND)  # for so long the middleware has lost every message
    robot.run(5)
    assert not any(robot.intake.counts.values()) and robot.intake.num_steps == 0
    assert len(robot.accepted) == 25 * sum(RATES.values())


@pytest.mark.parametrize("step_s", [-6.0, -1.0, 5.0, 3600.0])
@pytest.mark.parametrize("who", [("top",), ("joints",), tuple(RATES)], ids=["camera", "joints", "all"])
@pytest.mark.parametrize("is_sim", [True, False])
def test_clock_that_steps_is_named_at_once_and_believed_within_a_second(
    rig: Rig, who: tuple[str, ...], step_s: float, is_sim: bool
) -> None:
    robot = robot_of(rig if is_sim else real(rig))
    robot.run(5)
    robot.bend = lambda n, t, s: s + round(step_s * SECOND) * (n in who)
    robot.run(0.1)
    expected = "out_of_order" if step_s < 0 else "stamp_ahead"
    assert {robot.kinds.get(name) for name in who} == {expected}
    robot.run(1.0)
    steps = {e.stream: e.data["step_s"] for e in robot.intake.drain_events() if e.kind == "clock_step"}
    assert steps.keys() == set(who)
    assert all(step == pytest.approx(step_s, abs=0.05) for step in steps.values())
    count = len(robot.accepted)
    robot.run(2)
    assert len(robot.accepted) - count == 2 * sum(RATES.values()), "the new clock is not believed"


def test_clock_set_back_by_little_is_found_though_its_stamps_increase_again(rig: Rig) -> None:
    robot = robot_of(real(rig))
    robot.run(5)
    robot.bend = lambda n, t, s: s - 300_000_000 * (n == "top")
    robot.run(5)
    (step,) = [e for e in robot.intake.drain_events() if e.kind == "clock_step"]
    assert step.stream == "top" and step.data["step_s"] == pytest.approx(-0.3, abs=0.02)
    assert robot.kinds == {"top": "clock_offset"}


@pytest.mark.parametrize(
    ("offset_s", "name"),
    [(0.3, "wrist"), (5.0, "wrist"), (-1.0, "joints"), (0.2, "joints"), (-WALL / 1e9, "top")],
)
def test_clock_that_is_off_by_a_constant_is_named_with_the_cure(rig: Rig, offset_s: float, name: str) -> None:
    robot = robot_of(real(rig))
    robot.bend = lambda n, t, s: s + round(offset_s * SECOND) * (n == name) + 7
    robot.run(5)
    found = robot.intake.findings()
    assert {n: f.kind for n, f in found.items()} == {name: "clock_offset"}
    assert f"{abs(offset_s):.2f} s {'ahead of' if offset_s > 0 else 'behind'}" in found[name].text
    assert "stamps: receive" in found[name].text and "chrony" in found[name].text


def test_clock_near_what_is_allowed_is_not_named_again_and_again(rig: Rig) -> None:
    robot = robot_of(real(rig))
    # Each part lasts three seconds: the least delayed message of the last two tells.
    for part, (offset_ms, kinds) in enumerate(((-210, True), (-190, True), (-210, True), (-130, False))):
        robot.bend = lambda n, t, s, ms=offset_ms: s + ms * 1_000_000 * (n == "top")
        robot.run(3)
        assert ("top" in robot.kinds) == kinds, part
    events = [event.stream for event in robot.intake.drain_events() if event.kind == "clock_offset"]
    assert events == ["top"]


def test_declared_latency_is_no_offset_and_reception_may_stamp_one_stream(rig: Rig) -> None:
    late = real(rig, top={"latency_ms": 400.0}, joints={"stamps": "receive"})
    robot = robot_of(late)
    robot.bend = lambda n, t, s: s - 400_000_000 * (n == "top") - 100 * SECOND * (n == "joints")
    robot.run(5)
    assert robot.kinds == {} and len(robot.accepted) == 5 * sum(RATES.values())
    delays = robot.stamps("joints") - WALL - np.arange(10_000_000, 5 * SECOND + 1, 10_000_000)
    assert (delays >= DELAY).all() and (delays < 11_000_000).all()


@pytest.mark.parametrize("start_ns", [WALL, 5 * SECOND], ids=["wall", "uptime"])
def test_old_pictures_that_are_stamped_when_sent_are_of_no_other_clock(rig: Rig, start_ns: int) -> None:
    usual = real(rig, top={"latency_ms": 60.0}, wrist={"latency_ms": 300.0})
    robot = robot_of(usual, start_ns=start_ns)
    robot.run(5)
    assert robot.kinds == {} and not any(robot.intake.counts.values())


@pytest.mark.parametrize("header_ns", [None, 5], ids=["no header", "stamps: receive"])
@pytest.mark.parametrize("step_s", [-6.0, 5.0])
def test_own_clock_that_is_set_is_found_by_what_counts_from_reception(
    rig: Rig, header_ns: int | None, step_s: float
) -> None:
    intake = Intake(real(rig, gripper_state={"stamps": "receive"}), ["gripper_state"])
    value, kept = np.full(1, float(rig.limits("upper")[6]) / 2), []
    for k in range(400):
        now_ns = WALL + k * 10_000_000 + round(step_s * SECOND) * (k >= 200)
        if intake.take("gripper_state", header_ns, now_ns, value, k * 10_000_000) is not None:
            kept.append(k)
        if k == 201:
            assert "this computer" in intake.findings()["gripper_state"].text
    assert kept == [*range(200), *range(kept[200], 400)] and 280 <= kept[200] <= 290
    assert intake.num_steps == 1 and intake.findings() == {}


def test_message_that_was_sent_again_is_no_clock_that_was_set(rig: Rig) -> None:
    intake = Intake(real(rig, gripper_state={"stamps": "receive"}), ["gripper_state"])
    value = np.full(1, float(rig.limits("upper")[6]) / 2)
    for k in range(300):
        now_ns = WALL + k * 10_000_000 + 35_000_000 * (k % 20 == 0)  # lost, and received after its successors
        assert intake.take("gripper_state", None, now_ns, value, now_ns - WALL) == now_ns
    assert intake.findings() == {} and not intake.counts["gripper_state"] and intake.num_steps == 0


def test_driver_that_stalls_and_sends_what_waited_is_no_clock_that_stepped(rig: Rig) -> None:
    intake = Intake(real(rig), ["joints"])
    for k in range(1000):
        stamp_ns = WALL + k * 10_000_000
        late_ns = max(0, 700 - k) * 10_000_000 if 550 < k < 700 else 0  # up to 1.5 s late
        taken = intake.take(
            "joints", stamp_ns, stamp_ns + late_ns + DELAY, {"position": np.full(6, 0.5)}, stamp_ns + late_ns
        )
        assert taken == stamp_ns
    assert intake.num_steps == 0 and intake.findings() == {}


def test_empty_and_repeated_stamps_are_refused_by_name(rig: Rig) -> None:
    robot = robot_of(rig)
    robot.bend = lambda n, t, s: 0 if n == "top" else s
    robot.run(1)
    assert robot.kinds == {"top": "no_stamp"} and "stamps: receive" in robot.intake.problems["top"].text
    robot.bend = lambda n, t, s: WALL + SECOND if n == "joints" else s
    robot.run(1)
    assert robot.intake.counts["joints"]["duplicate"] == 100


def test_clock_that_is_ahead_from_the_start_is_found_so_as_soon_as_it_is_believed(rig: Rig) -> None:
    robot = robot_of(real(rig))
    robot.bend = lambda name, t, stamp: stamp + 300_000_000 * (name == "top")
    robot.run(1.3)
    assert robot.kinds == {"top": "clock_offset"}


def test_reset_forgets_clocks_and_findings_but_not_the_counts(rig: Rig) -> None:
    robot = robot_of(real(rig))
    robot.run(2)
    robot.bend = lambda n, t, s: s - 100 * SECOND
    robot.run(0.2)
    assert robot.kinds
    robot.intake.reset()
    count = len(robot.accepted)
    robot.run(1)
    assert len(robot.accepted) - count == sum(RATES.values())
    assert robot.intake.counts["joints"]["out_of_order"] > 0


def test_clock_may_be_asked_about_while_another_thread_finds_that_it_stepped() -> None:
    class Stepping(StampJudge):
        newest_ns = property(lambda self: self.readings.pop(0), lambda self, value: None)
        readings = [60 * SECOND, None]  # what the reader sees, before and after the other thread begins anew

    assert Stepping(40_000_000, simulated=False).is_foreign


def test_messages_that_we_hear_late_for_seconds_are_no_clock_that_was_set_back() -> None:
    judge = StampJudge(40_000_000, simulated=False)
    period_ns, begin_ns = 40_000_000, 1_700_000_000_000_000_000
    found = []
    for number in range(400):  # a busy machine: from the 4th to the 9th second all is heard .5 s late
        stamp_ns = begin_ns + number * period_ns
        late_ns = 500_000_000 if 100 <= number < 225 else 1_000_000
        found.append(judge.judge(stamp_ns, stamp_ns + late_ns, stamp_ns - begin_ns + late_ns + 1))
        assert judge.step_ns is None
    assert found == [None] * 400
