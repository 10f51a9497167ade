"""Policy node and recorder node without threads and middleware, for a cell in virtual time.

All that decides is theirs: `Hearing`, `AlignedInputs`, `Acting`, `Publishers`, `RecorderSession` and the gate
before an episode. What is left out is waiting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benches.faults_world import MS, SECOND, Graph, Timeline
from tacit.bundle.runtime import Observation, OnnxPolicy
from tacit.control.acting import Acting
from tacit.control.inputs import AlignedInputs
from tacit.control.states import MOVING
from tacit.geometry.transforms import FloatArray
from tacit.record.encoder_pool import encode
from tacit.record.preroll import Surroundings, reasons_not_to_start
from tacit.record.recorder import RecorderSession, SessionSettings
from tacit.rig import Rig
from tacit_ros.wire.hearing import Hearing
from tacit_ros.wire.publishers import Publishers

INFERENCE_NS = 15 * MS
WAVE, WAVE_HZ = np.array([0.35] * 6 + [0.01]), 0.45
"""What the policy wants: every joint and the gripper swing about where they were at the start [rad, m]; fast
enough that the arm cannot stop within one tick."""


class Waving:
    """A bundle at work whose answer is moved along a slow wave; what is not a number in it stays so.

    Args:
        policy: Decodes and sees every picture; shared by all episodes.
        timeline: Goes on while an inference runs.
    """

    def __init__(self, policy: OnnxPolicy, timeline: Timeline) -> None:
        self._policy, self._timeline = policy, timeline
        self.manifest, self.stats, self.terminate = policy.manifest, policy.stats, policy.terminate
        self.begin(np.zeros(len(policy.manifest.state_names)), 0)

    def begin(self, middle: FloatArray, stamp_ns: int) -> None:
        """Swing about `middle` (S,) from `stamp_ns` on."""
        self._middle, self._begin_ns = middle, stamp_ns
        self._phase = np.arange(len(middle))

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """Return the chunk (K, S) for an observation, some milliseconds later."""
        chunk = self._policy.act(observation)
        rows_ns = np.arange(len(chunk)) * SECOND / self.manifest.rate_hz
        time_s = (observation.stamp_ns - self._begin_ns + rows_ns)[:, None] / 1e9
        angle = 2 * np.pi * WAVE_HZ * time_s + self._phase
        wave = self._middle + WAVE * (np.sin(angle) - np.sin(self._phase))
        self._timeline.run_until(self._timeline.steady() + INFERENCE_NS)
        return (wave + 0 * chunk).astype(np.float32)


class PolicySide:
    """What the policy node does with each message and at each tick.

    Attributes:
        held_ns: When it began to hold [steady]; None while it does not.
    """

    def __init__(
        self,
        rig: Rig,
        policy: OnnxPolicy,
        timeline: Timeline,
        nodes: dict[str, list[str]],
        publish: Callable[[FloatArray, int], None],
    ) -> None:
        self._timeline, self._publish = timeline, publish
        self._waving = Waving(policy, timeline)
        self.inputs = AlignedInputs(rig, policy.manifest, timeline.wall, timeline.steady)
        self.acting = Acting(self._waving, rig, self.inputs)  # type: ignore[arg-type]  # acts as a policy does
        self.acting._deadline_ns = 10**15  # measured on the machine's clock, which must not decide here
        self._hearing = Hearing(rig, self.inputs.intake, self.inputs.store)
        heard = {name: rig.specs[name].topic for name in self.inputs.names}
        commanded = {name: spec.topic for name, spec in rig.commands.items()}
        self.others = Publishers(Graph(nodes, "policy"), heard, commanded)  # type: ignore[arg-type]
        controller = self.acting.controller
        self.inputs.watched.append(lambda: self.others.fault(not controller.dry_run))
        self._infers = False
        self.held_ns: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The streams that it hears."""
        return self.inputs.names

    @property
    def reason(self) -> str:
        """Why it holds."""
        fault = self.acting.controller.fault
        return "" if fault is None else fault.reason

    def counts(self) -> Counter[str]:
        """Return how many samples of all streams were refused or doubted, by kind."""
        return sum(self.inputs.intake.snapshot().values(), Counter())

    def sees_something(self) -> bool:
        """Return whether its intake refuses or doubts anything now."""
        return bool(self.inputs.intake.findings())

    def hear(self, name: str, message: object) -> None:
        """Take a message, and let the inference thread look."""
        self._hearing.hear(name, message, self._timeline.wall(), self._timeline.steady())
        self._look()

    def start(self) -> str:
        """Start; returns why not, "" where it runs."""
        self.others.look()
        answer = self.acting.start()
        measured = self.inputs.measured()
        if answer.success and measured is not None:
            self._waving.begin(measured, self.inputs.now_ns())
        return "" if answer.success else answer.message

    def control(self) -> None:
        """One tick of the command thread, as `PolicyNode._control`."""
        controller = self.acting.controller
        if controller.state in MOVING:
            self.acting.watch()
        now_ns = self.inputs.now_ns()
        command = self.acting.command(now_ns)
        if command is not None:
            self._publish(command, now_ns)
        if self.held_ns is None and controller.state == "HOLD":
            self.held_ns = self._timeline.steady()
        self._look()

    def _look(self) -> None:
        """Look as the inference thread does, which is busy while it infers."""
        if not self._infers:
            self._infers = True
            self.acting.look()
            self._infers = False


