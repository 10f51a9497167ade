"""A study of touch: the words of its steps, what it does again, what it counts, and its page."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import tyro

pytest.importorskip("tacit_sim.rendering", reason="mujoco is not installed")

from tacit.cli import VERBS
from tacit.cli import main as tacit_verb
from tacit.config import load
from tacit.errors import ConfigError, TacitError
from tacit.view.proportions import paired_p
from tacit_sim.cli import SimulateArguments
from tacit_sim.closed_loop import Rollout
from tacit_sim.evaluate import Arguments, summarise
from tacit_sim.study import command
from tacit_sim.study.command import Options, make_plan
from tacit_sim.study.plan import Plan, parse_arms
from tacit_sim.study.report import write
from tacit_sim.study.runs import Study, keep_settings
from tacit_sim.study.verbs import Cost, cost_of, run_verb

EPISODES = 4
JOBS = 2 if sys.version_info >= (3, 11, 5) else 1  # before, tyro parses sources in the main thread alone


def plan_in(folder: Path, **changes: object) -> Plan:
    given = {"episodes": EPISODES, "demonstrations": 2, "steps": 3, "films": 1, "out": folder / "study"}
    return make_plan(Options(**{**given, **changes}))  # type: ignore[arg-type]


class PlayedVerbs:
    """Stands in for `tacit`: reads the words as the verbs would, and leaves behind what they would."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fail_at = ""
        self._one = threading.Lock()  # tyro parses sources: below Python 3.11.5 in one thread alone

    def __call__(self, words: Sequence[str], log: Path) -> None:
        if log.stem == self.fail_at:
            raise TacitError(f"{log.stem} was interrupted")
        self.asked.append(log.stem)
        log.parent.mkdir(parents=True, exist_ok=True)
        with self._one:
            getattr(self, f"_{words[0]}")(list(words[1:]))
        log.with_suffix(".cost.json").write_text(json.dumps(Cost(30.0, 60.0)._asdict()))

    def _simulate(self, words: list[str]) -> None:
        assert tyro.cli(SimulateArguments, args=words).episodes == 2

    def _train(self, words: list[str]) -> None:
        from tacit_learning.act_hsa.config import ActHsaConfig
        from tacit_learning.options import find_config, overrides

        assert words[:2] == ["act_hsa", "--config"]
        config = load(ActHsaConfig, find_config(Path(words[2])), overrides(words[3:]))
        run = Path(config.train.output)
        assert (config.data.sensors == ()) == ("vision" in run.name)
        assert (config.hsa.weight > 0) == ("hsa" in run.name)
        assert config.train.steps == 3 and run.name.endswith(f"seed{config.train.seed}")
        (run / "checkpoints" / "last").mkdir(parents=True)
        (run / "checkpoints" / "last" / "state.json").write_text("{}")
        rows = [{"kind": "train", "step": step, "l1": 1.0 / step} for step in (1, 2, 3)]
        learnt = config.data.max_episodes or 2
        (run / "checkpoints" / "last" / "about.json").write_text(json.dumps({"num_episodes": learnt}))
        rows.append({"kind": "val", "step": 3, "l1_touch_own": 0.25, "hsa_pointing": 0.875})
        (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")

    def _export(self, words: list[str]) -> None:
        bundle = Path(words[words.index("--out") + 1])
        assert Path(words[0]).name == bundle.stem and words[-2:] == ["--every", "2"]
        bundle.parent.mkdir(exist_ok=True)
        bundle.touch()

    def _evaluate(self, words: list[str]) -> None:
        arguments = tyro.cli(Arguments, args=words)
        starts = arguments.seeds(0, 0)
        assert (
            arguments.rig == "nova2_sim"
            and starts[0] == 70_000
            and arguments.task == "sort_by_feel"
            and arguments.bundle.is_file()
        )
        if arguments.films is not None:
            arguments.films.mkdir(parents=True, exist_ok=True)
            frames = np.full((8 * 120, 480, 3), 90, np.uint8)
            cv2.imwrite(str(arguments.films / f"seed_{starts[0]}_success.png"), frames)
            return
        felt = arguments.touch == "real" and "vision" not in arguments.bundle.stem
        rollouts = [
            Rollout(seed, felt or seed == starts[0], 170, 0.01, "retreat", goal=1, mark=int(felt))
            for seed in starts
        ]
        assert arguments.output is not None
        arguments.output.parent.mkdir(exist_ok=True)
        arguments.output.write_text(json.dumps(summarise(rollouts)))


def test_a_study_counts_pairs_and_controls_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    plan, played = plan_in(tmp_path), PlayedVerbs()
    played.fail_at = "train_touch_seed1"
    with pytest.raises(TacitError, match="interrupted"):
        Study(plan, lambda _: None, played).work()
    before, played.fail_at = list(played.asked), ""
    study = Study(plan, lambda _: None, played, jobs=JOBS)
    study.work()
    assert "train_vision_seed0" in before and len(set(played.asked)) == len(played.asked), "each step once"
    page, facts = write(study)
    by_name = {(row["arm"], row["touch"]): row for row in facts["outcomes"]}
    assert set(by_name) == {(arm, "real") for arm in ("vision", "touch", "touch+hsa")} | {
        ("touch", control) for control in ("other", "blank", "shuffled")
    }
    assert by_name["touch", "real"]["successes"] == by_name["touch", "real"]["right_mark"] == 2 * EPISODES
    assert by_name["vision", "real"]["by_training_seed"] == {"0": 1, "1": 1}
    assert by_name["touch", "other"]["successes"] == 2
    first = facts["pairs"][0]
    assert (first["both"], first["only_first"], first["only_second"], first["neither"]) == (2, 0, 6, 0)
    assert first["p"] == pytest.approx(2 / 2**6)
    assert facts["cost"]["train"] == {"cpu_s": 180.0, "wall_s": 360.0}
    text = page.read_text()
    assert "data:image/jpeg" in text and "http" not in text.replace("http-equiv", "")
    asked = len(played.asked)
    Study(plan_in(tmp_path, seeds=3), lambda _: None, played).work()
    added = played.asked[asked:]
    assert all(step.startswith(("train_", "export_", "evaluate_")) and "seed2" in step for step in added)
    assert len(added) == 3 * 3 + 3, "three arms, and three controls of one of them"


def test_arms_learn_from_fewer_demonstrations_too_and_are_plotted(tmp_path: Path) -> None:
    played = PlayedVerbs()
    chosen = {"arms": "vision,touch", "seeds": 1, "controls": (), "fewer": (1,)}
    study = Study(plan_in(tmp_path, **chosen), lambda _: None, played)
    study.work()
    page, facts = write(study)
    assert [row["arm"] for row in facts["outcomes"]] == ["vision", "touch", "vision-1", "touch-1"]
    assert sum(step.startswith("film_") for step in played.asked) == 2, "films of the whole arms alone"
    text = page.read_text()
    assert "demonstrations learnt from" in text and "points into its box" in text and "0.875" in text
    with pytest.raises(ConfigError, match="--fewer 2: expected less than the 2"):
        plan_in(tmp_path, fewer=(2,))


@pytest.mark.slow
def test_the_command_goes_from_demonstrations_to_a_page_and_a_second_time_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def run_here(words: Sequence[str], log: Path) -> None:
        """Run a verb in this process, where its imports cost nothing twice."""
        asked.append(words[0])
        log.parent.mkdir(parents=True, exist_ok=True)
        assert tacit_verb(list(words)) == 0

    monkeypatch.setattr(command, "Study", partial(Study, run=run_here))
    words = [
        "--arms",
        "touch+hsa",
        "--seeds",
        "1",
        "--episodes",
        "1",
        "--demonstrations",
        "2",
        "--films",
        "1",
    ]
    words += ["--steps", "1", "--controls", "--out", str(tmp_path / "study")]
    for _ in range(2):
        assert command.main(words) == 0
    assert asked == ["simulate", "train", "export", "evaluate", "evaluate"]
    facts = json.loads((tmp_path / "study" / "study.json").read_text())
    (outcome,) = facts["outcomes"]
    assert (outcome["arm"], outcome["episodes"], outcome["by_training_seed"].keys()) == (
        "touch+hsa",
        1,
        {"0"},
    )
    page = (tmp_path / "study" / "study.html").read_text()
    assert "data:image/jpeg" in page and "feeling another episode" in page
    assert str(tmp_path / "study" / "study.html") in capsys.readouterr().out


def test_policies_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    played = PlayedVerbs()
    Study(plan_in(tmp_path, arms="vision", seeds=1, films=0), lambda _: None, played).work()
    with pytest.raises(ConfigError, match="steps 3, now 4"):
        Study(plan_in(tmp_path, steps=4), lambda _: None, played).work()
    mine = "mine:hsa.weight=1"
    keep_settings(plan_in(tmp_path / "own", arms=mine))
    with pytest.raises(ConfigError, match=r"arm mine \['hsa.weight=1'\], now \['hsa.weight=2'\]"):
        keep_settings(plan_in(tmp_path / "own", arms="mine:hsa.weight=2"))
    with pytest.raises(ConfigError, match="overlap"):
        plan_in(tmp_path, first_start=1_001)
    with pytest.raises(ConfigError, match="--controls other"):
        plan_in(tmp_path, rig="nova2_sim_taxels")
    with pytest.raises(ConfigError, match="touch"):
        parse_arms("vision,tuoch")
    with pytest.raises(ConfigError, match="once"):
        parse_arms("touch,touch:hsa.weight=1")
    with pytest.raises(ConfigError, match="folder"):
        parse_arms("../x:hsa.weight=1")
    assert plan_in(tmp_path, controls=("blank", "real", "other")).controls == ("other", "blank")
    (arm,) = parse_arms("slow:train.lr=1e-4;hsa.weight=2")
    assert (arm.name, arm.overrides, arm.feels) == ("slow", ("train.lr=1e-4", "hsa.weight=2"), True)


def test_a_verb_that_fails_says_why_and_its_cost_adds_up(tmp_path: Path) -> None:
    assert VERBS["study touch"].target == "tacit_sim.study.command:main"
    log = tmp_path / "logs" / "step.log"
    run_verb(["--version"], log)
    first = cost_of(log)
    assert 0 < first.cpu_s < 10 and first.wall_s > 0
    with pytest.raises(TacitError, match="no such verb"):
        run_verb(["evaluat"], log)
    assert cost_of(log).wall_s > first.wall_s


@pytest.mark.parametrize(("first", "second"), [(0, 0), (3, 3), (0, 6), (2, 9), (42, 3)])
def test_paired_p_is_that_of_a_fair_coin(first: int, second: int) -> None:
    coins = np.arange(first + second + 1)
    ways = np.array([float(np.prod([(first + second - i) / (i + 1) for i in range(k)])) for k in coins])
    share = ways / ways.sum()
    as_far = np.abs(coins - (first + second) / 2) >= abs(first - second) / 2
    assert paired_p(first, second) == pytest.approx(float(share[as_far].sum()), rel=1e-9)
