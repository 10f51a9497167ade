"""A rig and a running robot: `tacit rig new --from-ros` drafts one, `tacit rig check --live` compares.

Nothing is published.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.serialization import deserialize_message

from tacit.config.models import to_yaml
from tacit.convert.draft import ARM
from tacit.errors import RigError, TacitError, did_you_mean
from tacit.geometry.urdf import MOVING, chain_from_urdf, joint_range, read_joints
from tacit.rig import COMMAND_TYPES, Rig, parse_rig
from tacit_ros import messages
from tacit_ros.wire.bag_draft import COMPRESSED, IMAGE, INFO, JOINTS, RATED, draft_from
from tacit_ros.wire.environment import prepare

DESCRIPTION, TEXT = "/robot_description", "std_msgs/msg/String"
HEARD = (JOINTS, IMAGE, COMPRESSED, INFO, *COMMAND_TYPES)
KEPT_PICTURES = 2
LOOK_S = 0.5
"""Topics that appear late are looked for so often."""
BEYOND = 0.05
"""A value so far outside its limits [rad or m] is not the noise of an encoder."""


@dataclass
class _Connection:
    """One topic, as a bag has it."""

    topic: str
    msgtype: str
    heard: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def msgcount(self) -> int:
        return len(self.heard)


class Ears(Node):
    """Hears every topic of a kind that a rig can name, and answers as an open bag does."""

    def __init__(self) -> None:
        super().__init__(f"tacit_rig_{time.time_ns() % 10**9}")
        self._topics: dict[str, _Connection] = {}
        self.description = ""
        late = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
        self.create_subscription(messages.message_class(TEXT), DESCRIPTION, self._describe, late)

    @property
    def connections(self) -> list[_Connection]:
        """The topics that said something."""
        return [connection for connection in self._topics.values() if connection.heard]

    def messages(self, connections: Sequence[_Connection]) -> Iterator[tuple[_Connection, int, bytes]]:
        """Yield (topic, reception [ns], serialised message)."""
        for connection in connections:
            for stamp_ns, data in connection.heard:
                yield connection, stamp_ns, data

    def listen(self, seconds: float) -> None:
        """Hear what comes in so many seconds."""
        began, looked = time.monotonic(), -LOOK_S
        while (passed := time.monotonic() - began) < seconds:
            if passed - looked >= LOOK_S:
                self._look()
                looked = passed
            rclpy.spin_once(self, timeout_sec=0.02)

    def _look(self) -> None:
        qos = QoSProfile(depth=50, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        for topic, kinds in self.get_topic_names_and_types():
            kind = next((kind for kind in kinds if kind in HEARD), None)
            if kind is None or topic in self._topics:
                continue
            connection = self._topics[topic] = _Connection(topic, kind)
            take = partial(self._take, connection)
            self.create_subscription(messages.message_class(kind), topic, take, qos, raw=True)

    def _take(self, connection: _Connection, data: bytes) -> None:
        if connection.msgcount >= RATED:
            return
        if connection.msgtype == IMAGE and connection.msgcount >= KEPT_PICTURES:
            data = connection.heard[0][1]  # only the time still tells something
        connection.heard.append((time.monotonic_ns(), bytes(data)))

    def _describe(self, message: Any) -> None:
        self.description = message.data


def draft_live(name: str, seconds: float) -> tuple[str, dict[str, str]]:
    """Return a rig of what is heard as YAML, and its URDF by file name where the robot describes itself.

    Args:
        name: Of the rig.
        seconds: How long to listen [s].

    Raises:
        RigError: No topic with joints is heard.
    """
    ears = _listen(seconds)
    if not ears.connections:
        raise RigError(
            f"nothing was heard in {seconds:g} s; start the robot's drivers, in the same ROS_DOMAIN_ID, and "
            "widen ROS_AUTOMATIC_DISCOVERY_RANGE where they run on another computer"
        )
    data = draft_from(ears, name).model_dump(mode="json")
    data["description"] = "Drafted from a running robot; fill in limits, units and geometry."
    file = f"{name}.urdf"
    try:
        described = _described(data, ears.description)
    except TacitError:
        described = None  # a description without these joints: the arm stays unmeasured
    if described is None:
        return to_yaml(parse_rig(data, name)), {}
    rig = to_yaml(parse_rig(described, name))
    return rig.replace(_urdf_lines(rig), f"    urdf: {file}\n"), {file: ears.description}


def _urdf_lines(text: str) -> str:
    """Return the lines of a rig that hold its URDF."""
    lines = text.splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if line.startswith("    urdf:"))
    last = next(i for i, line in enumerate(lines) if i > first and line.startswith("    base_link:"))
    return "".join(lines[first:last])


def _described(data: dict[str, Any], urdf: str) -> dict[str, Any] | None:
    """Return the rig with kinematics and limits of a URDF; None where there is none."""
    if not urdf:
        return None
    arm = dict(data["arms"][ARM])
    names = [joint["name"] for joint in arm["joints"]]
    moving = {joint.name: joint for joint in read_joints(urdf) if joint.kind in MOVING}
    base, tip = moving[names[0]].parent, moving[names[-1]].child
    chain_from_urdf(urdf, base, tip, names)
    for joint in arm["joints"]:
        low, high = joint_range(urdf, joint["name"])
        if low < high:
            joint |= {"lower": low, "upper": high}
    arm |= {"dh": None, "urdf": urdf, "base_link": base, "tip_link": tip}
    left = [part for part in data["unmeasured"] if part != f"arms.{ARM}"]
    return data | {"arms": {ARM: arm}, "unmeasured": left}


def held_against(rig: Rig, seconds: float) -> list[str]:
    """Return where the joints that a robot names differ from those of its rig, a line each.

    Args:
        rig: The rig.
        seconds: How long to listen [s].
    """
    ears = _listen(seconds)
    by_topic = {connection.topic: connection for connection in ears.connections}
    found = []
    for stream, spec in rig.states.items():
        topic = spec.topic if spec.topic.startswith("/") else f"/{spec.topic}"
        where = f"streams.{stream}: {topic}"
        if topic not in by_topic:
            heard = [t for t, connection in by_topic.items() if connection.msgtype == spec.type]
            found.append(f"{where}: nothing came in {seconds:g} s; {did_you_mean(topic, heard)}")
        elif by_topic[topic].msgtype != spec.type:
            found.append(f"{where}: is of type {by_topic[topic].msgtype}; write that for {spec.type}")
        elif spec.type == JOINTS:
            message: Any = deserialize_message(by_topic[topic].heard[-1][1], messages.message_class(JOINTS))
            found += [f"{where}: {said}" for said in compare_joints(rig, spec.names, message)]
    return found


def compare_joints(rig: Rig, names: Sequence[str], message: Any) -> list[str]:
    """Return what a message of joints says against the names and limits of a rig."""
    said = list(message.name)
    found = [f"names no {name!r}; {did_you_mean(name, said)}" for name in names if name not in said]
    positions = dict(zip(said, message.position, strict=False))
    outside = []
    for name in names:
        joint = rig.joint(name)
        if name in positions and hasattr(joint, "sign"):
            value = joint.sign * positions[name] + joint.offset
            if not joint.lower - BEYOND <= value <= joint.upper + BEYOND:
                outside.append(f"{name} is at {value:.3f}, its limits are {joint.lower:g} to {joint.upper:g}")
    if outside:
        turned = max(abs(float(positions[name])) for name in positions)
        why = "degrees?" if turned > 4 * np.pi else "are two names swapped, or a limit wrong?"
        found += [f"{line}; {why}" for line in outside]
    ours = [name for name in said if name in names]
    if not found and ours != [name for name in names if name in said]:
        order = ", ".join(ours)
        found.append(
            f"names them in the order {order}; by name that is well, for vectors without names it is not"
        )
    return found


def _listen(seconds: float) -> Ears:
    prepare()
    rclpy.init()
    ears = Ears()
    try:
        ears.listen(seconds)
    finally:
        ears.destroy_node()
        rclpy.try_shutdown()
    return ears
