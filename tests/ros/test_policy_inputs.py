"""What the policy node infers on: aligned ticks in rig order, and the gates before them."""

from __future__ import annotations

import base64
import threading
from collections import deque
from pathlib import Path

import cv2
import numpy as np
import pytest
from policy_cell import PERIOD, strict_rig
from tiny_bundles import manifest_for, policy_bundle

from benches.testing import wait_until
from tacit.bundle.player import PlaySpec
from tacit.bundle.runtime import OnnxPolicy
from tacit.control import acting as acting_module
from tacit.control.acting import Acting
from tacit.control.inference_thread import InferenceThread
from tacit.control.inputs import AlignedInputs, as_recorded
from tacit.images import encode_jpeg, encode_png
from tacit.rig import Rig, parse_rig


@pytest.fixture(scope="module")
def rig() -> Rig:
    return strict_rig()


class Clock:
    """Steady and node time, moved together."""

    def __init__(self) -> None:
        self.now = 10**15

    def __call__(self) -> int:
        return self.now


def fed(rig: Rig, clock: Clock, **changes: object) -> AlignedInputs:
    inputs = AlignedInputs(rig, manifest_for(rig, **changes), clock, clock)
    show(inputs, clock)
    return inputs


def show(inputs: AlignedInputs, clock: Clock, state: float = 0.04, skip: str = "") -> None:
    """One frame of everything, now."""
    values = {
        "wrist": np.zeros((120, 160, 3), np.uint8),
        "left": encode_jpeg(np.zeros((60, 80, 3), np.uint8)),
        "joints": np.full(6, state),
        "gripper_state": np.full(1, state),
    }
    for name, value in values.items():
        if name != skip:
            inputs.store(name, clock.now, 0, value)


def test_only_needed_streams_are_heard(rig: Rig) -> None:
    assert set(fed(rig, Clock()).names) == {"wrist", "left", "joints", "gripper_state"}


@pytest.mark.parametrize("polled", [False, True])
def test_message_without_a_header_that_comes_before_simulated_time_blocks_nothing(
    rig: Rig, polled: bool
) -> None:
    data = rig.model_dump(mode="json")
    data["streams"]["gripper_state"]["type"] = "std_msgs/msg/Float32"
    clock = Clock()
    inputs = AlignedInputs(parse_rig(data, "test"), manifest_for(rig), clock, clock)

    def hear(name: str, stamp_ns: int | None, value: np.ndarray) -> None:
        found = inputs.intake.take(name, stamp_ns, clock.now, value, clock.now)
        assert found is not None
        inputs.store(name, found, clock.now, value)

    hear("gripper_state", None, np.full(1, 0.04))
    if polled:
        inputs.poll()
    ticks = []
    for k in range(1, 6):
        clock.now += PERIOD
        hear("joints", k * PERIOD, np.full(6, 0.04))
        hear("gripper_state", None, np.full(1, 0.04))
        hear("left", k * PERIOD, encode_jpeg(np.full((60, 80, 3), 90 + k, np.uint8)))
        hear("wrist", k * PERIOD, np.full((120, 160, 3), 90 + k, np.uint8))
        ticks += inputs.poll()
    assert len(ticks) >= 3 and ticks[-1].stamp_ns == 5 * PERIOD


def test_state_may_be_asked_for_while_another_thread_resets(rig: Rig) -> None:
    class Resetting(AlignedInputs):
        contents: list[dict]

        @property
        def newest(self) -> dict:
            return self.contents.pop(0)

        @newest.setter
        def newest(self, value: dict) -> None:
            pass

    clock = Clock()
    heard = fed(rig, clock)
    inputs = Resetting(rig, manifest_for(rig), clock, clock)
    inputs.contents = [heard.newest, {}, {}]  # what the reader sees, before and after `reset`
    measured = inputs.measured()
    assert measured is not None and measured.tolist() == [0.04] * 7


