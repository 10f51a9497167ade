"""`tacit bench act_hsa`: what a training step of ACT costs, with touch, with HSA, and beside LeRobot's.

All ways take turns, a step each, so a busy machine meets all of them; the seconds are those of the processor.
HSA measures its balance in one step of twenty: both kinds of step are timed, and weighed so.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from rich.console import Console

from tacit.config import load
from tacit.config.arguments import Count, NewFile, parse_words
from tacit.errors import ConfigError
from tacit.rig import load_rig
from tacit_learning.act_hsa.balance import MEASURE_EVERY
from tacit_learning.act_hsa.config import ActHsaConfig
from tacit_learning.act_hsa.policy import ActHsaPolicy
from tacit_learning.data import keys
from tacit_learning.data.spec import PolicySpec
from tacit_learning.data.statistics import compute_statistics
from tacit_learning.data.view import make_view
from tacit_learning.data.windows import Batch
from tacit_learning.engine.optimizer import make_optimizer
from tacit_learning.options import find_config

BARS = {"hsa": 1.15, "lerobot": 1.0}
"""A step with HSA beside the one with touch alone; a step of vision beside LeRobot's."""

NAMES = {"hsa": "with HSA beside touch alone", "lerobot": "vision beside LeRobot's ACT"}

Size = Literal["full", "demo", "tiny"]
CONFIGS = {"full": "act_hsa", "demo": "act_hsa_demo", "tiny": "act_hsa_demo"}
RIGS = {"full": "xtrainer", "demo": "nova2_sim", "tiny": "nova2_sim"}
CHANGES: Mapping[str, tuple[str, ...]] = {
    # LeRobot's sizes; what the weights are does not change what a step costs, so none are downloaded
    "full": ("model.backbone=random:resnet18", "train.batch_size=8"),
    "demo": (),
    "tiny": ("model.dim=32", "model.heads=2", "model.feedforward=32", "train.batch_size=2"),
}
FIRST, LATER = 0, 1
"""Steps of the optimiser: one at which the balance is measured, and one at which it is not."""


@dataclass(frozen=True)
class Args:
    """Time training steps of ACT on one thread: of vision, with touch, with touch and HSA."""

    size: Size = "full"
    """full: ResNet-18, 3 cameras of 240x320, chunk 45, batch 8; demo: that of act_hsa_demo."""
    rounds: Count = 5
    """Rounds after a warm-up; each way does one step in each."""
    lerobot: Path | None = None
    """A Python with LeRobot 0.4.4, whose ACT of the same sizes takes turns with ours; with size full."""
    json: NewFile | None = None
    """Write the numbers to this file too."""


def main(argv: list[str]) -> int:
    """Measure, print a table; return 0 where the bars are met, else 1."""
    args = parse_words(Args, argv, "tacit bench act_hsa")
    torch.set_num_threads(1)
    seconds = measure(args.size, args.rounds, args.lerobot)
    ratios = ratios_of(seconds)
    console = Console(highlight=False, soft_wrap=True)
    for name, values in seconds.items():
        console.print(f"{name:16} {min(values):8.3f} s least {statistics.median(values):8.3f} s median")
    for name, ratio in ratios.items():
        console.print(f"{NAMES[name]:33} {ratio:6.3f}, bar {BARS[name]}")
    if args.json is not None:
        args.json.write_text(json.dumps({"seconds": seconds, "ratios": ratios}, indent=2), encoding="utf-8")
    return 0 if all(ratio <= BARS[name] for name, ratio in ratios.items()) else 1


def measure(size: Size, rounds: int, lerobot: Path | None = None) -> dict[str, list[float]]:
    """Return the CPU seconds of each step (rounds,) by the way of training."""
    ways: dict[str, Callable[[], float]] = {
        "vision": _Steps(size, "data.sensors=[]").go,
        "touch": _Steps(size, "hsa.weight=0").go,
    }
    aligned = _Steps(size, "hsa.weight=1")
    ways |= {"hsa": aligned.go, "hsa, measuring": lambda: aligned.go(FIRST)}
    peer = _Peer(lerobot) if lerobot is not None and size == "full" else None
    if peer is not None:
        ways["lerobot"] = peer.go
    try:
        turns = [{name: go() for name, go in ways.items()} for _ in range(rounds + 1)]
    finally:
        if peer is not None:
            peer.close()
    return {name: [turn[name] for turn in turns[1:]] for name in ways}  # the first is a warm-up


