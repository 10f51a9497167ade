"""`tacit bench recorder` and `tacit bench kill`: what recording costs, and what a kill loses.

Both run the real recorder as a process against a synthetic robot in a process of its own, with two
640x480 cameras, two 320x240 tactile sensors at 30 Hz and joints at 100 Hz.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import h5py
import numpy as np
import psutil
import rclpy
import tyro
from rclpy.node import Node

from benches.testing import isolated_domain, wait_until
from tacit.config import save
from tacit.episode import EpisodeReader, recover
from tacit.rig import Rig, load_rig
from tacit_ros.run.record_client import Command, RecorderClient
from tacit_ros.wire.environment import child_environment

CAMERA_SIZE, TACTILE_SIZE = (640, 480), (320, 240)
RATE_HZ = 30.0
MAX_LOST_S = 0.5
TESTS = Path(__file__).parents[1]


def bench_rig(compressed: bool = False) -> Rig:
    """Return the simulated rig with images of the bench's size and rate."""
    rig = load_rig("nova2_sim")
    message = f"sensor_msgs/msg/{'CompressedImage' if compressed else 'Image'}"
    cameras, tactile = {}, {}
    for name, camera in rig.cameras.items():
        K = np.diag([CAMERA_SIZE[0] / camera.width, CAMERA_SIZE[1] / camera.height, 1.0]) @ camera.K
        size = {"width": CAMERA_SIZE[0], "height": CAMERA_SIZE[1], "rate_hz": RATE_HZ, "type": message}
        cameras[name] = camera.model_copy(update=size | {"K": K})
    for name, sensor in rig.tactile.items():
        size = {"width": TACTILE_SIZE[0], "height": TACTILE_SIZE[1], "rate_hz": RATE_HZ, "type": message}
        tactile[name] = sensor.model_copy(update=size)
    alignment = rig.alignment.model_copy(update={"rate_hz": RATE_HZ})
    return rig.model_copy(update={"cameras": cameras, "tactile": tactile, "alignment": alignment})


@dataclass
class Stand:
    """A synthetic robot and a place for episodes; recorders are started as needed."""

    folder: Path
    rig_path: Path
    client: RecorderClient

    @contextlib.contextmanager
    def recorder(self) -> Iterator[psutil.Process]:
        """Run a recorder process until the block ends."""
        parameters = {"rig": str(self.rig_path), "root": str(self.folder / "data"), "task": "bench"}
        with _process("tacit_ros.recorder_node", parameters | {"min_free_gb": 0.1}) as process:
            yield psutil.Process(process.pid)

    def start(self) -> Path:
        """Start an episode as soon as the recorder is ready; returns its final path."""
        wait_until(lambda: json.loads(self.client.ask(Command.status))["ready"], "readiness", 30.0)
        return Path(self.client.ask(Command.start).removeprefix("recording "))

    def stop(self) -> Path:
        """Finish the episode."""
        return Path(self.client.ask(Command.stop).removeprefix("saved "))


@contextlib.contextmanager
def stand(compressed: bool = False) -> Iterator[Stand]:
    """Run a synthetic robot in a ROS domain of its own."""
    with isolated_domain(), tempfile.TemporaryDirectory(prefix="tacit_bench_") as name:
        folder = Path(name)
        save(bench_rig(compressed), folder / "rig.yaml")
        rclpy.init()
        node = Node("bench_client")
        try:
            with _process("benches.synthetic", {"rig": str(folder / "rig.yaml")}):
                yield Stand(folder, folder / "rig.yaml", RecorderClient(node, timeout_s=20.0))
        finally:
            node.destroy_node()
            rclpy.try_shutdown()