def test_tick_becomes_an_observation_in_rig_order_with_decoded_pictures(rig: Rig) -> None:
    inputs = fed(rig, Clock())
    [tick] = inputs.poll()
    observation = inputs.observation(tick)
    assert observation.state.tolist() == [0.04] * 7
    assert observation.touch["left"].shape == (60, 80, 3)
    assert inputs.tick_fault(tick) is None and inputs.silence_fault() is None


def test_policy_feels_touch_as_the_recorder_wrote_it_and_sees_cameras_as_they_are(rig: Rig) -> None:
    clock = Clock()
    inputs = fed(rig, clock)
    inputs.poll()
    clock.now += PERIOD
    random = np.random.default_rng(0)
    felt = random.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    seen = random.integers(0, 256, (120, 160, 3), dtype=np.uint8)
    show(inputs, clock, skip="left")
    inputs.store("left", clock.now, 0, felt)
    [tick] = inputs.poll()
    stored = cv2.imdecode(encode_jpeg(felt, 95), cv2.IMREAD_COLOR)[..., ::-1]
    touch = inputs.observation(tick).touch["left"]
    np.testing.assert_array_equal(touch, stored)
    assert (touch != felt).any()
    np.testing.assert_array_equal(as_recorded(encode_jpeg(felt, 95)), stored)  # from a driver: decoded once
    clock.now += PERIOD
    show(inputs, clock, skip="wrist")
    inputs.store("wrist", clock.now, 0, seen)
    np.testing.assert_array_equal(inputs.observation(inputs.poll()[-1]).images["wrist"], seen)


def test_silent_stream_is_stale_after_its_limit(rig: Rig) -> None:
    clock = Clock()
    inputs = fed(rig, clock)
    clock.now += 61_000_000
    fault = inputs.silence_fault()
    assert fault and fault.reason == "stale" and "joints" in fault.detail
    show(inputs, clock, skip="wrist")
    clock.now += 50_000_000
    assert inputs.silence_fault() is None
    clock.now += 50_000_000
    show(inputs, clock, skip="wrist")
    fault = inputs.silence_fault()
    assert fault and "wrist" in fault.detail


@pytest.mark.parametrize(
    ("offset_ms", "reason"),
    [(-200, "stale"), (-55, None), (45, None), (55, "stamp_ahead"), (200, "stamp_ahead")],
)
@pytest.mark.parametrize("stream", ["joints", "gripper_state"])
def test_stamps_of_the_measured_state_are_compared_with_the_present(
    rig: Rig, stream: str, offset_ms: int, reason: str | None
) -> None:
    clock = Clock()
    inputs = AlignedInputs(rig, manifest_for(rig), clock, clock)
    show(inputs, clock, skip=stream)
    width = len(rig.streams[stream].names)
    inputs.store(stream, clock.now + offset_ms * 1_000_000, 0, np.full(width, 0.04))
    fault = inputs.silence_fault()
    assert (fault.reason if fault else None) == reason
    assert fault is None or stream in fault.detail


def test_stamps_of_another_clock_are_not_compared_with_ours(rig: Rig) -> None:
    node, steady = Clock(), Clock()
    inputs = AlignedInputs(rig, manifest_for(rig), node, steady)
    show(inputs, steady)
    node.now += 10**12
    inputs.store("joints", steady.now + 200_000_000, 0, np.full(6, 0.04))
    assert inputs.silence_fault() is None


def test_a_stream_that_is_refused_is_waited_for_less_than_one_that_is_late(rig: Rig) -> None:
    for is_refused, reason in ((True, "size"), (False, None)):
        clock = Clock()
        inputs = fed(rig, clock)
        clock.now += 110_000_000
        show(inputs, clock, skip="left")
        if is_refused:
            inputs.intake.refuse("left", "size", "too small", clock.now)
        fault = inputs.silence_fault()
        assert (fault and fault.reason) == reason


