"""A recorder that hears a robot of messages, in one process with the test."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from rclpy.node import Node
from std_srvs.srv import SetBool

from benches.synthetic import Faults, SyntheticRobot
from tacit.rig import Rig
from tacit_ros.recorder_node import RecorderNode


class Stage:
    """A recorder node in this process, a synthetic robot on a thread, a client."""

    def __init__(self, bench: Any, root: Path, rig: Rig) -> None:
        self.bench, self.root, self.rig = bench, root, rig
        path = root / "rig.yaml"
        path.write_text(rig.to_yaml(), encoding="utf-8")
        told = {"rig": str(path), "root": str(root), "task": "lift", "min_free_gb": 0.0}
        self.recorder: RecorderNode = bench.add(RecorderNode(parameter_overrides=told))
        self.client = Node("stage_client")
        self.robot_node = Node("stage_robot")
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def play(
        self, faults: Faults | None = None, *, without: tuple[str, ...] = (), **run: Any
    ) -> SyntheticRobot:
        """Publish from now on."""
        self.robot = SyntheticRobot(self.robot_node, self.rig, without=without, faults=faults)
        self._thread = threading.Thread(target=self.robot.run, args=(self._stop.is_set,), kwargs=run)
        self._thread.start()
        return self.robot

    def call(self, name: str, request: Any = None) -> Any:
        """Call a service of the recorder."""
        return self.bench.call(f"/recorder/{name}", request)

    def status(self) -> dict[str, Any]:
        """The status without going over the wire."""
        return json.loads(self.recorder._status())

    def ready(self) -> None:
        """Wait until a start would be accepted."""
        self.bench.until(lambda: not self.recorder.not_ready(), "readiness of the recorder")

    def record(self, num_ticks: int) -> Path:
        """Record one episode of at least so many ticks."""
        answer = self.call("start")
        assert answer.success, answer.message
        self.bench.until(lambda: self.status()["num_ticks"] >= num_ticks, f"{num_ticks} ticks")
        answer = self.call("stop", SetBool.Request(data=True))
        assert answer.success, answer.message
        return Path(answer.message.removeprefix("saved "))

    def close(self) -> None:
        """Stop the robot and the recorder."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.recorder.close()
        self.robot_node.destroy_node()
        self.client.destroy_node()
