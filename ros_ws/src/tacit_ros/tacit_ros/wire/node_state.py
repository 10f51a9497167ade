"""What a node says of itself on its state topic, and whether it is still there to say it.

A latched topic outlives its writer: `/policy/state` still reads RUNNING after the policy was killed. Whoever
acts on such a state reads it through `NodeState`.
"""

from __future__ import annotations

from rclpy.event_handler import QoSLivelinessChangedInfo, SubscriptionEventCallbacks
from rclpy.node import Node
from std_msgs.msg import String

from tacit_ros.wire import qos


class NodeState:
    """Follows the state topic of one node.

    Args:
        node: Hears it, as long as it is spun.
        topic: Of type String, published with `qos.state()`.

    Attributes:
        text: What was said last; "" before the first.
        is_alive: Whether the process that publishes the topic lives; False before it was heard.
        is_gone: Whether that process was there and is not any more.
    """

    def __init__(self, node: Node, topic: str = "/policy/state") -> None:
        self.topic = topic
        self.text, self.is_alive, self.is_gone = "", False, False
        self._subscription = node.create_subscription(
            String,
            topic,
            self._hear,
            qos.state(),
            event_callbacks=SubscriptionEventCallbacks(liveliness=self._on_liveliness),
        )

    def __str__(self) -> str:
        if not self.text:
            return f"nothing heard on {self.topic}"
        return f"the node is gone; its last state was {self.text}" if self.is_gone else self.text

    def _hear(self, message: String) -> None:
        self.text = str(message.data)

    def _on_liveliness(self, event: QoSLivelinessChangedInfo) -> None:
        was_alive, self.is_alive = self.is_alive, event.alive_count > 0
        self.is_gone = not self.is_alive and (was_alive or self.is_gone)
