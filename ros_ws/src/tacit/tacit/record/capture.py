"""When to take a calibration picture: the arm is still, the picture too, and the pose is a new one.

Pure but for the folder it writes; `capture_node` feeds it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from tacit.errors import CalibrationError, did_you_mean
from tacit.geometry.transforms import FloatArray
from tacit.images import encode_png
from tacit.record.samples import Sample, SampleFolder
from tacit.record.stillness import StillDetector, Tolerances, is_new
from tacit.rig import Rig, is_depth
from tacit.rig.units import from_canonical, to_canonical

Verdict = Literal["saved", "waiting", "doubted", "apart", "moving", "changing", "duplicate"]
THUMB = (80, 60)
MAX_APART_NS = 1_000_000_000
"""No camera is a second late; clocks of two computers are."""
MAX_CHANGE = 3.0
"""Mean grey levels between two pictures of a still scene; camera noise is 1-2, a moving one 5 and more."""

MEANING: dict[Verdict, str] = {
    "saved": "saved",
    "waiting": "no joints or gripper yet for this picture",
    "doubted": "what the camera or the robot sends is refused or doubted",
    "apart": "picture and joints are stamped more than a second apart (or 0); synchronise the clocks",
    "moving": "the arm moves",
    "changing": "the arm is still but the picture changes; is the camera late, or does something move?",
    "duplicate": "this pose is saved; go to another one",
}


@dataclass
class Capture:
    """Decides on each picture of one camera and saves the good ones.

    Args:
        rig: The robot.
        arm: Which of its arms moves.
        camera: Whose pictures.
        folder: Where samples go; those that lie there count as seen.

    Raises:
        CalibrationError: No such arm or camera, or a folder of something else.
    """

    rig: Rig
    arm: str
    camera: str
    folder: Path
    verdicts: Counter[Verdict] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        for kind, name, known in (
            ("arm", self.arm, self.rig.arms),
            ("camera", self.camera, self.rig.cameras),
        ):
            if name not in known:
                raise CalibrationError(f"{kind}: no {name!r} in the rig; {did_you_mean(name, known)}")
        if is_depth(self.rig.cameras[self.camera]):
            raise CalibrationError(
                f"camera {self.camera!r} is a depth camera: its pictures show no board. Calibrate the colour "
                "camera it is built in with, and place the depth camera by the maker's offset"
            )
        arm = self.rig.arms[self.arm]
        self._gripper = arm.gripper.name if arm.gripper else None
        joints = tuple(joint.name for joint in arm.joints)
        self._names = (*joints, *([self._gripper] if self._gripper else []))
        self._tolerances = Tolerances.of(len(joints), self._gripper is not None)
        self._streams = {name: spec.names for name, spec in self.rig.states.items()}
        self._still = {
            stream: StillDetector(self._tolerances.still[self._places(stream)])
            for stream in self._streams
            if self._places(stream)
        }
        self.samples = SampleFolder(self.folder, self.arm, joints, self.camera)
        self._poses = [self._pose_of(sample) for sample in self.samples.content.samples]
        self._thumb: NDArray[np.int16] | None = None

    @property
    def streams(self) -> tuple[str, ...]:
        """The state streams to hear."""
        return tuple(self._still)

    def add_state(self, stream: str, stamp_ns: int, values: FloatArray) -> None:
        """Take a message of a state stream, in the order of its names."""
        names = list(self._streams[stream])
        chosen = [names.index(self._names[place]) for place in self._places(stream)]
        self._still[stream].add(stamp_ns, np.asarray(values)[chosen])

    def add_image(self, stamp_ns: int, rgb: NDArray[np.uint8], doubted: bool = False) -> Verdict:
        """Judge a picture, save it if it is good, and say what became of it.

        Args:
            stamp_ns: Its stamp.
            rgb: The picture (H, W, 3).
            doubted: Something is wrong now with what the camera or the robot sends: nothing is saved.
        """
        verdict = "doubted" if doubted else self._judge(stamp_ns, rgb)
        self.verdicts[verdict] += 1
        return verdict

    def drop_last(self) -> Sample | None:
        """Forget the last sample."""
        dropped = self.samples.drop_last()
        if dropped is not None:
            self._poses.pop()
        return dropped

    def _judge(self, stamp_ns: int, rgb: NDArray[np.uint8]) -> Verdict:
        before, self._thumb = self._thumb, thumbnail(rgb)
        newest = [still.newest_ns for still in self._still.values()]
        if None in newest:
            return "waiting"
        if max(abs(other - stamp_ns) for other in newest if other is not None) > MAX_APART_NS:
            return "apart"
        parts = {stream: still.still_at(stamp_ns) for stream, still in self._still.items()}
        if any(values is None for values in parts.values()):
            return "moving"
        pose = np.empty(len(self._names))
        for stream, values in parts.items():
            pose[self._places(stream)] = values
        if not is_new(pose, self._poses, self._tolerances.new):
            return "duplicate"
        if before is None or float(np.abs(self._thumb - before).mean()) > MAX_CHANGE:
            return "changing"
        self._save(pose, stamp_ns, rgb)
        return "saved"

    def _save(self, pose: FloatArray, stamp_ns: int, rgb: NDArray[np.uint8]) -> None:
        raw = None
        if self._gripper is not None:
            raw = from_canonical(self.rig, self._gripper, float(pose[-1]))
        q = tuple(float(value) for value in pose[: len(self.samples.content.joint_names)])
        self.samples.add(encode_png(rgb).tobytes(), q, raw, stamp_ns)
        self._poses.append(pose)

    def _pose_of(self, sample: Sample) -> FloatArray:
        opening = []
        if self._gripper is not None:
            raw = sample.gripper_raw
            opening = [np.nan if raw is None else to_canonical(self.rig, self._gripper, raw)]
        return np.array([*sample.q, *opening])

    def _places(self, stream: str) -> list[int]:
        """Return where the values of a stream stand among the names of the arm."""
        return [place for place, name in enumerate(self._names) if name in self._streams[stream]]


def thumbnail(rgb: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Return a small grey picture in which noise has averaged out."""
    small = cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), THUMB, interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.int16)
