"""Every claim from outside is judged once: stamps against their reception, numbers, pictures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tacit.images import encode_jpeg, encode_png
from tacit.images.depth import encode_depth
from tacit.rig import Rig, load_rig, parse_rig
from tacit.streams import Finding, Intake
from tacit.streams.stamps import StampJudge

SECOND = 1_000_000_000
WALL = 1_700_000_000 * SECOND
DELAY = 4_000_000
RATES = {"joints": 100, "gripper_state": 100, "top": 25, "wrist": 25, "left": 25, "right": 25}


@pytest.fixture(scope="module")
def rig() -> Rig:
    return load_rig("nova2_sim")


def real(rig: Rig, **streams: dict) -> Rig:
    """The rig as one of a real robot, with other values for some streams."""
    data = rig.model_dump(mode="json") | {"simulation": None}
    for name, changes in streams.items():
        part = next(part for part in ("cameras", "tactile", "streams") if name in data[part])
        data[part][name] |= changes
    return parse_rig(data, "test")


class Robot:
    """Feeds an intake: joints at 100 Hz and pictures at 25 Hz, with stamps that a test may bend.

    Attributes:
        accepted: (stream, stamp) of what was accepted.
        bend: Replaces the stamp of a message: (stream, seconds since the start, stamp) to stamp.
        values: Replaces the value of a message: (stream, seconds, value) to value.
    """

    def __init__(self, intake: Intake, rig: Rig, start_ns: int = WALL, wall_ns: int = WALL) -> None:
        self.intake, self.rig = intake, rig
        self.start_ns, self.wall_ns, self.now_ns = start_ns, wall_ns, 0
        self.accepted: list[tuple[str, int]] = []
        self.bend: Callable[[str, float, int], int] = lambda name, t, stamp: stamp
        self.values: Callable[[str, float, object], object] = lambda name, t, value: value
        self.random = np.random.default_rng(0)
        self.speed = 1.0

    def run(self, seconds: float) -> None:
        """Let so many seconds of the stamps' clock pass."""
        end = self.now_ns + round(seconds * SECOND)
        while self.now_ns < end:
            self.now_ns += 10_000_000
            for name, rate in RATES.items():
                if name in self.intake.counts and self.now_ns % (SECOND // rate) == 0:
                    self.send(name)

    def send(self, name: str) -> None:
        t = self.now_ns / 1e9
        passed_ns = round(self.now_ns / self.speed) + DELAY + int(self.random.integers(0, 6_000_000))
        stamp_ns = self.bend(name, t, self.start_ns + self.now_ns)
        value = self.values(name, t, self.value(name, t))
        kept = self.intake.take(name, stamp_ns, self.wall_ns + passed_ns, value, 77 * SECOND + passed_ns)
        if kept is not None:
            self.accepted.append((name, kept))

    def value(self, name: str, t: float) -> object:
        if name in self.rig.images:
            return self.random.integers(20, 200, (12, 16, 3), dtype=np.uint8)
        names = self.rig.streams[name].names
        low, high = self.rig.limits("lower"), self.rig.limits("upper")
        middle = (0.3 * low + 0.7 * high)[self.rig.index_of(names)]
        wave = 0.2 if name == "joints" else 0.001
        return {"position": middle + wave * np.sin(t + np.arange(len(names)))}

    def stamps(self, name: str) -> np.ndarray:
        return np.array([stamp for n, stamp in self.accepted if n == name])

    @property
    def kinds(self) -> dict[str, str]:
        return {name: found.kind for name, found in self.intake.findings().items()}


def robot_of(rig: Rig, **settings: int) -> Robot:
    return Robot(Intake(rig, RATES), rig, **settings)


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
    odd = range(300, 300 + many)
    rate = RATES[name]
    robot.bend = lambda n, t, s: s + round(ahead_s * SECOND) * (n == name and round(t * rate) in odd)
    robot.run(20)
    assert robot.intake.counts[name] == {"stamp_ahead": many}
    assert len(robot.stamps(name)) == 20 * rate - many
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
    robot.run(5)
    assert len(robot.accepted) - count == 5 * sum(RATES.values()), "the new clock is not believed"


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


# --- numbers --------------------------------------------------------------------------------------


def joints_with(change: Callable[[float, np.ndarray], np.ndarray]) -> Callable[[str, float, object], object]:
    def values(name: str, t: float, value: object) -> object:
        return {"position": change(t, value["position"])} if name == "joints" else value  # type: ignore[index]

    return values


@pytest.mark.parametrize("worth", [np.nan, np.inf])
def test_joint_that_is_not_a_number_is_refused_by_name(rig: Rig, worth: float) -> None:
    robot = robot_of(real(rig))
    robot.values = joints_with(lambda t, q: np.where(np.arange(6) == 0, worth, q) if t > 1 else q)
    robot.run(2)
    assert robot.kinds == {"joints": "not_finite"} and "joint1" in robot.intake.problems["joints"].text
    assert len(robot.stamps("joints")) == 100


def test_velocity_that_is_not_a_number_is_left_out_alone(rig: Rig) -> None:
    reading = {"position": np.full(6, 0.1), "velocity": np.full(6, np.nan), "effort": np.zeros(6)}
    assert Intake(rig).take("joints", WALL, WALL, reading, 5) == WALL
    assert reading.keys() == {"position", "effort"}


def test_zeros_of_a_second_publisher_are_refused_and_named(rig: Rig) -> None:
    robot = robot_of(real(rig))
    robot.values = joints_with(lambda t, q: 0 * q if round(t * 100) % 10 == 0 and t > 1 else q)
    robot.run(3)
    assert robot.kinds == {"joints": "jump"} and "second publisher" in robot.intake.problems["joints"].text
    assert robot.intake.counts["joints"] == {"jump": 200 // 10}


def test_wide_limits_hide_no_second_publisher(rig: Rig) -> None:
    robot = robot_of(real(rig))
    first = np.arange(6) == 0  # its limits are 12.56 rad apart; at 100 Hz it turns by .024 rad a sample
    robot.values = joints_with(lambda t, q: q + 0.25 * first * (round(t * 100) % 2))
    robot.run(1)
    assert robot.kinds == {"joints": "jump"} and robot.intake.counts["joints"]["jump"] >= 40


def test_robot_that_was_moved_while_unseen_is_believed_within_half_a_second(rig: Rig) -> None:
    robot = robot_of(real(rig))
    robot.values = joints_with(lambda t, q: q + 1.0 if t > 2 else q)
    robot.run(5)
    assert 15 <= robot.intake.counts["joints"]["jump"] <= 55 and robot.kinds == {}


def test_fastest_allowed_motion_with_jittering_stamps_is_no_jump(rig: Rig) -> None:
    robot = robot_of(real(rig))
    speed = rig.limits("velocity")[:6].min()
    robot.values = joints_with(lambda t, q: q + speed * 0.25 * np.sin(4 * t))
    robot.bend = lambda n, t, s: s + int(robot.random.integers(-4e6, 4e6)) * (n == "joints")
    robot.run(30)
    assert not robot.intake.counts["joints"]


def test_gripper_that_snaps_shut_is_no_jump_and_one_that_leaps_through_its_range_is(rig: Rig) -> None:
    upper = float(rig.limits("upper")[6])
    for part, kinds in ((0.3, {}), (0.8, {"gripper_state": "jump"})):
        robot = robot_of(real(rig))
        robot.values = lambda name, t, value, part=part: (
            {"position": np.array([upper * (0.9 - part * (t > 1))])} if name == "gripper_state" else value
        )
        robot.run(1.05)
        assert robot.kinds == kinds


@pytest.mark.parametrize("says", ["Bool", "table of two rows"])
def test_gripper_that_only_says_open_or_closed_never_jumps(rig: Rig, says: str) -> None:
    upper = float(rig.limits("upper")[6])
    said = real(rig, gripper_state={"type": "std_msgs/msg/Bool"} if says == "Bool" else {})
    if says != "Bool":
        data = said.model_dump(mode="json")
        next(iter(data["arms"].values()))["gripper"] |= {"raw": "table", "table": [[0, 0.0], [1, upper]]}
        said = parse_rig(data, "test")
    intake = Intake(said, ["gripper_state"])
    for k in range(200):
        value, now_ns = np.array([upper * (k // 50 % 2)]), WALL + k * 10_000_000
        assert intake.take("gripper_state", None, now_ns, value, k * 10_000_000) == now_ns
    assert not intake.counts["gripper_state"]


def test_all_zeros_are_questioned_and_one_zero_is_not(rig: Rig) -> None:
    robot = robot_of(real(rig))
    robot.values = joints_with(lambda t, q: np.zeros(6))
    robot.run(1)
    assert robot.kinds == {"joints": "zeros"} and len(robot.stamps("joints")) == 100
    robot = robot_of(real(rig))
    robot.values = joints_with(lambda t, q: q * (np.arange(6) > 0))
    robot.run(1)
    assert robot.kinds == {}


def test_degrees_are_refused_and_values_just_outside_the_limits_doubted(rig: Rig) -> None:
    for factor, kinds, kept in ((2.0, "out_of_limits", 0), (1.03, "out_of_limits", 100)):
        robot = robot_of(real(rig))
        robot.values = joints_with(lambda t, q, f=factor: rig.limits("upper")[:6] * f)
        robot.run(1)
        assert robot.kinds == {"joints": kinds} and len(robot.stamps("joints")) == kept


def test_joint_that_repeats_itself_to_the_bit_while_commanded_is_stuck(rig: Rig) -> None:
    for moves, kinds in ((True, {"joints": "stuck"}), (False, {})):
        robot = robot_of(real(rig))
        robot.run(1)
        frozen = robot.value("joints", 1.0)["position"]  # type: ignore[index]
        robot.values = joints_with(lambda t, q, frozen=frozen: frozen)
        for k in range(60):
            asked = frozen + 0.01 * k * moves
            robot.intake.commanded(dict(zip(rig.streams["joints"].names, asked, strict=True)))
            robot.run(0.01)
        assert robot.kinds == kinds


@pytest.mark.parametrize(("pressed_rad", "kinds"), [(0.12, set()), (0.3, {"stuck"})])
def test_joint_that_presses_against_something_is_not_stuck_unless_told_to_go_far(
    rig: Rig, pressed_rad: float, kinds: set[str]
) -> None:
    robot = robot_of(real(rig))
    robot.run(1)
    pressed = robot.value("joints", 1.0)["position"][1]  # type: ignore[index]
    robot.values = joints_with(lambda t, q: np.where(np.arange(6) == 1, pressed, q))
    names = rig.streams["joints"].names
    for k in range(100):
        robot.intake.commanded({names[1]: pressed + min(0.01 * k, pressed_rad)})
        robot.run(0.01)
    assert set(robot.kinds.values()) == kinds


def test_robot_at_rest_may_take_its_time_to_answer_a_command(rig: Rig) -> None:
    robot, names = robot_of(real(rig)), rig.streams["joints"].names
    still = robot.value("joints", 1.0)["position"]  # type: ignore[index]
    robot.values = joints_with(lambda t, q: still)
    robot.intake.commanded(dict(zip(names, still, strict=True)))
    robot.run(1)
    robot.intake.commanded(dict(zip(names, still + 0.1, strict=True)))
    robot.run(0.15)
    assert robot.kinds == {}
    robot.values = joints_with(lambda t, q: still + 0.01 * np.sin(100 * t))
    robot.run(0.3)
    assert robot.kinds == {}


# --- pictures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoded", [False, True])
def test_frozen_and_black_pictures_are_doubted_and_a_noisy_dark_one_is_not(rig: Rig, encoded: bool) -> None:
    spec, random = rig.cameras["top"], np.random.default_rng(0)
    shape = (spec.height, spec.width, 3)

    def kinds(pictures: list[np.ndarray]) -> list[str | None]:
        intake, found = Intake(rig), []
        for k, picture in enumerate(pictures):
            value = encode_jpeg(picture) if encoded else picture
            intake.take("top", WALL + k * 40_000_000, WALL + k * 40_000_000, value, k * 40_000_000)
            finding = intake.findings().get("top")
            found.append(finding.kind if finding else None)
        return found

    scene = random.integers(0, 255, shape, dtype=np.uint8)
    assert kinds([scene] * 6) == [None] * 4 + ["frozen"] * 2
    assert kinds([scene] * 5 + [scene[::-1]]) == [None] * 4 + ["frozen", None]
    assert kinds([random.integers(0, 9, shape, dtype=np.uint8) for _ in range(2)]) == ["black"] * 2
    assert kinds([random.integers(0, 40, shape, dtype=np.uint8) for _ in range(9)]) == [None] * 9


def test_an_encoded_picture_whose_light_has_gone_is_doubted_at_once(rig: Rig) -> None:
    intake, random = Intake(rig), np.random.default_rng(0)
    for k in range(40):
        levels = (0, 255) if k < 35 else (0, 9)
        picture = encode_jpeg(random.integers(*levels, (120, 160, 3), dtype=np.uint8))
        stamp_ns = WALL + k * 40_000_000
        intake.take("top", stamp_ns, stamp_ns, picture, k * 40_000_000)
        assert ("top" in intake.findings()) == (k >= 35)


@pytest.mark.parametrize("kind", ["color", "depth"])
def test_a_picture_that_cannot_be_decoded_is_refused_where_it_is_looked_at(rig: Rig, kind: str) -> None:
    intake = Intake(real(rig, top={"kind": kind}))
    picture = np.zeros((120, 160), np.uint16) if kind == "depth" else np.zeros((120, 160, 3), np.uint8)
    data = encode_depth(picture) if kind == "depth" else encode_png(picture)
    data[60:70] ^= 255  # header and end marker are well, the middle is not
    assert intake.take("top", WALL, WALL, data, 0) is None
    assert intake.problems["top"].kind == "undecodable"


def test_a_picture_that_would_cost_minutes_is_not_decoded_on_arrival(rig: Rig) -> None:
    intake, data = Intake(rig), encode_jpeg(np.zeros((120, 160, 3), np.uint8))
    scan = data[data.tobytes().index(b"\xff\xda") : -2]
    many = np.concatenate([data[:-2], *[scan] * 64, data[-2:]])
    assert intake.take("top", WALL, WALL, many, 0) is None
    assert intake.problems["top"].kind == "undecodable" and "scans" in intake.problems["top"].text


def test_how_many_equal_pictures_are_normal_stands_in_the_rig(rig: Rig) -> None:
    intake = Intake(real(rig, top={"frozen_after": 20}))
    picture = np.full((120, 160, 3), 90, np.uint8)
    for k in range(1, 22):
        intake.take("top", WALL + k * SECOND, WALL + k * SECOND, picture, k * SECOND)
        assert ("top" in intake.findings()) == (k >= 20)


def test_doubts_end_with_the_next_good_sample_and_refusals_after_a_second(rig: Rig) -> None:
    robot = robot_of(real(rig))
    robot.values = joints_with(lambda t, q: q * np.nan if 1 < t < 1.05 else q)
    robot.run(1.5)
    assert robot.kinds == {"joints": "not_finite"}
    robot.run(1.0)
    assert robot.kinds == {}
    assert [e.kind for e in robot.intake.drain_events()] == ["not_finite"]


def test_message_refused_now_and_then_does_not_hide_a_doubt(rig: Rig) -> None:
    robot = robot_of(real(rig))
    robot.intake.notice(
        "publishers", {"joints": Finding("two_publishers", "2 publishers of /joint_states", refused=False)}
    )
    robot.bend = lambda n, t, s: s - 50_000_000 * (n == "joints" and round(t * 100) % 10 == 0)
    robot.run(2)
    assert robot.intake.counts["joints"]["out_of_order"] == 20
    assert robot.kinds == {"joints": "two_publishers"}


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
