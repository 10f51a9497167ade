"""What came of a study: counts with intervals, pairs, controls, curves, films and cost; JSON and a page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tacit.config import load_json
from tacit.rig import load_rig
from tacit.view.page import Page
from tacit.view.player import clip_player
from tacit.view.plot import Series, line_plot
from tacit.view.proportions import paired_p, wilson_interval
from tacit_sim.closed_loop import FILM_EVERY
from tacit_sim.study.plan import Arm, Plan
from tacit_sim.study.runs import Study, settings_of
from tacit_sim.study.verbs import Cost

LOSS = "l1"
HELD_OUT = (
    ("hsa_pointing", "points into its box"),
    ("hsa_pointing_chance", "of a blind guess"),
    ("hsa_gallery_top1", "finds its moment among other episodes"),
    ("hsa_gallery_chance", "of a blind guess"),
    ("l1_touch_own", "error in contact"),
    ("l1_touch_other", "feeling another episode"),
)
MEANING = {
    "real": "its own touch",
    "other": "what another episode felt, from the same moment of contact on",
    "blank": "no contact, ever",
    "shuffled": "its own touch, pixels in disorder",
}


@dataclass(frozen=True)
class Outcome:
    """What one arm did under one control, all training seeds together.

    Attributes:
        successes: By (training seed, start), for pairs.
        right_mark, placed_on_any_mark: Episodes; see `tacit evaluate`.
    """

    arm: str
    touch: str
    successes: dict[tuple[int, int], bool]
    right_mark: int
    placed_on_any_mark: int

    @property
    def count(self) -> int:
        """Episodes that succeeded."""
        return sum(self.successes.values())

    def by_seed(self, seed: int) -> int:
        """Episodes that succeeded with the policy of one training seed."""
        return sum(success for (trained, _), success in self.successes.items() if trained == seed)

    def facts(self, seeds: Sequence[int]) -> dict[str, Any]:
        """Return the outcome as JSON-able data."""
        return {
            "arm": self.arm,
            "touch": self.touch,
            "successes": self.count,
            "episodes": len(self.successes),
            "wilson_95": list(wilson_interval(self.count, len(self.successes))),
            "by_training_seed": {str(seed): self.by_seed(seed) for seed in seeds},
            "right_mark": self.right_mark,
            "placed_on_any_mark": self.placed_on_any_mark,
        }


def outcomes(study: Study) -> list[Outcome]:
    """Read what was evaluated, in the order of `Study.plays`."""
    found: dict[tuple[str, str], list[tuple[int, Path]]] = {}
    for arm, seed, touch in study.plays():
        path = study.plan.evaluation(arm, seed, touch)
        found.setdefault((arm.name, touch), []).append((seed, path))
    return [_outcome(arm, touch, files) for (arm, touch), files in found.items()]


def _outcome(arm: str, touch: str, files: Sequence[tuple[int, Path]]) -> Outcome:
    reports = [(seed, load_json(path)) for seed, path in files]
    return Outcome(
        arm,
        touch,
        {(seed, row["seed"]): row["success"] for seed, report in reports for row in report["rollouts"]},
        sum(report["right_mark"] for _, report in reports),
        sum(report["placed_on_any_mark"] for _, report in reports),
    )


def pairs(found: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Compare each outcome with the first one, start by start and training seed by training seed."""
    rows = []
    for other in found[1:]:
        first = found[0]
        both = [(first.successes[key], success) for key, success in other.successes.items()]
        only_first, only_second = both.count((True, False)), both.count((False, True))
        rows.append(
            {
                "first": f"{first.arm}, {first.touch}",
                "second": f"{other.arm}, {other.touch}",
                "both": both.count((True, True)),
                "only_first": only_first,
                "only_second": only_second,
                "neither": both.count((False, False)),
                "p": paired_p(only_first, only_second),
            }
        )
    return rows


