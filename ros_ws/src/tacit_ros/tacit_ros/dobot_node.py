"""Node `dobot`: one Dobot arm (Nova, CR; protocol V4) on the topics of a rig, over TCP.

What is sent when is decided in `tacit.drivers.dobot`; here are topics, services and parameters. While the
controller is not heard no joint is published. Its stops are software: they are not safety-rated.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from std_msgs.msg import String
from std_srvs.srv import Trigger

from tacit.control.safety import Fault, MotionLimiter
from tacit.drivers.dobot.arm import ArmSettings, DobotArm, Done, RobotStatus
from tacit.drivers.dobot.gripper import GripperSettings
from tacit.drivers.dobot.protocol import NUM_JOINTS, Feedback
from tacit.errors import RigError, did_you_mean
from tacit.geometry.transforms import FloatArray
from tacit.rig import ArmSpec, CommandSpec, Rig, StreamSpec, load_rig
from tacit.rig.units import vector_from_canonical
from tacit_ros import messages
from tacit_ros.messages import MessageError
from tacit_ros.wire import qos
from tacit_ros.wire.parameters import declare, parameter
from tacit_ros.wire.process import WatchedNode, go_first, run_node
from tacit_ros.wire.stop_topics import StopTopics

JOINT_STATE = "sensor_msgs/msg/JointState"
TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"
STATUS_HZ = 20.0
"""How often the arm's own state is said: a policy that hears it must hold within a tenth of a second."""

STOPPED_TOGETHER = ("mode", "alarm", "protective_stop", "not_heard", "disconnected")
"""Faults in which commands are expected to go on for a moment: their sender has not heard yet."""


@dataclass(frozen=True)
class DobotParameters:
    """Parameters of the node; fixed once it runs."""

    rig: str = parameter("nova2", "Shipped rig or path of a rig.yaml.")
    arm: str = parameter("", "Arm of the rig; may be left out where there is one.")
    host: str = parameter("192.168.5.1", "Address of the controller.")
    dashboard_port: int = parameter(29999, "Port of the dashboard.", low=1, high=65535)
    feedback_port: int = parameter(30004, "Port of the feedback.", low=1, high=65535)
    servo_hz: float = parameter(100 / 3, "ServoJ per second; the maker recommends 33.", low=10, high=125)
    servo_time_s: float = parameter(0.06, "Time to reach each target [s].", low=0.02, high=1)
    ahead: float = parameter(50.0, "ServoJ's aheadtime.", low=20, high=100)
    gain: float = parameter(500.0, "ServoJ's gain.", low=200, high=1000)
    speed_percent: int = parameter(0, "Global speed; 0 leaves it as it is.", low=0, high=100)
    payload_kg: float = parameter(0.0, "Load at the flange, told when enabling.", low=0, high=20)
    command_timeout_s: float = parameter(
        0.2, "Without a command for so long, none is sent.", low=0.05, high=1
    )
    auto_enable: bool = parameter(False, "Enable the arm once connected, without asking ~/enable.")
    gripper: str = parameter(
        "none",
        "How the gripper is spoken to: none, or modbus through the tool port.",
        choices=("none", "modbus"),
    )
    gripper_slave: int = parameter(1, "Modbus address of the gripper.", low=1, high=247)
    gripper_baud: int = parameter(115200, "Its baud rate.", low=1200)
    gripper_target: int = parameter(0x0103, "Holding register of the wanted opening.", low=0, high=65535)
    gripper_position: int = parameter(0x0202, "Holding register of the measured one.", low=0, high=65535)
    gripper_start: int = parameter(0x0100, "Register set to 1 to home it; -1: none.", low=-1, high=65535)
    gripper_high: float = parameter(1000.0, "Greatest value of the target register.", above=0)
    realtime_priority: int = parameter(10, "SCHED_FIFO priority of ServoJ; 0: none.", low=0, high=99)


