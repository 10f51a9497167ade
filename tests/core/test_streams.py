"""Facts about time: what a tick holds, whatever the rates, phases, losses and order of arrival."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.errors import RigError
from tacit.rig import load_rig
from tacit.streams import Aligner, Arrival, StreamPlan, align, counts, plans_of
from tacit.streams.interpolation import interpolate

MS = 1_000_000
START = 1_700_000_000_000_000_000
CAMERA = StreamPlan("camera", "nearest", 40 * MS)
SECOND = StreamPlan("second", "nearest", 40 * MS)
JOINTS = StreamPlan("joints", "linear", 10 * MS)
COMMAND = StreamPlan("command", "hold", 40 * MS)


def arrivals(plan, count, phase_ms=0.0, late_ms=0.0, value=None):
    """Regular samples of a plan; the value of joints is sin(2 pi t) of the true time t [s]."""
    result = []
    for k in range(count):
        stamp = START + k * plan.period_ns + round(phase_ms * MS)
        seconds = (stamp - START) / 1e9
        data = np.array([np.sin(2 * np.pi * seconds), seconds]) if plan.kind == "linear" else (value or k)
        result.append(Arrival(plan.name, stamp, stamp + round(late_ms * MS), data))
    return result


def true_seconds(tick):
    return (tick.stamp_ns - START) / 1e9


def test_percentiles_are_those_of_the_latest_window(monkeypatch):
    monkeypatch.setattr(counts, "WINDOW", 100)
    stream = counts.StreamCounts(period_ns=10)
    for number in range(250):
        stream.arrived(10 * number, 10 * number + 1_000_000 * number)
    assert stream.latency_ms(0) == 150 and stream.latency_ms(100) == 249 and len(stream.latencies_ns) == 100


def test_joints_are_interpolated_at_the_stamp_of_the_image():
    data = arrivals(CAMERA, 10, phase_ms=13.7, late_ms=45) + arrivals(JOINTS, 50, late_ms=4)
    ticks = align(Aligner([CAMERA, JOINTS], "camera"), data)
    assert [t.stamp_ns for t in ticks] == [START + round(13.7 * MS) + k * 40 * MS for k in range(10)]
    for tick in ticks:
        assert tick.samples["joints"].fresh
        assert tick.samples["joints"].value[1] == pytest.approx(true_seconds(tick), abs=1e-9)


def test_latency_is_subtracted_before_alignment():
    late_camera = StreamPlan("camera", "nearest", 40 * MS, latency_ns=45 * MS)
    data = arrivals(late_camera, 5, phase_ms=100) + arrivals(JOINTS, 60)
    ticks = align(Aligner([late_camera, JOINTS], "camera"), data)
    assert [round(true_seconds(t) * 1e3, 6) for t in ticks] == [55.0, 95.0, 135.0, 175.0, 215.0]
    assert ticks[0].samples["joints"].value[1] == pytest.approx(0.055)


def one_tick(plan, *samples):
    """The share of one stream in a tick at START; samples are (offset [ms], value)."""
    aligner = Aligner([CAMERA, plan], "camera")
    for offset_ms, value in samples:
        data = np.array([value]) if plan.kind == "linear" else value
        aligner.push(plan.name, START + round(offset_ms * MS), START, data)
    aligner.push("camera", START, START, "frame")
    (tick,) = aligner.flush()
    return tick.samples[plan.name]


def test_nearest_is_the_closer_one_be_it_the_later():
    assert one_tick(SECOND, (-15, "earlier"), (9, "later")).value == "later"
    assert one_tick(SECOND, (-9, "earlier"), (15, "later")).value == "earlier"


@pytest.mark.parametrize(("latest_ms", "ticks"), [(-9, 1), (-11, 0), (-19, 0)])
def test_nearest_is_settled_by_a_sample_within_a_quarter_period(latest_ms, ticks):
    """At 40 ms the next sample may come 20 ms after the last: closer than one 11 ms before the tick."""
    aligner = Aligner([CAMERA, SECOND], "camera")
    aligner.push("second", START + latest_ms * MS, START, "earlier")
    aligner.push("camera", START, START, "frame")
    assert len(aligner.poll()) == ticks
    aligner.push("second", START + (latest_ms + 20) * MS, START, "later")
    if not ticks:
        (tick,) = aligner.poll()
        assert tick.samples["second"].value == "later"


@pytest.mark.parametrize(("gap_ms", "fresh"), [(50, True), (51, False), (400, False)])
def test_joints_are_bridged_over_five_periods_and_held_over_more(gap_ms, fresh):
    sample = one_tick(JOINTS, (-4, 1.0), (gap_ms - 4, 2.0))
    assert sample.fresh is fresh
    assert sample.value[0] == pytest.approx(1.0 + 4 / gap_ms if fresh else 1.0)
    assert sample.stamp_ns == (START if fresh else START - 4 * MS)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_offline_and_live_bring_numbers_to_ticks_alike(data):
    """One stream with holes, live through the aligner and offline from its table: same value, same flag."""
    latency_ns = data.draw(st.sampled_from([0, 7 * MS, 30 * MS]))
    plan = StreamPlan("joints", "linear", 10 * MS, latency_ns=latency_ns)
    steps = data.draw(st.lists(st.sampled_from([9, 10, 11, 30, 49, 51, 70]), min_size=2, max_size=40))
    stamps = START + np.cumsum([0, *steps]) * MS
    values = np.random.default_rng(len(steps)).normal(size=(len(stamps), 2))
    aligner = Aligner([CAMERA, plan], "camera", wait_ns=10**9)
    for stamp, value in zip(stamps.tolist(), values, strict=True):
        aligner.push("joints", stamp, stamp, value)
    for stamp in range(int(stamps[0]), int(stamps[-1]) + 100 * MS, 13 * MS):
        aligner.push("camera", stamp, stamp, "frame")
    ticks = aligner.flush()
    offline = interpolate(stamps - latency_ns, values, [tick.stamp_ns for tick in ticks], plan.period_ns)
    np.testing.assert_array_equal([tick.samples["joints"].value for tick in ticks], offline.values)
    np.testing.assert_array_equal([tick.samples["joints"].fresh for tick in ticks], offline.fresh)


def test_before_the_first_sample_there_is_no_value_and_after_the_last_it_is_held():
    found = interpolate(
        [10 * MS, 20 * MS], [[1.0], [3.0]], [5 * MS, 10 * MS, 15 * MS, 20 * MS, 25 * MS], 10 * MS
    )
    np.testing.assert_array_equal(found.values[:, 0], [np.nan, 1.0, 2.0, 3.0, 3.0])
    np.testing.assert_array_equal(found.fresh, [False, True, True, True, False])


def test_command_in_force_is_held_and_never_mixed():
    data = arrivals(CAMERA, 6, phase_ms=1) + arrivals(COMMAND, 6, late_ms=1)
    ticks = align(Aligner([CAMERA, COMMAND], "camera"), data)
    assert [t.samples["command"].value for t in ticks] == [0, 1, 2, 3, 4, 5]
    assert [t.samples["command"].stamp_ns for t in ticks] == [START + k * 40 * MS for k in range(6)]


def test_command_stamped_with_the_tick_belongs_to_it_though_it_comes_later():
    data = arrivals(CAMERA, 5) + arrivals(JOINTS, 30) + arrivals(COMMAND, 5, late_ms=15)
    ticks = align(Aligner([CAMERA, JOINTS, COMMAND], "camera"), data)
    assert [t.samples["command"].value for t in ticks] == [0, 1, 2, 3, 4]


def test_second_camera_is_nearest_within_half_a_period_else_held_and_flagged():
    second = [a for k, a in enumerate(arrivals(SECOND, 10, phase_ms=-12)) if k not in (4, 5)]
    ticks = align(Aligner([CAMERA, SECOND], "camera"), arrivals(CAMERA, 10) + second)
    assert [t.samples["second"].value for t in ticks] == [0, 1, 2, 3, 3, 3, 6, 7, 8, 9]
    assert [t.samples["second"].fresh for t in ticks] == [True] * 4 + [False] * 2 + [True] * 4


def test_lost_reference_frame_makes_no_tick_and_shifts_nothing():
    camera = [a for k, a in enumerate(arrivals(CAMERA, 10)) if k != 4]
    aligner = Aligner([CAMERA, SECOND, JOINTS], "camera")
    ticks = align(aligner, camera + arrivals(SECOND, 10) + arrivals(JOINTS, 50))
    assert [t.samples["camera"].value for t in ticks] == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert all(t.samples["second"].value == t.samples["camera"].value for t in ticks)
    counts = aligner.counts["camera"]
    assert (counts.received, counts.expected, counts.gaps, counts.lost_middleware) == (9, 10, 1, 1)
    assert counts.longest_gap_ns == 80 * MS


def test_no_tick_before_every_required_stream_has_been_seen():
    data = arrivals(CAMERA, 10) + arrivals(JOINTS, 40, phase_ms=90)
    aligner = Aligner([CAMERA, JOINTS], "camera")
    ticks = align(aligner, data)
    assert true_seconds(ticks[0]) == pytest.approx(0.12)
    assert aligner.skipped_frames == 3


def test_optional_stream_may_be_absent():
    plan = StreamPlan("extra", "hold", 40 * MS, required=False)
    ticks = align(Aligner([CAMERA, plan], "camera"), arrivals(CAMERA, 3))
    assert len(ticks) == 3 and "extra" not in ticks[0].samples


def test_bad_stamps_are_counted_and_make_no_tick():
    aligner = Aligner([CAMERA], "camera")
    for stamp in (0, START, START + 40 * MS, START + 40 * MS, START + 10 * MS, -5, START + 80 * MS):
        aligner.push("camera", stamp, START, None)
    assert [t.stamp_ns - START for t in aligner.poll()] == [0, 40 * MS, 80 * MS]
    counts = aligner.counts["camera"]
    assert (counts.bad_stamp, counts.duplicate, counts.out_of_order, counts.received) == (2, 1, 1, 3)


def test_tick_waits_one_joint_period_for_the_next_sample_then_holds():
    aligner = Aligner([CAMERA, JOINTS], "camera")
    aligner.push("joints", START - 4 * MS, START, np.array([1.0]))
    aligner.push("camera", START, START + 2 * MS, "frame")
    assert aligner.poll(START + 11 * MS) == []
    (tick,) = aligner.poll(START + 12 * MS)
    assert not tick.samples["joints"].fresh
    assert tick.samples["joints"].stamp_ns == START - 4 * MS
    assert aligner.counts["joints"].stale_ticks == 1


def test_tick_closes_at_once_when_a_later_joint_sample_is_there():
    aligner = Aligner([CAMERA, JOINTS], "camera")
    aligner.push("joints", START - 4 * MS, START, np.array([1.0]))
    aligner.push("joints", START + 6 * MS, START, np.array([2.0]))
    aligner.push("camera", START, START, "frame")
    (tick,) = aligner.poll()
    assert tick.samples["joints"].value == pytest.approx([1.4])


def test_dead_stream_does_not_delay_ticks():
    aligner = Aligner([CAMERA, JOINTS], "camera")
    aligner.push("joints", START - 500 * MS, START, np.array([1.0]))
    aligner.push("camera", START, START, "frame")
    (tick,) = aligner.poll()
    assert not tick.samples["joints"].fresh


def test_timer_makes_ticks_on_its_grid():
    data = arrivals(JOINTS, 100, phase_ms=3) + arrivals(SECOND, 25, phase_ms=7)
    aligner = Aligner([SECOND, JOINTS], "timer", timer_period_ns=20 * MS)
    stamps = [t.stamp_ns for t in align(aligner, data)]
    assert all(s % (20 * MS) == 0 for s in stamps)
    assert np.all(np.diff(stamps) == 20 * MS) and len(stamps) > 40


def test_aligner_of_the_rig_covers_every_stream_and_can_leave_out_commands():
    rig = load_rig("nova2_sim")
    kinds = {plan.name: plan.kind for plan in plans_of(rig)}
    assert kinds == {
        "wrist": "nearest",
        "top": "nearest",
        "left": "nearest",
        "right": "nearest",
        "joints": "linear",
        "gripper_state": "linear",
        "stage": "hold",
        "progress": "hold",
        "command": "hold",
    }
    assert "command" not in Aligner.from_rig(rig, exclude=rig.commands).counts
    with pytest.raises(RigError, match="did you mean 'joints'"):
        Aligner.from_rig(rig, exclude=["joint"])
    with pytest.raises(RigError, match="not in the plan"):
        Aligner.from_rig(rig).push("nothing", START, START, None)


def test_counts_can_start_anew_while_alignment_goes_on():
    aligner = Aligner([CAMERA], "camera")
    aligner.push("camera", START, START, None)
    aligner.reset_counts()
    aligner.push("camera", START + 40 * MS, START + 52 * MS, None)
    assert aligner.counts["camera"].as_dict()["received"] == 1
    assert aligner.counts["camera"].as_dict()["latency_p50_ms"] == 12.0
    assert [t.index for t in aligner.poll()] == [0, 1]


@st.composite
def recordings(draw):
    """Camera, second camera, joints and commands with any rate, phase, jitter, loss and disorder."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    plans, data = [], []
    for name, kind, rates in (
        ("camera", "nearest", (15, 60)),
        ("second", "nearest", (10, 60)),
        ("joints", "linear", (50, 500)),
        ("command", "hold", (10, 50)),
    ):
        rate = draw(st.floats(*rates))
        loss = draw(st.sampled_from([0.0, 0.0, 0.05, 0.3]))
        late_ms = draw(st.floats(0, 60))
        plan = StreamPlan(name, kind, round(1e9 / rate))
        plans.append(plan)
        for k in range(int(2 * rate)):
            stamp = START + k * plan.period_ns + int(rng.uniform(0, 0.2) * plan.period_ns)
            seconds = (stamp - START) / 1e9
            if rng.random() >= loss:
                recv = stamp + round(late_ms * MS) + int(rng.uniform(0, 5) * MS)
                value = np.array([np.sin(2 * np.pi * seconds), seconds]) if kind == "linear" else k
                data.append(Arrival(name, stamp, recv, value))
    return plans, sorted(data, key=lambda a: a.recv_ns)


