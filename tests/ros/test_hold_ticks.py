"""What the inputs show holds the robot within two ticks, in real time and in lockstep.

A robot in fake time, so that no load decides; every command is judged against the limits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from tiny_bundles import policy_bundle

from benches.control_loop import excess
from tacit.bundle.runtime import OnnxPolicy
from tacit.control.acting import Acting
from tacit.control.inputs import AlignedInputs
from tacit.control.safety import Fault
from tacit.rig import Rig, load_rig, parse_rig

PERIOD_NS = 40_000_000
WIDE = {"state_min": (-2.0,) * 7, "state_max": (2.0,) * 7, "obs_skew_max_s": 1.0, "chunk_size": 25}


@pytest.fixture(scope="module")
def rig() -> Rig:
    data = load_rig("nova2_sim").model_dump(mode="json")
    data["safety"] |= {"image_age_ms": 150.0, "joint_age_ms": 60.0, "tracking_error": 1e9}
    spec = {"topic": "/robot/enabled", "type": "std_msgs/msg/Bool", "names": ["enabled"], "rate_hz": 25.0}
    data["streams"]["ready"] = spec | {"role": "robot_state"}
    return parse_rig(data, "test")


@dataclass
class World:
    """A robot in fake time that follows what it is told, and the policy that tells it.

    Attributes:
        spoil: Changes what is sent: stream and value in, value out.
        follows: Whether the joints do what they are told.
    """

    rig: Rig
    policy: OnnxPolicy
    lockstep: bool
    seed: int
    spoil: Callable[[str, np.ndarray], np.ndarray] = lambda name, value: value
    follows: bool = True
    now_ns: int = 1_700_000_000_000_000_000
    commands: list[tuple[int, np.ndarray]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.state = self.random.uniform(0.02, 0.06, 7)
        clock = lambda: self.now_ns  # noqa: E731
        self.inputs = AlignedInputs(self.rig, self.policy.manifest, clock, clock)
        self.acting = Acting(self.policy, self.rig, self.inputs, lockstep=self.lockstep)

    def send(self, name: str, value: np.ndarray) -> None:
        value = self.spoil(name, value)
        now_ns = self.now_ns
        if self.inputs.intake.take(name, now_ns, now_ns, value, now_ns) is not None:
            self.inputs.store(name, now_ns, now_ns, value)

    def joints(self) -> None:
        noise = self.random.normal(0, 1e-6, 7) if self.follows else np.zeros(7)
        self.send("joints", self.state[:6] + noise[:6])
        self.send("gripper_state", self.state[6:] + noise[6:])

    def tick(self) -> None:
        """One period: joints at 100 Hz, then a frame, then what the node's threads do."""
        for _ in range(4):
            self.now_ns += PERIOD_NS // 4
            self.joints()
        self.send("ready", np.ones(1))
        for name, shape in (("wrist", (120, 160, 3)), ("left", (60, 80, 3))):
            self.send(name, self.random.integers(90, 110, shape, dtype=np.uint8))
        self.acting.look(self.command if self.lockstep else None)
        if not self.lockstep:
            self.acting.watch()
            self.command(self.now_ns)

    def command(self, now_ns: int) -> None:
        given = self.acting.command(now_ns)
        if given is not None:
            self.commands.append((now_ns, given))
            self.state = given.copy() if self.follows else self.state


def changed(stream: str, value: Callable[[np.ndarray], np.ndarray]) -> Callable[[World], None]:
    """Return what spoils every message of a stream from now on."""

    def begin(world: World) -> None:
        world.spoil = lambda name, sent: value(sent) if name == stream else sent

    return begin


def repeating(stream: str) -> Callable[[World], None]:
    """Return what makes a stream send its next picture for ever."""

    def begin(world: World) -> None:
        last: list[np.ndarray] = []
        world.spoil = lambda name, sent: (last.append(sent) or last[0]) if name == stream else sent

    return begin


