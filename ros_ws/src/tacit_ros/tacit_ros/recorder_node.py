"""Node `recorder`: subscriptions and services around `RecorderSession`.

Services (std_srvs): ~/start ~/finish ~/discard ~/redo ~/delete_last ~/mark ~/status are Trigger; ~/stop is
SetBool (data: was the task done?), ~/finish stops without saying so. Topic ~/state (String, latched, with a
liveliness lease): IDLE, RECORDING <path> or FAILED (<why>). Task and instruction are read from the
parameters at each start.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.parameter import Parameter
from rclpy.utilities import get_rmw_implementation_identifier
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from tacit.errors import TacitError
from tacit.record.preroll import Surroundings, reasons_not_to_start
from tacit.record.recorder import RecorderSession, SessionSettings
from tacit.rig import NAME_PATTERN, load_rig
from tacit.streams import Finding
from tacit_ros import messages
from tacit_ros.wire import qos
from tacit_ros.wire.observations import Poller, RigSubscriptions
from tacit_ros.wire.parameters import declare, parameter, read
from tacit_ros.wire.process import WatchedNode, go_first, keep_freed_memory, run_node
from tacit_ros.wire.publishers import Publishers

DIAGNOSTICS_PERIOD_S = 0.5  # what is found is told within a second of the first message
POLL_PERIOD_S = 0.03  # about a frame of each camera at a time
QUEUE_S = 1.0  # messages that wait in the middleware while a file is opened or finished (< 0.5 s)


@dataclass(frozen=True)
class RecorderParameters:
    """Parameters of the node; task, instruction and tolerances may change while it runs."""

    rig: str = parameter("nova2_sim", "Shipped rig or path of a rig.yaml.")
    root: str = parameter("data", "Folder of the data set; episodes go to <root>/<task>/.")
    task: str = parameter(
        "task",
        "Identifier of the task: letters, digits, dot, dash, underscore.",
        pattern=NAME_PATTERN,
        live=True,
    )
    instruction: str = parameter("", "What a person would say to have the task done.", live=True)
    operator: str = parameter("", "Who demonstrates.")
    session: str = parameter("", "Name of this session; a random one when empty.")
    jpeg_quality: int = parameter(90, "JPEG quality of cameras, 1..100.", low=1, high=100)
    tactile_quality: int = parameter(
        95, "JPEG quality of tactile images, 1..100; 0 stores PNG.", low=0, high=100
    )
    stamps: str = parameter(
        "header", "Trust header stamps, or stamp on reception.", choices=("header", "receive")
    )
    rate_tolerance: float = parameter(
        0.1, "Accepted relative difference to the rates of the rig.", above=0, high=10, live=True
    )
    min_free_gb: float = parameter(
        1.0, "No episode is started with less free disk than this [GB].", low=0, live=True
    )


class RecorderNode(WatchedNode):
    """The shell: turns messages into arrivals and service calls into requests."""

    def __init__(self, parameter_overrides: Mapping[str, str | int | float | bool] | None = None) -> None:
        """Declare, subscribe, offer the services.

        Args:
            parameter_overrides: Values as from the command line.

        Raises:
            TacitError: The rig or a parameter is wrong.
        """
        overrides = [Parameter(name, value=value) for name, value in (parameter_overrides or {}).items()]
        super().__init__("recorder", parameter_overrides=overrides)
        settings = declare(self, RecorderParameters)
        self._rig = load_rig(settings.rig)
        self._lost_before: dict[str, int] = {}
        self._doubted: dict[str, str] = {}
        self._session = RecorderSession(
            self._rig, _session_settings(settings), self._report, self.thread_failed
        )
        self._streams = RigSubscriptions(
            self,
            self._rig,
            self._session.intake,
            self._session.receive,
            queue_s=QUEUE_S,
            polled=True,
            joint_readings=True,
        )
        heard = {name: self._streams.topic(name) for name in self._rig.specs}
        self._others = Publishers(self, heard, intake=self._session.intake, on_timer=False)
        for name, action in self._triggers().items():
            self.create_service(Trigger, f"~/{name}", self._answering(action))
        self.create_service(SetBool, "~/stop", self._stop)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._state_topic, self._said = self.create_publisher(String, "~/state", qos.state()), ""
        self.create_timer(DIAGNOSTICS_PERIOD_S, self._look_around)
        self._intake = Poller(self._listen, POLL_PERIOD_S, self.thread_failed)
        self._announce()  # not at the timer's first turn: an episode may begin before that
        self._say_hello()

    def close(self) -> None:
        """Finish the episode in the making and end the threads."""
        self._intake.close()
        self._session.close()

    def halt(self, reason: str) -> None:
        """After a failure keep the episode as aborted; after a signal `close` finishes it as usual."""
        if self.failure is not None and self._session.failure is None:
            self._session.abort(reason)
        self._publish_diagnostics()

    def _listen(self) -> None:
        """Take what has come; the session measures the drivers' silence by these looks alone."""
        self._streams.poll()
        self._session.looked(time.monotonic_ns())

    def not_ready(self) -> list[str]:
        """Return every reason not to start an episode now."""
        settings = read(self, RecorderParameters)
        self._others.look()
        intake = self._session.intake
        around = Surroundings(
            now_ns=intake.newest_ns if intake.is_foreign else time.time_ns(),
            num_publishers=self._streams.num_publishers,
            findings=self._streams.findings,
            free_bytes=self._session.free_bytes(),
            min_free_bytes=round(settings.min_free_gb * 1e9),
            rate_tolerance=settings.rate_tolerance,
        )
        return reasons_not_to_start(self._rig, self._session.monitors, around)

    def _triggers(self) -> dict[str, Callable[[], str]]:
        session = self._session
        return {
            "start": self._start,
            "finish": lambda: self._finish(None),
            "discard": lambda: f"moved to {session.discard()}",
            "redo": lambda: f"recording {session.redo()}",
            "delete_last": lambda: f"moved to {session.delete_last()}",
            "mark": lambda: f"marked tick {session.mark('mark')}",
            "status": self._status,
        }

    def _start(self) -> str:
        reasons = self.not_ready()
        if reasons:
            raise TacitError("not started:\n- " + "\n- ".join(reasons))
        settings = read(self, RecorderParameters)
        self._lost_before = dict(self._streams.lost)
        return f"recording {self._session.start(settings.task, settings.instruction)}"

    def _stop(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        return self._answer(lambda: self._finish(bool(request.data)), response)

    def _finish(self, success: bool | None) -> str:
        self._count_lost()
        return f"saved {self._session.stop(success)}"

    def _status(self) -> str:
        reasons = self.not_ready()
        status = self._session.status() | {
            "root": str(self._session.root.absolute()),
            "ready": not reasons,
            "not_ready": reasons,
            "rejected": dict(self._streams.rejected),
            "problems": self._streams.problems,
            "findings": {name: found.kind for name, found in self._streams.findings.items()},
            "found": {
                name: dict(counts) for name, counts in self._session.intake.snapshot().items() if counts
            },
            "interrupted": [str(path) for path in self._session.interrupted()],
        }
        return json.dumps(status)

    def _answering(self, action: Callable[[], str]) -> Callable:
        def answer(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            return self._answer(action, response)

        return answer

    def _answer(self, action: Callable[[], str], response: Trigger.Response) -> Trigger.Response:
        """Fill a response with what `action` returns, or with why it failed."""
        try:
            response.message, response.success = action(), True
        except (TacitError, OSError, ValueError) as error:
            response.message, response.success = str(error), False
            self.get_logger().error(response.message)
        self._announce()
        return response

    def _announce(self) -> None:
        """Publish the state where it changed."""
        text = "IDLE"
        if self.failure is not None:
            text = f"FAILED ({self.failure})"
        elif self._session.is_recording:
            text = f"RECORDING {self._session.status()['path']}"
        if text != self._said and self.context.ok():
            self._said = text
            self._state_topic.publish(messages.string(text))

    def _count_lost(self) -> None:
        lost = {name: n - self._lost_before.get(name, 0) for name, n in self._streams.lost.items()}
        self._session.report_lost(lost)

    def _look_around(self) -> None:
        """All that is done at leisure, on one timer: the executor works for each timer that wakes it."""
        self._others.look()
        self._publish_diagnostics()

    def _publish_diagnostics(self) -> None:
        self._count_lost()
        self._announce()
        findings = self._streams.findings
        self._say_doubts(findings)
        state = "recording" if self._session.is_recording else "idle"
        summary = messages.Status("recorder", "ok", state)
        if self.failure is not None:
            summary = messages.Status("recorder", "error", str(self.failure))
        self._diagnostics.publish(
            messages.diagnostics([summary, *self._stream_statuses(findings)], time.time_ns())
        )

    def _say_doubts(self, findings: Mapping[str, Finding]) -> None:
        """Log each doubt when it begins; refusals are logged by the subscriptions."""
        found = {n: f for n, f in findings.items() if not f.refused}
        for name, doubt in found.items():
            if self._doubted.get(name) != doubt.kind:
                self.get_logger().warning(f"stream {name}: {doubt.kind}: {doubt.text}")
        self._doubted = {name: doubt.kind for name, doubt in found.items()}

    def _stream_statuses(self, findings: Mapping[str, Finding]) -> list[messages.Status]:
        statuses = []
        for name, monitor in self._session.monitors.items():
            found = findings.get(name)
            problem = "" if found is None else f"{found.kind}: {found.text}"
            slow = monitor.received > 0 and abs(monitor.hz / monitor.rate_hz - 1) > 0.2
            level = "error" if problem else "stale" if not monitor.received else "warn" if slow else "ok"
            values = {
                "hz": round(monitor.hz, 2),
                "expected_hz": monitor.rate_hz,
                "received": monitor.received,
            }
            values |= {"rejected": self._streams.rejected[name], "lost": self._streams.lost[name]}
            statuses.append(messages.Status(f"recorder: {name}", level, problem, values))
        return statuses

    def _report(self, level: Literal["info", "warn", "error"], text: str) -> None:
        logger = self.get_logger()
        {"info": logger.info, "warn": logger.warning, "error": logger.error}[level](text)

    def _say_hello(self) -> None:
        self.get_logger().info(f"rig {self._rig.name}: call ~/start, or `tacit record start`")
        parts = self._session.interrupted()
        if parts:
            self.get_logger().warning(
                f"{len(parts)} interrupted episode(s), such as {parts[-1]}; get them back with "
                f"`tacit recover {parts[-1] if len(parts) == 1 else self._session.root}`"
            )


def _session_settings(settings: RecorderParameters) -> SessionSettings:
    return SessionSettings(
        root=Path(settings.root).expanduser(),
        jpeg_quality=settings.jpeg_quality,
        tactile_quality=settings.tactile_quality,
        operator=settings.operator,
        session=settings.session,
        stamp_on_reception=settings.stamps == "receive",
        metadata={
            "host": platform.node(),
            "ros_distro": os.environ.get("ROS_DISTRO", f"rclpy {_version('rclpy', 'ros-rclpy')}"),
            "rmw": get_rmw_implementation_identifier(),
        },
    )


def _version(*names: str) -> str:
    """Version of the first of `names` that is installed as a Python distribution."""
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown"


def main(argv: list[str] | None = None) -> int:
    """Run the node until a signal comes; returns the exit code."""
    keep_freed_memory()
    go_first()
    return run_node(RecorderNode, argv)


if __name__ == "__main__":
    raise SystemExit(main())
