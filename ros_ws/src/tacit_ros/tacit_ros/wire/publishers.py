"""Who publishes the topics of a rig: a second driver of one stream, or a second commander of the robot.

Messages do not tell: two publishers of `/joint_states` look like one robot that jumps. The graph does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from tacit.control.safety import Fault
from tacit.streams import Finding, Intake

LOOK_PERIOD_S = 0.25
"""Time between two looks at the graph: twice as often as a robot may be told by two for half a second."""

WHOLE_LOOK_EVERY = 8
"""Names and qualities of all publishers cost half a per cent of a core, four times a second. So they are
asked for when the number of publishers of a topic has changed, and every so many looks: one may have taken
the place of another."""

UNKNOWN = ("_NODE_NAME_UNKNOWN_", "_NODE_NAMESPACE_UNKNOWN_")


class Publishers:
    """Looks up the publishers of topics, and finds those that should not be there.

    A topic may have as many publishers as the rig has streams on it: arm and gripper drivers often share
    `/joint_states`. A publisher that was killed counts until the lease of its process ends (4 s).

    Args:
        node: Asks the graph, on a timer of its executor.
        heard: Topic of each stream that somebody else is to publish, by stream name.
        commanded: Topic of each stream that this node itself publishes, with a publisher for each stream.
        intake: Told after each look what was found.
        on_timer: Look four times a second; else whenever `look` is called.
    """

    def __init__(
        self,
        node: Node,
        heard: Mapping[str, str],
        commanded: Mapping[str, str] | None = None,
        intake: Intake | None = None,
        on_timer: bool = True,
    ) -> None:
        self._node, self._intake = node, intake
        self._heard, self._commanded = dict(heard), dict(commanded or {})
        self._shared, self._own = Counter(self._heard.values()), Counter(self._commanded.values())
        self._found: dict[str, Fault] = {}
        self._numbers: dict[str, int] = {}
        self._looks = 0
        if on_timer:
            clock = Clock(clock_type=ClockType.STEADY_TIME)  # simulated time may stand still
            self._timer = node.create_timer(LOOK_PERIOD_S, self.look, clock=clock)

    def look(self) -> None:
        """Look now."""
        topics = {*self._heard.values(), *self._commanded.values()}
        numbers = {topic: self._node.count_publishers(topic) for topic in topics}
        # While something is wrong all is asked for: a name may become known later than its publisher.
        is_whole = numbers != self._numbers or self._found or self._looks % WHOLE_LOOK_EVERY == 0
        self._numbers, self._looks = numbers, self._looks + 1
        if is_whole:
            self._look_at_all()

    def _look_at_all(self) -> None:
        found = {name: self._two(topic) for name, topic in self._heard.items()}
        found |= {name: self._second(topic) for name, topic in self._commanded.items()}
        self._found = {name: fault for name, fault in found.items() if fault is not None}
        if self._intake is not None:
            self._intake.notice(
                "publishers",
                {n: Finding("two_publishers", f.detail, refused=False) for n, f in self._found.items()},
            )

    def findings(self) -> dict[str, str]:
        """Return what was wrong at the last look, by stream."""
        return {name: fault.detail for name, fault in self._found.items()}

    def fault(self, commanding: bool = True) -> Fault | None:
        """Return why a policy must not act; a second commander is none while it is not `commanding`."""
        found = self._found
        return next((f for f in found.values() if commanding or f.reason != "second_commander"), None)

    def names(self, stream: str) -> list[str]:
        """Return the full names of the nodes that publish a stream now."""
        return self._names((self._heard | self._commanded)[stream])

    def _two(self, topic: str) -> Fault | None:
        names = self._names(topic)
        if len(names) <= self._shared[topic]:
            return None
        text = f"{len(names)} publishers of {topic}: {_listed(names)}; stop all but the robot's driver"
        return Fault("two_publishers", text)

    def _second(self, topic: str) -> Fault | None:
        others = self._names(topic)
        own = _full_name(self._node.get_name(), self._node.get_namespace())
        for _ in range(min(others.count(own), self._own[topic])):
            others.remove(own)  # as often as we publish: a second node of our name is another
        if not others:
            return None
        text = f"{topic} is published by {_listed(others)} too; stop it, so that one alone moves the robot"
        return Fault("second_commander", text)

    def _names(self, topic: str) -> list[str]:
        """Return the node of each publisher of a topic."""
        found = self._node.get_publishers_info_by_topic(topic)
        return [_full_name(publisher.node_name, publisher.node_namespace) for publisher in found]


def _full_name(name: str, namespace: str) -> str:
    if name in UNKNOWN or namespace in UNKNOWN:
        return "an unknown node"
    return f"{namespace.rstrip('/')}/{name}"


def _listed(names: Iterable[str]) -> str:
    counts = sorted(Counter(names).items())
    return ", ".join(name if count == 1 else f"{name} ({count} times)" for name, count in counts)
