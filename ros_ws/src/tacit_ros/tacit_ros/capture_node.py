"""Node `capture`: takes calibration pictures of one camera whenever the arm stands still in a new pose.

Writes `<out>/NNN.png` and `<out>/samples.yaml`. Services (std_srvs/Trigger): ~/status answers with
JSON, ~/drop_last forgets the last picture.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from tacit.errors import CalibrationError, ImageError
from tacit.images import as_rgb
from tacit.record.capture import MEANING, Capture, Verdict
from tacit.record.preroll import PASSING
from tacit.rig import Rig, load_rig
from tacit.streams import Intake, Value
from tacit_ros.wire.observations import RigSubscriptions
from tacit_ros.wire.parameters import declare, parameter
from tacit_ros.wire.process import run_node
from tacit_ros.wire.publishers import Publishers

TELL_PERIOD_S = 5.0


@dataclass(frozen=True)
class CaptureParameters:
    """Parameters of the node."""

    rig: str = parameter("nova2_sim", "Shipped rig or path of a rig.yaml.")
    camera: str = parameter("wrist", "Camera of the rig.")
    arm: str = parameter("", "Arm that moves; the only one, or the camera's, when empty.")
    out: str = parameter("calibration/samples", "Folder for pictures and samples.yaml; may exist.")


class CaptureNode(Node):
    """The shell around one `Capture`."""

    def __init__(self, parameter_overrides: list[Parameter] | None = None) -> None:
        """Subscribe to one camera and to the state of one arm.

        Args:
            parameter_overrides: Values as from the command line.

        Raises:
            TacitError: The rig or a parameter is wrong, or the folder holds something else.
        """
        super().__init__("capture", parameter_overrides=parameter_overrides)
        settings = declare(self, CaptureParameters)
        rig = load_rig(settings.rig)
        arm = settings.arm or arm_of(rig, settings.camera)
        self._capture = Capture(rig, arm, settings.camera, Path(settings.out).expanduser())
        names = [settings.camera, *self._capture.streams]
        intake = Intake(rig, names)
        self._streams = RigSubscriptions(self, rig, intake, self._receive)
        heard = {name: self._streams.topic(name) for name in names}
        self._others = Publishers(self, heard, intake=intake)
        self._told: tuple[Verdict | None, float] = (None, 0.0)
        self.create_service(Trigger, "~/status", self._status)
        self.create_service(Trigger, "~/drop_last", self._drop_last)
        held = len(self._capture.samples.content.samples)
        self.get_logger().info(
            f"camera {settings.camera}, arm {arm}: {held} samples in {settings.out}; bring the arm to a pose "
            "that shows the board, and wait a second"
        )

    def _receive(self, name: str, stamp_ns: int, recv_ns: int, value: Value) -> None:
        if name in self._capture.streams:
            self._capture.add_state(name, stamp_ns, np.asarray(value, dtype=np.float64))
        else:
            try:
                picture = as_rgb(value)
            except ImageError as problem:
                self._streams.refuse(name, "undecodable", str(problem))
                return
            self._tell(self._capture.add_image(stamp_ns, picture, doubted=bool(self._doubts())))

    def _doubts(self) -> list[str]:
        """What is wrong now with what is heard; a message that cost only itself is nothing to wait for."""
        found = self._streams.findings
        return [
            f"{n}: {f.kind}: {f.text}" for n, f in found.items() if not f.refused or f.kind not in PASSING
        ]

    def _tell(self, verdict: Verdict) -> None:
        """Say each new verdict, and the same one again every few seconds; moving goes without saying."""
        before, at_s = self._told
        now_s = time.monotonic()
        if verdict == "saved":
            last = self._capture.samples.content.samples[-1]
            count = len(self._capture.samples.content.samples)
            self.get_logger().info(f"{count}: saved {last.image}")
        elif verdict != "moving" and (verdict != before or now_s - at_s > TELL_PERIOD_S):
            doubts = self._doubts() if verdict == "doubted" else []
            self.get_logger().info("; ".join([MEANING[verdict], *doubts]))
        else:
            return
        self._told = (verdict, now_s)

    def _status(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        capture = self._capture
        status = {
            "samples": len(capture.samples.content.samples),
            "folder": str(capture.folder),
            "verdicts": dict(capture.verdicts),
            "problems": self._streams.problems,
        }
        response.message, response.success = json.dumps(status), True
        return response

    def _drop_last(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        dropped = self._capture.drop_last()
        response.success = dropped is not None
        response.message = f"dropped {dropped.image}" if dropped else "there is no sample"
        return response


def arm_of(rig: Rig, camera: str) -> str:
    """Return the arm that a camera rides on, or the only arm of the rig.

    Raises:
        CalibrationError: A fixed camera on a rig with several arms: which one shows it the board?
    """
    spec = rig.cameras.get(camera)
    if spec is not None and spec.parent != "world":
        return spec.parent.rpartition(".")[0]
    if len(rig.arms) != 1:
        raise CalibrationError(
            f"arm: camera {camera!r} is fixed and there are {', '.join(rig.arms)}; name one"
        )
    return next(iter(rig.arms))


def main(argv: list[str] | None = None) -> int:
    """Run the node until a signal comes; returns the exit code."""
    return run_node(CaptureNode, argv)


if __name__ == "__main__":
    raise SystemExit(main())