@dataclass(frozen=True)
class ArmTopics:
    """The part of a rig that is one arm: what it is called, where it is said and commanded.

    Attributes:
        joints: Names of the six joints.
        gripper: Name of the gripper; "" where the arm has none.
        states: Streams that measure any of them.
        commands: Topics that command any of them.
        robot_state: Where the arm says whether it is ready; None where the rig does not ask.
    """

    joints: tuple[str, ...]
    gripper: str
    states: tuple[StreamSpec, ...]
    commands: tuple[CommandSpec, ...]
    robot_state: StreamSpec | None


def topics_of(rig: Rig, arm: str, *, with_gripper: bool) -> ArmTopics:
    """Find the topics of one arm; without its gripper, that one's state is left to another node.

    Raises:
        RigError: Not six joints, a command as trajectory, or two arms' joints on one topic.
    """
    spec: ArmSpec = rig.arms[arm]
    joints = tuple(joint.name for joint in spec.joints)
    if len(joints) != NUM_JOINTS:
        raise RigError(f"rig {rig.name}: arm {arm} has {len(joints)} joints, a Dobot arm has {NUM_JOINTS}")
    gripper = spec.gripper.name if spec.gripper is not None else ""
    own = {*joints, gripper}
    measured = own if with_gripper else set(joints)
    states = tuple(stream for stream in rig.states.values() if measured & set(stream.names))
    commands = tuple(command for command in rig.commands.values() if own & set(command.names))
    carried: list[StreamSpec | CommandSpec] = [*states, *commands]
    for topic in carried:
        foreign = [name for name in topic.names if name not in own]
        if foreign:
            raise RigError(
                f"rig {rig.name}: {topic.topic} also carries {', '.join(foreign)}; one topic per arm"
            )
    for command in commands:
        if command.type == TRAJECTORY:
            raise RigError(f"rig {rig.name}: {command.topic} is a {TRAJECTORY}; use {JOINT_STATE}")
    told = [s for n, s in rig.robot_states.items() if len(rig.arms) == 1 or n.startswith(arm)]
    return ArmTopics(joints, gripper, states, commands, told[0] if told else None)


def limiter_of(rig: Rig, arm: str, period_s: float) -> MotionLimiter:
    """Return the limits of an arm's joints as its controller counts them: signs and offsets undone."""
    part = rig.arm_slice(arm)
    names = rig.state_names[part]
    ends = [vector_from_canonical(rig, names, rig.limits(end)[part]) for end in ("lower", "upper")]
    velocity, acceleration = rig.limits("velocity")[part], rig.limits("acceleration")[part]
    return MotionLimiter(np.minimum(*ends), np.maximum(*ends), velocity, acceleration, period_s)


