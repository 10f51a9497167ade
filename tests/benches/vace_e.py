"""`tacit bench vace_e`: what batches and optional checkpointing bring, on this machine.

The baseline trains as DiffSynth-Studio@fed7b18 does: one clip per step, every block checkpointed.
Base VACE with all weights trained, in the size of the preset `small`, so that only the way of
stepping differs.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from tacit.config.arguments import NewFile, parse_words
from tacit_learning.losses.flow import (
    add_noise,
    flow_loss_per_sample,
    sample_uniform,
    shift_sigma,
    timestep_of,
)
from tacit_learning.vace_e.config_model import BackboneConfig, preset
from tacit_learning.vace_e.model.signals import random_signals
from tacit_learning.vace_e.model.vace_e import VaceE, build_model

SIZE = "small"  # preset
CELLS = (3, 8, 12)  # latent frames, rows, columns of a clip
SHIFT = 3.0
BAR = 2.0


@dataclass(frozen=True)
class Args:
    """Compare training steps of a small VACE model: one batch of 4, or four batches of 1."""

    samples: int = 4
    """Clips per measurement."""
    rounds: int = 5
    """Rounds; the fastest of each way counts."""
    threads: int = 1
    """Threads of torch."""
    json: NewFile | None = None
    """Write the numbers to this file too."""


@dataclass(frozen=True)
class Way:
    """One way to train on the same clips, with the time it took."""

    name: str
    batch: int
    checkpointing: bool
    streams: bool = False
    seconds: float = float("inf")
    cpu_seconds: float = float("inf")


@dataclass(frozen=True)
class Clips:
    """Random inputs of a step."""

    latents: Tensor
    noise: Tensor
    control: Tensor
    text: Tensor


def main(argv: list[str]) -> int:
    """Measure, print a table; return 0 where the bar is met, else 1."""

    args = parse_words(Args, argv, "tacit bench vace_e")
    torch.set_num_threads(args.threads)
    ways = measure(args.samples, args.rounds)
    ratio = ways[-1].seconds / ways[0].seconds
    _print_ways(ways, args.samples, ratio)
    if args.json is not None:
        numbers = {"ways": [asdict(way) for way in ways], "samples": args.samples, "ratio": ratio}
        args.json.write_text(json.dumps(numbers, indent=2), encoding="utf-8")
    return 0 if ratio >= BAR else 1


def measure(samples: int, rounds: int) -> list[Way]:
    """Time all ways in turn, round by round, so that a busy machine meets all of them.

    Returns:
        The batch first, the baseline last.
    """
    plans = [
        Way(f"one batch of {samples}", samples, False),
        Way(f"one batch of {samples}, with streams", samples, False, streams=True),
        Way(f"one batch of {samples}, checkpointed", samples, True),
        Way(f"{samples} batches of 1", 1, False),
        Way(f"{samples} batches of 1, checkpointed", 1, True),
    ]
    runs = [_Run(plan, samples) for plan in plans]
    for _ in range(rounds + 1):  # the first is a warm-up
        for run in runs:
            run.go()
    return [run.best() for run in runs]


class _Run:
    """One way with its model and optimiser."""

    def __init__(self, plan: Way, samples: int) -> None:
        self.plan = plan
        torch.manual_seed(0)
        config = preset(SIZE)
        self.model: VaceE = build_model(config, plan.streams).train()
        if plan.checkpointing:
            self.model.transformer.enable_gradient_checkpointing()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 1e-5)
        self.clips = _random_clips(samples, config.backbone)
        self.signals = random_signals(samples, config.encoders, config.backbone.text_dim, CELLS[0])
        self.spent: list[tuple[float, float]] = []

    def go(self) -> None:
        """Train once on all clips."""
        begin, begin_cpu = time.perf_counter(), time.process_time()
        for start in range(0, len(self.clips.latents), self.plan.batch):
            self._step(slice(start, start + self.plan.batch))
        self.spent.append((time.perf_counter() - begin, time.process_time() - begin_cpu))

    def best(self) -> Way:
        """Return the way with its shortest times after the warm-up."""
        wall, cpu = zip(*self.spent[1:], strict=True)
        plan = self.plan
        return Way(plan.name, plan.batch, plan.checkpointing, plan.streams, min(wall), min(cpu))

    def _step(self, rows: slice) -> None:
        latents, noise = self.clips.latents[rows], self.clips.noise[rows]
        sigma = shift_sigma(sample_uniform(len(latents)), SHIFT)
        condition = self.model.conditioning(self.signals.rows(rows)) if self.plan.streams else None
        velocity = self.model(
            add_noise(latents, noise, sigma),
            timestep_of(sigma),
            self.clips.control[rows],
            self.clips.text[rows],
            condition,
        )
        flow_loss_per_sample(velocity, latents, noise).mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def _random_clips(samples: int, backbone: BackboneConfig) -> Clips:
    return Clips(
        torch.randn(samples, 16, *CELLS),
        torch.randn(samples, 16, *CELLS),
        torch.randn(samples, 96, *CELLS),
        torch.randn(samples, backbone.text_length, backbone.text_dim),
    )


def _print_ways(ways: list[Way], samples: int, ratio: float) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, title=f"training {samples} clips, fastest round", title_justify="left")
    for name in ("way", "wall s", "CPU s", "samples/s"):
        table.add_column(name, justify="left" if name == "way" else "right")
    for way in ways:
        speed = samples / way.seconds
        table.add_row(way.name, f"{way.seconds:.3f}", f"{way.cpu_seconds:.3f}", f"{speed:.2f}")
    console = Console(highlight=False)
    console.print(table)
    verdict = "met" if ratio >= BAR else "missed"
    console.print(f"{ways[0].name} against {ways[-1].name}: {ratio:.2f} x samples/s (bar {BAR:g}, {verdict})")