def ratios_of(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """Return the ratios that have bars, of medians; a step of HSA is one of twenty that measure."""
    median = {name: statistics.median(values) for name, values in seconds.items()}
    hsa = median["hsa"] + (median["hsa, measuring"] - median["hsa"]) / MEASURE_EVERY
    ratios = {"hsa": hsa / median["touch"]}
    return ratios | ({"lerobot": median["vision"] / median["lerobot"]} if "lerobot" in median else {})


class _Steps:
    """A policy with its optimiser and one batch, which it learns again and again.

    Args:
        size: Of network and batch.
        change: What differs from the shipped configuration.
    """

    def __init__(self, size: Size, change: str) -> None:
        torch.manual_seed(0)
        fixed = ("train.output=unused", "train.threads=1", change)
        path = find_config(Path(CONFIGS[size]))
        self.config = load(ActHsaConfig, path, [*CHANGES[size], *fixed])
        rig = load_rig(RIGS[size])
        view = make_view(rig, self.config.data)
        poses = np.random.default_rng(0).normal(size=(64, len(rig.state_names))).astype(np.float32)
        facts = compute_statistics(rig.state_names, rig.gripper_indices, poses, poses)
        spec = PolicySpec(rig, view, facts, torch.full(view.shapes[1], 128, dtype=torch.uint8))
        self.policy = ActHsaPolicy(self.config, spec).train()
        self.optimizer = make_optimizer(self.policy, self.config.train, self.config.train.lr)
        self.batch = random_batch(self.config, spec)

    def go(self, step: int = LATER) -> float:
        """Do one step of training; return its CPU seconds."""
        begin = time.process_time()
        loss, _ = self.policy(self.batch, step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.config.train.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return time.process_time() - begin


def random_batch(config: ActHsaConfig, spec: PolicySpec) -> Batch:
    """Return a batch of noise of the sizes of a run, with boxes of a quarter of the sides in every image."""
    rows, (seen, felt) = config.train.batch_size, spec.view.shapes
    action = torch.randn(rows, config.model.chunk_size, len(spec.rig.state_names))
    pairs = (rows, seen[0], spec.sizes.num_touch)
    sides = torch.tensor([seen[2], seen[1]], dtype=torch.float32)  # across, down
    corner = 0.75 * sides * torch.rand(*pairs, 2)
    return {
        keys.STATE: torch.randn(rows, len(spec.rig.state_names)),
        keys.IMAGES: torch.randint(0, 256, (rows, *seen), dtype=torch.uint8),
        keys.TOUCH: torch.randint(0, 256, (rows, *felt), dtype=torch.uint8),
        keys.TAXELS: torch.zeros(rows, 0),
        keys.BOXES: torch.cat([corner, corner + 0.25 * sides], -1),
        keys.BOX_VALID: torch.ones(pairs, dtype=torch.bool),
        keys.VISIBILITY: torch.ones(pairs),
        keys.ACTION: action,
        keys.ACTION_IS_PAD: torch.zeros(action.shape[:2], dtype=torch.bool),
        keys.EPISODE: torch.arange(rows),
        keys.FRAME: torch.zeros(rows, dtype=torch.long),
    }


class _Peer:
    """LeRobot's ACT in a process of its own; see `act_lerobot`."""

    def __init__(self, python: Path) -> None:
        config = load(ActHsaConfig, find_config(Path(CONFIGS["full"])), [*CHANGES["full"]])
        rig = load_rig(RIGS["full"])
        sizes = {
            "cameras": len(make_view(rig, config.data).cameras),
            "height": config.data.image_height,
            "width": config.data.image_width,
            "chunk": config.model.chunk_size,
            "batch": config.train.batch_size,
            "actions": len(rig.state_names),
        }
        words = [str(python), str(Path(__file__).with_name("act_lerobot.py")), json.dumps(sizes)]
        self._child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def go(self) -> float:
        """Let it do one step; return the CPU seconds it took.

        Raises:
            ConfigError: It ended: that Python has no LeRobot of this version.
        """
        assert self._child.stdin is not None and self._child.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it ended, and answers nothing
            self._child.stdin.write("step\n")
            self._child.stdin.flush()
        answer = self._child.stdout.readline()
        if not answer:
            raise ConfigError("--lerobot: it ended (its words are above); give a Python with lerobot 0.4.4")
        return float(answer)

    def close(self) -> None:
        """End it."""
        self._child.kill()
        self._child.wait()
