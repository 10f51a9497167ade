"""`tacit bench faults`: everything that comes wrong from outside, against policy and recorder.

A virtual robot sends real messages of all its streams; at a seeded instant one kind of fault begins. Time is
virtual, so that how busy this machine is decides nothing.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tiny_bundles import policy_bundle

from benches.faults_kinds import FAULTS, Fault
from benches.faults_trials import LIMIT_SLACK, TICK_NS, Cell, attempt, begin_running, outside_limits
from benches.faults_world import MS, bench_rig, size_of
from tacit.bundle import ImageInput
from tacit.bundle.runtime import OnnxPolicy
from tacit.config.arguments import Count, NewFile, parse_words
from tacit.rig import Rig

CHUNK_ROWS = 50
EPISODE_S, RECORDED_S = 5.0, 60.0
CLOCK_AHEAD_NS = 20 * MS
"""Two clocks that NTP keeps together: in unfaulted runs the cameras' computer is ahead by this."""

HOLD_TICKS = 2
"""Within so many ticks a policy must hold where a single observation shows the fault."""

HOLD_MS = 100.0
"""And within so many after its intake has first refused or doubted something."""

SOUND_RULES = ("W02", "W07", "W09", "W10", "W14")
"""Warnings of `tacit check` on sound episodes of this bench: short ones, tiny pictures, lost messages."""


@dataclass(frozen=True)
class Args:
    """Try each kind of fault many times in virtual time, and count false alarms where nothing is wrong."""

    tries: Count = 20
    """Tries of each kind: other instants, joints, cameras."""
    episodes: int = 100
    """Closed-loop episodes without a fault, of 5 s: none may hold."""
    minutes: float = 60.0
    """Minutes of recording without a fault: no start may be refused, none end by itself."""
    quick: bool = False
    """3 tries, 10 episodes, 2 minutes."""
    only: str = ""
    """Only kinds whose name contains this; without false alarms."""
    json: NewFile | None = None
    """Write the numbers to this file too."""


@dataclass(frozen=True)
class Row:
    """One kind over all tries.

    Attributes:
        fault: The kind.
        tries: How often it was tried.
        held, seen: How often the policy held, and held or refused what was wrong.
        late_ms_max: From the first finding of the policy to its hold, at most [ms].
        hold_ms_p50, hold_ms_max: From the first wrong sample to the hold [ms]; None where it need not hold.
        reasons: Why it held, by count.
        outside: Tries with a command outside position, velocity or acceleration limits.
        named, named_ms_max: How often the recorder named it in time, and the longest that took [ms].
        recorder_kinds: As what, by tries.
        policy_refused, recorder_refused: Starts refused while it lasted, of how many; None where not asked.
        states, events: What the episodes say, by tries.
        check: Rules of `tacit check` that the first five break, beside those that sound ones do.
        refused_max: Most samples that policy or recorder refused or doubted in a try.
        wrong_recorded: Samples of disturbed drivers that were recorded, largest of all tries.
    """

    fault: str
    tries: int
    held: int
    seen: int
    late_ms_max: float | None
    hold_ms_p50: float | None
    hold_ms_max: float | None
    reasons: dict[str, int]
    outside: int
    named: int
    named_ms_max: float | None
    recorder_kinds: dict[str, int]
    policy_refused: int | None
    recorder_refused: int | None
    states: dict[str, int]
    events: dict[str, int]
    check: dict[str, int]
    refused_max: int
    wrong_recorded: int


@dataclass(frozen=True)
class Alarms:
    """False alarms where nothing is wrong.

    Attributes:
        episodes, holds: Closed-loop episodes, and why those that held did.
        outside: Episodes with a command outside the limits.
        minutes, refusals: Minutes recorded, and what was refused or ended by itself.
    """

    episodes: int
    holds: dict[str, int]
    outside: int
    minutes: float
    refusals: dict[str, int]


def main(argv: list[str]) -> int:
    """Measure, print a table; 1 where a bar is missed."""
    args = parse_words(Args, argv, "tacit bench faults")
    tries, episodes, minutes = (3, 10, 2.0) if args.quick else (args.tries, args.episodes, args.minutes)
    rig = bench_rig()
    with tempfile.TemporaryDirectory(prefix="tacit_bench_") as folder:
        policy = make_policy(rig, Path(folder))
    faults = [fault for fault in FAULTS if args.only in fault.name]
    rows = [measure(fault, tries, rig, policy) for fault in faults]
    alarms = None if args.only else false_alarms(episodes, minutes, rig, policy)
    _print(rows, alarms)
    if args.json is not None:
        found = {"faults": [asdict(row) for row in rows], "alarms": alarms and asdict(alarms)}
        args.json.write_text(json.dumps(found, indent=2), encoding="utf-8")
    missed = [text for fault, row in zip(faults, rows, strict=True) for text in misses(fault, row)]
    missed += [] if alarms is None else alarms_missed(alarms)
    _say("\n".join(missed) or "every bar is met")
    return 1 if missed else 0


