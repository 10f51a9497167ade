"""`tacit bench wire`: the whole loop through a Dobot's wire. Somebody types demonstrations, a policy acts.

The simulated cell stands behind the fake controller: what is recorded and what is done goes through
`dobot_node` and TCP, in real time. The controller's log tells what it was asked and what it answered.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benches.testing import isolated_domain
from tacit.bundle import load_bundle, save_bundle
from tacit.config.arguments import NewFile, parse_words
from tacit.episode import check_episode, find_episodes
from tacit.rig import Rig, load_rig, parse_rig
from tacit.view.proportions import wilson_interval
from tacit_ros.wire.session import Session, SessionError

TASK = "place_cube"
INSTRUCTION = "Pick up the cube and put it on the mark."
FIRST_SEED = 10_000
"""Starts that the demo has not recorded."""
ANSWER_S = 60.0
SETTLED_S = 0.6
"""So long must success last."""
LIMIT_S = 14.0
"""A try may take so long: what a policy does in 7 s takes longer through a wire that lags by 0.2 s."""
BAR = 0.9
SLOWLY = ("jog_linear=0.03", "jog_angular=0.2")
"""An arm that lags by .3 s goes 9 mm further than it is seen to be."""
SETTLE_S, PATIENCE_S = 0.8, 300.0
"""Who types waits so long for the arm to stand: it lags; and tries so long [s]."""


@dataclass(frozen=True)
class Args:
    """Record by typing, train, and act, with the simulated cell behind a Dobot's controller."""

    bundle: Path | None = None
    """A policy of nova2_sim that places the cube (`make demo`: runs/demo/act_hsa.onnx); none: nobody acts."""
    episodes: int = 20
    """How often the policy tries."""
    demonstrations: int = 0
    """How many demonstrations a scripted person types before."""
    train_steps: int = 0
    """Train a policy on them for so many steps; it then acts once, before the other."""
    speed: float = 1.0
    """Simulated seconds per second: less on a busy machine. The arm's controller has the wall clock."""
    folder: Path | None = None
    """Keep episodes, logs and what was trained here."""
    json: NewFile | None = None
    """Write the numbers to this file too."""


@dataclass
class Try:
    """One try of a policy: what came of it, and what policy and arm said at its end."""

    seed: int
    success: bool
    seconds: float
    error_mm: float
    policy: str
    arm: str


@dataclass
class Numbers:
    """What was measured.

    Attributes:
        demonstrations: Files, with their ticks.
        unfit: Of these, what `tacit check` found wrong.
        trained: The try of the policy that was trained here.
        tries: Those of the bundle.
        wire: How many commands of each kind the controller was asked, and how many it refused.
        fastest: Largest step between two ServoJ over the time between them, as a part of the velocity limit.
    """

    demonstrations: dict[str, int] = field(default_factory=dict)
    unfit: list[str] = field(default_factory=list)
    trained: Try | None = None
    tries: list[Try] = field(default_factory=list)
    wire: dict[str, int] = field(default_factory=dict)
    fastest: float = 0.0

    @property
    def successes(self) -> int:
        """Of the tries of the bundle."""
        return sum(found.success for found in self.tries)


def write_rig(folder: Path, speed: float) -> Path:
    """Write nova2_wire with ports that are free, and the rates of its driver by the clock of the cell."""
    data = load_rig("nova2_wire").model_dump(mode="json")
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    data["drivers"]["arm"]["parameters"] |= dict(zip(("dashboard_port", "feedback_port"), ports, strict=True))
    for name in ("gripper_state", "robot_state"):
        data["streams"][name]["rate_hz"] /= speed
    path = folder / "nova2_wire.yaml"
    path.write_text(parse_rig(data, "wire").to_yaml(), encoding="utf-8")
    return path


@contextlib.contextmanager
def stack(name: str, rig: Path, folder: Path, speed: float, *options: str) -> Iterator[Session]:
    """Run a stack with its log and the controller's in `folder`; yields a session."""
    from tacit_ros.demo.processes import check_alive, running_stack

    log = folder / f"{name}.log"
    words = ["--rig", str(rig), f"simulator.wire_log={folder / (name + '_wire.log')}"]
    # Commands come so much later by the clock of the arm, too.
    words += [
        f"simulator.real_time_factor={speed}",
        f"dobot.command_timeout_s={min(1.0, 0.2 / speed)}",
        *options,
    ]
    with running_stack(name, words, log) as up, Session(partial(check_alive, up, log)) as session:
        yield session


