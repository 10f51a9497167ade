"""Subscriptions of a whole rig: each message becomes (name, stamp, reception, canonical value).

Recorder, policy node, progress node and overlay all hear the robot through `RigSubscriptions`, so
what is recorded and what is inferred on can not differ.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible
from rclpy.subscription import Subscription

from tacit.images import as_rgb
from tacit.rig import Rig
from tacit.streams import Finding, Intake, Kind, Value
from tacit.threads import OnFailure, WatchedThread
from tacit_ros import messages
from tacit_ros.wire import qos
from tacit_ros.wire.hearing import Hearing

__all__ = ["Poller", "RigSubscriptions", "Value", "as_rgb"]

CHECK_PERIOD_S = 1.0
CHECK_EVERY = 5  # of those looks goes into details even where no publisher has come or gone
TELL_PERIOD_NS = 10 * messages.SECOND
CLOCK_READINGS, SAME_MOMENT_NS = 5, 2_000_000
MOST_BACKLOG_NS = 5 * messages.SECOND  # a message cannot have waited longer for us: our clock was set


class PolledGroup(CallbackGroup):
    """Keeps subscriptions out of the executor."""

    def can_execute(self, entity: object) -> bool:
        """Never: they are polled."""
        return False

    def beginning_execution(self, entity: object) -> bool:
        """Allow every execution."""
        return True

    def ending_execution(self, entity: object) -> None:
        """Nothing to release."""


class Poller:
    """A thread that calls `poll` at a fixed period, whatever the executor is busy with."""

    def __init__(self, poll: Callable[[], None], period_s: float, on_failure: OnFailure) -> None:
        """Start; `on_failure` is told what `poll` raised: from then on nothing is heard."""
        self._poll, self._period_s = poll, period_s
        self._thread = WatchedThread("intake", self._work, on_failure)
        self._thread.start()

    def close(self) -> None:
        """End the thread; to be called before the subscriptions are destroyed."""
        self._thread.stop()

    def _work(self) -> None:
        while not self._thread.stopping.wait(self._period_s):
            self._poll()


class RigSubscriptions:
    """Subscribe to the streams of a rig and hand their values on.

    A message that is not what the rig says (another size, a missing joint), and one that the intake
    refuses, is counted there and reported once per kind of problem; it never reaches the callback.

    Attributes:
        intake: Judges every message, and knows what is wrong now.
        lost: Number of messages per stream that were sent and never came, by their sequence numbers.
    """

    def __init__(
        self,
        node: Node,
        rig: Rig,
        intake: Intake,
        callback: Callable[[str, int, int, Any], None],
        *,
        live_images: bool = False,
        queue_s: float = 0.0,
        polled: bool = False,
        joint_readings: bool = False,
    ) -> None:
        """Subscribe.

        Args:
            node: The owner of the subscriptions.
            rig: Says which topics, types, sizes and names.
            intake: Its streams are heard.
            callback: As of `Hearing`; called on the thread of the executor (or of `poll`), and must
                return at once.
            live_images: Hear only the newest image (best effort, depth 1) instead of every one.
            queue_s: Let this many seconds of messages wait here, beyond the depth that the rig states:
                for a recorder, which may be late but must not lose any [s].
            polled: Leave the taking of messages to calls of `poll`. An executor wakes, rebuilds its
                wait set and takes one message, for each message (0.3 ms); a recorder of 400 messages
                per second saves half of its processor time by taking what has come some 30 times a second.
            joint_readings: As of `Hearing`.
        """
        self.intake = intake
        # Every key from the start: other threads go through it while `poll` counts.
        self.lost: Counter[str] = Counter(dict.fromkeys(intake.counts, 0))
        self._hearing = Hearing(rig, intake, callback, joint_readings=joint_readings)
        self._node, self._queue_s = node, queue_s
        self._sequence: dict[tuple[str, bytes], int] = {}
        self._told_ns: dict[tuple[str, str], int] = {}
        self._group = PolledGroup() if polled else None
        self._images = set(rig.image_names) if live_images else set()
        self._specs = rig.specs
        self._numbers: dict[str, int] = {}
        self._checks = 0
        self.subscriptions = {name: self._subscribe(name) for name in intake.counts}
        self._checked_s = time.monotonic()
        if not polled:
            clock = Clock(clock_type=ClockType.STEADY_TIME)  # simulated time may stand still
            node.create_timer(CHECK_PERIOD_S, self.check_publishers, clock=clock)

    def poll(self) -> None:
        """Take and hand on every message that has come; look at publishers once a second (with `polled`)."""
        if time.monotonic() - self._checked_s >= CHECK_PERIOD_S:
            self._checked_s = time.monotonic()
            self.check_publishers()
        for subscription in self.subscriptions.values():
            with subscription.handle:
                while (taken := subscription.handle.take_message(subscription.msg_type, True)) is not None:
                    subscription.callback(*taken)  # type: ignore[call-arg]  # bytes and their info

    def topic(self, name: str) -> str:
        """Return the topic of a stream, with remaps applied."""
        return self.subscriptions[name].topic_name

    def num_publishers(self, name: str) -> int:
        """Return how many nodes publish the topic of a stream."""
        return self._node.count_publishers(self.topic(name))

    @property
    def rejected(self) -> dict[str, int]:
        """Number of refused messages per stream."""
        return {name: self.intake.num_refused(name) for name in self.subscriptions}

    @property
    def findings(self) -> dict[str, Finding]:
        """What is wrong with each stream now; what is well is left out."""
        return self.intake.findings(time.monotonic_ns())

    @property
    def problems(self) -> dict[str, str]:
        """`findings` in words."""
        return {name: found.text for name, found in self.findings.items()}

    def _tell(self, name: str, found: Finding) -> None:
        """Report a refused message of stream `name`, each kind of fault once in a while."""
        now_ns = time.monotonic_ns()
        if now_ns - self._told_ns.get((name, found.kind), -TELL_PERIOD_NS) >= TELL_PERIOD_NS:
            self._told_ns[name, found.kind] = now_ns
            self._node.get_logger().error(f"stream {name} ({self._specs[name].topic}): {found.text}")

    def check_publishers(self) -> None:
        """Report publishers that cannot reach us because they offer less than the rig asks for."""
        numbers = {name: self.num_publishers(name) for name in self.subscriptions}
        is_due = numbers != self._numbers or self._checks % CHECK_EVERY == 0
        self._numbers, self._checks = numbers, self._checks + 1
        if not is_due:
            return
        found = {}
        for name, subscription in self.subscriptions.items():
            for publisher in self._node.get_publishers_info_by_topic(subscription.topic_name):
                verdict, reason = qos_check_compatible(publisher.qos_profile, self._profile(name))
                if verdict == QoSCompatibility.ERROR:
                    text = (
                        f"node {publisher.node_name} offers another quality of service than the rig asks for "
                        f"({reason.strip().rstrip(';')}); set `qos` of {name} in the rig to what it offers"
                    )
                    found[name] = Finding("qos", text, refused=False)
                    self._tell(name, found[name])
        self.intake.notice("qos", found)

    def _subscribe(self, name: str) -> Subscription:
        spec = self._specs[name]
        message_class = messages.message_class(spec.type)

        def receive(data: bytes, info: Mapping[str, Any]) -> None:
            self._count_lost(name, info)
            recv_ns = info["received_timestamp"]
            found = self._hearing.hear_bytes(name, data, recv_ns, heard_ns(recv_ns))
            if found is not None:
                self._tell(name, found)

        return self._node.create_subscription(
            message_class,
            spec.topic,
            receive,
            self._profile(name),
            callback_group=self._group,
            raw=True,
            # Events of a subscription wake the executor at each message; we look for ourselves instead.
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
        )

    def _profile(self, name: str) -> QoSProfile:
        spec = self._specs[name]
        if name in self._images:
            return qos.live(spec.qos)
        return qos.profile(spec.qos, depth=max(spec.qos.depth, math.ceil(self._queue_s * spec.rate_hz)))

    def _count_lost(self, name: str, info: Mapping[str, Any]) -> None:
        """Count the holes in the sequence numbers of each publisher."""
        number = info["publication_sequence_number"]
        if number is None:
            return
        key = (name, bytes(info["publisher_gid"]["data"]))
        self.lost[name] += max(0, number - self._sequence.get(key, number - 1) - 1)
        self._sequence[key] = number

    def refuse(self, name: str, kind: Kind, text: str) -> None:
        """Count a message as refused for what shows only when its value is used; say so once."""
        self.intake.refuse(name, kind, text, time.monotonic_ns())
        self._tell(name, Finding(kind, text))


def heard_ns(recv_ns: int) -> int:
    """Return a reception on the machine's clock on the steady one, which is not set by anyone."""
    for _ in range(CLOCK_READINGS):
        before_ns, wall_ns, steady_ns = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        if steady_ns - before_ns < SAME_MOMENT_NS:  # else we were put to sleep between the two clocks
            break
    waited_ns = wall_ns - recv_ns
    return steady_ns - (waited_ns if 0 <= waited_ns <= MOST_BACKLOG_NS else 0)
