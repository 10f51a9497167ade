#!/usr/bin/env python3
"""Exit 0 when messages of a topic arrive fast enough, else 1.

tacit-health /joint_states 50                 at least 50 per second
tacit-health /diagnostics 0.5 4 recorder      counts those alone that carry the word, over 4 s
"""

from __future__ import annotations

import importlib
import sys
import time

import rclpy
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data


def count_messages(node: Node, topic: str, seconds: float, word: str = "") -> int:
    """Count what arrives on `topic` with `word` in it during `seconds` after the first."""
    arrived: list[float] = []
    deadline = time.monotonic() + 2.0 * seconds
    subscribed = False
    while time.monotonic() < deadline and not (arrived and time.monotonic() - arrived[0] > seconds):
        if not subscribed:
            subscribed = subscribe(node, topic, word.encode(), arrived)
        rclpy.spin_once(node, timeout_sec=0.05)
    return len(arrived)


def subscribe(node: Node, topic: str, word: bytes, arrived: list[float]) -> bool:
    """Subscribe with the type that the network states; False while nobody publishes."""
    types = dict(node.get_topic_names_and_types()).get(topic)
    if not types:
        return False
    package, module, name = types[0].split("/")
    kind = getattr(importlib.import_module(f"{package}.{module}"), name)

    def store(message: bytes) -> None:
        if word in message:
            arrived.append(time.monotonic())

    node.create_subscription(kind, topic, store, qos_profile_sensor_data, raw=True)
    return True


def main(argv: list[str]) -> int:
    """Return 0 when the rate in `argv` (topic, hertz, optional seconds and word) is met."""
    topic, least_hz = argv[0], float(argv[1])
    seconds = float(argv[2]) if len(argv) > 2 else 2.0
    word = argv[3] if len(argv) > 3 else ""
    rclpy.init()
    node = rclpy.create_node("tacit_health")
    count = count_messages(node, topic, seconds, word)
    node.destroy_node()
    rclpy.shutdown()
    return 0 if count >= least_hz * seconds * 0.8 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