class DobotNode(WatchedNode):
    """Drives one arm.

    Services (Trigger): `~/enable ~/disable ~/clear ~/estop ~/reset`. Topics: those of the rig, `~/state`,
    `/diagnostics`; the rig's emergency stop topic and heartbeat are heard.

    Raises:
        TacitError: Rig or parameters are wrong. A controller that does not answer is waited for.
    """

    patience_s = 8.0

    def __init__(self, parameter_overrides: list[Parameter] | None = None) -> None:
        super().__init__("dobot", parameter_overrides=parameter_overrides)
        self.settings = declare(self, DobotParameters)
        self.rig = load_rig(self.settings.rig)
        name = _arm_name(self.rig, self.settings.arm)
        self.topics = topics_of(self.rig, name, with_gripper=self.settings.gripper != "none")
        self._measures: list[tuple[StreamSpec, Publisher]] = [
            (
                spec,
                self.create_publisher(messages.message_class(spec.type), spec.topic, qos.profile(spec.qos)),
            )
            for spec in self.topics.states
        ]
        self._opening: float | None = None
        self._stamped_ns: dict[str, int] = {}
        self.arm = DobotArm(
            self._arm_settings(),
            limiter_of(self.rig, name, 1 / self.settings.servo_hz),
            self.rig.safety.tracking_error,
            self._publish_joints,
            self._publish_gripper,
            self._log,
            self.thread_failed,
            self.settings.realtime_priority,
        )
        self._announced, self._wanted = "", self.settings.auto_enable
        self._open_topics()
        self.arm.start()

    def close(self) -> None:
        """Stop the threads, close the connections."""
        self.arm.stop()

    def halt(self, reason: str) -> None:
        """Brake the arm, and send nothing more."""
        self.arm.come_to_rest()
        self.arm.servo.stop(Fault("closing", reason))
        self._announce()

    def _log(self, text: str) -> None:
        if self.context.ok():
            self.get_logger().info(text)

    def _arm_settings(self) -> ArmSettings:
        s = self.settings
        gripper = None
        if s.gripper == "modbus" and self.topics.gripper:
            gripper = GripperSettings(
                slave=s.gripper_slave,
                baud=s.gripper_baud,
                target=s.gripper_target,
                position=s.gripper_position,
                start=s.gripper_start,
                high=s.gripper_high,
            )
        return ArmSettings(
            host=s.host,
            dashboard_port=s.dashboard_port,
            feedback_port=s.feedback_port,
            servo_hz=s.servo_hz,
            servo_time_s=s.servo_time_s,
            ahead=s.ahead,
            gain=s.gain,
            speed_percent=s.speed_percent,
            command_timeout_s=s.command_timeout_s,
            gripper=gripper,
        )

    def _open_topics(self) -> None:
        self._state_topic = self.create_publisher(String, "~/state", qos.state())
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        told = self.topics.robot_state
        self._status_topic: Publisher | None = None
        if told is not None:
            kind = messages.message_class(told.type)
            self._status_topic = self.create_publisher(kind, told.topic, qos.profile(told.qos))
        for spec in self.topics.commands:
            kind = messages.message_class(spec.type)
            profile = qos.profile(spec.qos, depth=1)
            self.create_subscription(kind, spec.topic, self._command_callback(spec), profile)
        self.stops = StopTopics(self, self.rig.safety, lambda fault: self.arm.emergency_stop())
        actions: dict[str, Callable[[], Done]] = {
            "enable": self._enable,
            "disable": self.arm.disable,
            "clear": self.arm.clear,
            "estop": self.arm.emergency_stop,
            "reset": self._reset,
        }
        for name, action in actions.items():
            self.create_service(Trigger, f"~/{name}", self._trigger(action))
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1 / STATUS_HZ, self._report, clock=steady)
        self.create_timer(1.0, self._diagnose, clock=steady)

    def _command_callback(self, spec: CommandSpec) -> Callable[[object], None]:
        def receive(message: object) -> None:
            try:
                raw = messages.read_named(message, spec.type, spec.names)
            except MessageError as error:
                self.get_logger().error(f"{spec.topic}: {error}", throttle_duration_sec=1.0)
                return
            self._command(dict(zip(spec.names, np.asarray(raw).tolist(), strict=True)))

        return receive

    def _command(self, values: dict[str, float]) -> None:
        """Take one message: joints to ServoJ, the gripper to its register."""
        fault = self.stops.fault()
        if fault is None and self.topics.joints[0] in values:
            target = np.array([values[name] for name in self.topics.joints])
            fault = self.arm.servo.take(target, time.monotonic())
        if fault is not None:
            if fault.reason not in STOPPED_TOGETHER:
                self.get_logger().error(f"command refused: {fault}", throttle_duration_sec=1.0)
            return
        opening = values.get(self.topics.gripper)
        if opening is not None and np.isfinite(opening) and self.arm.gripper is not None:
            self.arm.gripper.take(opening)

    def _publish_joints(self, feedback: Feedback) -> None:
        """Publish what was measured, on the reading thread; the gripper beside it once it is known."""
        known = dict(zip(self.topics.joints, zip(feedback.q, feedback.qd, strict=True), strict=True))
        if self._opening is not None:
            known[self.topics.gripper] = (self._opening, 0.0)
        self._publish(known, self.topics.joints[0])

    def _publish_gripper(self, opening: float) -> None:
        self._opening = opening
        self._publish({self.topics.gripper: (opening, 0.0)}, self.topics.gripper)

    def _publish(self, known: dict[str, tuple[float, float]], trigger: str) -> None:
        """Publish the streams that carry `trigger` and of which everything is known.

        Where simulated time rules, it may not have moved since: of one moment a robot says one thing.
        """
        stamp_ns = self.get_clock().now().nanoseconds
        for spec, publisher in self._measures:
            if trigger not in spec.names or not set(spec.names) <= set(known) or not self.context.ok():
                continue
            if self._stamped_ns.get(spec.topic) == stamp_ns:
                continue
            self._stamped_ns[spec.topic] = stamp_ns
            position: FloatArray = np.array([known[name][0] for name in spec.names])
            if spec.type == JOINT_STATE and self.topics.gripper not in spec.names:
                velocity = [known[name][1] for name in spec.names]
                publisher.publish(messages.joint_state(spec.names, position, stamp_ns, velocity=velocity))
            else:
                publisher.publish(messages.build_named(spec.type, spec.names, position, stamp_ns))

    def _enable(self) -> Done:
        return self.arm.enable(self.settings.payload_kg)

    def _reset(self) -> Done:
        """Release the emergency stop, unless somebody still says stop."""
        pressed = self.stops.pressed()
        return Done(False, f"{pressed} call ~/reset again") if pressed else self.arm.release()

    def _trigger(self, action: Callable[[], Done]) -> Callable[..., Trigger.Response]:
        def serve(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            response.success, response.message = action()
            self._report()
            return response

        return serve

    def _report(self) -> None:
        """Say what the arm says of itself."""
        if self._wanted and self.arm.is_connected:
            self._wanted = False
            done = self._enable()
            self.get_logger().info(f"enabling: {done.message}")
        if self.arm.gripper is not None and self.arm.gripper.problem:
            self._opening = None
        told = self.topics.robot_state
        if self._status_topic is not None and told is not None:
            status = self._status()._asdict()
            values = [status[name] for name in told.names]
            stamp_ns = self.get_clock().now().nanoseconds
            self._status_topic.publish(messages.build_named(told.type, told.names, values, stamp_ns))
        self._announce()

    def _status(self) -> RobotStatus:
        status = self.arm.status()
        return status if self.stops.fault() is None else status._replace(fault=1.0)

    def _announce(self) -> None:
        text = self.state()
        if text != self._announced and self.context.ok():
            self._announced = text
            self._state_topic.publish(messages.string(text))

    def state(self) -> str:
        """Return the state in words: READY, MOVING, or why it cannot be moved."""
        fault = self.arm.fault() or self.stops.fault()
        if fault is not None:
            return f"NOT_READY ({fault})"
        return "MOVING" if self.arm.servo.is_moving else "READY"

    def _diagnose(self) -> None:
        """Publish timing and faults."""
        timing, gripper = self.arm.timing, self.arm.gripper
        values: dict[str, object] = {
            "sent": self.arm.sent,
            "missed_periods": timing.missed,
            "period_error_p99_ms": f"{timing.p99_ms:.2f}",
            "connections": self.arm.connections,
            "gripper": "none" if gripper is None else gripper.problem or "answers",
        }
        level = "ok" if self.arm.fault() is None else "warn"
        status = messages.Status(self.get_name(), level, self.state(), values)
        self._diagnostics.publish(
            messages.diagnostics([status], self.get_clock().now().nanoseconds, self.settings.host)
        )


def _arm_name(rig: Rig, name: str) -> str:
    if name in rig.arms or (not name and len(rig.arms) == 1):
        return name or next(iter(rig.arms))
    raise RigError(f"rig {rig.name}: arm {name!r}; {did_you_mean(name, rig.arms)}")


def main(argv: list[str] | None = None) -> int:
    """Run the node until a signal; exit code 2 where it refuses to start."""
    go_first()  # an arm that is heard late is stopped: whatever else runs here can wait
    return run_node(DobotNode, argv)


if __name__ == "__main__":
    sys.exit(main())