def demonstrate(args: Args, rig: Path, folder: Path, numbers: Numbers, console: Console) -> None:
    """Let somebody type demonstrations."""
    from typing_session import keyboard, type_an_episode, watch

    words: tuple[str, ...] = (
        f"root={folder / 'data'}",
        f"task={TASK}",
        f"instruction={INSTRUCTION}",
        *SLOWLY,
    )
    words = (*words, "--without", "overlay")
    log = (folder / "keys.log").open("w", encoding="utf-8")
    with stack("teleop", rig, folder, args.speed, *words) as session, log:
        watch(session)
        for seed in range(args.demonstrations):
            session.set_parameters("simulator", {"seed": seed}, ANSWER_S)
            session.trigger("/simulator/reset", ANSWER_S)
            for service in ("/dobot/clear", "/dobot/enable", "/teleop/reset"):
                session.trigger_until_accepted(service, ANSWER_S)
            begin = time.monotonic()
            with keyboard(log) as terminal:
                try:
                    type_an_episode(session, terminal, load_rig(str(rig)), SETTLE_S, PATIENCE_S)
                except AssertionError as missed:
                    os.write(terminal, b"d")  # discarded
                    console.print(f"demonstration {seed}: not placed {missed}")
                    continue
            console.print(f"demonstration {seed}: typed in {time.monotonic() - begin:.0f} s")
    for path in find_episodes(folder / "data"):
        found = check_episode(path)
        numbers.demonstrations[path.name] = int(found.facts["ticks"])  # type: ignore[call-overload]
        numbers.unfit += [f"{path.name}: {error.rule} {error.message}" for error in found.errors]


def train(args: Args, folder: Path, console: Console) -> Path:
    """Train a little on what was typed, and export it."""
    from tacit_ros.demo.processes import run_verb

    run, bundle = folder / "run", folder / "trained.onnx"
    places = (f"data.datasets=[{folder / 'data'}]", f"train.output={run}", f"train.steps={args.train_steps}")
    words = ("train", "act_hsa", "--config", "act_hsa_demo", *places, "train.warmup_steps=10")
    run_verb(words, folder / "train.log", console)
    run_verb(("export", str(run), "--out", str(bundle)), folder / "export.log", console)
    return bundle


def for_wire(bundle: Path, rig: Rig, folder: Path) -> Path:
    """Return the bundle of nova2_sim for `rig`: that one's gripper speaks in its register, not in metres.

    A policy speaks metres on either, so that nothing but the calibration it names is another.
    """
    trained = load_bundle(bundle)
    calibration = json.loads(json.dumps(trained.manifest.calibration, default=list))
    calibration["arms"]["arm"]["gripper"] = rig.calibration["arms"]["arm"]["gripper"]
    manifest = trained.manifest.model_copy(update={"calibration": calibration})
    folder.mkdir(parents=True, exist_ok=True)
    return Path(save_bundle(folder / "for_wire.onnx", trained.model_bytes, manifest).source)


class Tries:
    """A policy before the cell, start after start."""

    def __init__(self, session: Session) -> None:
        from std_msgs.msg import String

        from tacit_ros.wire.node_state import NodeState

        self._session = session
        self._policy, self._arm = NodeState(session.node), NodeState(session.node, "/dobot/state")
        session.watch("/simulator/truth", String)

    def act(self, seed: int) -> Try:
        """Set the cell up, let the policy act until success has lasted, it holds, or time is up."""
        session = self._session
        session.set_parameters("simulator", {"seed": seed}, ANSWER_S)
        session.trigger("/simulator/reset", ANSWER_S)
        session.trigger_until_accepted("/dobot/clear", ANSWER_S)
        session.trigger_until_accepted("/dobot/enable", ANSWER_S)
        session.trigger_until_accepted("/policy/reset", ANSWER_S)
        session.trigger_until_accepted("/policy/start", ANSWER_S)
        session.forget("/simulator/truth")
        session.spin_until(lambda: session.latest("/simulator/truth") is not None, ANSWER_S, "the cell")
        begin, since = self._truth()["stamp_ns"], [math.inf]

        def over() -> bool:
            truth = self._truth()
            now = (truth["stamp_ns"] - begin) * 1e-9
            since[0] = min(since[0], now) if truth["success"] else math.inf
            return now - since[0] >= SETTLED_S or now > LIMIT_S or self._policy.text.startswith("HOLD")

        session.spin_until(over, 20 * LIMIT_S, "the end of a try")
        said, truth = (str(self._policy), str(self._arm)), self._truth()
        with contextlib.suppress(SessionError):  # where it holds already
            session.trigger("/policy/hold")
        session.spin_until(lambda: self._arm.text != "MOVING", ANSWER_S, "an arm that rests")
        seconds = (truth["stamp_ns"] - begin) * 1e-9
        return Try(seed, since[0] < math.inf, round(seconds, 2), round(1e3 * truth["error_m"], 1), *said)

    def _truth(self) -> dict[str, Any]:
        return dict(json.loads(self._session.latest("/simulator/truth").data))


