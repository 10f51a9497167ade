"""An episode as a recording of the rerun viewer: pictures with boxes, cameras and sensors in space, numbers.

Needs the extra `rerun` (Python 3.11 and later); `rerun FILE.rrd` shows it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tacit.episode import EpisodeReader
from tacit.geometry.footprint import INTERSECTS
from tacit.view.draw import COLORS

NS_PER_S = 1e9
PNG = b"\x89PNG"


def write_rrd(reader: EpisodeReader, target: Path) -> Path:
    """Write an episode for the rerun viewer.

    Timelines: `stamp` [s since 1970] and `tick`. Paths: `world/<camera>` with its picture, boxes and pose,
    `touch/<sensor>`, `state/<joint>` and `action/<joint>` [rad, m].

    Args:
        reader: An open episode.
        target: The file; its folder must exist.

    """
    import rerun as rr

    recording = rr.RecordingStream("tacit", recording_id=str(reader.attribute("uuid", target.stem)))
    recording.save(str(target))
    _Log(rr, recording, reader).everything()
    recording.flush()
    recording.disconnect()
    return target


class _Log:
    """Logs one episode, tick by tick."""

    def __init__(self, rr: Any, recording: Any, reader: EpisodeReader) -> None:
        self._rr, self._to, self._reader = rr, recording, reader
        pairs = [(c, s) for c in reader.cameras for s in reader.tactile if reader.is_located(c, s)]
        self._boxes = {pair: reader.boxes(*pair) for pair in pairs}
        self._flags = {pair: reader.flags(*pair) for pair in pairs}
        self._poses = {camera: reader.camera_pose(camera) for camera, _ in pairs}

    def everything(self) -> None:
        """Log what does not change, then each tick."""
        rr, rig = self._rr, None if self._reader.is_foreign else self._reader.rig
        self._to.log("instruction", rr.TextDocument(self._reader.instruction), static=True)
        for name in self._reader.cameras if rig else ():
            camera = rig.cameras[name]  # type: ignore[union-attr]
            lens = rr.Pinhole(image_from_camera=camera.K, resolution=[camera.width, camera.height])
            self._to.log(f"world/{name}", lens, static=True)
        for tick, stamp_ns in enumerate(self._reader.tick_ns):
            self._to.set_time("tick", sequence=tick)
            self._to.set_time("stamp", timestamp=float(stamp_ns) / NS_PER_S)
            self._pictures(tick)
            self._numbers(tick)

    def _pictures(self, tick: int) -> None:
        rr, reader = self._rr, self._reader
        for camera in reader.cameras:
            if camera in reader.depth_cameras:
                image: Any = rr.DepthImage(reader.depth(camera, tick), meter=1000.0)
            else:
                image = self._encoded(camera, tick)
            self._to.log(f"world/{camera}", image)
            if camera in self._poses:
                self._to.log(f"world/{camera}/boxes", self._boxes_in(camera, tick))
                pose = self._poses[camera][tick]
                self._to.log(f"world/{camera}", rr.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]))
        for sensor in reader.gels:
            self._to.log(f"touch/{sensor}", self._encoded(sensor, tick))
        for sensor in reader.taxels:
            self._to.log(f"touch/{sensor}", rr.Tensor(reader.readings(sensor, tick)))

    def _encoded(self, stream: str, tick: int) -> Any:
        """A picture as it is stored."""
        data = self._reader.image_bytes(stream, tick).tobytes()
        kind = "image/png" if data.startswith(PNG) else "image/jpeg"
        return self._rr.EncodedImage(contents=data, media_type=kind)

    def _boxes_in(self, camera: str, tick: int) -> Any:
        """The boxes that meet the picture; none clears what was there."""
        seen = [
            (sensor, boxes[tick])
            for (c, sensor), boxes in self._boxes.items()
            if c == camera and self._flags[c, sensor][tick] & INTERSECTS
        ]
        if not seen:
            return self._rr.Clear(recursive=False)
        sensors = list(self._reader.tactile)
        return self._rr.Boxes2D(
            array=np.array([box for _, box in seen]),
            array_format=self._rr.Box2DFormat.XYXY,
            labels=[sensor for sensor, _ in seen],
            colors=[COLORS[sensors.index(sensor) % len(COLORS)] for sensor, _ in seen],
        )

    def _numbers(self, tick: int) -> None:
        for kind, rows in (("state", self._reader.qpos), ("action", self._reader.action)):
            for name, value in zip(self._reader.state_names, rows[tick], strict=True):
                self._to.log(f"{kind}/{name}", self._rr.Scalars(float(value)))
