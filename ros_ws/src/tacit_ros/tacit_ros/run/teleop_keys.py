"""`tacit teleop keys`: move the robot with the keys of a terminal, and record while doing so.

What is pressed goes to `/teleop/keys`, where the node `teleop` (or a policy with `teleop:=true`) hears it.
"""

from __future__ import annotations

import contextlib
import enum
import os
import select
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import rclpy
import tyro
from rclpy.node import Node
from std_msgs.msg import String

from tacit.config.arguments import parse_words
from tacit.errors import ConfigError, TacitError
from tacit.teleop.devices import HELP, MOVES
from tacit.teleop.terminal import keys_of
from tacit_ros import messages
from tacit_ros.run.keys import QUIT, single_keys
from tacit_ros.run.operator import KEYS, Operator
from tacit_ros.run.record_client import RecorderClient
from tacit_ros.wire.environment import prepare
from tacit_ros.wire.node_state import NodeState
from tacit_ros.wire.person import KEYS as TOPIC

LOOK_S = 0.05


class What(enum.Enum):
    """What to do."""

    keys = "keys"


@dataclass(frozen=True)
class TeleopArgs:
    """Move the robot with the keys of this terminal (start `tacit up teleop --rig <rig>` first).

    Enter takes the robot, q ends; the arm moves while a key is held. With --record the keys of
    `tacit record keys` work too: space or s starts an episode, y and n end it as success or failure.
    """

    what: tyro.conf.Positional[What]
    record: Annotated[bool, tyro.conf.arg(help="Let the recorder's keys work as well.")] = False
    node: Annotated[str, tyro.conf.arg(help="Node that moves the robot.")] = "/teleop"
    recorder: Annotated[str, tyro.conf.arg(help="Name of the recorder node.")] = "/recorder"


def main(argv: list[str] | None = None) -> int:
    """Pass the keys on until q or Ctrl-C; returns the exit code."""
    args = parse_words(TeleopArgs, argv, "tacit teleop")
    if not sys.stdin.isatty():
        raise ConfigError("keys: the input is no terminal; run it in one, or publish to /teleop/keys")
    prepare()
    rclpy.init()
    node = Node(f"tacit_teleop_{time.time_ns() % 10**9}")
    try:
        sys.stdout.write("\n".join(f"  {keys:>9}  {text}" for keys, text in HELP) + "\n          q  end\n")
        operator = Operator(RecorderClient(node, args.recorder)) if args.record else None
        with contextlib.suppress(KeyboardInterrupt), single_keys():
            Terminal(node, args.node, operator).follow(read_keys)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    sys.stdout.write("\n")
    return 0


class Terminal:
    """Passes keys on, and shows the state of the node that moves the robot.

    Args:
        node: Publishes; spun here.
        mover: Name of the node that moves the robot.
        operator: Does what the recorder's keys say; None without.
    """

    def __init__(self, node: Node, mover: str, operator: Operator | None = None) -> None:
        self._node, self._operator = node, operator
        self._topic = node.create_publisher(String, TOPIC, 10)
        self._state = NodeState(node, f"{mover}/state")
        self._said = ""

    def follow(self, read: Callable[[], str]) -> None:
        """Pass on what `read` returns, "" where nothing came for a while, until q."""
        while QUIT not in (keys := read()):
            self.take(keys)
            rclpy.spin_once(self._node, timeout_sec=0.0)
            self._show()

    def take(self, keys: str) -> None:
        """Pass on the keys that were pressed."""
        recorded = [key for key in keys if self._operator and key in KEYS and key not in MOVES]
        if ours := "".join(key for key in keys if key not in recorded):
            self._topic.publish(messages.string(ours))
        for key in recorded:
            assert self._operator is not None
            try:
                self._say(self._operator.do(KEYS[key]))
            except TacitError as problem:
                self._say(str(problem))

    def _show(self) -> None:
        text = str(self._state)
        if text != self._said:
            self._said = text
            self._say(text)

    @staticmethod
    def _say(text: str) -> None:
        sys.stdout.write(f"\r\033[K{text}\n")
        sys.stdout.flush()


def read_keys() -> str:
    """Wait for keys, for a twentieth of a second; returns those that came."""
    ready, _, _ = select.select([sys.stdin], [], [], LOOK_S)
    return keys_of(os.read(sys.stdin.fileno(), 64).decode(errors="ignore")) if ready else ""
