"""What a study of touch consists of: arms, seeds, starts, and the words of each step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tacit.errors import ConfigError, did_you_mean
from tacit_sim.felt import TouchControl

PRESETS: Mapping[str, tuple[str, ...]] = {
    "vision": ("data.sensors=[]",),
    "touch": (),
    "touch+hsa": ("hsa.weight=1.0",),
    "touch+hsa+queue": ("hsa.weight=1.0", "hsa.negatives=[batch,tokens,queue]"),
    "touch+hsa+time": ("hsa.weight=1.0", "hsa.negatives=[batch,tokens,time]"),
    "touch+last": ("loss.last_weight=4",),
    "touch+future": ("future.weight=1",),
    "touch+hsa+displaced": ("hsa.weight=1.0", "hsa.control=displaced"),
    "touch+hsa+shuffled": ("hsa.weight=1.0", "hsa.control=shuffled"),
}
"""Arms by name: what each changes of the common configuration; two align touch with what it is not."""


@dataclass(frozen=True)
class Arm:
    """One way of training: its name, and what it changes of the common configuration.

    `of` names the arm that this one is with fewer demonstrations; "" where it has all of them.
    """

    name: str
    overrides: tuple[str, ...]
    of: str = ""

    @property
    def feels(self) -> bool:
        """Whether the policy has touch as an input."""
        return "data.sensors=[]" not in self.overrides


@dataclass(frozen=True)
class Plan:
    """A study.

    Attributes:
        out: Its folder.
        task: Of the simulated cell.
        rig: Name or path.
        arms: What is compared; the last ones with the first.
        seeds: Training seeds of each arm.
        episodes, first_start: Test starts, the same for every policy.
        demonstrations, first_demonstration: What all arms learn from.
        config: Shipped name or path of the common configuration.
        steps: Of training; what the configuration says where None.
        every_ticks: From one inference to the next, written into the bundles.
        controls: What the policies of `controlled` feel besides their own touch.
        controlled: Name of the arm that is played under controls.
        films: Starts of the first seed of each arm that are filmed.
    """

    out: Path
    task: str
    rig: str
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    episodes: int
    first_start: int
    demonstrations: int
    first_demonstration: int
    config: str
    steps: int | None
    every_ticks: int
    controls: tuple[TouchControl, ...]
    controlled: str
    films: int

    def __post_init__(self) -> None:
        """Refuse test starts that were learnt from, and a plan without anything to do.

        Raises:
            ConfigError: Either.
        """
        test = range(self.first_start, self.first_start + self.episodes)
        learnt = range(self.first_demonstration, self.first_demonstration + self.demonstrations)
        if not (len(test) and len(learnt) and self.seeds and self.arms and self.every_ticks > 0):
            raise ConfigError(
                "tacit study touch: arms, seeds, episodes, demonstrations and ticks: at least 1"
            )
        if max(test.start, learnt.start) < min(test.stop, learnt.stop):
            raise ConfigError(
                f"tacit study touch: the starts {test.start} to {test.stop - 1} overlap with the "
                f"demonstrations {learnt.start} to {learnt.stop - 1}; give another --first-start"
            )

    @property
    def data(self) -> Path:
        """The demonstrations."""
        return self.out / "data" / self.task

    def name(self, arm: Arm, seed: int) -> str:
        """Return the name of one trained policy."""
        return f"{arm.name}_seed{seed}"

    def run(self, arm: Arm, seed: int) -> Path:
        """Return the folder of a training."""
        return self.out / "runs" / self.name(arm, seed)

    def bundle(self, arm: Arm, seed: int) -> Path:
        """Return the file of a policy."""
        return self.out / "bundles" / f"{self.name(arm, seed)}.onnx"

    def evaluation(self, arm: Arm, seed: int, touch: TouchControl = "real") -> Path:
        """Return the file with the outcomes of a policy."""
        return self.out / "evaluations" / f"{self.name(arm, seed)}_{touch}.json"

    def log(self, step: str) -> Path:
        """Return the log of a step."""
        return self.out / "logs" / f"{step}.log"

    def simulate_words(self) -> list[str]:
        """Words that record the demonstrations; they go on where an earlier run stopped."""
        where = ["--task", self.task, "--rig", self.rig, "--out", str(self.out / "data")]
        return ["simulate", *where, *_counted(self.demonstrations, self.first_demonstration)]

    def train_words(self, arm: Arm, seed: int, resume: bool = False) -> list[str]:
        """Words that train one policy."""
        run = self.run(arm, seed)
        words = ["train", "act_hsa", "--config", self.config, f"data.datasets=[{self.data}]"]
        words += [f"train.output={run}", f"train.seed={seed}", *arm.overrides]
        words += [] if self.steps is None else [f"train.steps={self.steps}"]
        return words + ([f"train.resume={run}"] if resume else [])

    def export_words(self, arm: Arm, seed: int) -> list[str]:
        """Words that pack one policy."""
        out = ["--out", str(self.bundle(arm, seed)), "--every", str(self.every_ticks)]
        return ["export", str(self.run(arm, seed)), *out]

    def evaluate_words(self, arm: Arm, seed: int, touch: TouchControl = "real") -> list[str]:
        """Words that play one policy from the test starts."""
        words = self._play_words(arm, seed, self.episodes, touch)
        return [*words, "--output", str(self.evaluation(arm, seed, touch))]

    def film_words(self, arm: Arm, seed: int) -> list[str]:
        """Words that film one policy from the first test starts."""
        return [*self._play_words(arm, seed, self.films, "real"), "--films", str(self.film_folder(arm))]

    def film_folder(self, arm: Arm) -> Path:
        """Return where the film strips of an arm lie."""
        return self.out / "films" / arm.name

    def _play_words(self, arm: Arm, seed: int, episodes: int, touch: TouchControl) -> list[str]:
        words = ["evaluate", "--bundle", str(self.bundle(arm, seed)), "--rig", self.rig, "--task", self.task]
        return [*words, "--touch", touch, *_counted(episodes, self.first_start)]


def parse_arms(words: str) -> tuple[Arm, ...]:
    """Read `vision,touch,touch+hsa`; `name:key=value;key=value` is an arm of one's own.

    Raises:
        ConfigError: No such preset, a name twice, or one that is no name of a folder.
    """
    arms = tuple(_arm(word) for word in words.split(",") if word)
    names = [arm.name for arm in arms]
    if len(set(names)) < len(names):
        raise ConfigError(f"--arms {words}: each name once")
    return arms


def with_fewer(arms: tuple[Arm, ...], numbers: Iterable[int], demonstrations: int) -> tuple[Arm, ...]:
    """Add each arm once more for each number of demonstrations to learn from.

    Raises:
        ConfigError: So many are not there.
    """
    smaller = list(numbers)
    if wrong := [number for number in smaller if not 0 < number < demonstrations]:
        raise ConfigError(f"--fewer {wrong[0]}: expected less than the {demonstrations} demonstrations")
    return arms + tuple(
        Arm(f"{arm.name}-{number}", (*arm.overrides, f"data.max_episodes={number}"), arm.name)
        for number in sorted(smaller, reverse=True)
        for arm in arms
    )


def _arm(word: str) -> Arm:
    name, colon, changes = word.partition(":")
    if not colon:
        if name not in PRESETS:
            hint = did_you_mean(name, PRESETS)
            raise ConfigError(f"--arms {name}: no such arm; {hint}; or name:key=value;key=value")
        return Arm(name, PRESETS[name])
    if not name.replace("+", "").replace("_", "").replace("-", "").isalnum():
        raise ConfigError(f"--arms {word}: {name!r} shall name a folder: letters, digits, + - _")
    return Arm(name, tuple(change for change in changes.split(";") if change))


def chosen(arms: Iterable[Arm], name: str) -> Arm | None:
    """Return the arm of that name."""
    return next((arm for arm in arms if arm.name == name), None)


def _counted(episodes: int, seed: int) -> list[str]:
    return ["--episodes", str(episodes), "--seed", str(seed)]