class _EncodesAtOnce:
    """Stands in for the encoder threads."""

    def __init__(self, done: Callable[..., None]) -> None:
        self._done = done

    def submit(self, name: str, stamp_ns: int, recv_ns: int, frame: NDArray[np.uint8]) -> bool:
        """Encode a frame now."""
        self._done(name, stamp_ns, recv_ns, encode(frame, 90))
        return True

    def drain(self) -> bool:
        """Nothing waits."""
        return True

    def busy(self) -> list[str]:
        """Nothing waits."""
        return []

    def close(self) -> None:
        """Nothing to end."""


class LockstepSession(RecorderSession):
    """A recorder whose writer works when it is told to."""

    def __init__(self, rig: Rig, folder: Path, clock: Callable[[], int], said: list[str]) -> None:
        settings = SessionSettings(folder, clock=clock)
        super().__init__(rig, settings, lambda level, text: said.append(text), lambda failure: None)
        self._encoders.close()
        self._encoders = _EncodesAtOnce(self._enqueue)  # type: ignore[assignment]

    def _work(self) -> None:
        self._writer.stopping.wait()

    def begin(self) -> None:
        """Start an episode."""
        self._start("bench", "")

    def step(self, now_ns: int) -> None:
        """What the writer does every 20 ms."""
        self.looked(now_ns)
        self._advance()

    def finish(self) -> Path | None:
        """Stop; returns the file of the newest episode, also of one that ended by itself."""
        if self.is_recording:
            self._stop(True)
        return self.last_path


class RecorderSide:
    """What the recorder node does with each message, and says of its streams.

    Attributes:
        said: What it reported.
        wrong_recorded: How many samples of disturbed drivers it accepted while recording.
    """

    def __init__(self, rig: Rig, timeline: Timeline, nodes: dict[str, list[str]], folder: Path) -> None:
        self._rig, self._timeline, self._nodes = rig, timeline, nodes
        self.said: list[str] = []
        self.session = LockstepSession(rig, folder, timeline.steady, self.said)
        self._hearing = Hearing(rig, self.session.intake, self._receive, joint_readings=True)
        heard = {name: spec.topic for name, spec in rig.specs.items()}
        self.others = Publishers(Graph(nodes, "recorder"), heard, intake=self.session.intake)  # type: ignore[arg-type]
        self._is_wrong = False
        self.wrong_recorded = 0

    def counts(self) -> Counter[str]:
        """Return how many samples of all streams were refused or doubted, by kind."""
        return sum(self.session.intake.snapshot().values(), Counter())

    def findings(self) -> dict[str, str]:
        """Return what it says is wrong now, kind by stream."""
        return {name: f.kind for name, f in self.session.intake.findings(self._timeline.steady()).items()}

    def hear(self, name: str, message: object, wrong: bool) -> None:
        """Take a message."""
        self._is_wrong = wrong
        self._hearing.hear(name, message, self._timeline.wall(), self._timeline.steady())

    def _receive(self, name: str, stamp_ns: int, recv_ns: int, value: object) -> None:
        self.wrong_recorded += self._is_wrong and self.session.is_recording
        self.session.receive(name, stamp_ns, recv_ns, value)  # type: ignore[arg-type]

    def step(self) -> None:
        """What happens every 20 ms."""
        self.session.step(self._timeline.steady())

    def not_ready(self) -> list[str]:
        """Return why no episode can be started, as `RecorderNode.not_ready`."""
        self.others.look()
        intake = self.session.intake
        around = Surroundings(
            now_ns=intake.newest_ns if intake.is_foreign else self._timeline.wall(),
            num_publishers=lambda name: len(self._nodes[self._rig.specs[name].topic]),
            findings=intake.findings(self._timeline.steady()),
            free_bytes=10**12,
            min_free_bytes=0,
            rate_tolerance=0.1,
        )
        return reasons_not_to_start(self._rig, self.session.monitors, around)

    def begin(self) -> None:
        """Start an episode, whatever the gate says."""
        self.session.begin()

    def finish(self) -> Path | None:
        """Stop it; returns the file."""
        return self.session.finish()

    def close(self) -> None:
        """End the threads."""
        self.session.close()
