"""Judges the numbers of one stream: finite, within limits, no jump, not stuck, not all zero."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from tacit.geometry.transforms import FloatArray
from tacit.rig import Rig
from tacit.streams.findings import Finding

SPEED_MARGIN = 1.5
"""A measured joint may outrun its velocity limit by this factor before it is said to jump."""

JUMP_FLOOR, JUMP_FLOOR_MOST = 0.02, 0.1
"""Part of a joint's range that noise, quantisation and a late stamp may cover from one sample to the next,
and how much that is at most [rad]: a joint that may turn twice around is not measured worse for it."""

GRIPPER_FLOOR = 0.5
"""The same of a gripper's range: fingers that slip off a part snap by a quarter of it within a tick."""

SWITCH_FLOOR = 1.0
"""A gripper that only says open or closed, as suction does, passes from one to the other at once: a Bool, or
one whose `table` in the rig has two rows."""

DOUBT_MARGIN, REFUSE_MARGIN = (0.02, 0.05), (0.25, 0.5)
"""So far beyond its limits a value is doubted, and refused: a part of the range, at most so much [rad, m]."""

PERSIST_NS = 500_000_000
"""Values that jumped and have stayed there for so long are believed: the robot was moved while unseen."""

STUCK_NS = 400_000_000
"""A joint that stands still to the bit for so long while its command moves is not measured any more."""

STUCK_COMMAND, STUCK_ALONE = 0.05, 0.15
"""So far must the command of a joint have moved meanwhile [rad], and so far where other joints are still
measured: a joint that presses against something, with an encoder without noise, stands still as well."""

ANSWER_NS = 200_000_000
"""And so long ago: a robot at rest needs time to begin to move, by dead time and friction."""


