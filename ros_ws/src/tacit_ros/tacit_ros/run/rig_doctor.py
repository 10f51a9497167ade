"""`tacit doctor --rig`: listen to a running robot, and say how it and its rig differ. Publishes nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rich.console import Console
from rich.table import Table

from tacit.errors import ConfigError
from tacit.rig import Rig, load_rig
from tacit.streams import Intake
from tacit.tools.survey import StreamReport, Survey, cures, proposed_lines
from tacit_ros.wire.environment import prepare
from tacit_ros.wire.observations import RigSubscriptions
from tacit_ros.wire.publishers import Publishers

SHORTEST_S = 1.0
DISCOVERY_S = 10.0
"""Longest wait for the first message, before the measured time begins."""
QUEUE_S = 1.0
FILE_WIDTH = 240
"""Columns where the table does not go to a terminal: one line for each stream."""


class RigDoctor(Node):
    """Hears every stream of a rig, as a recorder would."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(f"tacit_doctor_{time.time_ns() % 10**9}")
        self._rig, self._intake = rig, Intake(rig)
        self.survey = Survey(rig, self._intake)
        self._streams = RigSubscriptions(
            self, rig, self._intake, self.survey.saw, queue_s=QUEUE_S, polled=True, joint_readings=True
        )
        heard = {name: self._streams.topic(name) for name in rig.specs}
        self._others = Publishers(self, heard, intake=self._intake)
        self._spinner = SingleThreadedExecutor()
        self._spinner.add_node(self)
        self._seconds = 0.0

    def listen(self, seconds: float) -> None:
        """Listen for so long, counted from the first message, which is waited for 10 s at most."""
        deadline = time.monotonic() + DISCOVERY_S
        while not self._has_heard() and time.monotonic() < deadline:
            self._hear()
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            self._hear()
        self._seconds = passed
        self._others.look()

    def reports(self) -> list[StreamReport]:
        """Return what each stream did."""
        return self.survey.reports(max(self._seconds, 1e-3), self._streams.topic, self._others.names)

    def reasons(self) -> list[str]:
        """Return why a recorder would refuse to start now."""
        return self.survey.reasons(time.time_ns(), self._streams.num_publishers)

    def close(self) -> None:
        """Stop listening."""
        self._spinner.shutdown()
        self.destroy_node()

    def _hear(self) -> None:
        self._streams.poll()
        self._spinner.spin_once(timeout_sec=0.02)

    def _has_heard(self) -> bool:
        return bool(self._intake.accepted) or any(self._intake.snapshot().values())


def examine_rig(name: str, seconds: float) -> int:
    """Listen to the robot of a rig and print what it does; returns 1 where a start would be refused.

    Args:
        name: Shipped rig, or path of a rig.yaml.
        seconds: How long to listen [s].

    Raises:
        TacitError: The rig is wrong, or the time too short.
    """
    if not SHORTEST_S <= seconds < float("inf"):
        raise ConfigError(f"--seconds: {seconds:g}, expected at least {SHORTEST_S:g}")
    rig = load_rig(name)
    prepare()
    rclpy.init()
    doctor = RigDoctor(rig)
    try:
        doctor.listen(seconds)
        reports, reasons = doctor.reports(), doctor.reasons()
    except ExternalShutdownException:
        raise KeyboardInterrupt from None
    finally:
        doctor.close()
        rclpy.try_shutdown()
    _print(rig, seconds, reports, reasons)
    return 1 if reasons else 0


def _print(rig: Rig, seconds: float, reports: Sequence[StreamReport], reasons: Sequence[str]) -> None:
    in_file = not sys.stdout.isatty()
    console = Console(highlight=False, soft_wrap=in_file, width=FILE_WIDTH if in_file else None)
    console.print(_table(rig, seconds, reports))
    for report in reports:
        if report.finding is not None:
            console.print(f"{report.name}: {report.finding.kind}: {report.finding.text}", markup=False)
    if lines := proposed_lines(rig, reports):
        console.print("\nLines of the rig to change, where the robot is right and not the rig:")
        console.print(lines, markup=False)
    for cure in cures(reports):
        console.print(f"\n{cure}", markup=False)
    if reasons:
        console.print("\nA recording would be refused:")
        console.print("\n".join(f"- {reason}" for reason in reasons), markup=False)
    else:
        console.print("\nNothing speaks against a recording.")


def _table(rig: Rig, seconds: float, reports: Sequence[StreamReport]) -> Table:
    table = Table(title=f"rig {rig.name}, heard for {seconds:g} s", box=None, title_justify="left")
    for heading in ("stream", "topic", "published by"):
        table.add_column(heading, overflow="fold")
    for heading in ("Hz", "rig", "jitter p99 ms", "latency ms", "clock s"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("refused or doubted", overflow="fold")
    for report in reports:
        counts = ", ".join(f"{kind} {count}" for kind, count in report.refused.items() if count)
        table.add_row(
            report.name,
            report.topic,
            ", ".join(report.publishers) or "nobody",
            f"{report.hz:.1f}",
            f"{report.rate_hz:g}",
            f"{report.jitter_p99_ms:.1f}",
            "-" if report.latency_p50_ms is None else f"{report.latency_p50_ms:.1f}",
            "-" if report.offset_s is None else f"{report.offset_s:+.3f}",
            counts,
        )
    return table
