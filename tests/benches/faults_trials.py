"""One try: a cell, a fault at a seeded instant, and what policy and recorder made of it."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benches.control_loop import excess
from benches.faults_kinds import Fault
from benches.faults_nodes import PolicySide, RecorderSide
from benches.faults_world import MS, SECOND, Driver, Robot, Timeline, reader_of
from tacit.bundle.runtime import OnnxPolicy
from tacit.episode import EpisodeReader, check_episode
from tacit.geometry.transforms import FloatArray
from tacit.rig import Rig
from tacit_ros import messages

TICK_NS = 40 * MS
WARM_UP_S = 1.2
"""How long a sound cell is heard before it starts."""

LISTENED_S = 1.6
"""How long a fault lasts before the gates are asked whether to start."""

CHECKED_SEEDS = range(5)
"""`tacit check` reads the episodes of these tries alone: it takes a fifth of the time."""

START_TRIES = 3
LIMIT_SLACK = 1e-6

SWING, SWING_HZ = np.array([0.3] * 6 + [0.01]), 0.25
"""How an operator swings the arm and the gripper [rad, m]."""


class Cell:
    """A robot, its drivers, and the nodes that hear them.

    Attributes:
        wrong_ns: When the first wrong message arrived, or the first missing one should have [steady].
        seen_ns: When the policy had its first finding after that [steady].
        commands: When each command was given [steady], and which (S,).
    """

    def __init__(
        self, rig: Rig, seed: int, policy: OnnxPolicy | None, folder: Path, is_quiet: bool = False
    ) -> None:
        self.rig, self.random = rig, np.random.default_rng(seed)
        self.timeline = Timeline()
        self.robot = Robot(rig, self.timeline, self.random, is_quiet)
        self.wrong_ns: int | None = None
        self.seen_ns: int | None = None
        self.commands: list[tuple[int, FloatArray]] = []
        self.alter_command: Callable[[object], object] | None = None
        self.nodes = {spec.topic: ["driver"] for spec in rig.specs.values()}
        for command in rig.commands.values():
            self.nodes[command.topic] = ["policy"]
        self.drivers = {name: self._driver(name) for name in rig.specs if name not in rig.commands}
        self.recorder = RecorderSide(rig, self.timeline, self.nodes, folder)
        self.policy = None
        if policy is not None:
            self.policy = PolicySide(rig, policy, self.timeline, self.nodes, self._command)
        self.on_step: list[Callable[[], None]] = []
        for driver in self.drivers.values():
            driver.begin()
        self._every(20 * MS, self._step)
        self._every(250 * MS, self._look)
        if self.policy is not None:
            self._every(TICK_NS, self.policy.control)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.timeline.run_until(self.timeline.steady() + int(seconds * SECOND))

    def teleoperate(self) -> None:
        """Let an operator swing the arm from now on."""
        middle, begin_ns = self.robot.q.copy(), self.timeline.steady()

        def swing() -> None:
            angle = 2 * np.pi * SWING_HZ * (self.timeline.steady() - begin_ns) / 1e9
            self._command(middle + SWING * np.sin(angle), self.timeline.wall())

        self._every(TICK_NS, swing)

    def wrong_now(self) -> None:
        """Note that something is wrong from here on."""
        if self.wrong_ns is None:
            self.wrong_ns = self.timeline.steady()

    def topic(self, name: str) -> str:
        """Return the topic of a stream."""
        return self.rig.specs[name].topic

    def close(self) -> None:
        """End the threads."""
        self.recorder.close()

    def _driver(self, name: str) -> Driver:
        spec = self.rig.specs[name]
        read, build = reader_of(self.rig, name, self.robot)
        period_ns = round(1e9 / spec.rate_hz)
        return Driver(name, period_ns, read, build, self._receive, self.timeline, self.random)

    def _every(self, period_ns: int, action: Callable[[], None]) -> None:
        def again() -> None:
            due_ns = self.timeline.steady()
            self.timeline.at(due_ns + period_ns, again)
            action()

        self.timeline.at(self.timeline.steady() + period_ns, again)

    def _step(self) -> None:
        self.recorder.step()
        for action in self.on_step:
            action()

    def _look(self) -> None:
        self.recorder.others.look()
        if self.policy is not None:
            self.policy.others.look()

    def _receive(self, name: str, message: object, wrong: bool) -> None:
        if wrong:
            self.wrong_now()
        if message is None:
            return
        self.recorder.hear(name, message, wrong)
        if self.policy is not None and name in self.policy.names:
            self.policy.hear(name, message)
            if self.wrong_ns is not None and self.seen_ns is None and self.policy.sees_something():
                self.seen_ns = self.timeline.steady()

    def _command(self, command: FloatArray, stamp_ns: int) -> None:
        self.commands.append((self.timeline.steady(), command))
        self.robot.command(command)
        for name, spec in self.rig.commands.items():
            message = messages.build_named(spec.type, spec.names, command, stamp_ns)
            if self.alter_command is not None:
                message = self.alter_command(message)
                self.wrong_now()
            self.recorder.hear(name, message, self.alter_command is not None)


@dataclass
class Outcome:
    """What one try showed.

    Attributes:
        policy_seen: The policy held, or refused what was wrong.
        seen_ms: From the first wrong sample to the policy's first finding, or its hold [ms]; None without.
        hold_ms: From there to the hold [ms]; None where it did not hold.
        reason: Why it held.
        policy_kinds: Findings of its intake since then.
        named_ms: From there to the recorder naming it [ms]; None where it did not.
        recorder_kinds: Findings of its intake.
        state: How the episode ended.
        events: Kinds of its events.
        check: Rules that `tacit check` finds broken.
        wrong_recorded: Samples of disturbed drivers in the episode.
        excess: Largest excess of the commands over position, velocity and acceleration limits.
        policy_refused, recorder_refused: Whether a start is refused while it lasts; None where not asked.
    """

    policy_seen: bool = False
    seen_ms: float | None = None
    hold_ms: float | None = None
    reason: str = ""
    policy_kinds: Counter[str] = field(default_factory=Counter)
    named_ms: float | None = None
    recorder_kinds: Counter[str] = field(default_factory=Counter)
    state: str = ""
    events: tuple[str, ...] = ()
    check: tuple[str, ...] = ()
    wrong_recorded: int = 0
    excess: float = 0.0
    policy_refused: bool | None = None
    recorder_refused: bool | None = None


def attempt(fault: Fault, seed: int, rig: Rig, policy: OnnxPolicy) -> Outcome:
    """Try a fault once in a running cell that records, and once before anything starts."""
    with tempfile.TemporaryDirectory(prefix="tacit_bench_") as folder:
        outcome = _while_running(fault, seed, rig, policy, Path(folder))
        if fault.at_start:
            _before_start(fault, seed, rig, policy, Path(folder), outcome)
    return outcome


def _while_running(fault: Fault, seed: int, rig: Rig, policy: OnnxPolicy, folder: Path) -> Outcome:
    cell, outcome = Cell(rig, seed, policy, folder), Outcome()
    side = cell.policy
    assert side is not None
    begin_running(cell)
    cell.run(cell.random.uniform(0.4, 1.2))
    before = (side.counts(), cell.recorder.counts())
    named: list[int] = []

    def look_for_a_name() -> None:
        ended = not cell.recorder.session.is_recording
        if cell.wrong_ns is not None and not named and (ended or cell.recorder.findings()):
            named.append(cell.timeline.steady())

    cell.on_step.append(look_for_a_name)
    fault.begin(cell, cell.random)
    cell.run(fault.lasts_s)
    outcome.policy_kinds = side.counts() - before[0]
    outcome.recorder_kinds = cell.recorder.counts() - before[1]
    if cell.wrong_ns is not None and side.held_ns is not None:
        outcome.hold_ms = (side.held_ns - cell.wrong_ns) / MS
        outcome.seen_ms = (min(cell.seen_ns or side.held_ns, side.held_ns) - cell.wrong_ns) / MS
    outcome.reason = side.reason
    outcome.policy_seen = outcome.hold_ms is not None or bool(outcome.policy_kinds) and not fault.holds
    outcome.named_ms = (named[0] - cell.wrong_ns) / MS if named and cell.wrong_ns is not None else None
    outcome.excess = outside_limits(cell)
    outcome.wrong_recorded = cell.recorder.wrong_recorded
    _read_episode(cell.recorder.finish(), seed in CHECKED_SEEDS, outcome)
    cell.close()
    return outcome


def begin_running(cell: Cell) -> None:
    """Bring a cell to the point where it records while its policy runs.

    A start may meet a tick whose picture was lost; as whoever calls it would, it is tried again.

    Raises:
        RuntimeError: A gate refuses, although nothing is wrong.
    """
    assert cell.policy is not None
    cell.run(WARM_UP_S)
    reasons = cell.recorder.not_ready()
    if not reasons:
        cell.recorder.begin()
        for _ in range(START_TRIES):
            reasons = list(filter(None, [cell.policy.start()]))
            if not reasons:
                return
            cell.run(0.1)
    raise RuntimeError(f"a sound cell does not start: {reasons}")


def _before_start(
    fault: Fault, seed: int, rig: Rig, policy: OnnxPolicy, folder: Path, outcome: Outcome
) -> None:
    cell = Cell(rig, seed + 10_000, policy, folder)
    assert cell.policy is not None
    fault.begin(cell, cell.random)
    cell.run(LISTENED_S)
    outcome.policy_refused = bool(cell.policy.start())
    outcome.recorder_refused = bool(cell.recorder.not_ready())
    cell.close()


def outside_limits(cell: Cell) -> float:
    """Return the largest excess of the commands over position, velocity or acceleration limits."""
    if len(cell.commands) < 3:
        return 0.0
    stamps = np.array([when for when, _ in cell.commands])
    commands = np.array([command for _, command in cell.commands])
    beyond = np.maximum(commands - cell.rig.limits("upper"), cell.rig.limits("lower") - commands).max()
    return max(float(beyond), excess(cell.rig, stamps, commands, TICK_NS))


def _read_episode(path: Path | None, is_checked: bool, outcome: Outcome) -> None:
    if path is None:
        outcome.state = "none"
        return
    with EpisodeReader(path) as episode:
        outcome.state = episode.state
        outcome.events = tuple(sorted({kind for _, kind, _ in episode.events}))
    if is_checked:
        outcome.check = tuple(sorted({finding.rule for finding in check_episode(path).findings}))