class NumberJudge:
    """Judges the values (n,) of one stream of a rig.

    Args:
        rig: Limits and speeds of its joints.
        name: The stream.
    """

    def __init__(self, rig: Rig, name: str) -> None:
        spec = rig.specs[name]
        self._is_state = name in rig.states
        self._names: tuple[str, ...] = tuple(getattr(spec, "names", ()))
        self._period_ns = round(1e9 / spec.rate_hz)
        if self._is_state:
            index = rig.index_of(self._names)
            self._lower, self._upper = rig.limits("lower")[index], rig.limits("upper")[index]
            doubted = self._margin(DOUBT_MARGIN)
            self._lowest, self._highest = self._lower - doubted, self._upper + doubted
            self._reach = SPEED_MARGIN * rig.limits("velocity")[index]
            grippers = {rig.state_names[i] for i in rig.gripper_indices}
            self._is_joint = np.array([n not in grippers for n in self._names])
            self._has_joints = bool(
                self._is_joint.any()
            )  # a gripper alone may stand still as long as it likes
            width = self._upper - self._lower
            joint_floor = np.minimum(JUMP_FLOOR * width, JUMP_FLOOR_MOST)
            switches = {n for n in grippers if spec.type == "std_msgs/msg/Bool" or _has_two_levels(rig, n)}
            gripper_floor = np.array([SWITCH_FLOOR if n in switches else GRIPPER_FLOOR for n in self._names])
            self._floor = np.where(self._is_joint, joint_floor, gripper_floor * width)
            self._unread = np.array([rig.joint(name).offset for name in self._names])
            self._unread_arms = dict(_unread_arms(rig, self._names, self._unread))
        self.reset()

    def reset(self) -> None:
        """Forget what was measured."""
        self._before: tuple[int, FloatArray] | None = None
        self._jumped: tuple[int, FloatArray, int] | None = None
        self._moved_ns = np.full(len(self._names), -1, dtype=np.int64)
        self._far_ns = np.full(len(self._names), -1, dtype=np.int64)
        self._repeats = False
        self._asked_then = np.full(len(self._names), np.nan)
        self._asked = np.full(len(self._names), np.nan)

    def commanded(self, values: Mapping[str, float]) -> None:
        """Note what these joints are told to do now: a joint that is told nothing may stand still."""
        if self._is_state:
            self._asked = np.array([values.get(n, a) for n, a in zip(self._names, self._asked, strict=True)])
            self._asked_then = np.where(np.isnan(self._asked_then), self._asked, self._asked_then)

    def uncommanded(self) -> None:
        """Forget what these joints were told: a new run begins where they stand."""
        self._asked_then = np.full(len(self._names), np.nan)
        self._asked = np.full(len(self._names), np.nan)

    def judge(self, stamp_ns: int, values: FloatArray, may_leap: bool = False) -> Finding | None:
        """Return what is wrong with a sample; `refused` says whether it may be used.

        Args:
            stamp_ns: Its accepted stamp.
            values: (n,) in canonical units, in the order of the stream's names.
            may_leap: A simulator may set its robot anew: a jump is doubted, not refused.
        """
        if not all_finite(values):
            return Finding(
                "not_finite",
                f"not a number: {self._listed(~np.isfinite(values))}; does the driver read its hardware yet?",
            )
        if not self._is_state or len(values) != len(self._names):
            return None
        # Healthy values pass a few comparisons; why they are not healthy is worked out only where they fail.
        inside = bool(((values >= self._lowest) & (values <= self._highest)).all())
        return (
            (None if inside else self._far_outside(values))
            or self._jump(stamp_ns, values, may_leap)
            or (self._stuck(stamp_ns, values) if self._repeats and self._has_joints else None)
            or (None if inside else self._outside(values))
            or (self._zeros(values) if (values == self._unread).any() else None)
        )

    def _far_outside(self, values: FloatArray) -> Finding | None:
        far = self._beyond(values, REFUSE_MARGIN)
        if not far.any():
            return None
        return Finding(
            "out_of_limits",
            f"far outside the rig's limits: {self._listed(far, values)}; does the driver report another unit "
            "(degrees, mm, per cent)?",
        )

    def _outside(self, values: FloatArray) -> Finding | None:
        out = self._beyond(values, DOUBT_MARGIN)
        if not out.any():
            return None
        return Finding(
            "out_of_limits", f"outside the rig's limits: {self._listed(out, values)}", refused=False
        )

    def _beyond(self, values: FloatArray, margin: tuple[float, float]) -> np.ndarray:
        return np.asarray(np.maximum(values - self._upper, self._lower - values) > self._margin(margin))

    def _margin(self, margin: tuple[float, float]) -> FloatArray:
        return np.minimum(margin[0] * (self._upper - self._lower), margin[1])

    def _jump(self, stamp_ns: int, values: FloatArray, may_leap: bool) -> Finding | None:
        """Refuse a sample no joint could have reached, until its successors agree with it for long enough."""
        if self._before is None or self._reachable(self._before, stamp_ns, values):
            self._accept(stamp_ns, values)
            return None
        before_ns, before = self._before
        jumped = self._jumped
        if may_leap:
            self._accept(stamp_ns, values)
        elif jumped is None or not self._reachable(jumped[:2], stamp_ns, values):
            self._jumped = (stamp_ns, values, stamp_ns)
        elif stamp_ns - jumped[2] >= PERSIST_NS:
            self._accept(stamp_ns, values)
            return None
        else:
            self._jumped = (stamp_ns, values, jumped[2])
        far = np.abs(values - before) > self._allowed(stamp_ns - before_ns)
        moved = np.abs(values - before)[far].max()
        return Finding(
            "jump",
            f"{self._listed(far)} jumped by {moved:.3g} in {(stamp_ns - before_ns) / 1e6:.0f} ms, more than "
            "its velocity limit allows; is there a second publisher, or has the driver lost its robot?",
            refused=not may_leap,
        )

    def _reachable(self, before: tuple[int, FloatArray], stamp_ns: int, values: FloatArray) -> bool:
        return bool((np.abs(values - before[1]) <= self._allowed(stamp_ns - before[0])).all())

    def _allowed(self, elapsed_ns: int) -> FloatArray:
        # One period more than the stamps say: drivers stamp when they send, not when they measure.
        elapsed_s = (max(elapsed_ns, 0) + self._period_ns) / 1e9
        return self._reach * elapsed_s + self._floor

    def _accept(self, stamp_ns: int, values: FloatArray) -> None:
        same = np.zeros(len(values), dtype=bool) if self._before is None else values == self._before[1]
        self._repeats = bool(same.any())
        if self._repeats:
            self._moved_ns[~same], self._far_ns[~same] = stamp_ns, -1
            self._asked_then = np.where(same, self._asked_then, self._asked)
        else:
            self._moved_ns.fill(stamp_ns)
            self._far_ns.fill(-1)
            self._asked_then = self._asked
        self._before, self._jumped = (stamp_ns, np.array(values)), None

    def _stuck(self, stamp_ns: int, values: FloatArray) -> Finding | None:
        # A gripper that holds something stands still while told to close. A driver that stalls repeats all
        # joints; one alone may be a dead encoder.
        is_whole = (stamp_ns - self._moved_ns[self._is_joint] >= STUCK_NS).all()
        still = self._is_joint & (stamp_ns - self._moved_ns >= STUCK_NS)
        far = np.abs(self._asked - self._asked_then) > (STUCK_COMMAND if is_whole else STUCK_ALONE)
        self._far_ns = np.where(far, np.where(self._far_ns < 0, stamp_ns, self._far_ns), -1)
        stuck = still & far & (stamp_ns - self._far_ns >= ANSWER_NS)
        if not stuck.any():
            return None
        return Finding(
            "stuck",
            f"{self._listed(stuck)} has repeated one value to the bit while its command moved; is the driver "
            "still connected to the robot?",
            refused=False,
        )

    def _zeros(self, values: FloatArray) -> Finding | None:
        unread = values == self._unread
        arms = [arm for arm, joints in self._unread_arms.items() if unread[joints].all()]
        if not arms:
            return None
        return Finding(
            "zeros",
            f"all joints of {' and '.join(arms)} are exactly 0 as the driver counts, as drivers report that "
            "have no connection to the robot; move the robot a little, or check the driver",
            refused=False,
        )

    def _listed(self, which: np.ndarray, values: FloatArray | None = None) -> str:
        names = self._names if len(self._names) == len(which) else tuple(map(str, range(len(which))))
        chosen = np.flatnonzero(which)
        parts = [names[i] if values is None else f"{names[i]} ({values[i]:.4g})" for i in chosen[:4]]
        more = f" and {len(chosen) - 4} more" if len(chosen) > 4 else ""
        return ", ".join(parts) + more


def all_finite(values: FloatArray) -> bool:
    """Tell whether all of a few values (n,) are numbers; several times faster than numpy is for six."""
    return all(map(math.isfinite, values.tolist()))


def _has_two_levels(rig: Rig, name: str) -> bool:
    """Whether the driver of a gripper knows two openings and nothing between them."""
    member = rig.members[rig.state_names.index(name)]
    return len(getattr(member, "table", ())) == 2


def _unread_arms(rig: Rig, names: tuple[str, ...], unread: FloatArray) -> Iterator[tuple[str, list[int]]]:
    """Yield each arm of a stream with where its joints stand, if zeros of its driver say anything.

    They say nothing of one joint alone, and of an arm whose home they are.
    """
    for arm, spec in rig.arms.items():
        home = dict(zip((joint.name for joint in spec.joints), spec.home or (), strict=False))
        places = [names.index(joint.name) for joint in spec.joints if joint.name in names]
        if len(places) > 1 and not all(home.get(names[place]) == unread[place] for place in places):
            yield arm, places
