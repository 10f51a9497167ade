"""Node `desk`: the operator's page on this machine: live pictures, health of the streams, and the keys.

`tacit up record --desk` starts it and logs the address. It commands nothing but the recorder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rclpy.node import Node
from std_msgs.msg import String

from tacit.errors import ConfigError
from tacit.rig import load_rig
from tacit.streams import Intake, Value
from tacit_ros import messages
from tacit_ros.run.desk.clerk import Clerk
from tacit_ros.run.desk.server import Server
from tacit_ros.run.desk.views import Views
from tacit_ros.run.operator import Operator, keys_with
from tacit_ros.run.record_client import RecorderClient
from tacit_ros.wire.node_state import NodeState
from tacit_ros.wire.observations import RigSubscriptions
from tacit_ros.wire.parameters import declare, parameter
from tacit_ros.wire.person import KEYS
from tacit_ros.wire.process import WatchedNode, run_node

ANSWER_S = 2.0


@dataclass(frozen=True)
class DeskParameters:
    """Parameters of the node."""

    rig: str = parameter("nova2_sim", "Shipped rig or path of a rig.yaml.")
    port: int = parameter(8420, "Port on 127.0.0.1; 0 for any that is free.", low=0, high=65535)
    instructions: str = parameter("", "Text file with one instruction per line, for the key of the next one.")
    keys: str = parameter("", "Other keys, such as those of a foot pedal: success=b,failure=c.")
    recorder: str = parameter("/recorder", "Name of the recorder node.")


class KeyTopic:
    """The page's keys on `/teleop/keys`, and the state of whichever node hears them."""

    def __init__(self, node: Node) -> None:
        self._topic = node.create_publisher(String, KEYS, 10)
        self._states = [NodeState(node, topic) for topic in ("/policy/state", "/teleop/state")]

    def press(self, keys: str) -> None:
        """Say which keys are down."""
        self._topic.publish(messages.string(keys))

    def state(self) -> str:
        """Return the state of the node that moves the robot; "" without one."""
        return next((str(state) for state in self._states if state.text), "")


class DeskNode(WatchedNode):
    """Hears the newest pictures; server and clerk have threads of their own."""

    def __init__(self) -> None:
        """Subscribe, and serve the page.

        Raises:
            TacitError: The rig or a parameter is wrong, or the port is taken.
        """
        super().__init__("desk")
        settings = declare(self, DeskParameters)
        rig = load_rig(settings.rig)
        keys, instructions = keys_with(settings.keys), read_instructions(settings.instructions)
        self._views = Views(rig)
        intake = Intake(rig, self._views.names)
        self._streams = RigSubscriptions(self, rig, intake, self._receive, live_images=True)
        # Without what the command line says: `__node` would give both nodes one name.
        self._client = Node("desk_clerk", use_global_arguments=False)
        recorder = RecorderClient(self._client, settings.recorder, ANSWER_S)
        self._clerk = Clerk(Operator(recorder, instructions), rig.alignment.rate_hz, self.thread_failed)
        self._server = Server(
            rig, self._views, self._clerk, keys, KeyTopic(self), settings.port, self.thread_failed
        )
        self.get_logger().info(f"the desk is at {self._server.url}")

    def close(self) -> None:
        """End server and clerk."""
        self._server.close()
        self._clerk.close()
        self._client.destroy_node()

    def _receive(self, name: str, stamp_ns: int, recv_ns: int, value: Value) -> None:
        self._views.take(name, value)


def read_instructions(path: str) -> list[str]:
    """Return the lines of a file that say something; [] without a path.

    Raises:
        ConfigError: The file cannot be read.
    """
    if not path:
        return []
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigError(f"instructions: {path}: {problem}; expected a text file, one per line") from None
    return [line.strip() for line in lines if line.strip()]


def main(argv: list[str] | None = None) -> int:
    """Run the node until a signal comes; returns the exit code."""
    return run_node(DeskNode, argv)


if __name__ == "__main__":
    raise SystemExit(main())