def accepted(data, name):
    """The stamps of a stream that increase in order of arrival: an independent, slow filter."""
    newest, stamps = 0, []
    for arrival in data:
        if arrival.name == name and arrival.stamp_ns > newest:
            newest = arrival.stamp_ns
            stamps.append(newest)
    return stamps


@settings(max_examples=60, deadline=None)
@given(recordings())
def test_ticks_increase_and_are_frames_of_the_reference_once_each(recording):
    plans, data = recording
    aligner = Aligner(plans, "camera")
    stamps = [t.stamp_ns for t in align(aligner, data)]
    frames = accepted(data, "camera")
    assert stamps == frames[aligner.skipped_frames :]
    assert all(b > a for a, b in zip(stamps, stamps[1:], strict=False))


@settings(max_examples=60, deadline=None)
@given(recordings())
def test_values_belong_to_the_time_they_claim(recording):
    plans, data = recording
    by_stamp = {(a.name, a.stamp_ns): a.value for a in data}
    for tick in align(Aligner(plans, "camera"), data):
        for name in ("camera", "second", "command"):
            sample = tick.samples[name]
            assert sample.value == by_stamp[name, sample.stamp_ns]
        assert tick.samples["command"].stamp_ns <= tick.stamp_ns
        second = tick.samples["second"]
        assert not second.fresh or abs(second.stamp_ns - tick.stamp_ns) <= plans[1].period_ns // 2


