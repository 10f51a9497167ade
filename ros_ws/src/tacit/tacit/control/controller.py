"""What the robot is told at each control tick, by state, chunks and limits. Pure but for one lock.

The command thread calls `step`, the inference thread `add` and `fail`, services the rest.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tacit.control.last_sent import LastSent
from tacit.control.players import Mover, Player
from tacit.control.safety import Fault, MotionLimiter, check_finite, check_tracking
from tacit.control.states import MOVING, Answer, PolicyMachine, State
from tacit.control.upsampling import lag_ticks
from tacit.control.workspace import Workspace
from tacit.geometry.transforms import FloatArray
from tacit.rig import Rig

TRACKING_TICKS = 5
"""Ticks in a row that a joint may be far from its command: 0.2 s at 25 Hz."""

HOME_REACHED = 1e-4
"""Distance of every joint from home at which homing has arrived [rad]."""

FIRST_CHUNK_NS = 2_000_000_000
"""How long a run may wait for its first chunk before it holds."""


class Controller:
    """Turns chunks, and what a person asks for, into limited commands, and faults into braking.

    Args:
        rig: Limits and order of the command vector (S,).
        player: Says where to go while running; None where only a person moves the robot.
        dt: Control period [s].
        dry_run: Commands are not sent: the robot need not follow them.
        person: Moves the robot in PERSON.

    Attributes:
        blocked: What keeps the robot from going where the person wants; None where nothing does.
    """

    def __init__(
        self, rig: Rig, player: Player | None, dt: float, dry_run: bool = False, person: Mover | None = None
    ) -> None:
        self._rig, self._player, self._person = rig, player, person
        self.blocked: Fault | None = None
        self.limiter = MotionLimiter.from_rig(rig, dt)
        self._workspace = Workspace(rig)
        self._home: FloatArray | None = None
        self._machine = PolicyMachine()
        self._lock = threading.RLock()
        self._dry_run = dry_run
        self._far_ticks = 0
        self._commanded = False
        self._approaching = True
        self._last_target: FloatArray | None = None
        self._waiting_since_ns: int | None = None
        self._last_sent = LastSent(per_second=1e9)
        self._on_its_way: deque[FloatArray] = deque(maxlen=lag_ticks(rig))

    @property
    def state(self) -> State:
        """The present state."""
        return self._machine.state

    @property
    def fault(self) -> Fault | None:
        """Why it holds; None while idle or running."""
        return self._machine.fault

    @property
    def dry_run(self) -> bool:
        """Whether commands go to the shadow topic only."""
        return self._dry_run

    @property
    def disagreement(self) -> float:
        """Largest difference of the last chunk from the one before, where they met [rad, m]."""
        return 0.0 if self._player is None else self._player.disagreement

    @property
    def source(self) -> Literal["policy", "person"]:
        """Who decides where the robot goes now."""
        return "person" if self.state == "PERSON" else "policy"

    def __str__(self) -> str:
        return str(self._machine)

    def home(
        self, measured: FloatArray | None, fault: Fault | None, goal: FloatArray | None = None
    ) -> Answer:
        """Go to the rig's home from the measured state (S,), or to `goal` (S,); refused as `start` is.

        What is NaN in the goal, as grippers are at home, stays as it is.
        """
        with self._lock:
            goal = self._rig.home if goal is None else goal
            if goal is None:
                return Answer(False, "the rig has no home; give every arm `home: [...]` joints")
            answer = self._begin(measured, fault, self._machine.home)
            if answer.success:
                self._home = np.where(np.isnan(goal), self.limiter.position, goal)
            return answer

    def start(self, measured: FloatArray | None, fault: Fault | None) -> Answer:
        """Run from the measured state (S,); refused on any input fault, or far from the last command."""
        with self._lock:
            return self._begin(measured, fault, self._machine.start)

    def take_over(self, measured: FloatArray | None, fault: Fault | None) -> Answer:
        """Let a person move the robot from where it is; what moves comes to rest first.

        From rest, and until the person asks for a motion, nothing is sent: the arm may be guided by hand.
        Refused as `start` is, and where nobody can ask for anything.
        """
        with self._lock:
            if self._person is None:
                return Answer(False, "no devices are heard; start the node with teleop:=true")
            if self.state not in MOVING and not self.limiter.is_at_rest:
                return Answer(False, "still braking; try again")
            if self.state not in MOVING:
                answer = self._begin(measured, fault, self._machine.take_over)
            elif fault is not None:
                answer = Answer(False, f"input is not ready: {fault}")
            else:
                answer = self._machine.take_over()
            if answer.success:
                self._forget_plan()
                self._person.begin()
            return answer

    def hand_back(self, measured: FloatArray | None, fault: Fault | None) -> Answer:
        """Let the policy go on from where the person has brought the robot.

        Commands go on from the last one, its speed included, or, where the person has sent none, from
        the measured state (S,). Refused on any input fault, and where the two are far apart.
        """
        with self._lock:
            if self._player is None:
                return Answer(False, "there is no policy here; call ~/release")
            fault = fault or (None if measured is None else self._off_course(measured))
            if fault is not None or measured is None:
                return Answer(False, f"input is not ready: {fault or 'no joint state yet'}")
            answer = self._machine.hand_back()
            if answer.success:
                if not self._commanded:
                    self.limiter.seed(measured)
                self._forget_plan()
            return answer

    def release(self) -> Answer:
        """Let go of the robot: it comes to rest, and nothing is sent any more."""
        with self._lock:
            return self._machine.release()

    def _off_course(self, measured: FloatArray) -> Fault | None:
        """Return which joint is far from its commands of late; before the first command none can be."""
        limit = self._rig.safety.tracking_error if self._commanded and not self._dry_run else np.inf
        told = [self.limiter.position, *self._on_its_way]
        nearest = np.clip(measured, np.min(told, axis=0), np.max(told, axis=0))
        return check_tracking(self._rig.state_names, nearest, measured, limit)

    def _begin(
        self, measured: FloatArray | None, fault: Fault | None, change: Callable[[], Answer]
    ) -> Answer:
        """Leave IDLE or HOLD by `change`, from the measured state (S,), where nothing speaks against it."""
        if measured is not None:
            fault = fault or check_finite("measured state", measured)
        if fault is not None or measured is None:
            return Answer(False, f"input is not ready: {fault or 'no joint state yet'}")
        if self.state == "HOLD" and self._commanded and not self._dry_run:
            limit = self._rig.safety.tracking_error
            far = check_tracking(self._rig.state_names, self.limiter.position, measured, limit)
            if far is not None:
                return Answer(False, f"{far}; the robot was moved while holding, call ~/reset first")
        answer = change()
        if answer.success:
            self.limiter.seed(measured)
            self._forget()
        return answer

    def _forget(self) -> None:
        """Forget the run before: its chunks, its last command, how long it waited."""
        self._forget_plan()
        self._commanded = False
        self._last_sent.forget()
        self._on_its_way.clear()

    def _forget_plan(self) -> None:
        """Forget where the run before was going; what was commanded last stays known."""
        if self._player is not None:
            self._player.reset()
        self._far_ticks, self._approaching, self.blocked = 0, True, None
        self._last_target = self._waiting_since_ns = None

    def hold(self) -> Answer:
        """Brake and hold on request."""
        return self.fail(Fault("requested", "hold was called"))

    def fail(self, fault: Fault) -> Answer:
        """Brake and hold for a fault."""
        with self._lock:
            return self._machine.hold(fault)

    def policy_failed(self, fault: Fault) -> None:
        """Brake and hold for what is wrong with the policy; a person who has taken over goes on."""
        with self._lock:
            if self.state == "RUNNING":
                self._machine.hold(fault)

    def close(self, fault: Fault) -> None:
        """Brake and hold for good: the node ends, and nothing begins any more."""
        with self._lock:
            self._machine.close(fault)

    def estop(self, fault: Fault | None = None) -> Answer:
        """Brake and latch, for `fault` or on request."""
        with self._lock:
            return self._machine.estop(fault)

    def reset(self) -> Answer:
        """Back to idle; chunks and the last command are forgotten."""
        with self._lock:
            if self.state not in MOVING and not self.limiter.is_at_rest:
                return Answer(False, "still braking; try again")
            answer = self._machine.reset()
            if answer.success:
                self._forget()
            return answer

    def set_dry_run(self, value: bool) -> Answer:
        """Switch between the shadow and the command topics; never in motion."""
        with self._lock:
            if self.state in MOVING or not self.limiter.is_at_rest:
                return Answer(False, f"{self.state}; call ~/hold first")
            self._dry_run, self._commanded = value, False
            return Answer(True, "dry run" if value else "live: commands reach the robot")

    def add(self, chunk: NDArray[np.floating], stamp_ns: int) -> None:
        """Take a checked chunk (K, S) in rig order; ignored unless running."""
        with self._lock:
            if self.state == "RUNNING" and self._player is not None:
                self._player.add(chunk, stamp_ns)

    def rows_left(self, now_ns: int) -> int:
        """Return how many rows of the chunks in force are left."""
        with self._lock:
            return 0 if self._player is None else self._player.rows_left(now_ns)

    def step(
        self, now_ns: int, measured: FloatArray | None, paced_ns: int | None = None
    ) -> FloatArray | None:
        """Return the command (S,) of this control tick, or None: nothing to publish.

        While running that is the limited target. After a fault it brakes, then gives nothing: a
        position-controlled arm stays at its last command. The limits count the true time since the last
        command: a tick that comes late may go further, one that comes early must not.

        Args:
            now_ns: The present on the clock of the stamps: which row of a chunk is due.
            measured: Measured state (S,); None before it is known.
            paced_ns: The present on the clock that paces the ticks; `now_ns` if None.
        """
        with self._lock:
            paced_ns = now_ns if paced_ns is None else paced_ns
            self.limiter.elapse(self._last_sent.since(paced_ns))
            before = self.limiter.position
            command = self._next(now_ns, measured)
            if command is not None:
                self._last_sent.made(paced_ns)
                self._on_its_way.append(before)
            return command

    def sent(self, paced_ns: int) -> None:
        """Note that the newest command has left by now, on the clock that paces the ticks."""
        with self._lock:
            self._last_sent.left(paced_ns)

    def brake(self, paced_ns: int | None) -> FloatArray | None:
        """Return the next command (S,) of coming to rest; None at rest.

        For a caller that takes over from the thread that has sent the commands, and paces them itself.

        Args:
            paced_ns: The present on the clock of `step`; None where that clock stands: one period.
        """
        with self._lock:
            self.limiter.elapse(self._last_sent.since(paced_ns))
            self._last_sent.made(paced_ns)
            return None if self.limiter.is_at_rest else self.limiter.brake()

    def _next(self, now_ns: int, measured: FloatArray | None) -> FloatArray | None:
        if self.state == "HOMING":
            return self._go_home(measured)
        if self.state == "PERSON":
            return self._obey(measured)
        if self.state == "RUNNING" and self._player is not None:
            target = self._player.command(now_ns)
            if target is not None:
                return self._follow(target, measured)
            if self._last_target is None and self._may_wait(now_ns):
                return self._stand()
            self.fail(Fault("chunk_exhausted", "no new chunk came before the last one ended"))
        return None if self.limiter.is_at_rest else self.limiter.brake()

    def _obey(self, measured: FloatArray | None) -> FloatArray | None:
        """One command as the person wants it; None while the arm is guided by hand."""
        assert self._person is not None
        if not self._commanded and measured is not None and np.isfinite(measured).all():
            self.limiter.seed(measured)
        target = self._person.target(self.limiter.position, self.limiter.dt)
        if target is not None:
            return self._follow(target, measured)
        self.blocked = None
        return self._stand()

    def _stand(self) -> FloatArray | None:
        """Come to rest and stay there; None before the first command."""
        if not self._commanded:
            return None
        return self.limiter.position if self.limiter.is_at_rest else self.limiter.brake()

    def _may_wait(self, now_ns: int) -> bool:
        """Whether the first chunk of a run may still come."""
        if self._waiting_since_ns is None:
            self._waiting_since_ns = now_ns
        return now_ns - self._waiting_since_ns <= FIRST_CHUNK_NS

    def _go_home(self, measured: FloatArray | None) -> FloatArray:
        """One command on the way home; arriving ends in IDLE."""
        assert self._home is not None
        self._approaching = True
        command = self._follow(self._home, measured)
        arrived = np.abs(command - self._home).max() < HOME_REACHED
        if self.state == "HOMING" and arrived and np.abs(self.limiter.speed).max() < HOME_REACHED:
            self.limiter.seed(command)
            self._machine.arrive()
        return command

    def _follow(self, target: FloatArray, measured: FloatArray | None) -> FloatArray:
        fault = None
        if measured is not None and not self._commanded and np.isfinite(measured).all():
            self.limiter.seed(measured)
        elif measured is not None and not self._dry_run:
            fault = self._off_course(measured)
        self._far_ticks = self._far_ticks + 1 if fault else 0
        if fault is not None and (self._far_ticks >= TRACKING_TICKS or fault.reason != "tracking"):
            self.fail(fault)
            return self.limiter.brake()
        if self.state == "PERSON":  # who steers by eye wants the speed asked for, and brakes by letting go
            self._approaching = False
        elif self.state != "HOMING":
            self._approaching = self._approaching and not self._catches_up(target)
        self._last_target, self._commanded = target, True
        return self._step_within_workspace(target)

    def _step_within_workspace(self, target: FloatArray) -> FloatArray:
        """Take a step, or brake from before it where it would come to rest outside the workspace."""
        before, speed, rest = self.limiter.position, self.limiter.speed, self.limiter.resting_place
        command = self.limiter.step(target, approach=self._approaching)
        fault = self._workspace.check(self.limiter.resting_place, rest)
        self.blocked = fault
        if fault is None:
            return command
        self.limiter.go_back(before, speed)
        if self.state != "PERSON":  # a person stands at the wall, and goes elsewhere
            self.fail(fault)
        return self.limiter.brake()

    def _catches_up(self, target: FloatArray) -> bool:
        """Whether the next step meets the target at its own speed, within what acceleration allows.

        From then on the target is followed closely; before, the limiter brakes ahead of it.
        """
        limiter = self.limiter
        change = limiter.acceleration * limiter.dt
        needed = (target - limiter.position) / limiter.dt
        before = target if self._last_target is None else self._last_target
        pace = (target - before) / limiter.dt
        return bool(
            (np.abs(needed - limiter.speed) <= change).all() and (np.abs(needed - pace) <= change).all()
        )
