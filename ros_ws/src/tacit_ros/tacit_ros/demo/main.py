"""`tacit demo`: simulate, record over ROS 2, check, learn, export, act in closed loop, report."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from tacit.bundle import load_bundle
from tacit.config.arguments import NewFolder, parse_words
from tacit.rig import load_rig
from tacit_ros.demo import settings as sizes
from tacit_ros.demo.acting import act
from tacit_ros.demo.numbers import collect
from tacit_ros.demo.outcome import EXPECTED, machine, shortfalls
from tacit_ros.demo.processes import run_verb
from tacit_ros.demo.recording import record_demonstrations
from tacit_ros.demo.report import write_report
from tacit_ros.demo.settings import DemoSettings
from tacit_ros.demo.steps import Notebook
from tacit_ros.wire.environment import prepare


@dataclass(frozen=True)
class DemoArguments:
    """Run the whole loop on this machine: no robot, GPU or ROS installation needed.

    A second run goes on where the first one stopped.
    """

    output: Annotated[
        NewFolder | None, tyro.conf.arg(help="Folder; runs/demo or runs/demo-quick if left out.")
    ] = None
    quick: Annotated[bool, tyro.conf.arg(help="Tiny numbers for CI: plumbing, not learning.")] = False


class Demo:
    """The steps of one demo, each done once."""

    def __init__(self, settings: DemoSettings, console: Console) -> None:
        """Open the notebook of finished steps."""
        self.settings = settings
        self.console = console
        self.notebook = Notebook(settings.output / "steps", settings.name, console)
        self.results: dict[str, dict[str, Any]] = {}
        self.policy_bundle = settings.output / "act_hsa.onnx"
        self.progress_bundle = settings.output / "progress.onnx"

    def run(self) -> dict[str, Any]:
        """Do what is not done yet and return the numbers of the report."""
        task = self.settings.task
        self.console.print(f"machine: {machine()}", highlight=False)
        self.console.print(f"expect {EXPECTED[self.settings.name]}", highlight=False)
        self._step("doctor", "look at this machine", self._doctor)
        self._step("record", f"record {self.settings.demonstrations} demonstrations of {task}", self._record)
        self._step("record_failures", "record episodes that fail on purpose", self._record_failures)
        self._step("check", "check the recorded episodes", self._check)
        self._step("train_policy", "train ACT-HSA", self._train_policy)
        self._step("train_progress", "train the progress estimator", self._train_progress)
        self._step("export", "export both to ONNX and compare with torch", self._export)
        self._step("judge_progress", "fit the thresholds of done and failed", self._judge_progress)
        title = f"act in closed loop, {self.settings.closed_loop_episodes} starts never recorded"
        self._step("act", title, self._act)
        return self._report()

    def _step(self, name: str, title: str, work: Any) -> None:
        self.results[name] = self.notebook.run(name, title, work)

    def _verb(self, name: str, *arguments: str) -> dict[str, Any]:
        run_verb(arguments, self.settings.output / "logs" / f"{name}.log", self.console)
        return {}

    def _doctor(self) -> dict[str, Any]:
        return self._verb("doctor", "doctor", "--profile", "demo")

    def _record(self) -> dict[str, Any]:
        return record_demonstrations(self.settings, self.console)

    def _record_failures(self) -> dict[str, Any]:
        settings = self.settings
        words = ["--rig", settings.rig, "--task", settings.task, "--out", str(settings.failed)]
        words += ["--failures", *settings.failures, "--episodes", str(settings.failures_each)]
        words += ["--seed", str(settings.first_failed_seed)]
        return self._verb("record_failures", "simulate", *words)

    def _check(self) -> dict[str, Any]:
        return self._verb("check", "check", str(self.settings.episodes))

    def _train_policy(self) -> dict[str, Any]:
        return self._train("act_hsa", (self.settings.episodes,), self.settings.policy_overrides)

    def _train_progress(self) -> dict[str, Any]:
        encoder = f"encoder.checkpoint={self.settings.output / 'act_hsa'}"
        data = (self.settings.episodes, self.settings.failed)
        return self._train("progress", data, (encoder, *self.settings.progress_overrides))

    def _train(self, kind: str, data: Sequence[Path], overrides: Sequence[str]) -> dict[str, Any]:
        folder = self.settings.output / kind
        places = (f"data.datasets=[{','.join(map(str, data))}]", f"train.output={folder}")
        config = f"{kind}_demo"
        return self._verb(f"train_{kind}", "train", kind, "--config", config, *places, *overrides)

    def _export(self) -> dict[str, Any]:
        for kind, out in (("act_hsa", self.policy_bundle), ("progress", self.progress_bundle)):
            self._verb(f"export_{kind}", "export", str(self.settings.output / kind), "--out", str(out))
        return {
            "policy_max_diff": export_difference(self.policy_bundle),
            "progress_max_diff": export_difference(self.progress_bundle),
        }

    def _judge_progress(self) -> dict[str, Any]:
        output, bundle = self.settings.output, str(self.progress_bundle)
        words = ("progress", str(output / "progress"), "--bundle", bundle, "--tune", "--gru-steps", "0")
        return self._verb("judge_progress", "evaluate", *words, "--page", str(output / "progress.html"))

    def _act(self) -> dict[str, Any]:
        return act(self.settings, self.policy_bundle, self.progress_bundle, self.console)

    def _report(self) -> dict[str, Any]:
        rig = load_rig(self.settings.rig)
        stages = next(stream.names for stream in rig.streams.values() if stream.role == "steps")
        runs = (self.settings.output / "act_hsa", self.settings.output / "progress")
        facts = {"demo": self.settings.name, "machine": machine(), "rig_hz": rig.alignment.rate_hz}
        numbers = facts | collect(self.results, *runs, stages)
        (self.settings.output / "report.json").write_text(json.dumps(numbers, indent=1) + "\n")
        page = write_report(self.settings, numbers, self.results, stages)
        self.console.print(f"report: {page}", highlight=False)
        return numbers


def export_difference(bundle: Path) -> float:
    """Return the largest difference to torch that the exporter measured and wrote into the bundle."""
    return float(load_bundle(bundle).manifest.train["export_difference"])


def main(argv: Sequence[str] | None = None) -> int:
    """Run `tacit demo`.

    Returns:
        0 when the success rate of this size of the demo was reached, else 1.
    """
    arguments = parse_words(DemoArguments, argv, "tacit demo")
    prepare()
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 101))
    make = sizes.quick if arguments.quick else sizes.full
    default = Path("runs/demo-quick" if arguments.quick else "runs/demo")
    settings = make((arguments.output or default).resolve())
    console = Console()
    numbers = Demo(settings, console).run()
    low, high = numbers["success_interval_95"]
    for name in ("policy", "progress"):
        steps = f"{numbers[f'{name}_steps']} of {numbers[f'{name}_steps_wanted']} steps"
        console.print(f"{name}: trained {steps}", highlight=False)
    for words in shortfalls(settings, numbers):
        console.print(f"[yellow]{words}[/]", highlight=False)
    console.print(
        f"[bold]{numbers['successes']}/{numbers['episodes']} closed-loop episodes succeeded[/] "
        f"(95 % interval {100 * low:.0f}-{100 * high:.0f} %), {numbers['total_seconds']:.0f} s in all",
        highlight=False,
    )
    return 0 if numbers["success_rate"] >= settings.min_success_rate else 1
