"""`tacit doctor vace_e`: its words are read before torch is imported, so that `--help` answers at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tacit.config.arguments import parse_known_words


@dataclass(frozen=True)
class Args:
    """Plan a run of VACE-E before it starts; options after it override the file, as for training.

    Example: tacit doctor vace_e --config learning/configs/vace_e_full.yaml batch_size=4
    """

    config: Path
    """YAML file with the options of the run, or the name of a shipped one."""


def main(argv: list[str]) -> int:
    """Print what every stage needs.

    Returns:
        0 where the batch of all stages fits the largest card, else 1.
    """
    args, rest = parse_known_words(Args, argv, "tacit doctor vace_e")
    from tacit_learning.vace_e.plan_table import print_plan

    return print_plan(args.config, rest)
