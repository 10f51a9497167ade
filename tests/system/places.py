"""Three ways to start, stop and kill the same processes: plain, in two network namespaces, by compose."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Protocol

from benches.testing import isolated_domain
from system.camera import BEHIND
from tacit.rig import load_rig
from tacit_ros.run.stacks import NodeSpec, build_stack
from tacit_ros.run.up import command_of
from tacit_ros.wire.environment import DISCOVERY, PROFILES, TRANSPORTS, child_environment

REPOSITORY = Path(__file__).parents[2]
TESTS = REPOSITORY / "tests"
END_S = 20.0
"""A recorder finishes its episode in this time, an engine its containers."""

CELL_SIDE = ("simulator", "camera")
"""What runs on the computer of the robot, where there are two."""
RIG_FILE = "rig.yaml"
CABLE = {"cell": "10.77.0.2/24", "here": "10.77.0.1/24"}


@dataclass(frozen=True)
class What:
    """What runs: a rig, two bundles, a folder for episodes and logs; whether images are built before."""

    rig: str
    policy: Path
    progress: Path
    folder: Path
    camera: str = "wrist"
    build: bool = True


class Place(Protocol):
    """Where the processes run."""

    def missing(self) -> str:
        """Return why this way is not possible here; "" where it is."""

    def opened(self, what: What) -> contextlib.AbstractContextManager[None]:
        """Prepare; at the end nothing is left running."""

    def start(self, node: str) -> None:
        """Start a process."""

    def stop(self, node: str) -> None:
        """End a process in order."""

    def kill(self, node: str) -> None:
        """End a process by SIGKILL."""

    def scenario(self, arguments: Sequence[str]) -> subprocess.Popen[str]:
        """Start the scenario with pipes to it."""


@dataclass
class Plain:
    """Processes of this machine, in a ROS domain of their own."""

    children: dict[str, subprocess.Popen] = field(default_factory=dict)
    logs: list[IO[bytes]] = field(default_factory=list)

    def missing(self) -> str:
        """Nothing is needed."""
        return ""

    @contextlib.contextmanager
    def opened(self, what: What) -> Iterator[None]:
        """Hold a domain; end every child at the end."""
        self.what = replace(what, rig=self.rig(what))
        self.commands = node_commands(self.what)
        with self.network():
            try:
                yield
            finally:
                for name in list(self.children):
                    self._end(name, signal.SIGINT)
                for log in self.logs:
                    log.close()

    def rig(self, what: What) -> str:
        """Return the rig that the nodes are to use."""
        return what.rig

    def network(self) -> contextlib.AbstractContextManager:
        """Set what the nodes need to hear each other, for this process and its children."""
        return isolated_domain()

    def prefix(self, node: str) -> list[str]:
        """Return what comes before the command of a process."""
        return []

    def environment(self) -> dict[str, str]:
        """Return the environment of a process; a running robot has no checks of message fields."""
        path = os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))
        return child_environment() | {"PYTHONPATH": path, "ROS_PYTHON_CHECK_FIELDS": ""}

    def start(self, node: str) -> None:
        """Start a process; what it prints goes to a log of its name."""
        log = (self.what.folder / f"{node}.log").open("ab")
        self.logs.append(log)
        self.children[node] = subprocess.Popen(
            [*self.prefix(node), *self.commands[node]],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )

    def stop(self, node: str) -> None:
        """SIGINT, as Ctrl-C would."""
        self._end(node, signal.SIGINT)

    def kill(self, node: str) -> None:
        """SIGKILL."""
        self._end(node, signal.SIGKILL)

    def scenario(self, arguments: Sequence[str]) -> subprocess.Popen[str]:
        """Run it beside the nodes."""
        words = ["--data", str(self.what.folder / "data"), "--rig", self.what.rig, *arguments]
        return piped([sys.executable, "-m", "system.scenario", *words], self.environment())

    def _end(self, node: str, signum: int) -> None:
        child = self.children.pop(node)
        child.send_signal(signum)
        try:
            child.wait(END_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


class Namespaces(Plain):
    """Two network namespaces joined by a cable: the robot's computer with the cell, and ours with the rest.

    To be used inside `UNSHARED`, a network of its own in which names of namespaces are not seen from outside.
    """

    UNSHARED = ("unshare", "--user", "--map-root-user", "--net", "--mount")

    def missing(self) -> str:
        """Try what is needed: a kernel and a container may forbid it."""
        if shutil.which("unshare") is None or shutil.which("ip") is None:
            return "unshare (util-linux) and ip (iproute2) are not installed"
        tried = subprocess.run(
            [*self.UNSHARED, "sh", "-c", "mount -t tmpfs none /run && ip netns add cell"],
            capture_output=True,
            text=True,
            check=False,
        )
        return "" if tried.returncode == 0 else f"not allowed here: {tried.stderr.strip()}"

    def rig(self, what: What) -> str:
        """Let the pictures travel as JPEG."""
        return str(write_jpeg_rig(what.rig, what.folder))

    @contextlib.contextmanager
    def network(self) -> Iterator[None]:
        """Lay the cable; data go over UDP, as between two computers."""
        for line in (
            "mount -t tmpfs none /run",
            "ip netns add cell",
            "ip link set lo up",
            "ip link add here type veth peer name cable netns cell",
            f"ip addr add {CABLE['here']} dev here",
            "ip link set here up",
            "ip -n cell link set lo up",
            f"ip -n cell addr add {CABLE['cell']} dev cable",
            "ip -n cell link set cable up",
        ):
            subprocess.run(line.split(), check=True)
        os.environ.pop(PROFILES, None)
        os.environ |= {DISCOVERY: "SUBNET", TRANSPORTS: "UDPv4", "ROS_DOMAIN_ID": "42"}
        yield

    def prefix(self, node: str) -> list[str]:
        """Run the cell's side at the other end of the cable."""
        return ["ip", "netns", "exec", "cell"] if node in CELL_SIDE else []


