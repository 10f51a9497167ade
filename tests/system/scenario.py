"""The acceptance test itself: what must hold of a cell, a recorder, a policy and a progress node together.

Run by `director` where the nodes can be heard; asks it on stdout to start and kill them (`lines`).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from std_msgs.msg import Bool

from system.lines import Row, ask, report
from system.watching import unhealthy
from system.witness import Witness
from tacit.episode import EpisodeReader, check_episode, recover
from tacit.errors import TacitError
from tacit.rig import load_rig
from tacit_ros import messages
from tacit_ros.run.scripted import record_scripted, start_when_ready, watch_cell
from tacit_ros.wire import qos
from tacit_ros.wire.session import Session, SessionError

FIRST_SEED = 10_000
"""Starts that no demonstration was recorded from."""
TASK_S, SETTLED_S = 10.4, 0.6
"""Limit of one try, and how long success must last [simulated s]; as in `tacit demo`."""
SHARE_DONE = 0.8
PATIENCE_S = {"policy": 0.1, "expert": 1.0}
"""How long the cell waits for the command of a tick, where nodes share a busy machine [s]. Between two tries
the expert goes on commanding, while a policy lets the cell wait at every tick."""
ANSWER_S = 60.0
LATE_S = 0.3
"""What hearing of a fault, braking and a shared machine may add to a limit of the rig [s]."""
CELL_GIVES_UP_S = 0.2
"""The simulated cell holds after so long without a command [s]; its parameter `command_timeout_s`."""
LEASE_S = 2.8
"""A killed policy is known to be gone after its lease of 1 s; a busy machine may need more [s]."""
LOST_S = 0.75
"""A killed recorder loses half a second at most; a busy machine may add a quarter [s]."""
DEAF_S = 2.0
HOME_RAD = 0.03
LONG_TICKS = 40
SAME_SPEED = 0.05  # [rad/s]: rounding of stamps to a clock that is only estimated
FIRST = ("simulator", "camera", "recorder", "progress")
SERVICES = ["sim", "recorder", "policy", "progress"]


@dataclass(frozen=True)
class Args:
    """What to run."""

    data: Path
    rig: str = "nova2_sim"
    camera: str = "wrist"
    tasks: int = 10
    commander: Literal["policy", "expert"] = "expert"
    """Who does the tasks: the expert where no bundle can."""


class Scenario:
    """The steps, in an order in which each finds the cell as it needs it."""

    def __init__(self, session: Session, args: Args) -> None:
        self.session, self.args, self.rig = session, args, load_rig(args.rig)
        self.witness = Witness(session.node, self.rig, args.camera)
        self.button = session.node.create_publisher(Bool, "/estop", qos.latched())
        self.episodes: list[Path] = []
        watch_cell(session)

    def run(self) -> None:
        """Go through all steps; one that fails is a line of the table, and the next is tried."""
        self._step("processes start", self._start)
        self._step("tasks done", self._tasks)
        self._step("policy starts", self._go_free)
        self._step("every service is healthy", self._healthy)
        self._step("home is reached", self._home)
        self._step("camera killed: HOLD in time", self._camera_killed)
        self._step("e-stop is latched", self._stopped)
        self._step("policy killed: the cell holds", self._policy_killed)
        self._step("recorder kill -9, then recover", self._recorder_killed)
        self._step("commands inside limits", self._limits)
        report(Row("the machine meanwhile", "passed", self.witness.machine()))
        self._step("episodes pass `tacit check`", self._checked)

    def _step(self, fact: str, work: Callable[[], Row]) -> None:
        try:
            row = work()
        except (TacitError, RuntimeError, OSError) as problem:
            row = Row(fact, "FAILED", f"{type(problem).__name__}: {problem}")
        report(row)

    def _start(self) -> Row:
        begin = time.monotonic()
        for node in FIRST:
            self._ask("start", node)
        self.session.trigger("/recorder/status", ANSWER_S)
        return _row(
            "processes start", True, f"{', '.join(FIRST)} within {time.monotonic() - begin:.0f} s", ""
        )

    def _go_free(self) -> Row:
        """From here on time waits for nobody: faults are a matter of seconds."""
        self._again("policy", "/policy/hold")
        self._cell(lockstep=False)
        return _row("policy starts", True, "and the cell runs freely, in real time", "")

    def _tasks(self) -> Row:
        by_policy = self.args.commander == "policy"
        self._ask("start", "policy_lockstep" if by_policy else "expert")
        self._cell(lockstep=True)
        done = 0
        for index in range(self.args.tasks):
            done += self._act(FIRST_SEED + index) if by_policy else self._demonstrate(FIRST_SEED + index)
        self._ask("stop", "policy_lockstep" if by_policy else "expert")
        least = int(np.ceil(SHARE_DONE * self.args.tasks))
        who = "the policy bundle" if by_policy else "the scripted expert (no bundle given)"
        return _row("tasks done", done >= least, f"{done} of {self.args.tasks} by {who}", f"at least {least}")

    def _demonstrate(self, seed: int) -> bool:
        self.episodes.append(_path(record_scripted(self.session, seed, disturbance=False)))
        with EpisodeReader(self.episodes[-1]) as episode:
            return episode.success is True

    def _act(self, seed: int) -> bool:
        """Let the policy act from a seeded start until success has lasted or time is up."""
        self._reset(seed)
        start_when_ready(self.session)
        self.session.trigger("/progress/reset")
        self._start_policy()
        begin_ns, since_ns = self.witness.stamp_ns, [0]

        def over() -> bool:
            now_ns, succeeds = self.witness.stamp_ns, bool(self.witness.truth["success"])
            since_ns[0] = (since_ns[0] or now_ns) if succeeds else 0
            lasted = since_ns[0] > 0 and now_ns - since_ns[0] > SETTLED_S * 1e9
            return lasted or now_ns - begin_ns > TASK_S * 1e9

        self.session.spin_until(over, 10 * TASK_S, "the end of the try")
        succeeded = since_ns[0] > 0
        self.session.trigger("/policy/hold")
        self.episodes.append(_path(self.session.set_bool("/recorder/stop", succeeded)["message"]))
        return succeeded

    def _healthy(self) -> Row:
        ill: dict[str, str] = {"": "not asked"}
        deadline = time.monotonic() + ANSWER_S
        while ill and time.monotonic() < deadline:
            ill = unhealthy(SERVICES, self._listen)
        found = "; ".join(f"{name}: {text}" for name, text in ill.items()) or ", ".join(SERVICES)
        return _row("every service is healthy", not ill, found, "the checks of compose.yaml")

    def _home(self) -> Row:
        self._reset(FIRST_SEED)
        deadline = time.monotonic() + ANSWER_S
        self.session.trigger_until_accepted("/policy/home", ANSWER_S)
        while (
            self.witness.policy.text != "IDLE"
        ):  # a stream that was late on a busy machine ends it: once more
            if time.monotonic() > deadline:
                raise SessionError(f"not at home; the policy says {self.witness.policy}")
            if self._holds:
                self.session.trigger_until_accepted("/policy/home", ANSWER_S)
            self._listen()
        self._until(lambda: not self.witness.moves, "an arm that stands")
        assert self.rig.home is not None
        off = float(np.nanmax(np.abs(self.rig.home - self.witness.joints)))
        return _row("home is reached", off <= HOME_RAD, f"joints off by {off:.4f} rad", f"{HOME_RAD} rad")

    def _camera_killed(self) -> Row:
        self._move(FIRST_SEED + 1)
        self._ask("kill", "camera")
        self._until(lambda: self._holds, "HOLD")
        after = self.witness.said_s - self.witness.picture_s
        reason = self.witness.policy.text
        self._until(lambda: not self.witness.moves, "an arm that stands")
        self.session.spin_for(0.3)
        count = self.witness.num_commands()
        self.session.spin_for(0.5)
        silent = self.witness.num_commands() == count
        limit = self.rig.safety.image_age_ms / 1e3 + LATE_S
        self._ask("start", "camera")
        good = after <= limit and silent and self.args.camera in reason
        return _row(
            "camera killed: HOLD in time",
            good,
            f"{after:.2f} s after the last picture: {reason}",
            f"{limit:.2f} s",
        )

    def _stopped(self) -> Row:
        self._move(FIRST_SEED + 2)
        pressed = time.monotonic()
        self.button.publish(messages.boolean(True))
        self._until(lambda: self.witness.policy.text.startswith("ESTOP"), "ESTOP")
        after = time.monotonic() - pressed
        self._until(lambda: not self.witness.moves, "an arm that stands")
        stood = time.monotonic() - pressed
        refusals = {name: self._refused(f"/policy/{name}") for name in ("start", "home", "reset")}
        self.button.publish(messages.boolean(False))
        still = self.witness.policy.text.startswith("ESTOP")
        self.session.trigger_until_accepted("/policy/reset", ANSWER_S)
        refused = ", ".join(name for name, was in refusals.items() if was)
        found = f"stopped after {after:.2f} s, stands after {stood:.2f} s; refused: {refused}"
        good = all(refusals.values()) and still and after <= LATE_S
        return _row("e-stop is latched", good, found, f"{LATE_S} s")

    def _policy_killed(self) -> Row:
        self._move(FIRST_SEED + 3)
        self.witness.gone_s = 0.0
        self._ask("kill", "policy")
        self._until(lambda: not self.witness.moves, "an arm that stands")
        stood = self.witness.moved_s - self.witness.command_s
        self._until(lambda: self.witness.gone_s > 0.0, "a policy that is known to be gone")
        known = self.witness.gone_s - self.witness.command_s
        there = self.witness.joints.copy()
        self.session.spin_for(1.0)
        drift = float(np.abs(self.witness.joints - there).max())
        ill = unhealthy(["policy", "progress"], self._listen)
        limit = CELL_GIVES_UP_S + 2 * LATE_S
        good = stood <= limit and drift < HOME_RAD and known <= LEASE_S and list(ill) == ["policy"]
        self._again("policy", "/policy/hold")
        found = (
            f"stands {stood:.2f} s after its last command, drifts {drift:.4f} rad in 1 s; "
            f"known to be gone after {known:.1f} s; unhealthy: {', '.join(ill) or 'nobody'}"
        )
        return _row("policy killed: the cell holds", good, found, f"{limit:.1f} s, {LEASE_S} s")

    def _recorder_killed(self) -> Row:
        path = self._record(FIRST_SEED + 4)
        self._ask("kill", "recorder")
        killed_ns = self.witness.stamp_ns
        recover(path.with_name(path.name + ".part"))
        with EpisodeReader(path) as episode:
            lost = (killed_ns - int(episode.tick_ns[-1])) / 1e9
            ticks, state = episode.num_ticks, episode.state
        self.episodes.append(path)
        self._again("recorder", "/recorder/status")
        self._record(FIRST_SEED + 5)
        self.episodes.append(_path(self.session.set_bool("/recorder/stop", False)["message"]))
        found = f"{ticks} ticks {state}, {lost:.2f} s lost; the next is {self.episodes[-1].name}"
        return _row("recorder kill -9, then recover", lost <= LOST_S and ticks > 20, found, f"{LOST_S} s")

    def _limits(self) -> Row:
        over = self.witness.excess()
        count = self.witness.num_commands()
        found = f"{count} commands; beyond by {over.position:.1e} rad and {over.speed:.3f} rad/s"
        found += f": {over.worst}" if over.speed > 0 else ""
        good = count > 0 and over.position <= 1e-6 and over.speed <= SAME_SPEED
        return _row("commands inside limits", good, found, f"0 and {SAME_SPEED}")

    def _checked(self) -> Row:
        errors = {path.name: check_episode(path).errors for path in self.episodes}
        bad = [f"{name}: {found[0].rule} {found[0].message}" for name, found in errors.items() if found]
        found = "; ".join(bad) or f"{len(errors)} episodes"
        return _row("episodes pass `tacit check`", bool(errors) and not bad, found, "no error")

    def _cell(self, lockstep: bool) -> None:
        waits = {"lockstep": lockstep, "lockstep_timeout_s": PATIENCE_S[self.args.commander]}
        self.session.set_parameters("simulator", waits, ANSWER_S)
        self._reset(FIRST_SEED)

    def _reset(self, seed: int) -> None:
        self.session.set_parameters("simulator", {"seed": seed}, ANSWER_S)
        self.session.trigger("/simulator/reset", ANSWER_S)

    def _start_policy(self) -> None:
        self.session.trigger_until_accepted("/policy/reset", ANSWER_S)
        self.session.trigger_until_accepted("/policy/start", ANSWER_S)

    def _move(self, seed: int) -> None:
        """Let the policy move the arm from a seeded start."""
        self._reset(seed)
        deadline = time.monotonic() + ANSWER_S
        while not self.witness.moves:  # a camera that has just come back may be late once more
            if time.monotonic() > deadline:
                raise SessionError(f"the arm does not move; the policy says {self.witness.policy}")
            self._start_policy()
            self._until(lambda: self.witness.moves or self._holds, "an arm that moves, or a reason")

    def _again(self, node: str, service: str) -> None:
        """Start what was killed, until it answers: before its lease ends, the dead one is asked instead."""
        self._ask("start", node)
        deadline = time.monotonic() + ANSWER_S
        while time.monotonic() < deadline:
            try:
                self.session.trigger(service, DEAF_S)
                return
            except SessionError as refusal:
                if "waited" not in str(refusal):
                    return  # an answer, if not a kind one
        raise SessionError(f"{service} has not answered for {ANSWER_S:g} s")

    def _record(self, seed: int) -> Path:
        """Record a moving arm until the episode has some length; returns its file to be."""
        self._reset(seed)
        start_when_ready(self.session)
        self._start_policy()
        self._until(lambda: self._status()["num_ticks"] > LONG_TICKS, "an episode of some length")
        return _path(str(self._status()["path"]))

    def _status(self) -> dict[str, Any]:
        return self.session.trigger("/recorder/status")

    def _ask(self, action: str, node: str) -> None:
        ask(action, node, lambda: self.session.spin_for(0.02))

    def _listen(self) -> None:
        self.session.spin_for(0.05)

    @property
    def _holds(self) -> bool:
        return self.witness.policy.text.startswith("HOLD")

    def _refused(self, service: str) -> bool:
        try:
            self.session.trigger(service)
        except SessionError:
            return True
        return False

    def _until(self, fact: Callable[[], bool], what: str) -> None:
        self.session.spin_until(fact, ANSWER_S, what)


def _row(fact: str, good: bool, found: str, bar: str) -> Row:
    return Row(fact, "passed" if good else "FAILED", found, bar)


def _path(message: str) -> Path:
    """Return the file that the recorder names in its answer."""
    return Path(message.removeprefix("saved ").removeprefix("recording "))


def main() -> int:
    """Run the scenario; the director judges the rows."""
    args = tyro.cli(Args)
    with Session(name="acceptance") as session:
        Scenario(session, args).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
