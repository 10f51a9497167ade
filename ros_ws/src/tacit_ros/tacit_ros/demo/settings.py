"""How much the demo records, learns and tries; `full` for people, `quick` for CI."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DemoSettings:
    """One size of the demo.

    Seeds of demonstrations start at `first_seed`, of episodes that fail on purpose at `first_failed_seed`, of
    closed-loop episodes at `first_test_seed`; the ranges never meet, so no tested start was recorded. Of
    each kind of `failures` there are `failures_each`; they teach progress what is not done.
    """

    name: str
    output: Path
    demonstrations: int
    closed_loop_episodes: int
    policy_overrides: tuple[str, ...]
    progress_overrides: tuple[str, ...]
    failures: tuple[str, ...] = ("all",)
    failures_each: int = 3
    rig: str = "nova2_sim"
    task: str = "place_cube"
    instruction: str = "Pick up the cube and put it on the mark."
    first_seed: int = 0
    first_test_seed: int = 10_000
    first_failed_seed: int = 20_000
    recording_speed: float = 4.0
    """Simulated seconds per second while the expert demonstrates."""
    closed_loop_speed: float = 1.0
    """Simulated seconds per second while the policy acts: 1 is what a robot would do."""
    max_episode_seconds: float = 10.4
    """260 ticks at 25 Hz, the limit that the success rates in the README use."""
    min_success_rate: float = 0.95

    @property
    def episodes(self) -> Path:
        """Folder of the recorded demonstrations."""
        return self.output / "episodes"

    @property
    def failed(self) -> Path:
        """Folder of the episodes that fail on purpose."""
        return self.output / "failed"

    @property
    def closed_loop(self) -> Path:
        """Folder of the episodes recorded while the policy acted."""
        return self.output / "closed_loop"


def full(output: Path) -> DemoSettings:
    """Return the demo that must reach the success rate: 60 demonstrations, 20 closed-loop episodes."""
    return DemoSettings(
        name="full",
        output=output,
        demonstrations=60,
        closed_loop_episodes=20,
        policy_overrides=(),
        progress_overrides=(),
    )


def quick(output: Path) -> DemoSettings:
    """Return the smallest true loop: it proves the plumbing in minutes, not the learning."""
    return DemoSettings(
        name="quick",
        output=output,
        demonstrations=4,
        closed_loop_episodes=2,
        policy_overrides=("train.steps=40", "train.max_seconds=25", "train.batch_size=16"),
        progress_overrides=("train.steps=40", "train.max_seconds=15"),
        failures=("miss",),
        failures_each=1,
        min_success_rate=0.0,
    )
