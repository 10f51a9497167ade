"""A camera driver as a process of its own that may be killed: hands on what the simulated cell draws."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from rclpy.node import Node
from rclpy.publisher import Publisher

from tacit.rig import load_rig
from tacit_ros import messages
from tacit_ros.wire import qos
from tacit_ros.wire.parameters import declare, parameter
from tacit_ros.wire.process import run_node

BEHIND = "_driver"
"""What the cell's own topic is called while a driver stands before it."""


@dataclass(frozen=True)
class CameraParameters:
    """Parameters of the node."""

    rig: str = parameter("nova2_sim", "Shipped rig or path of a rig.yaml.")
    camera: str = parameter("wrist", "Camera of the rig.")


class CameraNode(Node):
    """Publishes each picture of one camera, byte for byte as it comes from `<topic>_driver`."""

    def __init__(self) -> None:
        super().__init__("camera")
        settings = declare(self, CameraParameters)
        spec = load_rig(settings.rig).cameras[settings.camera]
        kind, profile = messages.message_class(spec.type), qos.profile(spec.qos)
        publisher: Publisher = self.create_publisher(kind, spec.topic, profile)
        self.create_subscription(kind, spec.topic + BEHIND, publisher.publish, profile, raw=True)


if __name__ == "__main__":
    sys.exit(run_node(CameraNode))