@contextlib.contextmanager
def _process(module: str, parameters: dict[str, object]) -> Iterator[subprocess.Popen]:
    """Run a node; SIGINT and wait at the end."""
    words = [word for key, value in parameters.items() for word in ("-p", f"{key}:={json.dumps(value)}")]
    # A production recorder has no checks of message fields; the synthetic robot lives in this folder.
    environment = child_environment() | {"ROS_PYTHON_CHECK_FIELDS": ""}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(TESTS), environment.get("PYTHONPATH"))))
    process = subprocess.Popen(
        [sys.executable, "-m", module, "--ros-args", "--log-level", "warn", *words], env=environment
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(timeout=20)


@dataclass(frozen=True)
class RecorderBenchArgs:
    """Record for some seconds and report dropped ticks and the processor time of the recorder."""

    seconds: Annotated[float, tyro.conf.arg(help="Length of the recording [s].")] = 60.0
    compressed: Annotated[bool, tyro.conf.arg(help="The cameras deliver JPEG.")] = False


def recorder(argv: list[str] | None = None) -> int:
    """Measure a recording; 0 when no tick was dropped."""
    args = tyro.cli(RecorderBenchArgs, args=argv, prog="tacit bench recorder")
    with stand(args.compressed) as place, place.recorder() as process:
        place.start()
        before, began = process.cpu_times(), time.monotonic()
        time.sleep(args.seconds)
        after, elapsed = process.cpu_times(), time.monotonic() - began
        stopped = time.monotonic()
        path = place.stop()
        result = {
            "seconds": round(elapsed, 1),
            "cpu_percent_of_a_core": round(100 * (sum(after[:2]) - sum(before[:2])) / elapsed, 1),
            "stop_s": round(time.monotonic() - stopped, 3),
            "memory_mb": round(process.memory_info().rss / 1e6),
            **_episode_facts(path),
        }
    _say(json.dumps(result, indent=2))
    return 0 if result["dropped_ticks"] == 0 else 1


def _episode_facts(path: Path) -> dict[str, object]:
    """What a finished episode tells about losses."""
    with h5py.File(path) as file:
        ticks = file["timestamps/tick_ns"][:]
        drops = {name: dict(group.attrs) for name, group in file["drops"].items()}
        sizes = path.stat().st_size
    intervals = np.rint(np.diff(ticks) * RATE_HZ / 1e9)
    return {
        "ticks": len(ticks),
        "dropped_ticks": int((intervals - 1).sum()),
        "stale_ticks": {n: int(d["stale_ticks"]) for n, d in drops.items() if d["stale_ticks"]},
        "lost_queue": int(sum(d["lost_queue"] for d in drops.values())),
        "lost_middleware": {n: int(d["lost_middleware"]) for n, d in drops.items() if d["lost_middleware"]},
        "megabytes": round(sizes / 1e6, 1),
    }


@dataclass(frozen=True)
class KillBenchArgs:
    """Kill a recorder at random instants, recover each file, and report what was lost."""

    kills: Annotated[int, tyro.conf.arg(help="How many times.")] = 20
    seed: Annotated[int, tyro.conf.arg(help="Seed of the instants at which the recorder is killed.")] = 0


def kill(argv: list[str] | None = None) -> int:
    """Measure kills; 0 when each lost at most half a second and touched no earlier episode."""
    args = tyro.cli(KillBenchArgs, args=argv, prog="tacit bench kill")
    instants = np.random.default_rng(args.seed).uniform(0.8, 3.0, args.kills)
    with stand() as place:
        with place.recorder():
            place.start()
            time.sleep(1.0)
            place.stop()
        lost = [kill_once(place, float(instant)) for instant in instants]
    intact = all(result.earlier_intact for result in lost)
    worst = max(result.lost_s for result in lost)
    report = {
        "kills": len(lost),
        "recovered": sum(result.ticks > 0 for result in lost),
        "earlier_episodes_untouched": intact,
        "lost_s_mean": round(float(np.mean([result.lost_s for result in lost])), 3),
        "lost_s_worst": round(worst, 3),
        "ticks": [result.ticks for result in lost],
    }
    _say(json.dumps(report, indent=2))
    return 0 if intact and worst <= MAX_LOST_S else 1


@dataclass(frozen=True)
class KillResult:
    """What one kill left.

    Attributes:
        ticks: Ticks of the recovered episode.
        lost_s: From its last tick to the kill [s].
        earlier_intact: Whether all earlier episodes kept their bytes.
    """

    ticks: int
    lost_s: float
    earlier_intact: bool


def kill_once(place: Stand, after_s: float) -> KillResult:
    """Record, kill -9 the recorder `after_s` after the first tick, recover."""
    before = _digests(place.folder)
    with place.recorder() as process:
        path = place.start()
        wait_until(lambda: json.loads(place.client.ask(Command.status))["num_ticks"] > 0, "first tick")
        time.sleep(after_s)
        killed_ns = time.time_ns()
        process.kill()
        process.wait(timeout=10)
    recovered = recover(path.with_name(path.name + ".part"))
    with EpisodeReader(recovered) as episode:
        for name in ("wrist", "top"):
            episode.image(name, episode.num_ticks - 1)
        result = (episode.num_ticks, (killed_ns - int(episode.tick_ns[-1])) / 1e9)
    after = _digests(place.folder)
    return KillResult(*result, all(after.get(name) == digest for name, digest in before.items()))


def _digests(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*.hdf5")}


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
