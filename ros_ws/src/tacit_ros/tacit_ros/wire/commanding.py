"""A node that moves the robot: it sends what a controller says, tells its state, comes to rest at its end.

The policy node is one, `teleop_node` the other: what stops a policy stops a person, and the other way round.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.parameter import Parameter
from std_msgs.msg import Int32, String
from std_srvs.srv import SetBool, Trigger

from tacit.control.controller import Controller
from tacit.control.heard import HeardStreams
from tacit.control.periodic import PeriodicThread, SimulatedClock, SteadyClock
from tacit.control.safety import Fault
from tacit.control.states import MOVING, Answer
from tacit.episode.schema import SOURCE
from tacit.geometry.transforms import FloatArray
from tacit.rig import Rig
from tacit.teleop import Event
from tacit_ros import messages
from tacit_ros.wire import qos
from tacit_ros.wire.commands import CommandPublisher
from tacit_ros.wire.observations import RigSubscriptions
from tacit_ros.wire.parameters import parameter
from tacit_ros.wire.process import WatchedNode
from tacit_ros.wire.publishers import Publishers
from tacit_ros.wire.stop_topics import StopTopics
from tacit_ros.wire.upsampled import Pace

REST_DEADLINE_S = 3.0
"""How long a closing node waits for the robot to stand, beyond ten times what braking takes: for a simulator
that runs slowly. After that nobody takes its commands."""

STALLED_S = 0.2
"""The thread that commands has sent nothing for so long although the robot moves: it hangs [s]."""

STALLED_SIMULATION_S = 2.0
"""The same where simulated time paces the commands, which may pass slowly [s]."""

CLOCK_SET_NS = 1_000_000_000
"""A present that lies so much further back is that of a clock which was set anew."""

SOURCES = ("RUNNING", "PERSON")
"""States in which an episode says who commands, in the order of `tacit.episode.schema.SOURCES`."""

Action = Callable[[], Answer]

SERVICES = {Event.take: "take_over", Event.back: "hand_back", Event.stop: "hold", Event.release: "release"}
"""Which service does what a key or a button asks for."""


class Commander(Protocol):
    """The thread that sends the commands."""

    @property
    def is_at_work(self) -> bool:
        """Whether it goes on."""


@dataclass(frozen=True)
class CommandParameters:
    """Parameters of every node that moves the robot."""

    speed_limit: float = parameter(
        1.0, "Part of the rig's velocity limits.", above=0, high=1, live=True, only_down=True
    )


class CommandingNode(WatchedNode):
    """The shell around a controller; who makes the node calls `_move` once, then `_open`.

    Topics out: the rig's commands (or `~/shadow_command`), `~/state`.
    """

    def _move(
        self, rig: Rig, controller: Controller, inputs: HeardStreams, priority: int, lockstep: bool = False
    ) -> None:
        """Take what decides, and open the topics that go out.

        Args:
            rig: Says which topics.
            controller: Says what to send.
            inputs: What the robot says.
            priority: SCHED_FIFO priority of the threads that command; 0 for none.
            lockstep: Time waits for each command: no thread of ours paces them.
        """
        self.rig, self.controller, self.inputs, self._is_lockstep = rig, controller, inputs, lockstep
        pace = self._pace = None if lockstep else self._make_pace(priority)
        self.commands = CommandPublisher(self, rig, controller.limiter.period, lockstep, pace)
        self.loop: PeriodicThread | None = None
        self._limit_speed(self.get_parameters(["speed_limit"]))
        self.add_post_set_parameters_callback(self._limit_speed)
        self._announced, self._announcing = "", threading.Lock()
        self._sent, self._taken_over, self._stamped_ns = 0, False, 0
        self._state_topic = self.create_publisher(String, "~/state", qos.state())
        source = rig.streams.get(SOURCE)
        self._source = None if source is None else self.create_publisher(Int32, source.topic, 10)

    def _limit_speed(self, changed: list[Parameter]) -> None:
        for change in changed:
            if change.name == "speed_limit":
                self.controller.limiter.velocity = float(change.value) * self.rig.limits("velocity")

    def _make_pace(self, priority: int) -> Pace:
        clock = SimulatedClock(self._now_ns) if self.is_simulated_time else SteadyClock()
        return Pace(clock, self.thread_failed, priority)

    def _make_loop(self) -> PeriodicThread | None:
        """Return the thread that commands, not started; None in lockstep: a tick is answered by a command."""
        if self._pace is None:
            return None
        clock, on_failure, priority = self._pace
        period_ns = round(1e9 * self.controller.limiter.period)
        return PeriodicThread(period_ns, self._control, on_failure, clock, priority)

    def _hear(self) -> None:
        """Subscribe to the robot, and look who else commands it."""
        self.subscriptions_of_rig = RigSubscriptions(
            self, self.rig, self.inputs.intake, self.inputs.store, live_images=not self._is_lockstep
        )
        heard = {name: self.subscriptions_of_rig.topic(name) for name in self.inputs.names}
        self.others = Publishers(self, heard, self.commands.topics)
        self.stops = StopTopics(self, self.rig.safety, self._stop_at_once)
        self.inputs.watched += [self.stops.fault, lambda: self.others.fault(not self.controller.dry_run)]
        # Simulated time may stand still, and just then one asks what the node waits for.
        self.create_timer(1.0, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _offer(self, actions: dict[str, Action]) -> None:
        """Offer `~/<name>` (Trigger) for each action, and `~/set_dry_run` (SetBool)."""
        self._actions_by_name = actions
        for name, action in actions.items():
            self.create_service(Trigger, f"~/{name}", self._trigger(action))
        self.create_service(SetBool, "~/set_dry_run", self._set_dry_run)

    def _start_loop(self) -> None:
        if self.loop is not None and self._pace is not None:
            self.loop.start()
            if not self.loop.is_realtime and self._pace.priority > 0:
                self.get_logger().warning(
                    "command thread without SCHED_FIFO (needs CAP_SYS_NICE): expect late commands under load"
                )
        self._announce()

    def _command(self, now_ns: int) -> FloatArray | None:
        """Return the command (S,) of the tick at `now_ns`; None: nothing to send."""
        raise NotImplementedError

    def _watch(self) -> None:
        """Hold where something speaks against moving; called at each tick while the robot may move."""
        raise NotImplementedError

    def _report(self) -> None:
        """Once a second: tell the state, and the reason of a hold."""
        self._announce()
        if self.controller.fault is not None:
            self.get_logger().warning(str(self.controller))

    def close(self) -> None:
        """Stop and join the command thread; nothing is published afterwards."""
        if self.loop is not None:
            self.loop.stop()
        self.commands.close()

    def halt(self, reason: str) -> None:
        """Brake, and publish the final state with the reason.

        A signal holds what moves, a failure latches ESTOP in every state; neither can be started again. Where
        the thread that commands has ended or hangs, the caller's sends the braking commands.
        """
        self.controller.close(Fault("closing", reason))
        if self.failure is not None:
            self.controller.estop(Fault("failure", reason))
        self._come_to_rest()
        self._report()
        self._state_topic.wait_for_all_acked(Duration(seconds=0.5))

    @property
    def is_simulated_time(self) -> bool:
        """Whether `/clock` rules."""
        return bool(self.get_parameter("use_sim_time").value)

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _age_clock(self) -> Callable[[], int]:
        """The clock that measures ages: simulated time where that rules."""
        return self._now_ns if self.is_simulated_time else time.monotonic_ns

    def _having_looked(self, begin: Action) -> Action:
        """Look at the graph just before the robot begins to move."""

        def look_and_begin() -> Answer:
            self.others.look()
            return begin()

        return look_and_begin

    def _stop_at_once(self, fault: Fault) -> None:
        self.controller.estop(fault)
        self._announce()

    def _having_asked(self, reset: Action) -> Action:
        """Reset, unless somebody still says stop."""

        def ask_and_reset() -> Answer:
            pressed = self.stops.pressed()
            return Answer(False, f"{pressed} call ~/reset again") if pressed else reset()

        return ask_and_reset

    def _trigger(self, action: Action) -> Callable[..., Trigger.Response]:
        def serve(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            response.success, response.message = action()
            self._brake_outputs()
            self._announce()
            return response

        return serve

    def _brake_outputs(self) -> None:
        if self.controller.state in ("HOLD", "ESTOP"):
            self.commands.brake()

    def _on_event(self, event: Event) -> None:
        """Do what is asked for at a device, as the service of that name does."""
        success, message = self._actions_by_name[SERVICES[event]]()
        self._brake_outputs()
        if success:
            self.get_logger().info(message)
        else:
            self.get_logger().warning(message)
        self._announce()

    def _set_dry_run(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        response.success, response.message = self.controller.set_dry_run(bool(request.data))
        return response

    def _control(self) -> None:
        """One tick of the command thread."""
        if self.controller.state in MOVING:
            self._watch()
        self._command_at(self._rising(self.inputs.now_ns()))

    def _rising(self, now_ns: int) -> int:
        """Return the present, later than at the last tick: of a foreign clock it is a guess that may fall."""
        if 0 <= self._stamped_ns - now_ns < CLOCK_SET_NS:
            now_ns = self._stamped_ns + 1
        self._stamped_ns = now_ns
        return now_ns

    def _command_at(self, now_ns: int) -> None:
        if self._taken_over:
            return
        self._send(self._command(now_ns), now_ns)
        if self.controller.state in ("HOLD", "ESTOP"):
            self._announce()

    def _send(self, command: FloatArray | None, now_ns: int) -> None:
        if not self.context.ok():
            return
        braking = self.controller.state in ("HOLD", "ESTOP")
        if command is not None:
            limiter, dry_run = self.controller.limiter, self.controller.dry_run
            self.commands.publish(command, now_ns, dry_run, limiter, braking=braking)
            if not self._is_lockstep:
                self.controller.sent(self.inputs.steady_now_ns())
            self._sent += 1
            if self._source is not None and self.controller.state in SOURCES:
                self._source.publish(messages.int32(SOURCES.index(self.controller.state)))
        elif not braking:
            self.commands.settle()

    @property
    def _commander(self) -> Commander:
        """The thread that sends the commands."""
        assert self.loop is not None
        return self.loop

    def _interrupt(self) -> None:
        """In lockstep: have the braking command sent, which answers the tick."""

    def _come_to_rest(self) -> None:
        """Return once the commands stand still: sent by the thread that commands, or else from here."""
        limiter, commander = self.controller.limiter, self._commander
        paced_by_wall = self.loop is not None and not self.is_simulated_time
        patience_s = max(STALLED_S if paced_by_wall else STALLED_SIMULATION_S, 5 * limiter.period)
        deadline = time.monotonic() + REST_DEADLINE_S + 10 * limiter.braking_time
        sent, since = self._sent, time.monotonic()
        while not limiter.is_at_rest and time.monotonic() < deadline:
            if self._sent != sent:
                sent, since = self._sent, time.monotonic()
            self._taken_over |= not commander.is_at_work or time.monotonic() - since > patience_s
            if self._taken_over:
                steady_ns = self.inputs.steady_now_ns() if paced_by_wall else None
                self._send(self.controller.brake(steady_ns), self.inputs.now_ns())
            elif self.loop is None:
                self._interrupt()
            time.sleep(limiter.period)
        self.commands.come_to_rest(deadline)

    def _announce(self) -> None:
        """Publish the state where it changed; under a lock, so that an older one is never the last."""
        with self._announcing:
            text = str(self.controller)
            if text != self._announced and self.context.ok():
                self._announced = text
                self._state_topic.publish(messages.string(text))