def test_old_skewed_and_strange_ticks_are_refused(rig: Rig) -> None:
    clock = Clock()
    inputs = fed(rig, clock)
    [tick] = inputs.poll()
    clock.now += 200_000_000
    assert inputs.tick_fault(tick).reason == "stale"
    assert inputs.tick_fault(tick, check_ages=False) is None
    show(inputs, clock, skip="left")
    clock.now += 40_000_000
    show(inputs, clock, skip="left")
    skewed = inputs.poll()[0]
    assert inputs.tick_fault(skewed, check_ages=False).reason == "skew"
    clock.now += 40_000_000
    show(inputs, clock, state=np.nan)
    assert inputs.tick_fault(inputs.poll()[-1]).reason == "not_finite"
    clock.now += 40_000_000
    show(inputs, clock, state=99.0)
    assert inputs.tick_fault(inputs.poll()[-1]).reason == "out_of_range"


@pytest.mark.parametrize(("allowed_s", "reason"), [(0.005, "skew"), (0.02, None), (5.0, None)])
def test_skew_is_bound_by_the_bundle_where_it_is_stricter_than_the_rig(
    rig: Rig, allowed_s: float, reason: str | None
) -> None:
    clock = Clock()
    inputs = fed(rig, clock, obs_skew_max_s=allowed_s)
    inputs.poll()
    _show_touch_late(inputs, clock, late_ns=15_000_000)
    [tick] = inputs.poll()
    fault = inputs.tick_fault(tick, check_ages=False)
    assert (fault.reason if fault else None) == reason


def test_skew_is_bound_by_the_rig_where_it_is_stricter_than_the_bundle(rig: Rig) -> None:
    data = rig.model_dump(mode="json")
    data["safety"]["skew_ms"] = 5.0
    clock = Clock()
    inputs = fed(parse_rig(data, "test"), clock, obs_skew_max_s=5.0)
    inputs.poll()
    _show_touch_late(inputs, clock, late_ns=15_000_000)
    fault = inputs.tick_fault(inputs.poll()[-1], check_ages=False)
    assert fault is not None and fault.reason == "skew"


def _show_touch_late(inputs: AlignedInputs, clock: Clock, late_ns: int) -> None:
    """One frame of everything, with the touch picture some milliseconds after the rest."""
    clock.now += PERIOD
    show(inputs, clock, skip="left")
    inputs.store("left", clock.now + late_ns, 0, np.zeros((60, 80, 3), np.uint8))


def test_reset_lets_a_run_start_on_a_clock_that_has_jumped_back(rig: Rig, tmp_path: Path) -> None:
    clock = Clock()
    policy = OnnxPolicy(policy_bundle(tmp_path, rig), rig)
    inputs = AlignedInputs(rig, policy.manifest, clock, clock)
    acting, answered = Acting(policy, rig, inputs, lockstep=True), []

    def frames(count: int) -> None:
        for _ in range(count):
            clock.now += PERIOD
            show(inputs, clock)
            acting.look(answered.append)

    frames(3)
    clock.now -= 10**12  # the simulator was started anew
    answered.clear()
    frames(3)
    assert not answered  # its messages count as out of order
    assert acting.reset().success
    frames(2)
    assert acting.start().success
    frames(2)
    assert answered[-1] == clock.now and acting.command(clock.now) is not None


def test_new_run_begins_with_nothing_of_the_one_before(rig: Rig, tmp_path: Path) -> None:
    clock = Clock()
    policy = OnnxPolicy(policy_bundle(tmp_path, rig, chunk_size=25), rig)
    inputs = AlignedInputs(rig, policy.manifest, clock, clock)
    play = PlaySpec(mode="replace", every_ticks=10)
    acting = Acting(policy, rig, inputs, play, lockstep=True)

    def frame() -> None:
        clock.now += PERIOD
        show(inputs, clock)
        acting.look(lambda stamp_ns: acting.command(stamp_ns))

    frame()
    for expected in (1, 2):  # each run infers on its first tick, however few have passed since the last
        assert acting.start().success
        frame()
        frame()
        assert policy.stats.count == expected
        assert acting.controller.hold().success
        while not acting.controller.limiter.is_at_rest:
            frame()
        assert acting.reset().success
        refused = acting.start()
        assert not refused.success and "no message yet" in refused.message  # nothing is remembered
        frame()


