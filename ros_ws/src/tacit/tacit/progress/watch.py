"""From aligned ticks to a judged progress: decimate, gate, estimate, detect. No rclpy here."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from tacit.bundle.runtime import OnnxProgress
from tacit.control.inputs import AlignedInputs
from tacit.control.safety import Fault
from tacit.errors import BundleError, ConfigError, ImageError
from tacit.progress.decimator import Decimator
from tacit.progress.detector import CompletionDetector, DetectorConfig, TaskState
from tacit.rig import Rig
from tacit.streams import Tick

SLOWEST_RATE = 0.9
"""Least part of the training rate at which frames may come; slower, progress would run too slowly."""

SILENT_MS = 1_000.0
"""A stream that was heard and has been silent for so long leaves nothing to judge [ms]."""


@dataclass(frozen=True)
class Judgement:
    """What one frame says: progress (None where invalid), task state, whether done, any fault, the step
    that runs ("" between steps; None where the bundle tells none), the run it belongs to, the probability
    of success (None where the bundle tells none), and the kind of failure that holds ("" none)."""

    progress: float | None
    state: TaskState
    done: bool
    fault: Fault | None = None
    step: str | None = None
    run: int = 0
    success: float | None = None
    failure: str = ""


class ProgressWatch:
    """Follows one task at a time with a progress bundle.

    `see` is called by one thread; `reset` may come from another at any time and never waits for an
    inference. What was being judged meanwhile belongs to the run before and is dropped.

    Args:
        model: The bundle at work.
        rig: Its rate must reach the bundle's.
        detector: Thresholds.
        signal: Which output the detector sees: `progress` or `done`.

    Raises:
        ConfigError: The rig's ticks are slower than the bundle's training rate.
    """

    def __init__(self, model: OnnxProgress, rig: Rig, detector: DetectorConfig, signal: str) -> None:
        wanted, found = model.manifest.rate_hz, rig.alignment.rate_hz
        if found < SLOWEST_RATE * wanted:
            raise ConfigError(
                f"rig {rig.name}: alignment.rate_hz is {found:g}, the bundle was trained at {wanted:g} Hz; "
                "raise the camera rate or export a bundle trained at the rig's rate"
            )
        self._model, self._signal = model, signal
        self._detector, self._decimator = CompletionDetector(detector), Decimator(wanted)
        self.run = 0
        """The run that judgements of now belong to: one more after each reset."""
        self._begun = 0

    def reset(self) -> None:
        """Start a new run with the next frame."""
        self.run += 1

    def see(self, tick: Tick, inputs: AlignedInputs) -> Judgement | None:
        """Judge a tick; None where it is not its turn."""
        run = self.run
        if run != self._begun:
            self._begin(run)
        if not self._decimator.is_due(tick.stamp_ns):
            return None
        return replace(self._judge(tick, inputs), run=run)

    def blind(self, inputs: AlignedInputs) -> Judgement | None:
        """Return why nothing can be judged while no frame comes: messages are refused, or a stream is
        silent; None where neither is.

        A simulator that pauses sends nothing, or the same stamp again, and its clock stands still: there
        nothing has become invalid. Of stamps of another clock than ours nobody knows the age.
        """
        refusing = {n: f for n, f in inputs.intake.refusing().items() if f.kind != "duplicate"}
        for name, found in refusing.items():
            return replace(self._invalid(Fault(found.kind, f"{name}: {found.text}")), run=self.run)
        if inputs.intake.is_foreign:
            return None
        now_ns = inputs.now_ns()
        for name, newest in list(inputs.newest.items()):
            age_ms = (now_ns - newest.stamp_ns) / 1e6
            if age_ms > SILENT_MS:
                fault = Fault("stale", f"{name}: nothing for {age_ms / 1e3:.1f} s; is its driver running?")
                return replace(self._invalid(fault), run=self.run)
        return None

    def _begin(self, run: int) -> None:
        self._begun = run
        self._model.reset()
        self._detector.reset()
        self._decimator.reset()

    def _judge(self, tick: Tick, inputs: AlignedInputs) -> Judgement:
        fault = inputs.tick_fault(tick, check_ages=False)
        if fault is not None:
            return self._invalid(fault)
        try:
            estimate = self._model.step(inputs.observation(tick))
        except (BundleError, ImageError) as problem:
            return self._invalid(Fault("inference_errors", str(problem)))
        if estimate.restarted:
            self._detector.reset()
        value = estimate.progress if self._signal == "progress" else estimate.done
        state = self._detector.take(estimate, tick.stamp_ns, value)
        if state == "invalid" or not math.isfinite(estimate.progress):
            return self._invalid(Fault("not_finite", "the model's answer is not finite"))
        progress = min(1.0, max(0.0, estimate.progress))
        done, failure = self._detector.is_done, self._detector.failure
        return Judgement(progress, state, done, step=estimate.step, success=estimate.success, failure=failure)

    def _invalid(self, fault: Fault) -> Judgement:
        return Judgement(None, "invalid", self._detector.is_done, fault)