def measure(fault: Fault, tries: int, rig: Rig, policy: OnnxPolicy) -> Row:
    """Try one kind so many times."""
    outcomes = [attempt(fault, seed, rig, policy) for seed in range(tries)]
    holds = [o.hold_ms for o in outcomes if o.hold_ms is not None]
    late = [o.hold_ms - o.seen_ms for o in outcomes if o.hold_ms is not None and o.seen_ms is not None]
    named = [o.named_ms for o in outcomes if o.named_ms is not None]
    return Row(
        fault=fault.name,
        tries=tries,
        held=len(holds),
        seen=sum(o.policy_seen for o in outcomes),
        late_ms_max=max(late, default=None) if fault.holds else None,
        hold_ms_p50=float(np.median(holds)) if holds else None,
        hold_ms_max=max(holds, default=None),
        reasons=_counted([o.reason] for o in outcomes if o.reason),
        outside=sum(o.excess > LIMIT_SLACK for o in outcomes),
        named=sum(ms <= 1e3 * fault.named_within_s for ms in named),
        named_ms_max=max(named, default=None),
        recorder_kinds=_counted(o.recorder_kinds for o in outcomes),
        policy_refused=_refused(o.policy_refused for o in outcomes),
        recorder_refused=_refused(o.recorder_refused for o in outcomes),
        states=_counted([o.state] for o in outcomes),
        events=_counted(o.events for o in outcomes),
        check=_counted([r for r in o.check if r not in SOUND_RULES] for o in outcomes),
        refused_max=max(k.total() for o in outcomes for k in (o.policy_kinds, o.recorder_kinds)),
        wrong_recorded=max(o.wrong_recorded for o in outcomes),
    )


def misses(fault: Fault, row: Row) -> list[str]:
    """Return which bars a kind misses."""
    n, missed = row.tries, []
    if fault.policy and row.seen < n:
        missed.append(f"policy saw {row.seen} of {n}")
    ticks = 1e6 * (row.hold_ms_max or 0) / TICK_NS
    if fault.policy and fault.shown and ticks > HOLD_TICKS:
        missed.append(f"held after {ticks:.1f} ticks, expected {HOLD_TICKS}")
    if fault.policy and (row.late_ms_max or 0) > HOLD_MS:
        missed.append(f"held {row.late_ms_max:.0f} ms after it was seen, expected {HOLD_MS:g}")
    if fault.costs is not None and row.refused_max > fault.costs:
        missed.append(f"{row.refused_max} samples were refused, of which {fault.costs} were wrong")
    if row.outside:
        missed.append(f"commands outside limits in {row.outside} of {n}")
    if fault.recorder and row.named < n:
        missed.append(f"recorder named {row.named} of {n} within {fault.named_within_s:g} s")
    if fault.at_start and fault.policy and row.policy_refused != n:
        missed.append(f"policy refused {row.policy_refused} of {n} starts")
    if fault.at_start and fault.recorder and row.recorder_refused != n:
        missed.append(f"recorder refused {row.recorder_refused} of {n} starts")
    return [f"{fault.name}: {text}" for text in missed]


def alarms_missed(alarms: Alarms) -> list[str]:
    """Return which bars are missed where nothing is wrong."""
    missed = [f"false hold: {reason} ({count} times)" for reason, count in alarms.holds.items()]
    missed += [f"commands outside limits in {alarms.outside} sound episodes"] if alarms.outside else []
    return missed + [f"false refusal: {what} ({count} times)" for what, count in alarms.refusals.items()]


def false_alarms(episodes: int, minutes: float, rig: Rig, policy: OnnxPolicy) -> Alarms:
    """Run sound cells with jitter, loss and two clocks 20 ms apart; every other robot has quiet encoders."""
    holds, outside = Counter[str](), 0
    with tempfile.TemporaryDirectory(prefix="tacit_bench_") as folder:
        for seed in range(episodes):
            reason, excess = _sound_episode(seed, rig, policy, Path(folder))
            holds.update([reason] if reason else [])
            outside += excess > LIMIT_SLACK
        refusals = Counter[str]()
        for seed in range(max(1, round(minutes * 60 / RECORDED_S))):
            refusals.update(_sound_recording(1000 + seed, rig, Path(folder)))
    return Alarms(episodes, dict(holds), outside, minutes, dict(refusals))