def at_rest(world: World) -> None:
    """The arm stands to the bit while it is sent far away."""
    world.follows = False
    ramp = world.state + 0.01 * np.arange(1, 200)[:, None]
    world.acting.controller.add(ramp, world.now_ns)
    world.acting._replanner.is_due = lambda *_: False  # type: ignore[method-assign]


def watched(world: World) -> None:
    world.inputs.watched.append(lambda: Fault("second_commander", "/teleop"))


AT_ONCE: dict[str, Callable[[World], None]] = {
    "jump": changed("joints", lambda q: q + 0.8),
    "not_finite": changed("joints", lambda q: q * np.nan),
    "out_of_limits": changed("joints", lambda q: q + np.array([0, 0, 1e3, 0, 0, 0])),
    "black": changed("wrist", np.zeros_like),
    "robot_state": changed("ready", np.zeros_like),
    "second_commander": watched,
}
IN_TIME: dict[str, Callable[[World], None]] = {"frozen": repeating("left"), "stuck": at_rest}


@pytest.fixture
def world(rig: Rig, tmp_path: Path, request: pytest.FixtureRequest) -> World:
    lockstep, seed = request.param
    made = World(rig, OnnxPolicy(policy_bundle(tmp_path, rig, **WIDE), rig), lockstep, seed)
    made.tick()
    assert made.acting.start().success, made.acting.readiness()
    for _ in range(10):
        made.tick()
    assert made.acting.controller.state == "RUNNING", str(made.acting.controller)
    return made


def braked_within_limits(world: World) -> bool:
    while not world.acting.controller.limiter.is_at_rest:
        world.tick()
    stamps, commands = zip(*world.commands, strict=True)
    return excess(world.rig, np.array(stamps), np.array(commands), PERIOD_NS) <= 1e-6


WORLDS = [(lockstep, seed) for lockstep in (False, True) for seed in range(3)]


@pytest.mark.parametrize("world", WORLDS, indirect=True)
@pytest.mark.parametrize("kind", AT_ONCE)
def test_what_one_message_shows_holds_within_two_ticks(world: World, kind: str) -> None:
    AT_ONCE[kind](world)
    ticks = 0
    while world.acting.controller.state == "RUNNING" and ticks < 10:
        world.tick()
        ticks += 1
    assert world.acting.controller.fault is not None and world.acting.controller.fault.reason == kind
    assert ticks <= 2
    assert braked_within_limits(world)


@pytest.mark.parametrize("world", WORLDS, indirect=True)
@pytest.mark.parametrize("kind", IN_TIME)
def test_what_takes_time_to_see_holds_at_the_tick_at_which_it_is_seen(world: World, kind: str) -> None:
    IN_TIME[kind](world)
    for _ in range(60):
        world.tick()
        if any(found.kind == kind for found in world.inputs.intake.findings().values()):
            break
    assert world.acting.controller.fault is not None and world.acting.controller.fault.reason == kind
    assert braked_within_limits(world)


@pytest.mark.parametrize("world", [(False, 0), (True, 0)], indirect=True)
def test_arm_that_was_led_away_by_hand_is_not_stuck_when_a_new_run_begins(world: World) -> None:
    assert world.acting.controller.hold().success
    while not world.acting.controller.limiter.is_at_rest:
        world.tick()
    world.follows = False  # an arm whose encoders are quiet at rest
    for _ in range(10):
        world.state = world.state + 0.02 * np.array([1, 1, 1, 1, 1, 1, 0])
        world.tick()
    for _ in range(15):
        world.tick()
    assert world.acting.start().success
    for _ in range(8):  # the first commands are far from the last ones of the run before
        world.tick()
    assert world.acting.controller.state == "RUNNING", str(world.acting.controller)


@pytest.mark.parametrize("world", [(False, 0), (True, 0)], indirect=True)
def test_healthy_robot_is_not_held(world: World) -> None:
    for _ in range(300):
        world.tick()
    assert world.acting.controller.state == "RUNNING", str(world.acting.controller)
