"""One arm: connections that come back, feedback, servo period and gripper, each on a thread of its own."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from tacit.control.periodic import JitterSummary, PeriodicThread
from tacit.control.safety import Fault, MotionLimiter
from tacit.drivers.dobot.dashboard import Dashboard, backoff_s, receive
from tacit.drivers.dobot.gripper import Gripper, GripperSettings
from tacit.drivers.dobot.protocol import (
    COLLISION,
    DASHBOARD_PORT,
    DISABLED,
    FEEDBACK_PORT,
    PACKET_BYTES,
    READY_MODES,
    DobotError,
    Feedback,
    Reply,
    alarm_text,
    parse_alarms,
    parse_feedback,
    servo_j,
)
from tacit.drivers.dobot.servo import Servo
from tacit.threads import OnFailure, WatchedThread

PACKET_DEADLINE_S = 0.5
"""A controller that sends nothing for so long is gone: sixty of its periods."""

MODE_DEADLINE_S = 3.0
"""How long the arm may take to be enabled or disabled: its brakes open within a second."""


class Done(NamedTuple):
    """What came of a request."""

    success: bool
    message: str


class RobotStatus(NamedTuple):
    """What the arm says of itself, as numbers for a rig's `robot_state`."""

    enabled: float
    fault: float
    protective_stop: float
    speed_scaling: float


@dataclass(frozen=True)
class ArmSettings:
    """Where the controller is, and how ServoJ is called.

    Attributes:
        host: Address of the controller.
        dashboard_port, feedback_port: Of the controller.
        servo_hz: ServoJ per second; the maker recommends 33.
        servo_time_s: Time within which each target is to be reached: 0.02 s or more [s].
        ahead, gain: Of the arm's own controller, 20 to 100 and 200 to 1000.
        speed_percent: Global speed, 1 to 100; 0 leaves it as it is.
        command_timeout_s: After so long without a command nothing is sent [s].
        gripper: None where there is none.
        gripper_hz: How often it is asked where it is.
    """

    host: str
    dashboard_port: int = DASHBOARD_PORT
    feedback_port: int = FEEDBACK_PORT
    servo_hz: float = 100 / 3
    servo_time_s: float = 0.06
    ahead: float = 50.0
    gain: float = 500.0
    speed_percent: int = 0
    command_timeout_s: float = 0.2
    gripper: GripperSettings | None = None
    gripper_hz: float = 20.0