def _sound_cell(seed: int, rig: Rig, policy: OnnxPolicy | None, folder: Path) -> Cell:
    cell = Cell(rig, seed, policy, folder, is_quiet=seed % 2 == 1)
    for name in rig.image_names:
        cell.drivers[name].clock_ns = CLOCK_AHEAD_NS
    return cell


def _sound_episode(seed: int, rig: Rig, policy: OnnxPolicy, folder: Path) -> tuple[str, float]:
    """Return why a policy held although nothing was wrong, "" where it did not, and its largest excess."""
    cell = _sound_cell(seed, rig, policy, folder)
    begin_running(cell)
    cell.run(EPISODE_S)
    assert cell.policy is not None
    detail, excess = str(cell.policy.acting.controller.fault or ""), outside_limits(cell)
    cell.recorder.finish()
    cell.close()
    return detail, excess


def _sound_recording(seed: int, rig: Rig, folder: Path) -> list[str]:
    """Record for a minute; return each reason not to start, each finding and why an episode ended."""
    cell = _sound_cell(seed, rig, None, folder)
    cell.teleoperate()
    cell.run(2.0)
    wrong = [f"not started: {reason}" for reason in cell.recorder.not_ready()]
    cell.recorder.begin()
    for _ in range(int(RECORDED_S)):
        cell.run(1.0)
        wrong += [f"{name}: {kind}" for name, kind in cell.recorder.findings().items()]
        wrong += [f"gate: {reason}" for reason in cell.recorder.not_ready()]
    wrong += [] if cell.recorder.session.is_recording else [f"ended: {cell.recorder.said[-1:]}"]
    refused = cell.recorder.counts()
    wrong += [f"refused or doubted: {kind}" for kind in refused.elements()]
    cell.recorder.finish()
    cell.close()
    return wrong


def make_policy(rig: Rig, folder: Path) -> OnnxPolicy:
    """Return a tiny bundle at work, exported to `folder`, that sees both cameras."""
    cameras = {}
    for name in rig.cameras:
        width, height = size_of(name)
        cameras[name] = ImageInput(
            height=height // 2, width=width // 2, source_height=height, source_width=width
        )
    return OnnxPolicy(policy_bundle(folder, rig, cameras=cameras, chunk_size=CHUNK_ROWS), rig)


def _counted(groups: Iterable[Iterable[str]]) -> dict[str, int]:
    """Return in how many groups each word occurs."""
    return dict(Counter(word for group in groups for word in set(group)).most_common())


def _refused(answers: Iterable[bool | None]) -> int | None:
    asked = [answer for answer in answers if answer is not None]
    return sum(asked) if asked else None


def _print(rows: list[Row], alarms: Alarms | None) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "fault",
        "seen",
        "held",
        "hold ticks p50/max",
        "ms",
        "after seen",
        "reason",
        "outside",
        "start",
        "named",
        "ms",
        "start",
        "episode",
        "events",
        "check",
        "wrong recorded",
        title="tacit bench faults: policy (seen to start), recorder (named to wrong recorded)",
        title_justify="left",
        box=None,
    )
    for row in rows:
        table.add_row(*_cells(row))
    console = Console(highlight=False, width=230)
    console.print(table)
    if alarms is not None:
        console.print(
            f"nothing wrong: {sum(alarms.holds.values())} holds in {alarms.episodes} episodes of "
            f"{EPISODE_S:g} s; {sum(alarms.refusals.values())} refusals in {alarms.minutes:g} minutes"
        )


def _cells(row: Row) -> list[str]:
    n = row.tries
    ticks = [f"{1e6 * ms / TICK_NS:.1f}" for ms in (row.hold_ms_p50, row.hold_ms_max) if ms is not None]
    ms = [f"{ms:.0f}" for ms in (row.hold_ms_p50, row.hold_ms_max) if ms is not None]
    events = {k: v for k, v in row.events.items() if k not in ("gap", "loss")}
    return [
        row.fault,
        f"{row.seen}/{n}",
        f"{row.held}/{n}",
        "/".join(ticks),
        "/".join(ms),
        "" if row.late_ms_max is None else f"{row.late_ms_max:.0f}",
        _listed(row.reasons),
        str(row.outside),
        _share(row.policy_refused, n),
        f"{row.named}/{n}",
        "" if row.named_ms_max is None else f"{row.named_ms_max:.0f}",
        _share(row.recorder_refused, n),
        _listed(row.states),
        _listed(events),
        _listed(row.check),
        str(row.wrong_recorded),
    ]


def _share(count: int | None, tries: int) -> str:
    return "" if count is None else f"{count}/{tries}"


def _listed(counts: dict[str, int]) -> str:
    return " ".join(f"{word} {count}" for word, count in counts.items())


def _say(text: str) -> None:
    import sys

    sys.stdout.write(text + "\n")