def test_start_and_reset_do_not_wait_for_ever_for_an_inference_that_does_not_end(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    policy = OnnxPolicy(policy_bundle(tmp_path, rig), rig)
    acting = Acting(policy, rig, AlignedInputs(rig, policy.manifest, clock, clock), lockstep=True)
    inside, go_on = threading.Event(), threading.Event()
    act = policy.act
    policy.act = lambda seen: (inside.set(), go_on.wait(20), act(seen))[-1]  # type: ignore[method-assign]
    monkeypatch.setattr(acting_module, "BETWEEN_TICKS_S", 0.05)
    show(acting.inputs, clock)
    acting.look()
    assert acting.start().success
    thread = threading.Thread(target=acting.look)
    thread.start()
    assert inside.wait(20)
    assert acting.controller.hold().success  # needs no tick
    for refused in (acting.start(), acting.reset()):
        assert not refused.success and "has not ended" in refused.message
    go_on.set()
    thread.join(20)
    assert acting.reset().success
    clock.now += PERIOD
    show(acting.inputs, clock)
    acting.look()
    assert acting.start().success


def test_a_run_on_its_own_gels_does_not_start_with_a_closed_gripper(rig: Rig, tmp_path: Path) -> None:
    clock = Clock()
    png = base64.b64encode(encode_png(np.zeros((30, 40, 3), np.uint8)).tobytes()).decode()
    policy = OnnxPolicy(policy_bundle(tmp_path, rig, touch_reference="run", free_gels={"left": png}), rig)
    acting = Acting(policy, rig, AlignedInputs(rig, policy.manifest, clock, clock), lockstep=True)
    show(acting.inputs, clock)
    acting.look()
    refused = acting.start()
    assert not refused.success
    assert (
        "touch_reference: gripper is open by 40 mm" in refused.message
        and "open it to 56 mm" in refused.message
    )
    clock.now += PERIOD
    show(acting.inputs, clock, state=0.06)
    acting.look()
    assert acting.start().success
    assert set(acting.inputs.gels.images) == {"left"}


def test_one_skewed_tick_is_left_out_and_the_third_in_a_row_holds(rig: Rig, tmp_path: Path) -> None:
    clock, answered = Clock(), []
    policy = OnnxPolicy(policy_bundle(tmp_path, rig), rig)
    inputs = AlignedInputs(rig, policy.manifest, clock, clock)
    acting = Acting(policy, rig, inputs, lockstep=True)
    made = acting.controller
    thread = InferenceThread(acting, print, answered.append)
    thread.start()

    def frame(skip: str = "") -> None:
        clock.now += PERIOD
        show(inputs, clock, skip=skip)
        wait_until(lambda: answered and answered[-1] >= clock.now - (PERIOD if skip else 0), "an answer")

    try:
        frame()
        assert acting.start().success
        for skip in ("", "left", "left", "left", ""):
            frame(skip)
        assert made.state == "RUNNING"
        for _ in range(5):
            frame("left")
        assert made.fault is not None and made.fault.reason == "skew"
    finally:
        thread.stop()


def test_reset_on_another_thread_does_not_disturb_the_command_thread(rig: Rig) -> None:
    clock = Clock()

    class Offsets(deque):
        def __len__(self) -> int:
            count = super().__len__()
            self.clear()
            return count

    class Heard(dict):
        def __contains__(self, name: object) -> bool:
            found = super().__contains__(name)
            if name == "gripper_state":  # the last that is asked for
                inputs.reset()
            return found

    inputs = fed(rig, clock)
    inputs._offsets_ns = Offsets(inputs._offsets_ns)
    assert inputs.now_ns() == clock.now
    inputs.newest = Heard(inputs.newest)
    measured = inputs.measured()
    assert measured is not None and measured.tolist() == [0.04] * 7
    assert inputs.measured() is None


def test_foreign_stamps_are_placed_on_the_steady_clock(rig: Rig) -> None:
    node, steady = Clock(), Clock()
    inputs = AlignedInputs(rig, manifest_for(rig), node, steady)
    assert inputs.now_ns() == node.now
    inputs.store("joints", 5_000, 0, np.zeros(6))
    steady.now += 3_000_000
    assert inputs.now_ns() == 5_000 + 3_000_000