class DobotArm:
    """Speaks to one controller until `stop`.

    Args:
        settings: Where and how.
        limiter: Limits of the six joints, with the period of the servo.
        tracking_error: How far from what was sent last a target may lie [rad].
        hear: Told every new feedback, on the reading thread.
        hear_gripper: Told every measured opening, in the gripper's unit.
        log: Told in words what changes.
        on_failure: Told what ended one of the threads.
        priority: SCHED_FIFO priority of the servo thread.
    """

    def __init__(
        self,
        settings: ArmSettings,
        limiter: MotionLimiter,
        tracking_error: float,
        hear: Callable[[Feedback], None],
        hear_gripper: Callable[[float], None],
        log: Callable[[str], None],
        on_failure: OnFailure,
        priority: int = 10,
    ) -> None:
        self._settings, self._hear, self._log = settings, hear, log
        self.servo = Servo(limiter, tracking_error, settings.command_timeout_s)
        gripper = settings.gripper
        self.gripper = Gripper(gripper, hear_gripper, log) if gripper is not None else None
        self._dashboard: Dashboard | None = None
        self._problem, self._failures, self.sent, self.connections = "not connected yet", 0, 0, 0
        self._is_stopped = False
        period_ns = round(1e9 / settings.servo_hz)
        self._loop = PeriodicThread(period_ns, self._servo, on_failure, priority=priority)
        self._reading = WatchedThread("feedback", self._read, on_failure)
        self._gripping = WatchedThread("gripper", self._grip, on_failure)

    def start(self) -> None:
        """Begin to connect."""
        self._reading.start()
        self._loop.start()
        if self.gripper is not None:
            self._gripping.start()

    def stop(self) -> None:
        """Stop the threads and close the connections. The arm comes to rest at its last target."""
        self._loop.stop()
        if self.gripper is not None:
            self._gripping.stop()
        self._reading.stop()

    def come_to_rest(self) -> None:
        """Brake, and return when nothing is sent any more."""
        self.servo.end(time.monotonic())
        deadline = time.monotonic() + self._settings.command_timeout_s
        while self.servo.is_moving and time.monotonic() < deadline:
            time.sleep(0.005)

    @property
    def is_connected(self) -> bool:
        """Whether the controller is spoken to now."""
        return self._dashboard is not None

    @property
    def timing(self) -> JitterSummary:
        """Periods of the servo thread."""
        return self._loop.jitter()

    def fault(self) -> Fault | None:
        """Return why the arm cannot be moved now."""
        if not self.is_connected:
            return Fault("disconnected", self._problem)
        return self.servo.readiness(time.monotonic())

    def status(self) -> RobotStatus:
        """Return what the arm says of itself; not enabled and in fault while it is not heard."""
        feedback = self.servo.feedback
        if feedback is None or not self.is_connected:
            return RobotStatus(0.0, 1.0, 0.0, 1.0)
        stopped = feedback.collision or feedback.mode == COLLISION
        enabled = feedback.mode in READY_MODES
        fault = self.fault() is not None and enabled and not stopped
        speed = feedback.speed or 1.0  # some firmware says 0 before the first motion
        return RobotStatus(float(enabled), float(fault or feedback.in_error), float(stopped), speed)

    def enable(self, payload_kg: float = 0.0) -> Done:
        """Enable the arm; returns once it says so."""
        command = f"EnableRobot({payload_kg:g})" if payload_kg > 0 else "EnableRobot()"
        return self._until_mode(command, READY_MODES, "enabled")

    def disable(self) -> Done:
        """Disable the arm: its brakes hold it."""
        return self._until_mode("DisableRobot()", (DISABLED,), "disabled")

    def clear(self) -> Done:
        """Clear alarms, and take targets again. What cannot be cleared is named."""
        if self._is_stopped:
            return Done(False, "emergency stop is latched; call ~/reset first")
        done = self._command("ClearError()")
        if not done.success:
            return done
        self.servo.clear()
        left = self.alarms()
        return Done(not left, f"still in alarm: {left}" if left else "cleared; call ~/enable")

    def alarms(self) -> str:
        """Return the alarms of the controller in words; "" for none, or where it does not answer."""
        try:
            return alarm_text(parse_alarms(self._ask("GetErrorID()").values))
        except DobotError as error:
            return str(error)

    def emergency_stop(self) -> Done:
        """Stop at once, and stay so until `release`. Software: not safety-rated."""
        self._is_stopped = True
        self.servo.stop(Fault("estop", "emergency stop was called"))
        return self._command("EmergencyStop(1)")

    def release(self) -> Done:
        """Release the emergency stop and clear its alarm; the arm stays disabled."""
        done = self._command("EmergencyStop(0)")
        if done.success:
            self._is_stopped = False
            done = self.clear()
        return done

    def _command(self, command: str) -> Done:
        try:
            problem = self._ask(command).problem
        except DobotError as error:
            problem = str(error)
        return Done(not problem, problem or f"{command} done")

    def _until_mode(self, command: str, modes: tuple[int, ...], word: str) -> Done:
        done = self._command(command)
        deadline = time.monotonic() + MODE_DEADLINE_S
        while done.success and time.monotonic() < deadline:
            feedback = self.servo.feedback
            if feedback is not None and feedback.mode in modes:
                return Done(True, word)
            time.sleep(0.01)
        return Done(False, f"not {word} within {MODE_DEADLINE_S:g} s") if done.success else done

    def _ask(self, command: str) -> Reply:
        dashboard = self._dashboard
        if dashboard is None:
            raise DobotError(f"{command}: {self._problem}")
        return dashboard.ask(command)

    def _servo(self) -> None:
        """One period."""
        dashboard, target = self._dashboard, self.servo.step(time.monotonic())
        if target is None or dashboard is None:
            return
        s = self._settings
        try:
            dashboard.send(servo_j(target, s.servo_time_s, s.ahead, s.gain), self._served)
            self.servo.sent(time.monotonic())
            self.sent += 1
        except DobotError as error:
            self.servo.stop(Fault("disconnected", str(error)))

    def _served(self, reply: Reply) -> None:
        if reply.problem:
            self.servo.stop(Fault("refused", f"the controller refused ServoJ: {reply.problem}"))

    def _grip(self) -> None:
        while not self._gripping.stopping.wait(1 / self._settings.gripper_hz):
            dashboard = self._dashboard
            if dashboard is not None and self.gripper is not None:
                self.gripper.step(dashboard)

    def _read(self) -> None:
        """Connect, read, and do so again after each loss."""
        while not self._reading.stopping.is_set():
            try:
                self._session()
            except DobotError as error:
                self._disconnect(str(error))
                self._failures += 1
            self._reading.stopping.wait(backoff_s(self._failures - 1))

    def _session(self) -> None:
        """One connection, from the first packet to its loss."""
        s = self._settings
        dashboard = Dashboard(s.host, s.dashboard_port)
        try:
            with self._open_feedback() as feedback:
                if s.speed_percent:
                    dashboard.send(f"SpeedFactor({s.speed_percent})")
                while not self._reading.stopping.is_set():
                    if dashboard.problem:
                        raise DobotError(dashboard.problem)
                    heard = parse_feedback(receive(feedback, PACKET_BYTES, PACKET_DEADLINE_S))
                    self._hear_packet(heard, dashboard)
        finally:
            self._dashboard = None
            dashboard.close()

    def _hear_packet(self, heard: Feedback, dashboard: Dashboard) -> None:
        is_new = self.servo.hear(heard, time.monotonic())
        if self._dashboard is None:  # the first packet: from now on there is a robot
            self._dashboard, self._failures = dashboard, 0
            self.connections += 1
            self._log(f"connected to {self._settings.host}")
        if is_new:
            self._hear(heard)

    def _open_feedback(self) -> socket.socket:
        s = self._settings
        try:
            return socket.create_connection((s.host, s.feedback_port), 1.0)
        except OSError as error:
            raise DobotError(f"{s.host}:{s.feedback_port}: {error}; no feedback") from None

    def _disconnect(self, problem: str) -> None:
        self.servo.forget()
        if self.gripper is not None:
            self.gripper.forget()
        if problem != self._problem:
            self._log(f"disconnected: {problem}")
        self._problem = problem
