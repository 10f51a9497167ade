"""Do what a plan says, each step once: a second run goes on where the first one stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tacit.config import load_json
from tacit.errors import ConfigError
from tacit_sim.felt import TouchControl
from tacit_sim.study.plan import Arm, Plan, chosen
from tacit_sim.study.verbs import RunVerb, run_verb

SETTINGS = "settings.json"
FIXED = ("task", "rig", "demonstrations", "first_demonstration", "config", "steps", "every_ticks")
"""What may not change within one folder: policies of different ones cannot be compared."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Study:
    """Runs a plan.

    Args:
        plan: What to do.
        say: Told of each step.
        run: Runs a verb of `tacit`.
        jobs: Trainings, and then evaluations, at a time.
    """

    plan: Plan
    say: Say
    run: RunVerb = run_verb
    jobs: int = 1

    def work(self) -> None:
        """Record, train, export and evaluate what is not done yet.

        Raises:
            ConfigError: The folder holds a study with other settings.
            TacitError: A step failed; those before it stay done.
        """
        keep_settings(self.plan)
        if self.plan.controls and chosen(self.plan.arms, self.plan.controlled) is None:
            self.say(f"no arm is called {self.plan.controlled}: nothing is played under controls")
        self._demonstrate()
        pairs = [(arm, seed) for seed in self.plan.seeds for arm in self.plan.arms]
        self._all([partial(self._learn, *pair) for pair in pairs])
        self._all([partial(self._evaluate, *played) for played in self.plays()])
        self._all([partial(self._film, arm) for arm in self.plan.arms if not arm.of])

    def plays(self) -> list[tuple[Arm, int, TouchControl]]:
        """Return what is played from the test starts: every policy with its own touch, then the controls."""
        plan = self.plan
        own: list[tuple[Arm, int, TouchControl]] = [
            (arm, seed, "real") for arm in plan.arms for seed in plan.seeds
        ]
        controlled = chosen(plan.arms, plan.controlled)
        if controlled is None or not controlled.feels:
            return own
        return own + [(controlled, seed, touch) for touch in plan.controls for seed in plan.seeds]

    def _all(self, steps: list[Callable[[], None]]) -> None:
        """Do steps, some at a time; after one that fails, or ctrl-c, no other begins."""
        if self.jobs == 1:
            for step in steps:
                step()
            return
        pool = ThreadPoolExecutor(self.jobs)
        try:
            for done in [pool.submit(step) for step in steps]:
                done.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _demonstrate(self) -> None:
        log = self.plan.log("demonstrations")
        if not _is_marked(log):
            self._step("demonstrations", self.plan.simulate_words())
            log.with_suffix(".done").touch()

    def _learn(self, arm: Arm, seed: int) -> None:
        plan, run = self.plan, self.plan.run(arm, seed)
        name = plan.name(arm, seed)
        state = run / "checkpoints" / "last" / "state.json"
        log = plan.log(f"train_{name}")
        if not _is_marked(log):
            self._step(f"train_{name}", plan.train_words(arm, seed, resume=state.is_file()))
            log.with_suffix(".done").touch()
        if not plan.bundle(arm, seed).is_file():
            self._step(f"export_{name}", plan.export_words(arm, seed))

    def _evaluate(self, arm: Arm, seed: int, touch: TouchControl) -> None:
        plan = self.plan
        if not is_evaluated(plan, plan.evaluation(arm, seed, touch)):
            self._step(f"evaluate_{plan.name(arm, seed)}_{touch}", plan.evaluate_words(arm, seed, touch))

    def _film(self, arm: Arm) -> None:
        plan, seed = self.plan, self.plan.seeds[0]
        if plan.films and len(list(plan.film_folder(arm).glob("*.png"))) < plan.films:
            self._step(f"film_{plan.name(arm, seed)}", plan.film_words(arm, seed))

    def _step(self, name: str, words: list[str]) -> None:
        self.say(f"{name}: tacit {' '.join(words)}")
        self.run(words, self.plan.log(name))


def is_evaluated(plan: Plan, path: Path) -> bool:
    """Tell whether a file holds the outcomes of all test starts."""
    if not path.is_file():
        return False
    seeds = [rollout["seed"] for rollout in load_json(path)["rollouts"]]
    return seeds == list(range(plan.first_start, plan.first_start + plan.episodes))


def keep_settings(plan: Plan) -> None:
    """Write what makes the policies of a folder comparable; refuse a folder with other settings.

    Raises:
        ConfigError: The folder holds a study with other settings; the message names them.
    """
    path = plan.out / SETTINGS
    mine: dict[str, Any] = {name: getattr(plan, name) for name in FIXED}
    mine |= {f"arm {arm.name}": list(arm.overrides) for arm in plan.arms}
    theirs = load_json(path) if path.is_file() else {}
    other = [
        f"{name} {theirs[name]}, now {mine[name]}"
        for name in mine
        if theirs.get(name, mine[name]) != mine[name]
    ]
    if other:
        raise ConfigError(
            f"{plan.out}: holds a study with {'; '.join(other)}; give another --out, or the same settings"
        )
    plan.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(theirs | mine, indent=1) + "\n", encoding="utf-8")


def settings_of(plan: Plan) -> dict[str, Any]:
    """Return the whole plan as JSON-able data."""
    data = asdict(plan)
    return data | {"out": str(plan.out.name), "arms": {arm.name: list(arm.overrides) for arm in plan.arms}}


def _is_marked(log: Path) -> bool:
    return log.with_suffix(".done").is_file()
