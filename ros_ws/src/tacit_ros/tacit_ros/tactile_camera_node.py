"""Node `tactile_camera`: the driver of gels with a USB camera (DIGIT, GelSight Mini), as the rig names them.

Topics out: each sensor's own, `~/<sensor>/reference` (latched), `/diagnostics`. Service: `~/reference`
(Trigger) takes the no-contact picture of every sensor.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from tacit.errors import RigError, TacitError, did_you_mean
from tacit.images import encode_jpeg
from tacit.rig import GelSpec, Rig, load_rig
from tacit.threads import WatchedThread
from tacit_ros import messages
from tacit_ros.gel.feed import GelFeed, Picture
from tacit_ros.wire import qos
from tacit_ros.wire.parameters import declare, parameter
from tacit_ros.wire.process import WatchedNode, run_node

JPEG_QUALITY = 95
"""As the recorder stores touch, which differs by a few grey levels."""


@dataclass(frozen=True)
class TactileCameraParameters:
    """Parameters of the node; fixed once it runs."""

    rig: str = parameter("nova2", "Shipped rig or path of a rig.yaml.")
    sensor: str = parameter("", "Tactile sensor of the rig; every one with a `device` when empty.")


class TactileCameraNode(WatchedNode):
    """One thread for each sensor; a sensor that is unplugged is waited for.

    Raises:
        TacitError: The rig names no device, or a parameter is wrong: the node refuses to start.
    """

    def __init__(self, parameter_overrides: list[Parameter] | None = None) -> None:
        super().__init__("tactile_camera", parameter_overrides=parameter_overrides)
        settings = declare(self, TactileCameraParameters)
        self._rig = load_rig(settings.rig)
        self.feeds = {
            name: self._feed(name, spec) for name, spec in _chosen(self._rig, settings.sensor).items()
        }
        self._references = {
            name: self.create_publisher(Image, f"~/{name}/reference", qos.latched()) for name in self.feeds
        }
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_service(Trigger, "~/reference", self._take_references)
        self.create_timer(1.0, self._report)
        self._threads = [self._started(feed) for feed in self.feeds.values()]

    def close(self) -> None:
        """Join the threads; the devices are free afterwards."""
        for thread in self._threads:
            thread.stopping.set()
        for thread in self._threads:
            thread.stop()

    def _feed(self, name: str, spec: GelSpec) -> GelFeed:
        publisher: Publisher = self.create_publisher(
            messages.message_class(spec.type), spec.topic, qos.profile(spec.qos)
        )
        send = self._sender(name, spec, publisher)
        return GelFeed(name, spec, send, self._say)

    def _say(self, text: str) -> None:
        self.get_logger().info(text)

    def _sender(self, name: str, spec: GelSpec, publisher: Publisher) -> Callable[[int, Picture], None]:
        builder = messages.ImageBuilder(name)

        def send(stamp_ns: int, picture: Picture) -> None:
            if not self.context.ok():
                return
            if spec.type.endswith("CompressedImage"):
                data = encode_jpeg(picture, JPEG_QUALITY)
                publisher.publish(messages.compressed_image(data, stamp_ns, name))
            else:
                publisher.publish(builder.build(picture, stamp_ns))

        return send

    def _started(self, feed: GelFeed) -> WatchedThread:
        made: list[WatchedThread] = []
        made.append(WatchedThread(feed.name, lambda: feed.run(made[0].stopping), self.thread_failed))
        return made[0].start()

    def _take_references(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        taken, problems = [], []
        for name, feed in self.feeds.items():
            try:
                picture = feed.reference()
            except TacitError as problem:
                problems.append(str(problem))
                continue
            now_ns = self.get_clock().now().nanoseconds
            self._references[name].publish(messages.image(picture, now_ns, name))
            taken.append(name)
        response.success = not problems
        response.message = "; ".join(problems) or f"references of {', '.join(taken)}"
        return response

    def _report(self) -> None:
        """Once a second: what is open, how fast it comes, and what was not handed on."""
        statuses = [self._status(name, feed) for name, feed in self.feeds.items()]
        stamp_ns = self.get_clock().now().nanoseconds
        self._diagnostics.publish(messages.diagnostics(statuses, stamp_ns, ""))

    def _status(self, name: str, feed: GelFeed) -> messages.Status:
        values: dict[str, object] = {
            "rate_hz": f"{feed.rate_hz:.1f}",
            "stamps": "driver" if feed.by_driver else "reception",
            **feed.counts,
        }
        level = "ok" if feed.is_open and feed.rate_hz > 0 else "error"
        return messages.Status(f"tactile_camera: {name}", level, feed.text, values)


def _chosen(rig: Rig, sensor: str) -> dict[str, GelSpec]:
    """Return the sensors to drive.

    Raises:
        RigError: There is none, or no sensor of that name.
    """
    if sensor and sensor not in rig.gels:
        raise RigError(f"parameter sensor: {sensor!r} in rig {rig.name}; {did_you_mean(sensor, rig.gels)}")
    if sensor:
        return {sensor: rig.gels[sensor]}
    chosen = {name: spec for name, spec in rig.gels.items() if spec.device is not None}
    if not chosen:
        raise RigError(
            f"rig {rig.name}: no tactile sensor has a `device`; give those with a USB camera "
            "`device: {}` and their `serial`"
        )
    return chosen


def main(argv: list[str] | None = None) -> int:
    """Run the node until a signal; exit code 2 where it refuses to start."""
    return run_node(partial(TactileCameraNode), argv)


if __name__ == "__main__":
    sys.exit(main())
