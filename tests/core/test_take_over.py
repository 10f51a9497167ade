"""A person takes the robot from a policy and gives it back: no jump either way, whenever it happens."""

from __future__ import annotations

import numpy as np

from tacit.bundle.player import ChunkPlayer, PlaySpec
from tacit.control.controller import Controller
from tacit.control.safety import Fault
from tacit.rig import Rig

PERIOD_NS = 40_000_000
DT = 0.04
CHUNK = 25
HOME = np.array([0.0, -0.3, 1.2, 0.1, -1.5, 0.0, 0.04])


class Hand:
    """A person who wants to go at a velocity (S,), or nothing."""

    def __init__(self) -> None:
        self.rate: np.ndarray | None = None
        self.begun = 0

    def begin(self) -> None:
        self.begun += 1

    def target(self, position: np.ndarray, dt: float) -> np.ndarray | None:
        return None if self.rate is None else position + self.rate * dt


class Bench:
    """A policy that plays waves, a person, and an arm that lags behind its commands; tick by tick."""

    def __init__(self, rig: Rig, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.hand = Hand()
        player = ChunkPlayer.of(PlaySpec(every_ticks=5), PERIOD_NS)
        self.controller = Controller(rig, player, DT, person=self.hand)
        self.rig, self.now_ns, self.measured = rig, 10**9, HOME.copy()
        self.commands: list[np.ndarray] = []
        self.sources: list[str] = []
        self.phase, self.reach = 0.0, self.random.uniform(0.1, 0.6, 7) * [1, 1, 1, 1, 1, 1, 0.02]

    def chunk(self) -> np.ndarray:
        ticks = np.arange(CHUNK)[:, None] + self.now_ns / PERIOD_NS
        return HOME + self.reach * np.sin(self.phase + 0.12 * ticks)

    def run(self, ticks: int) -> None:
        for _ in range(ticks):
            if self.now_ns // PERIOD_NS % 5 == 0:
                self.controller.add(self.chunk(), self.now_ns)
            command = self.controller.step(self.now_ns, self.measured)
            if command is not None:
                self.commands.append(command)
                self.sources.append(self.controller.source)
                self.measured = self.measured + 0.6 * (command - self.measured)
            self.now_ns += PERIOD_NS

    def largest(self) -> tuple[float, float]:
        """Largest step and change of step, as parts of velocity x dt and acceleration x dt^2."""
        steps = np.diff(np.array(self.commands), axis=0)
        v, a = self.rig.limits("velocity") * DT, self.rig.limits("acceleration") * DT**2
        return float((np.abs(steps) / v).max()), float((np.abs(np.diff(steps, axis=0)) / a).max())


def test_hundred_of_hundred_take_overs_and_returns_stay_within_the_limits(rig: Rig) -> None:
    for trial in range(100):
        bench = Bench(rig, trial)
        assert bench.controller.start(bench.measured, None).success
        bench.run(int(bench.random.integers(2, 25)))
        assert bench.controller.take_over(bench.measured, None).success
        rate = bench.random.uniform(-2.3, 2.3, 7) * [1, 1, 1, 1, 1, 1, 0.05]
        bench.hand.rate = rate if trial % 2 else None
        bench.run(int(bench.random.integers(1, 8)))  # given back in full motion, as well as at rest
        bench.phase = float(bench.random.uniform(0, 6))  # the policy meanwhile wants to be elsewhere
        answer = bench.controller.hand_back(bench.measured, None)
        assert answer.success, answer.message
        bench.run(20)
        step, change = bench.largest()
        assert bench.controller.state == "RUNNING" and len(set(bench.sources)) == 2
        assert step <= 1 + 1e-9 and change <= 1 + 1e-6, f"trial {trial}: {step}, {change}"


def test_policy_is_mute_while_a_person_acts_and_what_it_planned_before_is_forgotten(rig: Rig) -> None:
    bench = Bench(rig)
    bench.controller.start(bench.measured, None)
    bench.run(10)
    bench.controller.take_over(bench.measured, None)
    bench.run(10)
    rest = bench.commands[-1]
    assert bench.hand.begun == 1 and bench.controller.rows_left(bench.now_ns) == 0
    bench.run(10)
    assert np.array_equal(bench.commands[-1], rest)  # it goes on to say where it stands
    bench.controller.policy_failed(Fault("not_finite", "chunk"))
    assert bench.controller.state == "PERSON"


def test_arm_that_was_guided_by_hand_goes_on_from_where_it_was_left(rig: Rig) -> None:
    bench = Bench(rig)
    assert bench.controller.take_over(bench.measured, None).success
    bench.run(3)
    bench.measured = bench.measured + 0.4
    bench.run(3)
    assert not bench.commands
    assert bench.controller.hand_back(bench.measured, None).success
    left = bench.measured.copy()
    bench.run(8)
    assert (np.abs(bench.commands[0] - left) <= rig.limits("acceleration") * DT**2 + 1e-9).all()


def test_robot_moved_away_from_the_last_command_is_not_given_back(rig: Rig) -> None:
    bench = Bench(rig)
    bench.controller.take_over(bench.measured, None)
    bench.hand.rate = np.full(7, 0.01)
    bench.run(3)
    answer = bench.controller.hand_back(bench.measured + 0.5, None)
    assert not answer.success and "away from its command" in answer.message
    assert bench.controller.state == "PERSON"


def test_nobody_takes_over_without_devices_with_a_fault_or_from_an_emergency_stop(rig: Rig) -> None:
    alone = Controller(rig, None, DT)
    assert "teleop:=true" in alone.take_over(HOME, None).message
    bench = Bench(rig)
    assert not bench.controller.take_over(HOME, Fault("stale", "joints")).success
    assert not bench.controller.hand_back(HOME, None).success
    bench.controller.estop()
    assert not bench.controller.take_over(HOME, None).success