class Compose:
    """The containers of `docker/compose.yaml`, with `compose.system.yaml` over it."""

    SERVICES = {"simulator": "sim"}
    ENGINES = (("docker", "compose"), ("podman-compose",))

    def missing(self) -> str:
        """An engine with compose, running."""
        tried = []
        for engine in self.ENGINES:
            if shutil.which(engine[0]) is None:
                tried.append(f"{engine[0]} is not installed")
                continue
            asked = subprocess.run([*engine, "version"], capture_output=True, text=True, check=False)
            alive = asked.returncode == 0 and self._answers(engine[0])
            if alive:
                self.engine = engine
                return ""
            tried.append(f"`{' '.join(engine)}` does not work here")
        return "; ".join(tried)

    @staticmethod
    def _answers(engine: str) -> bool:
        tool = "docker" if engine == "docker" else "podman"
        return subprocess.run([tool, "info"], capture_output=True, check=False).returncode == 0

    @contextlib.contextmanager
    def opened(self, what: What) -> Iterator[None]:
        """Build the images, and remove containers and volume at the end."""
        self.what = what
        models = what.folder / "models"
        models.mkdir()
        shutil.copy(what.policy, models / "policy.onnx")
        shutil.copy(what.progress, models / "progress.onnx")
        os.environ |= {"MODELS": str(models), "BUNDLE": "policy.onnx", "PROGRESS": "progress.onnx"}
        write_jpeg_rig(what.rig, models)
        os.environ |= {
            "RIG": f"/models/{RIG_FILE}",
            "CAMERA": what.camera,
            "CAMERA_TOPIC": load_rig(what.rig).cameras[what.camera].topic,
        }
        if what.build:
            self._compose("build", "sim")
        try:
            yield
        finally:
            with (what.folder / "containers.log").open("w") as log:
                self._run("logs", stdout=log, stderr=log, check=False)
            self._compose("down", "--volumes")

    def start(self, node: str) -> None:
        """Start a container, or start it again."""
        self._compose("up", "-d", "--no-deps", "--no-build", self._service(node))

    def stop(self, node: str) -> None:
        """End a container in order."""
        self._compose("stop", "-t", str(round(END_S)), self._service(node))

    def kill(self, node: str) -> None:
        """SIGKILL to a container."""
        self._compose("kill", "-s", "SIGKILL", self._service(node))

    def scenario(self, arguments: Sequence[str]) -> subprocess.Popen[str]:
        """Run it in a container of its own, which sees the episodes."""
        rig = ["--rig", f"/models/{RIG_FILE}"]
        words = ["python", "-m", "system.scenario", "--data", "/data", *rig, *arguments]
        return piped([*self._command(), "run", "--rm", "-T", "--no-deps", "test", *words], dict(os.environ))

    def _service(self, node: str) -> str:
        return self.SERVICES.get(node, node)

    def _command(self) -> list[str]:
        files = [
            word
            for name in ("compose", "compose.system")
            for word in ("-f", f"{REPOSITORY}/docker/{name}.yaml")
        ]
        profiles = [word for name in ("sim", "act", "test") for word in ("--profile", name)]
        return [*self.engine, *files, *profiles]

    def _run(self, *words: str, **options: object) -> subprocess.CompletedProcess:
        return subprocess.run([*self._command(), *words], text=True, **options)  # type: ignore[call-overload, no-any-return]

    def _compose(self, *words: str) -> None:
        done = self._run(*words, capture_output=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()[-500:]}")