@settings(max_examples=60, deadline=None)
@given(recordings())
def test_fresh_joints_are_within_the_bound_of_linear_interpolation(recording):
    plans, data = recording
    stamps = np.array(accepted(data, "joints"))
    for tick in align(Aligner(plans, "camera"), data):
        sample = tick.samples["joints"]
        if sample.fresh:
            after = int(np.searchsorted(stamps, tick.stamp_ns))
            gap = (stamps[after] - stamps[max(after - 1, 0)]) / 1e9
            bound = (2 * np.pi) ** 2 * gap**2 / 8  # max |f''| h^2 / 8
            assert abs(sample.value[0] - np.sin(2 * np.pi * true_seconds(tick))) <= bound + 1e-9
            assert abs(sample.value[1] - true_seconds(tick)) < 1e-6  # the skew: far below 1 ms
            assert sample.stamp_ns == tick.stamp_ns


@settings(max_examples=60, deadline=None)
@given(recordings())
def test_indices_never_go_back_and_fresh_means_new(recording):
    plans, data = recording
    ticks = align(Aligner(plans, "camera"), data)
    for name in ("camera", "second", "command"):
        previous = -1
        for tick in ticks:
            sample = tick.samples[name]
            assert sample.index > previous if sample.fresh else sample.index >= previous
            previous = sample.index


@settings(max_examples=40, deadline=None)
@given(recordings())
def test_live_and_offline_alignment_are_identical(recording):
    plans, data = recording
    live, ticks = Aligner(plans, "camera"), []
    for arrival in data:
        live.push(arrival.name, arrival.stamp_ns, arrival.recv_ns, arrival.value)
        ticks += live.poll()
    ticks += live.flush()
    offline = align(Aligner(plans, "camera"), reversed(data))
    assert [t.stamp_ns for t in ticks] == [t.stamp_ns for t in offline]
    for one, other in zip(ticks, offline, strict=True):
        assert {n: (s.stamp_ns, s.index, s.fresh) for n, s in one.samples.items()} == {
            n: (s.stamp_ns, s.index, s.fresh) for n, s in other.samples.items()
        }
        np.testing.assert_array_equal(one.samples["joints"].value, other.samples["joints"].value)
