"""`tacit up <stack> --rig R [key=value ...]`: run a stack of nodes and take all of them down again.

Every node is a process of its own. None is restarted: when one ends, all end, and the exit code says
so. No child outlives this process, however it ends.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import IO, Annotated

import tyro

from tacit.config.arguments import Within, parse_words
from tacit.errors import ConfigError
from tacit.threads import Failure, WatchedThread
from tacit_ros.run.stacks import NodeSpec, Stack, arguments, build_stack, stack_spec
from tacit_ros.wire.environment import child_environment

GRACE_S = 10.0  # a recorder finishes its episode within 0.5 s; a simulator joins its threads
POLL_S = 0.05
PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True)
class UpArgs:
    """Run a stack of nodes on this machine until Ctrl-C.

    Stacks: record (recorder and overlay; in simulation also the cell and its expert), policy,
    progress, simulate, calibrate, full. Options are key=value, or node.key=value for one node only, such as
    `task=place_cube root=data`. `tacit up <stack> --list` shows those of a stack.
    """

    stack: tyro.conf.Positional[str]
    options: tyro.conf.Positional[tuple[str, ...]] = ()
    rig: Annotated[str, tyro.conf.arg(help="Shipped rig or path of a rig.yaml.")] = "nova2_sim"
    also: Annotated[
        tyro.conf.UseAppendAction[tuple[str, ...]],
        tyro.conf.arg(name="with", help="Node that runs on demand, such as `description` (tf, RViz)."),
    ] = ()
    without: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Node of the stack to leave out; may be given again."""
    desk: Annotated[bool, tyro.conf.arg(help="Serve the operator's page on this machine: `--with desk`.")] = (
        False
    )
    namespace: Annotated[str, tyro.conf.arg(help="Of all nodes, as for one arm of two.")] = ""
    remap: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Name to replace, as /joint_states:=/left/joint_states; may be given again."""
    lifecycle: Annotated[
        bool, tyro.conf.arg(help="Let policy, progress and recorder wait for a lifecycle manager.")
    ] = False
    list: Annotated[bool, tyro.conf.arg(help="Show what would run and every option.")] = False


@dataclass
class Supervisor:
    """Starts the nodes of a stack, passes on what they print, ends them together."""

    emit: Callable[[str], None]
    children: dict[str, subprocess.Popen] = field(default_factory=dict)
    stopping: bool = False
    deaf: bool = False

    def run(self, stack: Stack) -> int:
        """Run until a node ends or `stop` is called.

        Returns:
            0 when stopped, 1 when a node ended by itself.
        """
        try:
            readers = [self._start(node) for node in stack.nodes]
            failed = self._watch()
        finally:
            self._end_all()
        for reader in readers:
            reader.stop(deadline_s=1.0)
        if failed is not None:
            code = self.children[failed].returncode
            self.emit(f"[tacit] node {failed} ended with code {code}; the stack was stopped")
        return 0 if failed is None and not self.deaf else 1

    def stop(self, signum: int = signal.SIGINT, frame: FrameType | None = None) -> None:
        """Ask the loop to end; safe in a signal handler."""
        self.stopping = True

    def _start(self, node: NodeSpec) -> WatchedThread:
        child = subprocess.Popen(
            command_of(node),
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",  # a node may print anything
            bufsize=1,
            start_new_session=True,  # Ctrl-C reaches us alone; we pass it on once
            preexec_fn=_death_signal(),
        )
        self.children[node.name] = child
        assert child.stdout is not None
        forward = partial(self._forward, node.name, child.stdout)
        return WatchedThread(f"log of {node.name}", forward, self._log_failed).start()

    def _log_failed(self, failure: Failure) -> None:
        """End the stack: a pipe that nobody reads fills up, and blocks its node in the middle of a motion."""
        if not self.stopping:
            self.emit(f"[tacit] {failure}; the stack is stopped")
            self.stopping = self.deaf = True

    def _forward(self, name: str, lines: IO[str]) -> None:
        width = max(map(len, self.children))
        for line in lines:
            self.emit(f"{name:>{width}} | {line.rstrip()}")

    def _watch(self) -> str | None:
        """Wait for the first node that ends; None when stopped before that."""
        while not self.stopping:
            for name, child in self.children.items():
                if child.poll() is not None:
                    return name
            time.sleep(POLL_S)
        return None

    def _end_all(self) -> None:
        """SIGINT, so that nodes finish their work; then SIGTERM; then SIGKILL."""
        for signum, grace_s in ((signal.SIGINT, GRACE_S), (signal.SIGTERM, 2.0), (signal.SIGKILL, 2.0)):
            running = [child for child in self.children.values() if child.poll() is None]
            for child in running:
                child.send_signal(signum)
            deadline = time.monotonic() + grace_s
            while time.monotonic() < deadline and any(child.poll() is None for child in running):
                time.sleep(POLL_S)


def command_of(node: NodeSpec) -> list[str]:
    """Return the command line of a node: `python -m module --ros-args ...`."""
    command = [sys.executable, "-u", "-m", node.module, *node.arguments]
    command += ["--ros-args", "-r", f"__node:={node.name}"]
    for remap in (f"__ns:=/{node.namespace.strip('/')}", *node.remaps):
        command += ["-r", remap] if remap != "__ns:=/" else []
    for key, value in node.parameters.items():
        command += ["-p", f"{key}:={json.dumps(value)}"]  # JSON is YAML: a text stays a text
    return command


def parse_options(options: tuple[str, ...]) -> dict[str, str]:
    """Return `key=value` words as a mapping.

    Raises:
        ConfigError: A word has no `=`.
    """
    pairs: dict[str, str] = {}
    for word in options:
        key, separator, value = word.partition("=")
        if not separator or not key:
            raise ConfigError(f"option {word!r}: expected key=value")
        pairs[key] = value
    return pairs


@dataclass(frozen=True)
class RunArgs:
    """Run a policy bundle: on the robot, or in the simulated cell when the rig is simulated.

    The node starts holding still; call its ~/start service to let it move. Options are key=value
    of the policy stack (`tacit up policy --list`).
    """

    bundle: tyro.conf.Positional[str]
    options: tyro.conf.Positional[tuple[str, ...]] = ()
    rig: Annotated[str, tyro.conf.arg(help="Shipped rig or path of a rig.yaml.")] = "nova2_sim"
    dry_run: Annotated[bool, tyro.conf.arg(help="Infer, but command nothing.")] = False


@dataclass(frozen=True)
class ReplayArgs:
    """Do again what was commanded in an episode: on the robot, or in the simulated cell.

    The arm goes slowly to where the recording begins, then plays it, within limits and workspace. Nothing
    looks at the world: clear it first, stand at the emergency stop. Ctrl-C ends. For a policy over a
    recording, where nothing moves, see `tacit replay bundle`.
    """

    episode: tyro.conf.Positional[str]
    rig: Annotated[str, tyro.conf.arg(help="Shipped rig or path of a rig.yaml.")] = "nova2_sim"
    speed: Annotated[float, Within(0, 1, above=True), tyro.conf.arg(help="Pace, above 0 and at most 1.")] = (
        0.5
    )
    dry_run: Annotated[bool, tyro.conf.arg(help="Plan and play, but command nothing.")] = False


def main(argv: list[str] | None = None) -> int:
    """Run a stack; returns 0 after Ctrl-C or SIGTERM, 1 when a node failed."""
    args = parse_words(UpArgs, argv, "tacit up")
    if args.list:
        _print_line(describe(args.stack))
        return 0
    if (args.desk or "desk" in args.also) and importlib.util.find_spec("aiohttp") is None:
        raise ConfigError("--desk: its web library is not installed; pip install 'tacit[desk]'")
    extra = dict.fromkeys((*args.also, *(("desk",) if args.desk else ())))
    stack = build_stack(args.stack, args.rig, parse_options(args.options), extra)
    stack = stack.arranged(args.namespace, args.remap, args.lifecycle)
    return supervise(_ready(stack.without(args.without)))


def run(argv: list[str] | None = None) -> int:
    """Run the policy stack with one bundle (`tacit run`); exit codes as `main`."""
    args = parse_words(RunArgs, argv, "tacit run")
    options = {"bundle": args.bundle, "dry_run": str(args.dry_run)} | parse_options(args.options)
    return supervise(_ready(build_stack("policy", args.rig, options)))


def replay(argv: list[str] | None = None) -> int:
    """Run the replay stack with one episode (`tacit replay`); exit codes as `main`."""
    args = parse_words(ReplayArgs, argv, "tacit replay")
    options = {
        "episode": args.episode,
        "speed": str(args.speed),
        "dry_run": str(args.dry_run),
        "begin": "true",
    }
    return supervise(_ready(build_stack("replay", args.rig, options)))


def _ready(stack: Stack) -> Stack:
    """Return the stack, after a look at its files and names."""
    from tacit_ros.run.preflight import require_ready  # late: for `--help` no bundle is opened

    require_ready(stack)
    return stack


def supervise(stack: Stack) -> int:
    """Run a stack until a signal or the end of a node; returns the exit code."""
    supervisor = Supervisor(emit=_print_line)
    handlers = {number: signal.signal(number, supervisor.stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return supervisor.run(stack)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def describe(name: str) -> str:
    """Return what a stack runs and its options with their defaults.

    Raises:
        ConfigError: No such stack.
    """
    options: Mapping[str, object] = arguments(name)
    stack = stack_spec(name)
    lines = [f"{name}: {stack.description}", f"nodes: {', '.join((*stack.simulated, *stack.nodes))}"]
    lines += [f"on demand, by `--with {node}`: {node}" for node in stack.extra]
    return "\n".join([*lines, *(f"  {key}={value}" for key, value in options.items())])


def _print_line(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _death_signal() -> Callable[[], None] | None:
    """Return what a child calls first, so that the kernel ends it when we die by kill -9."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)  # loaded here: between fork and exec nothing may take a lock
    parent = os.getpid()

    def die_with_parent() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent:
            os._exit(1)

    return die_with_parent