PLACES: Mapping[str, type[Plain] | type[Namespaces] | type[Compose]] = {
    "compose": Compose,
    "namespaces": Namespaces,
    "plain": Plain,
}


def node_commands(what: What) -> dict[str, list[str]]:
    """Return the command line of each process: those of the stacks, and a camera that can be killed."""
    options = {
        "policy.bundle": str(what.policy),
        "progress.bundle": str(what.progress),
        "root": str(what.folder / "data"),
        "operator": "acceptance",
    }
    full = {node.name: node for node in build_stack("full", what.rig, options).nodes}
    expert = next(node for node in build_stack("record", what.rig).nodes if node.name == "expert")
    topic = load_rig(what.rig).cameras[what.camera].topic
    commands = {node.name: command_of(node) for node in (*full.values(), expert)}
    commands["simulator"] += ["-r", f"{topic}:={topic}{BEHIND}"]
    policy = full["policy"]
    commands["policy_lockstep"] = command_of(_changed(policy, lockstep=True))
    camera = NodeSpec("camera", "", "system.camera", {"rig": what.rig, "camera": what.camera})
    return commands | {"camera": command_of(camera)}


def write_jpeg_rig(rig_name: str, folder: Path) -> Path:
    """Write a rig whose pictures are JPEG into `folder`; returns the file.

    Raw pictures are large: over UDP, fragments are lost as soon as a receiver is late, and with one of them
    the whole picture.
    """
    rig = load_rig(rig_name)
    jpeg = {"type": "sensor_msgs/msg/CompressedImage"}
    cameras = {name: spec.model_copy(update=jpeg) for name, spec in rig.cameras.items()}
    tactile = {name: spec.model_copy(update=jpeg) for name, spec in rig.tactile.items()}
    path = folder / RIG_FILE
    path.write_text(
        rig.model_copy(update={"cameras": cameras, "tactile": tactile}).to_yaml(), encoding="utf-8"
    )
    return path


def _changed(node: NodeSpec, **parameters: bool) -> NodeSpec:
    return NodeSpec(node.name, node.package, node.module, {**node.parameters, **parameters})


def piped(command: Sequence[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    """Start a process that is talked to by lines."""
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