def costs(study: Study) -> dict[str, Cost]:
    """Return what each kind of step took: demonstrations, trainings, exports, evaluations, films."""
    total: dict[str, Cost] = {}
    for path in sorted((study.plan.out / "logs").glob("*.cost.json")):
        kind, cost = path.name.partition("_")[0].removesuffix(".cost.json"), load_json(path)
        before = total.get(kind, Cost(0.0, 0.0))
        total[kind] = Cost(before.cpu_s + cost["cpu_s"], before.wall_s + cost["wall_s"])
    return total


def write(study: Study) -> tuple[Path, dict[str, Any]]:
    """Write `study.json` and `study.html` into the study's folder; return the page and the facts."""
    plan, found = study.plan, outcomes(study)
    real = [outcome for outcome in found if outcome.touch == "real"]
    controlled = [outcome for outcome in found if outcome.arm == plan.controlled]
    facts = {
        "settings": settings_of(plan),
        "outcomes": [outcome.facts(plan.seeds) for outcome in found],
        "pairs": pairs(real) + pairs(controlled),
        "cost": {kind: cost._asdict() for kind, cost in costs(study).items()},
    }
    (plan.out / "study.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return _page(study, facts, real, controlled).save(plan.out / "study.html"), facts


def _page(study: Study, facts: dict[str, Any], real: list[Outcome], controlled: list[Outcome]) -> Page:
    plan = study.plan
    first, last = plan.first_start, plan.first_start + plan.episodes - 1
    page = Page(
        f"What touch is worth: {plan.task}",
        f"{plan.demonstrations} demonstrations (from start {plan.first_demonstration} on), {len(plan.seeds)} "
        f"training seeds, every policy on the same fresh starts {first} to {last}, acting as `tacit run`.",
    )
    page.section(
        "Success",
        "Intervals are Wilson's, over all training seeds, which share starts.",
    )
    page.table(HEADERS, [_row(outcome, plan) for outcome in real])
    page.section("Same starts, pair by pair", "p: how often chance parts equals so far (McNemar, exact).")
    page.table(PAIR_HEADERS, [_pair_row(row) for row in facts["pairs"]])
    if len(controlled) > 1:
        page.section("Controls", f"The policies of `{plan.controlled}`, and what they were given to feel.")
        page.table(["what is felt", *HEADERS], [[MEANING[o.touch], *_row(o, plan)] for o in controlled])
    page.section(
        "Learning",
        "The error in training. It does not tell success.",
    )
    page.plot(line_plot(_curves(plan), x_label="training step", y_label="L1, standardised targets"))
    _alignment(page, plan)
    _fewer(page, plan, real)
    _films(page, plan)
    page.section("Cost", "Of all runs of a step, interrupted ones too.")
    page.table(
        ["step", "CPU [min]", "wall [min]"],
        [[kind, cost["cpu_s"] / 60, cost["wall_s"] / 60] for kind, cost in facts["cost"].items()],
    )
    return page.details("Settings", json.dumps(facts["settings"], indent=1))


HEADERS = ["arm", "95 % interval", "by training seed", "success", "of", "right mark", "on any mark"]
PAIR_KEYS = ("first", "second", "both", "only_first", "only_second", "neither", "p")
PAIR_HEADERS = ["first", "second", "both", "only the first", "only the second", "neither", "p", "told apart"]
CHANCE = 0.05
"""Two policies are told apart where chance alone parts equals so far less often than this."""


def _pair_row(row: dict[str, Any]) -> list[str | int | float]:
    apart = "yes" if row["p"] < CHANCE else "not shown"
    return [*(row[key] for key in PAIR_KEYS[:-1]), f"{row['p']:.3g}", apart]


def _row(outcome: Outcome, plan: Plan) -> list[str | int]:
    low, high = wilson_interval(outcome.count, len(outcome.successes))
    return [
        outcome.arm,
        f"{100 * low:.0f} to {100 * high:.0f} %",
        ", ".join(str(outcome.by_seed(seed)) for seed in plan.seeds),
        outcome.count,
        len(outcome.successes),
        outcome.right_mark,
        outcome.placed_on_any_mark,
    ]


def _curves(plan: Plan) -> list[Series]:
    return [
        Series(
            plan.name(arm, seed), *_curve(plan.run(arm, seed) / "metrics.jsonl"), color=number, dashed=dashed
        )
        for number, arm in enumerate(plan.arms)
        for seed, dashed in zip(plan.seeds, [False, *[True] * len(plan.seeds)], strict=False)
    ]


def _curve(path: Path) -> tuple[list[int], list[float]]:
    """Return steps and training errors; a run without metrics has an empty curve."""
    rows = [row for row in _metrics(path) if row["kind"] == "train" and row.get(LOSS) is not None]
    return [row["step"] for row in rows], [row[LOSS] for row in rows]


def _metrics(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines]


def _alignment(page: Page, plan: Plan) -> None:
    """Put on the page what the last validation of each policy says of touch, where it says anything."""
    rows = [
        [plan.name(arm, seed), *(held.get(key) for key, _ in HELD_OUT)]
        for arm in plan.arms
        for seed in plan.seeds
        if (held := _held_out(plan.run(arm, seed) / "metrics.jsonl")) and any(k in held for k, _ in HELD_OUT)
    ]
    if rows:
        page.section("Touch on held-out frames", "What `tacit view touch` shows in pictures.")
        page.table(["policy", *(text for _, text in HELD_OUT)], rows)


def _held_out(path: Path) -> dict[str, Any]:
    """Return the last validation of a run; {} without one."""
    return next((row for row in reversed(_metrics(path)) if row["kind"] == "val"), {})


def _fewer(page: Page, plan: Plan, real: Sequence[Outcome]) -> None:
    """Plot success against the number of demonstrations learnt from, where the study has several."""
    if not any(arm.of for arm in plan.arms):
        return
    counts = {outcome.arm: outcome.count / len(outcome.successes) for outcome in real}
    lines = []
    for base in (arm for arm in plan.arms if not arm.of):
        same = [arm for arm in plan.arms if base.name in (arm.name, arm.of)]
        points = sorted((_learnt_from(plan, arm), 100 * counts[arm.name]) for arm in same)
        numbers, shares = zip(*points, strict=True)
        lines.append(Series(base.name, numbers, shares))
    page.section("Fewer demonstrations", "Intervals stand in the first table.")
    learnt, success = "demonstrations learnt from", "success [%]"
    page.plot(line_plot(lines, x_label=learnt, y_label=success, y_range=(0.0, 100.0)))


def _learnt_from(plan: Plan, arm: Arm) -> int:
    about = plan.run(arm, plan.seeds[0]) / "checkpoints" / "last" / "about.json"
    return int(load_json(about)["num_episodes"])


def _films(page: Page, plan: Plan) -> None:
    films = [film for arm in plan.arms for film in _players(plan, arm)]
    if films:
        page.section("Films", "Cameras, then gels; click one, and the arrow keys move it.")
    for title, film in films:
        page.heading(title).block(film)


def _players(plan: Plan, arm: Arm) -> list[tuple[str, str]]:
    """Return titles and players of the films of an arm."""
    rig = load_rig(plan.rig)
    height = max(spec.height for spec in rig.images.values())
    found = []
    for path in sorted(plan.film_folder(arm).glob("*.png"))[: plan.films]:
        strip = cv2.imread(str(path))
        if strip is not None:
            frames = list(strip[..., ::-1].reshape(-1, height, *strip.shape[1:]))
            seconds = np.arange(len(frames)) * FILM_EVERY / rig.alignment.rate_hz
            title = f"{arm.name}: {path.stem.replace('_', ' ')}"
            found.append((title, clip_player({"cameras, gels": frames}, seconds)))
    return found
