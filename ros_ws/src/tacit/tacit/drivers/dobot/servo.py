"""What is sent to the arm at each period: pure, time passed in.

Commands come from a network and from programs that may be wrong or dead. A target is followed within velocity
and acceleration limits, and no step is longer than one period allows, however late it comes. One that would
be a jump is refused, for good until somebody has looked; none is sent while the arm is not ready, while it is
not heard, or when commands have stopped.
"""

from __future__ import annotations

import threading

import numpy as np

from tacit.control.last_sent import LastSent
from tacit.control.safety import Fault, MotionLimiter
from tacit.drivers.dobot.protocol import MODES, READY_MODES, Feedback
from tacit.geometry.transforms import FloatArray

HEARD_S = 0.2
"""Feedback older than this says nothing about where the arm is: 25 of its packets [s]."""

FIRST_STEP_RAD = 0.1
"""How far from the measured pose a first target may lie. One period of a policy moves less [rad]."""

BRAKE_PART = 0.5
"""After this part of the command timeout without a new target the arm is braked, in what is left of it."""

PASSING = ("not_heard", "silent")
"""Why a motion may have ended while the arm goes to where it was sent last."""

SETTLED_S = 0.3
"""For so long after a command the arm may still be on its way, and its feedback be from before [s]."""

STALLED_PACKETS = 25
"""So many packets with one and the same uptime are a controller that repeats itself: 0.2 s."""


class Servo:
    """Follows targets at a fixed period.

    Args:
        limiter: Limits (6,) and period; its own from now on.
        tracking_error: How far from what was sent last a target may lie in motion [rad].
        timeout_s: After so long without a target nothing is sent any more [s].

    Attributes:
        fault: Why nothing is sent until `clear`; None while all is well.
        feedback: The newest that the arm said; None while it is not heard.
    """

    def __init__(self, limiter: MotionLimiter, tracking_error: float, timeout_s: float) -> None:
        self._limiter, self._tracking_error, self._timeout_s = limiter, tracking_error, timeout_s
        self._lock = threading.Lock()
        self._target: FloatArray | None = None
        self._targeted = self._heard = -np.inf
        self._last_sent = LastSent()
        self._repeats, self._is_ending = 0, False
        self.fault: Fault | None = None
        self.feedback: Feedback | None = None

    @property
    def is_moving(self) -> bool:
        """Whether targets are being followed."""
        return self._target is not None

    def hear(self, feedback: Feedback, now: float) -> bool:
        """Take what the arm says; False where the controller repeats itself."""
        with self._lock:
            before, self.feedback = self.feedback, feedback
            same = before is not None and before.run_ms == feedback.run_ms
            self._repeats = self._repeats + 1 if same else 0
            if self._repeats < STALLED_PACKETS:
                self._heard = now
            return not same

    def forget(self) -> None:
        """The arm is not heard any more: where it goes is not known."""
        with self._lock:
            self.feedback, self._heard = None, -np.inf
            self._stand()

    def readiness(self, now: float) -> Fault | None:
        """Return why the arm cannot be moved now: what it says itself goes before what we have refused."""
        if self.fault is not None and self.fault.reason == "estop":
            return self.fault
        feedback = self.feedback
        if feedback is None or now - self._heard > HEARD_S:
            return Fault("not_heard", "no feedback from the controller")
        if feedback.collision:
            return Fault("protective_stop", "the controller has stopped for a collision; clear it")
        if feedback.in_error:
            return Fault("alarm", "the controller is in alarm; call ~/clear, then ~/enable")
        if feedback.mode not in READY_MODES:
            mode = MODES.get(feedback.mode, f"in unknown mode {feedback.mode}")
            return Fault("mode", f"the arm is {mode}; expected enabled or running")
        return self.fault

    def take(self, target: FloatArray, now: float) -> Fault | None:
        """Take a target (6,) [rad], or return why it is refused. A jump stops the arm until `clear`."""
        with self._lock:
            if self._is_ending:
                return Fault("closing", "the driver ends")
            fault = self.readiness(now)
            if fault is not None:
                self._stand(fault)
                return fault
            if not np.isfinite(target).all():
                return self._refuse(Fault("not_finite", f"a target that is no number: {target}"))
            assert self.feedback is not None
            # In motion the arm lags behind what it was sent; a jump is one from that.
            allowed = FIRST_STEP_RAD if self._target is None else self._tracking_error
            start = self._start(self.feedback.q, now) if self._target is None else self._limiter.position
            distance = np.abs(target - start)
            if distance.max() > allowed:
                joint = int(np.argmax(distance))
                text = f"joint {joint + 1} would go {distance[joint]:.3f} rad at once, allowed {allowed:g}"
                return self._refuse(Fault("jump", text + "; begin where the arm is, then call ~/clear"))
            if self._target is None:
                self._limiter.seed(start)
                self._last_sent.forget()
            self._target, self._targeted = target.copy(), now
            return None

    def stop(self, fault: Fault) -> None:
        """Send nothing more until `clear`; the first reason stays."""
        with self._lock:
            self._refuse(fault)

    def end(self, now: float) -> None:
        """Brake in what is left of the command timeout, and take no target any more."""
        with self._lock:
            self._is_ending = True
            self._targeted = min(self._targeted, now - BRAKE_PART * self._timeout_s)

    def clear(self) -> None:
        """Somebody has looked: targets are taken again."""
        with self._lock:
            self.fault = None
            self._stand()

    def step(self, now: float) -> FloatArray | None:
        """Return where to be one period from `now` (6,) [rad]; None: send nothing, the arm comes to rest."""
        with self._lock:
            silent_s, fault = now - self._targeted, self.readiness(now)
            if self._target is None or silent_s > self._timeout_s or fault is not None:
                self._stand(fault or Fault("silent", ""))
                return None
            self._limiter.elapse(self._last_sent.since(now))
            self._limiter.dt = min(self._limiter.dt, self._limiter.period)
            self._last_sent.made(now)
            if silent_s > BRAKE_PART * self._timeout_s or self._is_ending:
                return self._limiter.brake()
            return self._limiter.step(self._target)

    def sent(self, now: float) -> None:
        """Note that what `step` returned has left by `now`."""
        with self._lock:
            self._last_sent.left(now)

    def _start(self, measured: FloatArray, now: float) -> FloatArray:
        """Return from where a motion begins (6,) [rad]: after a stall, feedback says where the arm was."""
        since, sent = self._last_sent.since(now), self._limiter.position
        is_fresh = since is not None and 0 <= since <= SETTLED_S
        return sent if is_fresh and np.abs(sent - measured).max() <= self._tracking_error else measured

    def _stand(self, fault: Fault | None = None) -> None:
        """Follow nothing. Unless commands or feedback alone have stopped, nobody knows where the arm ends."""
        self._target = None
        if fault is None or fault.reason not in PASSING:
            self._last_sent.forget()

    def _refuse(self, fault: Fault) -> Fault:
        self.fault = self.fault or fault
        self._stand()
        return fault
