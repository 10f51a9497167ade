"""`tacit bench kill`: SIGKILL a recorder at its worst instants, bring each episode back, count what is lost.

The recorder is the whole one but for ROS: a process of its own, forked from one that has imported
everything, is fed in real time with three cameras, two touch sensors and joints at 100 Hz. It is killed
while idle, between ticks, inside a flush, inside the final rename, and within .5 s after the stop.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from tacit.config.arguments import Count, parse_words
from tacit.episode import EpisodeReader, check_episode, columns, files, recover
from tacit.episode.files import find_parts
from tacit.episode.writer import EpisodeWriter
from tacit.images import encode_jpeg
from tacit.record.recorder import RecorderSession, SessionSettings
from tacit.rig import Rig, load_rig

KINDS = ("idle", "mid_tick", "mid_flush", "mid_rename", "after_stop")
MAX_LOST_S = 0.5
RECORDED_S = (0.5, 1.3)
"""Length of an episode before the kill: some flushes."""
ROUND_S = 0.01
PATIENCE_S = 30.0  # for one recorder to reach its instant
FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Killed:
    """What one kill left.

    Attributes:
        kind: Where it struck.
        state: Of the episode afterwards: recovered, complete, or "gone".
        ticks: Ticks that are there.
        lost_s: From the last tick there to the kill, or to the stop where that came first [s].
        errors: What `tacit check` holds against it.
        is_earlier_intact: Whether the episode before it kept its bytes.
    """

    kind: str
    state: str
    ticks: int
    lost_s: float
    errors: tuple[str, ...]
    is_earlier_intact: bool

    @property
    def is_good(self) -> bool:
        """Whether nothing is lost that was promised."""
        return (
            self.state != "gone" and self.lost_s <= MAX_LOST_S and not self.errors and self.is_earlier_intact
        )


def kill_once(root: Path, kind: str, seed: int) -> Killed:
    """Record into `root`, kill, recover, check.

    Args:
        root: An empty folder.
        kind: One of `KINDS`.
        seed: Chooses the instant.
    """
    here, there = FORK.Pipe()
    child = FORK.Process(target=_record, args=(root, kind, seed, there), daemon=True)
    child.start()
    there.close()
    facts: dict[str, Any] = {}
    try:
        while here.poll(PATIENCE_S):
            facts = here.recv() | facts  # the stop comes before the kill
            if "kill_after_s" in facts:
                time.sleep(facts["kill_after_s"])
                break
    except EOFError:
        pass  # it has killed itself
    killed_ns = time.time_ns()
    if child.is_alive() and child.pid is not None:
        os.kill(child.pid, signal.SIGKILL)
    child.join()
    return _judge(root, kind, facts, min(facts.get("until_ns", killed_ns), killed_ns))


def _judge(root: Path, kind: str, facts: dict[str, Any], until_ns: int) -> Killed:
    earlier = Path(facts["earlier"])
    is_intact = _digest(earlier) == facts["digest"]
    for part in find_parts(root):
        recover(part)
    path = earlier if kind == "idle" else Path(facts["path"])
    if not path.is_file():
        return Killed(kind, "gone", 0, float("inf"), (), is_intact)
    errors = tuple(f"{finding.rule} {finding.message}" for finding in check_episode(path).errors)
    with EpisodeReader(path) as episode:
        for name in (*episode.cameras, *episode.tactile):
            episode.image_bytes(name, episode.num_ticks - 1)
        lost_s = 0.0 if kind == "idle" else (until_ns - int(episode.tick_ns[-1])) / 1e9
        return Killed(kind, episode.state, episode.num_ticks, lost_s, errors, is_intact)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- the process that dies ------------------------------------------------------------------------


def kill_rig() -> Rig:
    """Return the simulated rig with a third camera; all pictures come as JPEG."""
    rig = load_rig("nova2_sim")
    message = "sensor_msgs/msg/CompressedImage"
    cameras = {n: c.model_copy(update={"type": message}) for n, c in rig.cameras.items()}
    cameras["side"] = cameras["top"].model_copy(update={"topic": "/camera/side/image"})
    tactile = {n: t.model_copy(update={"type": message}) for n, t in rig.tactile.items()}
    return rig.model_copy(update={"cameras": cameras, "tactile": tactile})


def _record(root: Path, kind: str, seed: int, answer: Connection) -> None:
    """Record one whole episode, then the one that is cut short; never returns."""
    with contextlib.suppress(OSError):  # as the recorder's process does where it may
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    random = np.random.default_rng(seed)
    rig = kill_rig()
    session = RecorderSession(rig, SessionSettings(root), lambda level, text: None, lambda failure: None)
    threading.Thread(target=_feed, args=(session, rig), daemon=True).start()
    session.start("kill", "")
    _wait_for_ticks(session, 5)
    earlier = session.stop(True)
    answer.send({"earlier": str(earlier), "digest": _digest(earlier)})
    if kind == "idle":
        answer.send({"kill_after_s": float(random.uniform(0, 0.2))})
        time.sleep(PATIENCE_S)
    answer.send({"path": str(session.start("kill", ""))})
    _wait_for_ticks(session, 1)
    length_s = float(random.uniform(*RECORDED_S))
    if kind == "mid_tick":
        answer.send({"kill_after_s": length_s})
        time.sleep(PATIENCE_S)
    time.sleep(length_s)
    if kind == "mid_flush":
        _die_in_flush(random, answer)
        time.sleep(PATIENCE_S)
    if kind == "mid_rename":
        _die_in_rename(random, answer)
        answer.send({"until_ns": time.time_ns()})
        session.stop(True)
    after_s = 0.5 * float(random.uniform()) ** 2  # oftener early, while the file is being finished
    answer.send({"until_ns": time.time_ns(), "kill_after_s": after_s})
    session.stop(True)
    time.sleep(PATIENCE_S)


def _feed(session: RecorderSession, rig: Rig) -> None:
    """Deliver every stream in real time, as a poller does that looks a hundred times a second."""
    due = {name: time.time_ns() for name in rig.specs}
    periods = {name: round(1e9 / spec.rate_hz) for name, spec in rig.specs.items()}
    values = {name: list(_values(rig, name)) for name in rig.specs}
    numbers: Counter[str] = Counter()
    while True:
        now_ns = time.time_ns()
        for name in due:
            while due[name] <= now_ns:
                value = values[name][numbers[name] % len(values[name])]
                session.receive(name, due[name], due[name] + 1_000_000, value)
                numbers[name] += 1
                due[name] += periods[name]
        session.looked(time.monotonic_ns())
        time.sleep(ROUND_S)


def _values(rig: Rig, name: str) -> Iterator[Any]:
    """A few values of a stream, to be repeated."""
    spec = rig.specs[name]
    for number in range(8):
        if name in rig.images:
            height, width = rig.images[name].height, rig.images[name].width
            noise = np.random.default_rng(number).integers(40, 200, (height, width, 3), dtype=np.uint8)
            yield encode_jpeg(noise, 60)
        elif name in rig.states or name in rig.commands:
            yield np.array(
                [0.4 * rig.limits("upper")[rig.state_names.index(n)] for n in getattr(spec, "names", ())]
            )
        else:
            yield np.zeros(1)


def _wait_for_ticks(session: RecorderSession, count: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while int(str(session.status()["num_ticks"])) < count and time.monotonic() < deadline:
        time.sleep(0.005)


def _die_in_flush(random: np.random.Generator, answer: Connection) -> None:
    """End at one of the writes of the next flush, or a few hundred microseconds into its HDF5 flush."""
    steps, delay_s = int(random.integers(0, 90)), float(random.uniform(0, 2e-3))
    if random.random() < 0.5:  # inside the C library, wherever it is by then
        whole = EpisodeWriter.flush

        def flush(writer: EpisodeWriter, sync: bool = False) -> None:
            threading.Timer(delay_s, _die, [answer]).start()
            whole(writer, sync)

        EpisodeWriter.flush = flush  # type: ignore[assignment, method-assign]  # it is about to end
        return
    left = [steps]

    def dying(write: Callable[..., None]) -> Callable[..., None]:
        def wrapped(*arguments: Any) -> None:
            left[0] -= 1
            if left[0] < 0:
                _die(answer)
            write(*arguments)

        return wrapped

    columns.write_rows, columns.write_chunk = dying(columns.write_rows), dying(columns.write_chunk)


def _die_in_rename(random: np.random.Generator, answer: Connection) -> None:
    """End before or after one of the two halves of the rename, or before the folder is synced."""
    step = int(random.integers(0, 4))
    link, unlink, sync = os.link, os.unlink, files.sync_folder

    def dying(number: int, act: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> Any:
            if step == number:
                _die(answer)
            result = act(*arguments)
            if step == number + 1:
                _die(answer)
            return result

        return wrapped

    os.link, os.unlink, files.sync_folder = dying(0, link), dying(1, unlink), dying(2, sync)


def _die(answer: Connection) -> None:
    answer.send({"until_ns": time.time_ns()})
    os.kill(os.getpid(), signal.SIGKILL)


# --- the bench ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class KillArgs:
    """Kill a recorder at its worst instants, recover each episode, and report what was lost."""

    kills: Annotated[Count, tyro.conf.arg(help="How many of each of the five kinds.")] = 40
    seed: Annotated[int, tyro.conf.arg(help="Seed of the instants.")] = 0
    parallel: Annotated[int, tyro.conf.arg(help="Recorders at a time.")] = 2


def main(argv: list[str] | None = None) -> int:
    """Run all kills; 0 when every episode is back, checked, with at most half a second lost."""
    args = parse_words(KillArgs, argv, "tacit bench kill")
    results = kill_many(args.kills, args.seed, args.parallel)
    for kind in KINDS:
        of_kind = [result for result in results if result.kind == kind]
        lost = [result.lost_s for result in of_kind]
        states = dict(Counter(result.state for result in of_kind))
        good = sum(result.is_good for result in of_kind)
        sys.stdout.write(
            f"{kind:11} {good:3d} of {len(of_kind):3d} good  lost {np.mean(lost):.3f} s on average, "
            f"{max(lost):.3f} s at worst  {json.dumps(states)}\n"
        )
    bad = [result for result in results if not result.is_good]
    for result in bad[:10]:
        sys.stdout.write(f"  {result}\n")
    sys.stdout.write(f"{len(results) - len(bad)} of {len(results)} recovered within {MAX_LOST_S:g} s\n")
    return 1 if bad else 0


def kill_many(each: int, seed: int = 0, parallel: int = 2) -> list[Killed]:
    """Return the results of `each` kills of every kind, in folders that are removed afterwards."""
    jobs = [(kind, seed * 100_000 + 1_000 * KINDS.index(kind) + i) for i in range(each) for kind in KINDS]
    results: list[Killed] = []
    with tempfile.TemporaryDirectory(prefix="tacit_kill_") as folder:
        pipes = []
        for start in range(parallel):
            here, there = FORK.Pipe()
            FORK.Process(target=_work, args=(Path(folder), jobs[start::parallel], there)).start()
            there.close()
            pipes.append(here)
        for pipe in pipes:
            results += pipe.recv()
    return results


def _work(folder: Path, jobs: list[tuple[str, int]], answer: Connection) -> None:
    """Do some kills one after the other: a fork inherits open files, so nothing else may run here."""
    answer.send([kill_once(folder / f"{kind}_{number}", kind, number) for kind, number in jobs])