def act(bundle: Path, episodes: int, rig: Path, folder: Path, speed: float, console: Console) -> list[Try]:
    """Let a bundle act from one start after the other."""
    folder.mkdir(parents=True, exist_ok=True)
    with stack("policy", rig, folder, speed, f"bundle={bundle}") as session:
        tries, found = Tries(session), []
        for seed in range(FIRST_SEED, FIRST_SEED + episodes):
            found.append(tries.act(seed))
            console.print(f"{'placed' if found[-1].success else 'not placed'}: {found[-1]}")
    return found


def read_wire(path: Path, rig: Rig, numbers: Numbers) -> None:
    """Count what a controller was asked, and judge its ServoJ."""
    times, targets, counts = [], [], Counter(numbers.wire)
    for line in path.read_text(encoding="utf-8").splitlines():
        when, _, text = line.partition(" ")
        error, _, rest = text.partition(",{")
        name = rest.partition("},")[2].partition("(")[0]
        if not name:
            counts[text] += 1
            continue
        counts[name if error == "0" else f"{name} refused"] += 1
        if name == "ServoJ" and error == "0":
            times.append(float(when))
            targets.append([float(q) for q in rest.partition("ServoJ(")[2].split(",")[:6]])
    numbers.wire = dict(counts)
    if len(times) > 1:
        gaps, steps = np.diff(times), np.abs(np.diff(np.deg2rad(targets), axis=0))
        near = gaps < 0.09  # within one motion
        share = steps[near] / (rig.limits("velocity")[:6] * np.maximum(gaps[near], 0.03)[:, None])
        numbers.fastest = max(numbers.fastest, float(share.max(initial=0.0)))


def main(argv: list[str] | None = None) -> int:
    """Run the bench; 0 where the bundle places enough cubes and every demonstration passes the check."""
    args, numbers, console = parse_words(Args, argv, "tacit bench wire"), Numbers(), Console(highlight=False)
    with contextlib.ExitStack() as opened:
        opened.enter_context(isolated_domain())
        folder = args.folder or Path(opened.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        rig = write_rig(folder, args.speed)
        if args.demonstrations:
            demonstrate(args, rig, folder, numbers, console)
        if args.train_steps:
            bundle = train(args, folder, console)
            [numbers.trained] = act(bundle, 1, rig, folder / "trained", args.speed, console)
        if args.bundle is not None:
            bundle = for_wire(args.bundle, load_rig(str(rig)), folder / "act")
            numbers.tries = act(bundle, args.episodes, rig, folder / "act", args.speed, console)
        for log in sorted(folder.rglob("*_wire.log")):
            read_wire(log, load_rig(str(rig)), numbers)
    console.print_json(json.dumps(asdict(numbers), default=float))
    low, high = wilson_interval(numbers.successes, len(numbers.tries))
    of = f"{numbers.successes} of {len(numbers.tries)} placed"
    console.print(f"{of}, 95 % interval {100 * low:.0f} to {100 * high:.0f} %")
    if args.json is not None:
        args.json.write_text(json.dumps(asdict(numbers), indent=2, default=float), encoding="utf-8")
    return 0 if numbers.successes >= BAR * len(numbers.tries) and not numbers.unfit else 1


if __name__ == "__main__":
    sys.exit(main())
