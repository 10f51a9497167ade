#!/usr/bin/env python3
"""Exit 0 when a node of ours lives, or when a topic comes as fast as it should; else 1, with the reason.

tacit-health node policy [--seconds 4]          its own status on /diagnostics, which comes once a second
tacit-health topic /joint_states 50 [--seconds 4]   at least 50 per second of the stamps' own time

A node that holds, or whose emergency stop is latched, lives: whoever restarts what is unhealthy must not
release a stop by that. A simulation may run at any speed: what has stamps is counted against them.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data

SLACK = 0.8
"""Part of the rate that is enough: a window begins and ends anywhere."""
FEWEST = 3
"""A rate is known from so many messages."""


def problem_of_node(node: Node, name: str, seconds: float) -> str:
    """Return why node `name` is not well: nothing of its own on /diagnostics within `seconds`."""
    names: list[str] = []
    node.create_subscription(
        DiagnosticArray, "/diagnostics", lambda message: names.extend(s.name for s in message.status), 10
    )
    deadline = time.monotonic() + seconds
    while name not in names and time.monotonic() < deadline:
        rclpy.spin_once(node, timeout_sec=0.05)
    others = ", ".join(sorted(set(names))) or "nobody"
    return (
        "" if name in names else f"no status of {name} on /diagnostics within {seconds:g} s; heard {others}"
    )


def problem_of_topic(node: Node, topic: str, least_hz: float, seconds: float) -> str:
    """Return why a topic is not well: it does not come, or more slowly than `least_hz` of its own time."""
    arrived: list[float] = []
    deadline, subscribed = time.monotonic() + seconds, False
    while time.monotonic() < deadline:
        subscribed = subscribed or _subscribe(node, topic, arrived)
        rclpy.spin_once(node, timeout_sec=0.05)
    if len(arrived) < FEWEST:
        return f"{len(arrived)} messages on {topic} within {seconds:g} s"
    passed = arrived[-1] - arrived[0]
    rate_hz = (len(arrived) - 1) / passed if passed > 0 else 0.0
    return "" if rate_hz >= SLACK * least_hz else f"{topic} comes at {rate_hz:.1f} Hz, expected {least_hz:g}"


def _subscribe(node: Node, topic: str, arrived: list[float]) -> bool:
    """Subscribe with the type that the network states; False while nobody publishes."""
    types = dict(node.get_topic_names_and_types()).get(topic)
    if not types:
        return False
    package, module, name = types[0].split("/")
    kind = getattr(importlib.import_module(f"{package}.{module}"), name)
    node.create_subscription(kind, topic, lambda m: arrived.append(_when(m)), qos_profile_sensor_data)
    return True


def _when(message: object) -> float:
    """Return when a message was made, by its own stamp where it has one [s]."""
    stamp = getattr(getattr(message, "header", None), "stamp", None)
    return time.monotonic() if stamp is None else stamp.sec + stamp.nanosec / 1e9


def arguments(argv: list[str]) -> argparse.Namespace:
    """Return what `argv` asks: `kind`, `name`, `seconds`, and `least_hz` of a topic."""
    parser = argparse.ArgumentParser(prog="tacit-health", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    of_node, of_topic = kinds.add_parser("node"), kinds.add_parser("topic")
    of_node.add_argument("name")
    of_topic.add_argument("name")
    of_topic.add_argument("least_hz", type=float)
    for kind in (of_node, of_topic):
        kind.add_argument("--seconds", type=float, default=4.0)
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """Return 0 where all is well."""
    args = arguments(argv)
    rclpy.init()
    node = rclpy.create_node("tacit_health")
    if args.kind == "node":
        problem = problem_of_node(node, args.name, args.seconds)
    else:
        problem = problem_of_topic(node, args.name, args.least_hz, args.seconds)
    node.destroy_node()
    rclpy.shutdown()
    sys.stdout.write(f"{problem}\n" if problem else "")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
