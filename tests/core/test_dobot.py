"""A Dobot arm through its wire: what is read, sent and refused, against a fake controller."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from benches.testing import wait_until
from tacit.control.safety import Fault, MotionLimiter
from tacit.drivers.dobot.arm import ArmSettings, DobotArm
from tacit.drivers.dobot.gripper import GripperSettings
from tacit.drivers.dobot.protocol import (
    DobotError,
    Feedback,
    error_text,
    parse_alarms,
    parse_feedback,
    parse_reply,
    servo_j,
)
from tacit.drivers.dobot.servo import FIRST_STEP_RAD, Servo
from tacit.threads import Failure
from tacit_sim.fake_dobot.controller import FakeController
from tacit_sim.fake_dobot.plant import FollowingArm
from tacit_sim.fake_dobot.server import FakeDobot

START = np.array([0.1, -0.2, 1.2, 0.3, 1.5, -0.4])
VELOCITY, ACCELERATION, TIMEOUT = 2.0, 8.0, 0.2
HZ = 50.0


def limiter(hz: float = HZ) -> MotionLimiter:
    return MotionLimiter(*(np.full(6, v) for v in (-6.0, 6.0, VELOCITY, ACCELERATION)), 1 / hz)


# --- what travels


def packet(**changes: float) -> bytearray:
    """A feedback packet by the byte positions of the interface guide, in degrees."""
    data = bytearray(1440)
    values = {"size": 1440, "mode": 5, "run": 1234, "test": 0x0123456789ABCDEF} | changes
    struct.pack_into("<H", data, 0, int(values["size"]))
    struct.pack_into("<Q", data, 24, int(values["mode"]))
    struct.pack_into("<Q", data, 40, int(values["run"]))
    struct.pack_into("<Q", data, 48, int(values["test"]))
    struct.pack_into("<d", data, 64, 80.0)
    struct.pack_into("<6d", data, 432, *(10.0 * i for i in range(6)))
    struct.pack_into("<6d", data, 480, *(1.0 * i for i in range(6)))
    return data


def test_feedback_is_read_at_its_documented_places() -> None:
    heard = parse_feedback(bytes(packet()))
    np.testing.assert_allclose(np.rad2deg(heard.q), [0, 10, 20, 30, 40, 50])
    np.testing.assert_allclose(np.rad2deg(heard.qd), range(6))
    assert (heard.mode, heard.run_ms, heard.speed) == (5, 1234, 0.8)
    assert not heard.in_error and not heard.collision
    flags = packet()
    flags[1029] = flags[1038] = 1
    assert parse_feedback(bytes(flags)).in_error and parse_feedback(bytes(flags)).collision


@pytest.mark.parametrize(
    "data", [bytes(1440), bytes(packet(test=5)), bytes(packet(size=1439)), bytes(packet())[:1439]]
)
def test_feedback_that_slipped_is_refused(data: bytes) -> None:
    with pytest.raises(DobotError, match="feedback"):
        parse_feedback(data)


def test_a_joint_that_is_no_number_is_refused() -> None:
    data = packet()
    struct.pack_into("<d", data, 440, float("nan"))
    with pytest.raises(DobotError, match="not numbers"):
        parse_feedback(bytes(data))


def test_replies_are_read_and_errors_have_words() -> None:
    reply = parse_reply("-2,{},ServoJ(1,2,3,4,5,6,t=0.1)")
    assert reply.error == -2 and "in alarm" in reply.problem and "ServoJ" in reply.problem
    assert parse_reply("0,{1.5,2},GetPose()").numbers() == [1.5, 2.0]
    assert parse_alarms("[[117,22],[],[3],[],[],[],[]]") == [117, 22, 3]
    assert "range of a required parameter is wrong, number 2" in error_text(-40002)
    assert "-77" in error_text(-77)
    for odd in ("", "0,{}", "hello;", "x,{},A()"):
        with pytest.raises(DobotError, match="answered"):
            parse_reply(odd)


def test_servo_command_is_in_degrees() -> None:
    text = servo_j(np.deg2rad([0, -90, 45.12346, 0, 1, 2]), 0.06, 50, 500)
    assert text == "ServoJ(0.0000,-90.0000,45.1235,0.0000,1.0000,2.0000,t=0.06,aheadtime=50,gain=500)"


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("ServoJ(1,2,3)", -20000),
        ("ServoJ(a,2,3,4,5,6)", -30001),
        ("ServoJ(999,2,3,4,5,6)", -40001),
        ("ServoJ(1,2,3,4,5,6,gain=x)", -50001),
        ("ServoJ(1,2,3,4,5,6,t=0.1,gain=5)", -60002),
        ("Mov(1)", -10000),
        ("ServoJ(1,2,3,4,5,6)", -1),  # it is disabled
        ("EmergencyStop(7)", -40001),
        ("GetHoldRegs(0,1,1)", -1),  # no such Modbus master
        ("eNablErobot()", 0),
    ],
)
def test_fake_controller_refuses_as_the_guide_says(command: str, error: int) -> None:
    assert parse_reply(FakeController(FollowingArm(START)).answer(command)).error == error


# --- what is sent when: no wire


def heard(q: np.ndarray = START, mode: int = 5, run_ms: int = 0, **flags: bool) -> Feedback:
    values = {"in_error": False, "collision": False} | flags
    return Feedback(q, np.zeros(6), mode, 1.0, run_ms, **values)


@dataclass
class Times:
    """A servo that is heard every 8 ms and steps at its period."""

    servo: Servo = field(default_factory=lambda: Servo(limiter(), 0.35, TIMEOUT))
    now: float = 0.0
    sent: list[tuple[float, np.ndarray]] = field(default_factory=list)
    q: np.ndarray = field(default_factory=START.copy)

    def run(self, seconds: float, target: Callable[[float], np.ndarray] | None = None) -> None:
        for _ in range(round(seconds * 1000)):
            self.now += 0.001
            ms = round(self.now * 1000)
            if ms % 8 == 0:
                self.servo.hear(heard(self.q, run_ms=ms), self.now)
            if target is not None and ms % 10 == 0:
                self.servo.take(target(self.now), self.now)
            if ms % 20 == 0 and (sent := self.servo.step(self.now)) is not None:
                self.sent.append((self.now, sent))
                self.q = sent


def test_targets_are_followed_within_the_limits_and_end_at_rest_before_the_timeout() -> None:
    times = Times()
    times.run(0.1)
    times.run(1.0, lambda t: START + np.clip(1.5 * (t - 0.1), 0, None))
    last = times.now
    times.run(1.0)
    path = np.array([q for _, q in times.sent])
    step = np.abs(np.diff(path, axis=0))
    assert step.max() <= VELOCITY / HZ + 1e-9
    assert np.abs(np.diff(path, 2, axis=0)).max() <= ACCELERATION / HZ**2 + 1e-9
    assert last + 0.1 < times.sent[-1][0] <= last + TIMEOUT + 1e-9
    # It brakes before it falls silent.
    assert step[-1].max() < step[-6].max() - 4 * 0.9 * ACCELERATION / HZ**2
    assert not times.servo.is_moving and times.servo.fault is None


def test_after_a_stall_it_goes_on_from_where_the_arm_was_sent_and_not_from_old_feedback() -> None:
    times = Times()
    times.run(0.1)
    times.run(0.5, lambda t: START + 1.9 * (t - 0.1))
    last = times.sent[-1][1]
    times.servo.hear(heard(last - 0.12, run_ms=10**5), times.now)  # the arm lags behind
    assert times.servo.step(times.now + TIMEOUT + 0.01) is None  # nothing ran, nothing was taken
    now = times.now + TIMEOUT - 0.01
    assert times.servo.readiness(now) is None and times.servo.take(last + 0.01, now) is None
    again = times.servo.step(now)
    assert np.abs(again - last).max() <= ACCELERATION / HZ**2 + 1e-9
    times.servo.clear()  # somebody has looked, and may have moved it
    assert times.servo.take(last + 0.01, now).reason == "jump"


def test_a_late_period_goes_no_further_than_one_in_time() -> None:
    times = Times()
    times.run(0.1)
    times.run(0.5, lambda t: START + 1.9 * (t - 0.1))
    before = times.sent[-1][1]
    late = times.servo.step(times.now + 2 / HZ)
    assert late is not None and 0.9 * VELOCITY / HZ < (late - before).max() <= VELOCITY / HZ + 1e-9


@pytest.mark.parametrize("distance", [1.01 * FIRST_STEP_RAD, 3.0])
def test_a_first_target_far_from_the_arm_is_refused_until_somebody_has_looked(distance: float) -> None:
    times = Times()
    times.run(0.1)
    fault = times.servo.take(START + distance, times.now)
    assert fault is not None and fault.reason == "jump" and "joint" in fault.detail
    times.run(0.2, lambda t: START)
    assert not times.sent and times.servo.fault == fault
    times.servo.clear()
    times.run(0.2, lambda t: START)
    assert len(times.sent) > 5


def test_a_jump_in_motion_and_a_target_that_is_no_number_stop_it() -> None:
    for odd, reason in ((START + 0.5, "jump"), (np.full(6, np.nan), "not_finite")):
        times = Times()
        times.run(0.1)
        times.run(0.1, lambda t: START)
        count = len(times.sent)
        assert times.servo.take(odd, times.now).reason == reason
        times.run(0.2, lambda t: START)
        assert len(times.sent) == count > 0


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"mode": 4}, "mode"),
        ({"mode": 6}, "mode"),
        ({"mode": 10}, "mode"),
        ({"mode": 9, "in_error": True}, "alarm"),
        ({"mode": 11, "collision": True}, "protective_stop"),
    ],
)
def test_nothing_is_sent_while_the_arm_is_not_ready(said: dict, reason: str) -> None:
    times = Times()
    times.run(0.1)
    times.run(0.1, lambda t: START)
    count = len(times.sent)
    times.servo.hear(heard(run_ms=10**6, **said), times.now)
    assert times.servo.step(times.now) is None
    assert times.servo.take(START, times.now).reason == reason
    assert len(times.sent) == count and times.servo.fault is None  # it goes on when the arm is ready again


def test_an_end_brakes_at_once_and_takes_no_more_targets() -> None:
    times = Times()
    times.run(0.1)
    ramp = lambda t: START + np.clip(1.5 * (t - 0.1), 0, None)  # noqa: E731
    times.run(0.6, ramp)
    count = len(times.sent)
    times.servo.end(times.now)
    times.run(0.3, ramp)
    steps = np.diff([q[0] for _, q in times.sent[count - 1 :]])
    assert 2 < len(steps) <= TIMEOUT / 2 * HZ + 1 and (np.diff(steps) < 0).all()
    assert times.servo.take(START, times.now).reason == "closing"


def test_feedback_that_repeats_itself_is_not_heard() -> None:
    servo = Servo(limiter(), 0.35, TIMEOUT)
    for i in range(60):
        servo.hear(heard(run_ms=7), 0.008 * i)
    assert servo.readiness(0.48).reason == "not_heard"
    assert servo.take(START, 0.48).reason == "not_heard"


# --- through the wire


@dataclass
class Wire:
    """A driver and the fake controller that it speaks to."""

    fake: FakeDobot
    arm: DobotArm
    joints: list[tuple[float, np.ndarray]]
    openings: list[float]
    said: list[str]
    failures: list[Failure]

    def until(self, fact: Callable[[], object], what: str) -> None:
        wait_until(fact, what, 8.0)

    def follow(self, seconds: float, speed: float = 0.8) -> None:
        """Command a ramp of all joints, 100 times a second, from where the arm is."""
        begin, start = time.monotonic(), self.fake.joints()
        while (passed := time.monotonic() - begin) < seconds:
            self.arm.servo.take(start + speed * passed, time.monotonic())
            time.sleep(0.01)

    def sent_after(self, seconds: float) -> int:
        count = len(self.fake.servo)
        time.sleep(seconds)
        return len(self.fake.servo) - count


@pytest.fixture
def wire() -> Iterator[Wire]:
    failures: list[Failure] = []
    fake = FakeDobot(FollowingArm(START), failures.append)
    joints: list[tuple[float, np.ndarray]] = []
    openings: list[float] = []
    said: list[str] = []
    settings = ArmSettings(
        "127.0.0.1", *fake.ports, servo_hz=HZ, command_timeout_s=TIMEOUT, gripper=GripperSettings()
    )
    arm = DobotArm(
        settings,
        limiter(),
        0.35,
        lambda f: joints.append((time.monotonic(), f.q)),
        openings.append,
        said.append,
        failures.append,
        priority=0,
    )
    arm.start()
    made = Wire(fake, arm, joints, openings, said, failures)
    made.until(lambda: arm.is_connected and joints, "a connection")
    yield made
    arm.stop()
    fake.close()
    assert not failures, [str(failure) for failure in failures]


def enabled(wire: Wire) -> Wire:
    done = wire.arm.enable()
    assert done.success, done.message
    return wire


def test_arm_is_enabled_and_follows_within_the_limits_and_falls_silent(wire: Wire) -> None:
    assert wire.arm.fault().reason == "mode" and wire.arm.status().enabled == 0
    enabled(wire).follow(0.5)
    last = time.monotonic()
    assert wire.arm.status() == (1.0, 0.0, 0.0, 1.0)
    wire.until(lambda: not wire.arm.servo.is_moving, "silence")
    assert wire.sent_after(0.1) == 0
    times, path = (np.array(part) for part in zip(*wire.fake.servo, strict=True))
    assert times[-1] - last <= TIMEOUT + 0.05
    assert np.abs(np.diff(path, axis=0)).max() <= VELOCITY / HZ + 1e-5  # however late, to 0.0001 degrees
    np.testing.assert_allclose(path[-1], START + 0.8 * 0.5, atol=0.25)
    wire.until(lambda: np.abs(wire.joints[-1][1] - path[-1]).max() < 1e-3, "the arm at its last target")
    rate = len(wire.joints) / (wire.joints[-1][0] - wire.joints[0][0])
    assert rate > 60  # 125 Hz on a quiet machine


def test_gripper_is_set_and_read_by_modbus_and_its_silence_is_noticed(wire: Wire) -> None:
    wire.until(lambda: wire.openings, "an opening")
    wire.arm.gripper.take(250.0)
    wire.until(lambda: wire.openings[-1] == 250.0, "the opening that was asked for")
    wire.fake.faults.gripper_silent = True
    wire.until(lambda: wire.arm.gripper.problem, "silence to be noticed")
    count = len(wire.openings)
    assert wire.arm.fault().reason == "mode"  # the arm itself is as it was
    wire.fake.faults.gripper_silent = False
    wire.until(lambda: len(wire.openings) > count, "the gripper again")
    assert not wire.arm.gripper.problem and wire.openings[-1] == 250.0


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda fake: fake.collide(), "protective_stop"),
        (lambda fake: fake.alarm(34), "alarm"),
        (lambda fake: fake.disable(), "mode"),
        (lambda fake: fake.drag(), "mode"),
        (lambda fake: setattr(fake.faults, "repeats", True), "not_heard"),
        (lambda fake: setattr(fake.faults, "is_mute", True), "disconnected"),
        (lambda fake: setattr(fake.faults, "is_offline", True) or fake.drop(), "disconnected"),
    ],
)
def test_a_fault_of_the_wire_in_motion_ends_the_commands(
    wire: Wire, fault: Callable[[FakeDobot], None], reason: str
) -> None:
    enabled(wire).follow(0.15)
    fault(wire.fake)
    wire.until(lambda: (wire.arm.fault() or Fault("", "")).reason == reason, reason)
    status = wire.arm.status()
    assert status.enabled == 0 or status.fault == 1 or status.protective_stop == 1
    time.sleep(2 / HZ)
    count = len(wire.fake.servo)
    wire.follow(0.1)
    assert len(wire.fake.servo) == count


def test_what_was_cleared_goes_on_and_what_cannot_be_cleared_is_named(wire: Wire) -> None:
    enabled(wire)
    wire.fake.collide()
    wire.until(lambda: wire.arm.status().protective_stop == 1, "the stop")
    assert "collision detected (117)" in wire.arm.alarms()
    assert "in alarm" in wire.arm.enable().message
    assert wire.arm.clear().success and enabled(wire)
    wire.follow(0.1)
    assert wire.fake.servo
    assert wire.arm.emergency_stop().success
    assert "latched" in wire.arm.clear().message and not wire.arm.enable().success
    assert wire.arm.release().success and enabled(wire)
    count = len(wire.fake.servo)
    wire.follow(0.1)
    assert len(wire.fake.servo) > count


def test_it_comes_back_after_each_disconnect_and_nothing_is_heard_between(wire: Wire) -> None:
    enabled(wire)
    for cut in range(3):
        wire.follow(0.05)
        wire.fake.drop()
        wire.until(lambda: not wire.arm.is_connected and wire.arm.servo.feedback is None, "the loss")
        count = len(wire.joints)
        assert wire.arm.status().enabled == 0 and wire.arm.status().fault == 1
        wire.until(lambda n=cut: wire.arm.connections == n + 2, "a connection")
        assert len(wire.joints) >= count
    assert all(np.abs(q).max() > 0.01 for _, q in wire.joints)  # never zeros
    wire.arm.servo.clear()
    wire.follow(0.1)
    assert wire.fake.mode in (5, 7) and wire.fake.servo


def test_the_controllers_time_of_day_does_not_matter_and_a_second_client_is_refused(wire: Wire) -> None:
    wire.fake.faults.clock_offset_s = -3600.0
    count = len(wire.joints)
    wire.until(lambda: len(wire.joints) > count + 5, "feedback")
    enabled(wire).follow(0.1)
    assert wire.fake.servo and wire.arm.fault() is None
    second = DobotArm(
        ArmSettings("127.0.0.1", *wire.fake.ports),
        limiter(),
        0.35,
        lambda f: None,
        lambda v: None,
        wire.said.append,
        wire.failures.append,
        priority=0,
    )
    second.start()
    wire.until(lambda: any("closed the connection" in text for text in wire.said), "a refusal in words")
    second.stop()
    assert wire.arm.is_connected
