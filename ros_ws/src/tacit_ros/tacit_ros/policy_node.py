"""The policy node `policy`: a bundle, a rig, and the states IDLE, RUNNING, HOMING, PERSON, HOLD, ESTOP.

Callbacks only store; the inference thread and the command thread both call `tacit.control.acting`,
which the simulator's closed loop calls too. The software stop is not safety-rated.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from rclpy.parameter import Parameter

from tacit.bundle import Manifest, PolicyBundle, describe, load_bundle
from tacit.bundle.player import PLAY_MODES, PlayFlags, PlaySpec
from tacit.bundle.runtime import OnnxPolicy
from tacit.control.acting import BETWEEN_TICKS_S, Acting
from tacit.control.inference_thread import InferenceThread
from tacit.control.inputs import AlignedInputs
from tacit.control.states import Answer
from tacit.errors import BundleError
from tacit.geometry.transforms import FloatArray
from tacit.rig import Rig, load_rig
from tacit_ros.wire.commanding import Commander, CommandingNode, CommandParameters
from tacit_ros.wire.parameters import SHA256, declare, parameter
from tacit_ros.wire.person import PersonParameters, PersonTopics
from tacit_ros.wire.policy_diagnostics import PolicyDiagnostics
from tacit_ros.wire.process import run_node


@dataclass(frozen=True)
class PolicyParameters(PersonParameters, CommandParameters):
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
    teleop: bool = parameter(False, "Hear the devices of a person, who may take over.")
    lockstep: bool = parameter(False, "Answer each tick with one command: for a simulator that waits.")
    num_threads: int = parameter(1, "Threads of one inference.", low=1, high=64)
    realtime_priority: int = parameter(
        10, "SCHED_FIFO priority of the command thread; 0 for none.", low=0, high=99
    )


class PolicyNode(CommandingNode):
    """Runs one policy bundle on one rig.

    Services: `~/start ~/home ~/hold ~/estop ~/reset ~/take_over ~/hand_back ~/release` (Trigger),
    `~/set_dry_run` (SetBool). Topics out: the rig's commands (or `~/shadow_command`), `~/state`,
    `/diagnostics`.

    Raises:
        TacitError: Rig, bundle or parameters are not fit to run: the node refuses to start.
    """

    patience_s = BETWEEN_TICKS_S + 3.0  # the longest that a service of this node takes, and some

    def __init__(self, parameter_overrides: list[Parameter] | None = None) -> None:
        super().__init__("policy", parameter_overrides=parameter_overrides)
        self.settings = declare(self, PolicyParameters)
        rig, lockstep = load_rig(self.settings.rig), self.settings.lockstep
        self.policy = OnnxPolicy(_bundle(self.settings), rig, self.settings.num_threads)
        manifest = self.policy.manifest
        self.acting = Acting(
            self.policy,
            rig,
            self._make_inputs(rig, manifest),
            _playing(self.settings, manifest),
            dry_run=self.settings.dry_run,
            lockstep=lockstep,
            person=self._make_person(rig) if self.settings.teleop else None,
        )
        priority = self.settings.realtime_priority
        self._move(rig, self.acting.controller, self.acting.inputs, priority, lockstep)
        self.inference = InferenceThread(
            self.acting, self.thread_failed, self._command_at if lockstep else None
        )
        self.loop = self._make_loop()
        self._offer(self._actions())
        self._hear()
        self.diagnostics = PolicyDiagnostics(self, rig, self.acting, self.loop, self.commands)
        self.get_logger().info(f"{self.policy.bundle.source}\n{describe(manifest)}\nplays {self.acting.play}")
        self.inference.start()
        self._start_loop()

    def close(self) -> None:
        """Stop and join both threads; nothing is published afterwards."""
        if self.loop is not None:
            self.loop.stop()
        self.inference.stop()
        self.commands.close()

    def _make_inputs(self, rig: Rig, manifest: Manifest) -> AlignedInputs:
        simulated = True if self.is_simulated_time else None
        return AlignedInputs(rig, manifest, self._now_ns, self._age_clock(), simulated=simulated)

    def _make_person(self, rig: Rig) -> PersonTopics:
        self.person = PersonTopics(self, rig, self.settings.teleop_settings, self._on_event)
        return self.person

    def _actions(self) -> dict[str, Callable[[], Answer]]:
        return {
            "start": self._having_looked(self.acting.start),
            "home": self._having_looked(self.acting.go_home),
            "take_over": self._having_looked(self.acting.take_over),
            "hand_back": self._having_looked(self.acting.hand_back),
            "release": self.controller.release,
            "hold": self.controller.hold,
            "estop": self.controller.estop,
            "reset": self._having_asked(self.acting.reset),
        }

    def _command(self, now_ns: int) -> FloatArray | None:
        return self.acting.command(now_ns)

    def _watch(self) -> None:
        self.acting.watch()

    @property
    def _commander(self) -> Commander:
        return self.loop or self.inference

    def _interrupt(self) -> None:
        self.inference.interrupt()

    def _report(self) -> None:
        """Once a second: diagnostics, state, and the reason of a hold."""
        self.diagnostics.publish()
        super()._report()


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
