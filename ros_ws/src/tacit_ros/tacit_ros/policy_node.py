"""The policy node `policy`: a bundle, a rig, and the states IDLE, RUNNING, HOMING, HOLD, ESTOP.

Callbacks only store; the inference thread and the command thread both call `tacit.control.acting`,
which the simulator's closed loop calls too. The software stop is not safety-rated.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.parameter import Parameter
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from tacit.bundle import Manifest, PolicyBundle, describe, load_bundle
from tacit.bundle.player import PLAY_MODES, PlayFlags, PlaySpec
from tacit.bundle.runtime import OnnxPolicy
from tacit.control.acting import BETWEEN_TICKS_S, Acting
from tacit.control.inference_thread import InferenceThread
from tacit.control.inputs import AlignedInputs
from tacit.control.periodic import PeriodicThread, SimulatedClock, SteadyClock
from tacit.control.safety import Fault
from tacit.control.states import MOVING, Answer
from tacit.errors import BundleError
from tacit.geometry.transforms import FloatArray
from tacit.rig import load_rig
from tacit_ros import messages
from tacit_ros.policy_diagnostics import PolicyDiagnostics
from tacit_ros.wire import qos
from tacit_ros.wire.commands import CommandPublisher
from tacit_ros.wire.observations import RigSubscriptions
from tacit_ros.wire.parameters import SHA256, declare, parameter
from tacit_ros.wire.process import WatchedNode, run_node
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


@dataclass(frozen=True)
class PolicyParameters:
    """Parameters of the node; fixed once it runs."""

    rig: str = parameter("nova2_sim", "Shipped rig or path of a rig.yaml.")
    bundle: str = parameter("", "Path of the exported policy (.onnx).")
    sha256: str = parameter("", "Expected sha256 of the bundle; empty accepts any.", pattern=SHA256)
    mode: str = parameter(
        "", "How chunks overlap in time; empty: as the bundle says.", choices=("", *PLAY_MODES)
    )
    blend: int = parameter(-1, "Rows of cross-fade in mode blend; -1: as the bundle says.", low=0, unless=-1)
    ensemble_m: float = parameter(
        -1.0, "Decay of the weights in mode temporal_ensemble; -1: as the bundle says.", low=0, unless=-1
    )
    replan_ticks: int = parameter(
        0, "Ticks between inferences; 0: as the bundle says, or as is usual for another mode.", low=0
    )
    dry_run: bool = parameter(False, "Publish to ~/shadow_command only.")
    lockstep: bool = parameter(False, "Answer each tick with one command: for a simulator that waits.")
    num_threads: int = parameter(1, "Threads of one inference.", low=1, high=64)
    realtime_priority: int = parameter(
        10, "SCHED_FIFO priority of the command thread; 0 for none.", low=0, high=99
    )


class PolicyNode(WatchedNode):
    """Runs one policy bundle on one rig.

    Services: `~/start ~/home ~/hold ~/estop ~/reset` (Trigger), `~/set_dry_run` (SetBool). Topics out: the
    rig's commands (or `~/shadow_command`), `~/state`, `/diagnostics`.

    Raises:
        TacitError: Rig, bundle or parameters are not fit to run: the node refuses to start.
    """

    patience_s = BETWEEN_TICKS_S + 3.0  # the longest that a service of this node takes, and some

    def __init__(self, parameter_overrides: list[Parameter] | None = None) -> None:
        super().__init__("policy", parameter_overrides=parameter_overrides)
        self.settings = declare(self, PolicyParameters)
        self.rig = load_rig(self.settings.rig)
        self.policy = OnnxPolicy(_bundle(self.settings), self.rig, self.settings.num_threads)
        manifest = self.policy.manifest
        self.inputs = self._make_inputs()
        self.acting = Acting(
            self.policy,
            self.rig,
            self.inputs,
            _playing(self.settings, manifest),
            dry_run=self.settings.dry_run,
            lockstep=self.settings.lockstep,
        )
        self.controller, period_ns = self.acting.controller, self.acting.period_ns
        lockstep, pace = self.settings.lockstep, self._pace()
        self.commands = CommandPublisher(self, self.rig, period_ns / 1e9, lockstep, pace)
        self.inference = InferenceThread(
            self.acting, self.thread_failed, self._command_at if self.settings.lockstep else None
        )
        self.loop = self._make_loop(period_ns, pace) if pace is not None else None
        self._announced, self._announcing = "", threading.Lock()
        self._sent, self._taken_over = 0, False
        self._state_topic = self.create_publisher(String, "~/state", qos.state())
        self._offer_services()
        self._open_topics()
        self.get_logger().info(f"{self.policy.bundle.source}\n{describe(manifest)}\nplays {self.acting.play}")
        self._begin()

    def close(self) -> None:
        """Stop and join both threads; nothing is published afterwards."""
        if self.loop is not None:
            self.loop.stop()
        self.inference.stop()
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
        self._announce()
        self.diagnostics.publish()
        self._state_topic.wait_for_all_acked(Duration(seconds=0.5))

    def _begin(self) -> None:
        self.inference.start()
        if self.loop is not None:
            self.loop.start()
            if not self.loop.is_realtime and self.settings.realtime_priority > 0:
                self.get_logger().warning(
                    "command thread without SCHED_FIFO (needs CAP_SYS_NICE): expect late commands under load"
                )
        self._announce()

    @property
    def is_simulated_time(self) -> bool:
        """Whether `/clock` rules."""
        return bool(self.get_parameter("use_sim_time").value)

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _make_inputs(self) -> AlignedInputs:
        ages = self._now_ns if self.is_simulated_time else time.monotonic_ns
        simulated = True if self.is_simulated_time else None
        return AlignedInputs(self.rig, self.policy.manifest, self._now_ns, ages, simulated=simulated)

    def _pace(self) -> Pace | None:
        """What threads that command run on; None in lockstep, where each tick is answered by one command."""
        if self.settings.lockstep:
            return None
        clock = SimulatedClock(self._now_ns) if self.is_simulated_time else SteadyClock()
        return Pace(clock, self.thread_failed, self.settings.realtime_priority)

    def _make_loop(self, period_ns: int, pace: Pace) -> PeriodicThread:
        return PeriodicThread(period_ns, self._control, pace.on_failure, pace.clock, pace.priority)

    def _open_topics(self) -> None:
        self.subscriptions_of_rig = RigSubscriptions(
            self, self.rig, self.inputs.intake, self.inputs.store, live_images=not self.settings.lockstep
        )
        heard = {name: self.subscriptions_of_rig.topic(name) for name in self.inputs.names}
        self.others = Publishers(self, heard, self.commands.topics)
        self.stops = StopTopics(self, self.rig.safety, self._stop_at_once)
        self.inputs.watched += [self.stops.fault, lambda: self.others.fault(not self.controller.dry_run)]
        self.diagnostics = PolicyDiagnostics(self, self.rig, self.acting, self.loop, self.commands)
        # Simulated time may stand still, and just then one asks what the policy waits for.
        self.create_timer(1.0, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _offer_services(self) -> None:
        actions: dict[str, Callable[[], Answer]] = {
            "start": self._having_looked(self.acting.start),
            "home": self._having_looked(self.acting.go_home),
            "hold": self.controller.hold,
            "estop": self.controller.estop,
            "reset": self._reset,
        }
        for name, action in actions.items():
            self.create_service(Trigger, f"~/{name}", self._trigger(action))
        self.create_service(SetBool, "~/set_dry_run", self._set_dry_run)

    def _having_looked(self, begin: Callable[[], Answer]) -> Callable[[], Answer]:
        """Look at the graph just before the robot begins to move."""

        def look_and_begin() -> Answer:
            self.others.look()
            return begin()

        return look_and_begin

    def _stop_at_once(self, fault: Fault) -> None:
        self.controller.estop(fault)
        self._announce()

    def _reset(self) -> Answer:
        """Back to idle, unless somebody still says stop."""
        pressed = self.stops.pressed()
        return Answer(False, f"{pressed} call ~/reset again") if pressed else self.acting.reset()

    def _trigger(self, action: Callable[[], Answer]) -> Callable[..., Trigger.Response]:
        def serve(request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
            response.success, response.message = action()
            if self.controller.state in ("HOLD", "ESTOP"):
                self.commands.brake()
            self._announce()
            return response

        return serve

    def _set_dry_run(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        response.success, response.message = self.controller.set_dry_run(bool(request.data))
        return response

    def _control(self) -> None:
        """One tick of the command thread."""
        if self.controller.state in MOVING:
            self.acting.watch()
        self._command_at(self.inputs.now_ns())

    def _command_at(self, now_ns: int) -> None:
        if self._taken_over:
            return
        self._send(self.acting.command(now_ns), now_ns)
        if self.controller.state in ("HOLD", "ESTOP"):
            self._announce()

    def _send(self, command: FloatArray | None, now_ns: int) -> None:
        if not self.context.ok():
            return
        braking = self.controller.state in ("HOLD", "ESTOP")
        if command is not None:
            limiter, dry_run = self.controller.limiter, self.controller.dry_run
            self.commands.publish(command, now_ns, dry_run, limiter, braking=braking)
            self._sent += 1
        elif not braking:
            self.commands.settle()

    def _come_to_rest(self) -> None:
        """Return once the commands stand still: sent by the thread that commands, or else from here."""
        limiter, commander = self.controller.limiter, self.loop or self.inference
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
                self.inference.interrupt()  # lockstep: the braking command answers the tick
            time.sleep(limiter.period)
        self.commands.come_to_rest(deadline)

    def _announce(self) -> None:
        """Publish the state where it changed; under a lock, so that an older one is never the last."""
        with self._announcing:
            text = str(self.controller)
            if text != self._announced and self.context.ok():
                self._announced = text
                self._state_topic.publish(messages.string(text))

    def _report(self) -> None:
        """Once a second: diagnostics, and the reason of a hold."""
        self.diagnostics.publish()
        self._announce()
        if self.controller.fault is not None:
            self.get_logger().warning(str(self.controller))


def main(argv: list[str] | None = None) -> int:
    """Run the node until a signal; exit code 2 where it refuses to start."""
    return run_node(PolicyNode, argv)


def _bundle(settings: PolicyParameters) -> PolicyBundle:
    if not settings.bundle:
        raise BundleError("parameter bundle is empty; give the path of an exported policy (.onnx)")
    return load_bundle(settings.bundle, settings.sha256 or None)


def _playing(settings: PolicyParameters, manifest: Manifest) -> PlaySpec:
    """The bundle's way of playing, with what the parameters override."""
    flags = PlayFlags(
        settings.mode or None,  # type: ignore[arg-type]  # one of the parameter's choices
        settings.replan_ticks or None,
        None if settings.blend < 0 else settings.blend,
        None if settings.ensemble_m < 0 else settings.ensemble_m,
    )
    return flags.applied(manifest.playing, manifest.chunk_size)


if __name__ == "__main__":
    sys.exit(main())
