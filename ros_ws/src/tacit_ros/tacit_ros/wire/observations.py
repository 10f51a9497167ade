"""Subscriptions of a whole rig: each message becomes (name, stamp, reception, canonical value).

Recorder, policy node, progress node and overlay all hear the robot through `RigSubscriptions`, so
what is recorded and what is inferred on can not differ.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible
from rclpy.subscription import Subscription
from trajectory_msgs.msg import JointTrajectory

from tacit.images import as_rgb
from tacit.rig import Rig
from tacit.streams import JointReading, Value
from tacit.threads import OnFailure, WatchedThread
from tacit_ros import messages
from tacit_ros.wire import qos
from tacit_ros.wire.decoders import decoder_of, has_joint_reading, joint_reading_of

__all__ = ["Poller", "RigSubscriptions", "StampClock", "Value", "as_rgb"]

CHECK_PERIOD_S = 1.0
SAME_CLOCK_NS = 10 * messages.SECOND  # header and system clock further apart: simulated time
Callback = Callable[[str, int, int, Any], None]


class StampClock:
    """Gives a stamp to messages without a header, on the clock of those that have one.

    On a robot that is the time of reception. In simulated time, which may run at any speed, it is
    the newest stamp seen on any stream, so the value counts from that instant on.
    """

    def __init__(self) -> None:
        self.newest_ns = 0
        self.simulated = False

    def saw(self, stamp_ns: int, recv_ns: int) -> None:
        """Learn from a message with a header."""
        self.newest_ns = max(self.newest_ns, stamp_ns)
        self.simulated = abs(recv_ns - stamp_ns) > SAME_CLOCK_NS

    def stamp(self, recv_ns: int) -> int:
        """Return the stamp of a message without one; 0 while simulated time is unknown."""
        return self.newest_ns if self.simulated else recv_ns


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

    A message that is not what the rig says (another size, a missing joint) is counted in `rejected`
    and reported once per kind of problem; it never reaches the callback.

    Attributes:
        rejected: Number of refused messages per stream.
        lost: Number of messages per stream that were sent and never came, by their sequence numbers.
        problems: The last problem per stream, as text.
    """

    def __init__(
        self,
        node: Node,
        rig: Rig,
        callback: Callback,
        *,
        names: Iterable[str] | None = None,
        live_images: bool = False,
        queue_s: float = 0.0,
        polled: bool = False,
        use_header_stamps: bool = True,
        joint_readings: bool = False,
    ) -> None:
        """Subscribe.

        Args:
            node: The owner of the subscriptions.
            rig: Says which topics, types, sizes and names.
            callback: Called as (name, stamp_ns, recv_ns, value) on the thread of the executor (or
                of `poll`); must return at once. Image values are RGB (H, W, 3), or encoded (1-D) on
                compressed topics: `as_rgb` makes both RGB. Number values are float64 in the order
                of `names` of the stream. A header stamp left empty by the driver is passed on as 0.
            names: Streams to hear; all by default.
            live_images: Hear only the newest image (best effort, depth 1) instead of every one.
            queue_s: Let this many seconds of messages wait here, beyond the depth that the rig states:
                for a recorder, which may be late but must not lose any [s].
            polled: Leave the taking of messages to calls of `poll`. An executor wakes, rebuilds its
                wait set and takes one message, for each message (0.3 ms); a recorder of 400 messages
                per second saves half of its processor time by taking what has come 50 times a second.
            use_header_stamps: False stamps everything with its reception.
            joint_readings: Values of JointState streams are then mappings of position and, where the
                driver reports them, velocity and effort.
        """
        self.clock = StampClock()
        self.rejected: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.problems: dict[str, str] = {}
        self._node, self._callback = node, callback
        self._use_header_stamps, self._queue_s = use_header_stamps, queue_s
        self._sequence: dict[tuple[str, bytes], int] = {}
        self._reported: set[tuple[str, str]] = set()
        self._group = PolledGroup() if polled else None
        self._images = set(rig.image_names) if live_images else set()
        self._specs = rig.specs
        self.subscriptions = {
            name: self._subscribe(
                name,
                joint_reading_of(rig, name)
                if joint_readings and has_joint_reading(rig, name)
                else decoder_of(rig, name),
            )
            for name in (self._specs if names is None else names)
        }
        node.create_timer(CHECK_PERIOD_S, self.check_publishers)

    def poll(self) -> None:
        """Take and hand on every message that has come (with `polled`)."""
        for subscription in self.subscriptions.values():
            with subscription.handle:
                while (taken := subscription.handle.take_message(subscription.msg_type, False)) is not None:
                    subscription.callback(*taken)  # type: ignore[call-arg]  # message and its info

    def topic(self, name: str) -> str:
        """Return the topic of a stream, with remaps applied."""
        return self.subscriptions[name].topic_name

    def num_publishers(self, name: str) -> int:
        """Return how many nodes publish the topic of a stream."""
        return self._node.count_publishers(self.topic(name))

    def problem(self, name: str, text: str) -> None:
        """Count a refused message of stream `name`; say so once per text."""
        self.rejected[name] += 1
        self.problems[name] = text
        if (name, text) not in self._reported and len(self._reported) < 100:
            self._reported.add((name, text))
            self._node.get_logger().error(f"stream {name} ({self._specs[name].topic}): {text}")

    def check_publishers(self) -> None:
        """Report publishers that cannot reach us because they offer less than the rig asks for."""
        for name, subscription in self.subscriptions.items():
            for publisher in self._node.get_publishers_info_by_topic(subscription.topic_name):
                verdict, reason = qos_check_compatible(publisher.qos_profile, self._profile(name))
                if verdict == QoSCompatibility.ERROR:
                    self.problem(
                        name,
                        f"node {publisher.node_name} offers another quality of service than the rig asks for "
                        f"({reason.strip().rstrip(';')}); set `qos` of {name} in the rig to what it offers",
                    )

    def _subscribe(self, name: str, decode: Callable[[object], Value | JointReading]) -> Subscription:
        spec = self._specs[name]
        message_class = messages.message_class(spec.type)

        def receive(message: object, info: Mapping[str, Any]) -> None:
            self._count_lost(name, info)
            self._receive(name, decode, message, info["received_timestamp"])

        return self._node.create_subscription(
            message_class,
            spec.topic,
            receive,
            self._profile(name),
            callback_group=self._group,
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

    def _receive(
        self, name: str, decode: Callable[[object], Value | JointReading], message: object, recv_ns: int
    ) -> None:
        try:
            value = decode(message)
        except messages.NotForUs:
            return
        except messages.MessageError as error:
            self.problem(name, str(error))
            return
        self._callback(name, self._stamp(message, recv_ns), recv_ns, value)

    def _stamp(self, message: object, recv_ns: int) -> int:
        if not self._use_header_stamps:
            return recv_ns
        if not hasattr(message, "header"):
            return self.clock.stamp(recv_ns)
        stamp_ns = messages.header_stamp_ns(message)
        if stamp_ns == 0 and isinstance(message, JointTrajectory):  # an empty stamp there says "from now on"
            return self.clock.stamp(recv_ns)
        if stamp_ns > 0:
            self.clock.saw(stamp_ns, recv_ns)
        return stamp_ns
