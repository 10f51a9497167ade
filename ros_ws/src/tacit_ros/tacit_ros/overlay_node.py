"""Node `overlay`: every camera with the boxes of the tactile sensors drawn in, live.

Publishes /overlay/<camera>/image (sensor_msgs/Image) and, per sensor, the visible box as
/overlay/<camera>/<sensor> (sensor_msgs/RegionOfInterest; empty while it is not in the image).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rclpy.node import Node
from sensor_msgs.msg import Image, RegionOfInterest

from tacit.errors import ImageError
from tacit.geometry.footprint import Footprint
from tacit.images.depth import to_look_at
from tacit.rig import load_rig
from tacit.streams import Intake, Value
from tacit.view.draw import draw_footprints
from tacit.view.live import LiveBoxes
from tacit_ros import messages
from tacit_ros.wire import qos
from tacit_ros.wire.observations import RigSubscriptions
from tacit_ros.wire.parameters import declare, parameter
from tacit_ros.wire.process import run_node

IMAGE_DEPTH = 2


@dataclass(frozen=True)
class OverlayParameters:
    """Parameters of the node."""

    rig: str = parameter("nova2_sim", "Shipped rig or path of a rig.yaml.")
    rate_hz: float = parameter(10.0, "At most so many pictures per camera and second of stamps.", above=0)


class OverlayNode(Node):
    """Draws on the newest image with the newest joint values: a view, not a measurement."""

    def __init__(self) -> None:
        """Subscribe to cameras and states.

        Raises:
            TacitError: The rig or a parameter is wrong.
        """
        super().__init__("overlay")
        settings = declare(self, OverlayParameters)
        self._rig = load_rig(settings.rig)
        self._live = LiveBoxes(self._rig)
        self._period_ns = round(1e9 / settings.rate_hz)
        self._drawn_ns = dict.fromkeys(self._rig.cameras, 0)
        self._builders = {n: messages.ImageBuilder(c.frame_id) for n, c in self._rig.cameras.items()}
        self._images = {
            name: self.create_publisher(Image, f"/overlay/{name}/image", IMAGE_DEPTH)
            for name in self._rig.cameras
        }
        self._boxes = {
            (camera, sensor): self.create_publisher(
                RegionOfInterest, f"/overlay/{camera}/{sensor}", qos.profile(self._rig.cameras[camera].qos)
            )
            for camera in self._rig.cameras
            for sensor in self._rig.tactile
        }
        names = [*self._rig.cameras, *self._live.streams]
        intake = Intake(self._rig, names)
        self._streams = RigSubscriptions(self, self._rig, intake, self._receive, live_images=True)

    def _receive(self, name: str, stamp_ns: int, recv_ns: int, value: Value) -> None:
        if name in self._live.streams:
            self._live.take(name, value)
        elif abs(stamp_ns - self._drawn_ns[name]) >= self._period_ns:
            footprints = self._live.seen_by(name)
            if footprints is not None:
                self._drawn_ns[name] = stamp_ns
                self._publish(name, stamp_ns, value, footprints)

    def _publish(self, camera: str, stamp_ns: int, value: Value, footprints: Mapping[str, Footprint]) -> None:
        spec = self._rig.cameras[camera]
        for sensor, footprint in footprints.items():
            region = messages.region_of_interest(footprint.box, spec.width, spec.height)
            self._boxes[camera, sensor].publish(region)
        if self._images[camera].get_subscription_count():
            try:
                seen = to_look_at(value)
            except ImageError as problem:
                self._streams.refuse(camera, "undecodable", str(problem))
                return
            picture = draw_footprints(seen, footprints)
            self._images[camera].publish(self._builders[camera].build(picture, stamp_ns))


def main(argv: list[str] | None = None) -> int:
    """Run the node until a signal comes; returns the exit code."""
    return run_node(OverlayNode, argv)


if __name__ == "__main__":
    raise SystemExit(main())
