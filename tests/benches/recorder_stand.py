"""A synthetic robot and recorder processes in a ROS domain of their own: what recording benches stand on.

Three 640x480 cameras and two 320x240 tactile sensors at 30 Hz, joints at 100 Hz.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import rclpy
from rclpy.node import Node

from benches.testing import isolated_domain, wait_until
from tacit.config import save
from tacit.rig import Rig, load_rig
from tacit_ros.run.record_client import Command, RecorderClient, RecorderError
from tacit_ros.wire.environment import child_environment

CAMERA_SIZE, TACTILE_SIZE = (640, 480), (320, 240)
RATE_HZ = 30.0
TESTS = Path(__file__).parents[1]
ROBOT_NICE = -10
"""The robot is another computer, which our load does not reach: it goes first where that is allowed."""


def bench_rig(compressed: bool = False) -> Rig:
    """Return the simulated rig with a third camera, and images of the bench's size and rate.

    Args:
        compressed: All images come as JPEG.
    """
    rig = load_rig("nova2_sim")
    message = f"sensor_msgs/msg/{'CompressedImage' if compressed else 'Image'}"
    cameras, tactile = {}, {}
    shipped = rig.cameras | {"side": rig.cameras["top"].model_copy(update={"topic": "/camera/side/image"})}
    for name, camera in shipped.items():
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
        started: list[str] = []

        def start() -> bool:
            # A busy machine may slow the synthetic robot between a look at its rates and the start.
            if json.loads(self.client.ask(Command.status))["ready"]:
                with contextlib.suppress(RecorderError):
                    started.append(self.client.ask(Command.start))
            return bool(started)

        wait_until(start, "start", 120.0)
        return Path(started[0].removeprefix("recording "))

    def status(self) -> str:
        """Return what the recorder says of itself, as JSON."""
        return self.client.ask(Command.status)

    def stop(self) -> Path:
        """Finish the episode."""
        return Path(self.client.ask(Command.stop).removeprefix("saved "))


@contextlib.contextmanager
def stand(rig: Rig) -> Iterator[Stand]:
    """Run a synthetic robot in a ROS domain of its own."""
    with isolated_domain(), tempfile.TemporaryDirectory(prefix="tacit_bench_") as name:
        folder = Path(name)
        save(rig, folder / "rig.yaml")
        rclpy.init()
        node = Node("bench_client")
        try:
            with _process("benches.synthetic", {"rig": str(folder / "rig.yaml")}) as robot:
                with contextlib.suppress(psutil.AccessDenied):
                    psutil.Process(robot.pid).nice(ROBOT_NICE)
                yield Stand(folder, folder / "rig.yaml", RecorderClient(node, timeout_s=120.0))
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
