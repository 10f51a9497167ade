"""The scene that a rig spans at given joints: poses of flanges, cameras and sensors, and their footprints.

Joins kinematics, cameras and footprints of `tacit.geometry`; the recorder, the checker and the policy
node all ask here, by `rig.geometry`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from tacit.errors import RigError, did_you_mean
from tacit.geometry.camera import Camera, FisheyeCamera, PinholeCamera
from tacit.geometry.footprint import Footprint, Footprints, box_corners, footprint_at, project_boxes
from tacit.geometry.kinematics import fk_numpy
from tacit.geometry.robot import Robot
from tacit.geometry.transforms import FloatArray, invert, transform_points
from tacit.rig.specs import ArmSpec
from tacit.rig.topics import CameraSpec, TactileSpec

FINGER_SIGNS = {"finger_left": 1.0, "finger_right": -1.0}


@dataclass(frozen=True, eq=False)
class _Mount:
    """What a camera or sensor hangs on: the world (arm None), a flange (sign 0) or a finger."""

    arm: str | None
    sign: float
    T_mount_child: FloatArray


class RigLike(Protocol):
    """What the scene needs of a rig. `tacit.rig.contract.Rig` is one; it builds its scene on first use."""

    name: str
    arms: dict[str, ArmSpec]
    cameras: dict[str, CameraSpec]
    unmeasured: tuple[str, ...]

    @property
    def tactile(self) -> Mapping[str, TactileSpec]:
        """Touch sensors by name, of every kind."""

    @property
    def state_names(self) -> tuple[str, ...]:
        """Order of the state (S,)."""

    def arm_slice(self, arm: str) -> slice:
        """Return where the joints of `arm` stand in the state."""


class Measured(NamedTuple):
    """The parts of a rig whose poses follow from its numbers, by name."""

    arms: tuple[str, ...]
    cameras: tuple[str, ...]
    sensors: tuple[str, ...]


def measured(rig: RigLike) -> Measured:
    """Return the parts whose geometry is known, and that of the arms that carry them."""
    unknown = set(rig.unmeasured)
    lost = {arm for arm in rig.arms if f"arms.{arm}" in unknown}

    def known(group: str, frames: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(
            name
            for name, frame in frames.items()
            if f"{group}.{name}" not in unknown and frame.rpartition(".")[0] not in lost
        )

    return Measured(
        tuple(arm for arm in rig.arms if arm not in lost),
        known("cameras", {name: spec.parent for name, spec in rig.cameras.items()}),
        known("tactile", {name: spec.mount for name, spec in rig.tactile.items()}),
    )


def camera_from_spec(spec: CameraSpec) -> Camera:
    """Return the camera that a rig describes.

    Raises:
        ValueError: D has a length that the model does not know.
    """
    kind = FisheyeCamera if spec.model == "fisheye" else PinholeCamera
    return kind(np.asarray(spec.K), spec.D, spec.width, spec.height)


class RigGeometry:
    """Poses and pixel boxes of everything in a rig.

    Every method takes the measured state q (S,) in the order of `rig.state_names` [rad, gripper m];
    those that return arrays also take (N, S) and then return a leading axis N. Parts that the rig calls
    unmeasured have neither pose nor box.
    """

    def __init__(self, rig: RigLike) -> None:
        """Build chains and lenses once.

        Raises:
            RigError: The kinematics of an arm cannot be built.
        """
        self.rig = rig
        known = measured(rig)
        cameras = {name: rig.cameras[name] for name in known.cameras}
        sensors = {name: rig.tactile[name] for name in known.sensors}
        self.robots = {name: Robot.from_rig(rig, name) for name in known.arms}
        self._cameras = {name: camera_from_spec(spec) for name, spec in cameras.items()}
        self._camera_mounts = {n: self._mount(s.parent, s.T_parent_camera) for n, s in cameras.items()}
        self._T_camera_parent = {n: invert(m.T_mount_child) for n, m in self._camera_mounts.items()}
        self._sensor_mounts = {n: self._mount(s.mount, s.T_mount_sensor) for n, s in sensors.items()}
        self._corners = {name: box_corners(spec.size_m) for name, spec in sensors.items()}
        self._columns = {name: rig.arm_slice(name) for name in rig.arms}
        grippers = {name: spec.gripper for name, spec in rig.arms.items() if spec.gripper is not None}
        self._finger_axes = {n: np.array(g.axis) / np.linalg.norm(g.axis) for n, g in grippers.items()}
        self._held: tuple[FloatArray, dict[str, FloatArray]] | None = None
        self._openings = {name: rig.state_names.index(gripper.name) for name, gripper in grippers.items()}

    def camera(self, name: str) -> Camera:
        """Return the lens of one camera."""
        if name in self.rig.cameras and name not in self._cameras:
            raise RigError(
                f"rig {self.rig.name}: cameras.{name}: its lens or its place is not measured; calibrate it, "
                "and take it out of `unmeasured`"
            )
        if name not in self._cameras:
            raise RigError(f"rig {self.rig.name}: no camera {name!r}; {did_you_mean(name, self._cameras)}")
        return self._cameras[name]

    def flange_poses(self, q: ArrayLike) -> dict[str, FloatArray]:
        """Return {arm: T_world_flange (..., 4, 4)}."""
        q = self._checked(q)
        return {name: self._flange(name, q) for name in self.robots}

    @contextlib.contextmanager
    def holding(self, q: FloatArray) -> Iterator[None]:
        """Compute the flanges of states once for all calls in the block that are given this very array."""
        q = self._checked(q)
        self._held = (q, self.flange_poses(q))
        try:
            yield
        finally:
            self._held = None

    def camera_poses(self, q: ArrayLike) -> dict[str, FloatArray]:
        """Return {camera: T_world_camera (..., 4, 4)} of the optical frames."""
        return self._world_poses(self._camera_mounts, self._checked(q))

    def sensor_poses(self, q: ArrayLike) -> dict[str, FloatArray]:
        """Return {sensor: T_world_sensor (..., 4, 4)}: centre of the gel face, z out of the gel."""
        return self._world_poses(self._sensor_mounts, self._checked(q))

    def footprints(self, q: ArrayLike) -> dict[tuple[str, str], Footprint]:
        """Return {(camera, sensor): Footprint} at one state q (S,)."""
        q = self._checked(q)
        if q.ndim != 1:
            raise ValueError(f"state of shape {q.shape}, expected (S,); see footprint_tracks for (N, S)")
        result: dict[tuple[str, str], Footprint] = {}
        for name, corners in self._corners_in_cameras(q).items():
            # All sensors of a camera in one call: at a tick the calls cost more than the arithmetic.
            points = np.array(list(corners.values())).reshape(-1, 8, 3)
            batch = project_boxes(points, self._cameras[name])
            result |= {(name, sensor): footprint_at(batch, i) for i, sensor in enumerate(corners)}
        return result

    def footprint_tracks(self, Q: ArrayLike) -> dict[tuple[str, str], Footprints]:
        """Return {(camera, sensor): Footprints of N ticks} for states Q (N, S), vectorised."""
        Q = self._checked(Q)
        if Q.ndim != 2:
            raise ValueError(f"states of shape {Q.shape}, expected (N, S)")
        result: dict[tuple[str, str], Footprints] = {}
        for name, corners in self._corners_in_cameras(Q).items():
            points = [np.broadcast_to(seen, (len(Q), 8, 3)) for seen in corners.values()]
            batch = project_boxes(np.array(points).reshape(-1, 8, 3), self._cameras[name])
            for number, sensor in enumerate(corners):
                own = slice(number * len(Q), (number + 1) * len(Q))
                box, corners_px, visibility, flags = batch
                result[name, sensor] = Footprints(box[own], corners_px[own], visibility[own], flags[own])
        return result

    def _corners_in_cameras(self, q: FloatArray) -> dict[str, dict[str, FloatArray]]:
        """Return {camera: {sensor: corners (..., 8, 3) in the optical frame}}.

        Where camera and sensor ride on the same arm the joints cancel, and are left out.
        """
        flanges: dict[str, FloatArray] = {}
        in_flange = {name: self._in_flange(mount, q) for name, mount in self._sensor_mounts.items()}
        result: dict[str, dict[str, FloatArray]] = {}
        for camera, mount in self._camera_mounts.items():
            T_camera_world: FloatArray | None = None
            result[camera] = {}
            for sensor, held in self._sensor_mounts.items():
                if held.arm == mount.arm:
                    T = self._T_camera_parent[camera] @ in_flange[sensor]
                else:
                    if T_camera_world is None:
                        T_world_parent = self._carrier(mount.arm, q, flanges)
                        T_camera_world = self._T_camera_parent[camera] @ invert(T_world_parent)
                    T = T_camera_world @ self._carrier(held.arm, q, flanges) @ in_flange[sensor]
                result[camera][sensor] = transform_points(T, self._corners[sensor])
        return result

    def _world_poses(self, mounts: Mapping[str, _Mount], q: FloatArray) -> dict[str, FloatArray]:
        flanges: dict[str, FloatArray] = {}
        poses = {n: self._carrier(m.arm, q, flanges) @ self._in_flange(m, q) for n, m in mounts.items()}
        return {name: np.broadcast_to(T, (*q.shape[:-1], 4, 4)).copy() for name, T in poses.items()}

    def _carrier(self, arm: str | None, q: FloatArray, cache: dict[str, FloatArray]) -> FloatArray:
        """Return T_world_flange of `arm` (computed once per call), or the identity for the world."""
        if arm is None:
            return np.eye(4)
        if arm not in cache:
            cache[arm] = self._flange(arm, q)
        return cache[arm]

    def _flange(self, arm: str, q: FloatArray) -> FloatArray:
        held = self._held
        if held is not None and q is held[0]:
            return held[1][arm]
        joints = q[..., self._columns[arm]]
        return np.asarray(self.rig.arms[arm].T_world_base) @ fk_numpy(self.robots[arm].chain, joints)

    def _in_flange(self, mount: _Mount, q: FloatArray) -> FloatArray:
        """Return T_flange_child: fingers go by half the opening along the axis, or as a URDF says."""
        if mount.arm is None or mount.sign == 0.0:
            return mount.T_mount_child
        # Openings are between the pads; each finger does half of it, the right one the other way.
        finger = next(name for name, sign in FINGER_SIGNS.items() if sign == mount.sign)
        opening = q[..., self._openings[mount.arm]]
        if (linked := self.rig.arms[mount.arm].fingers) is not None:
            return np.asarray(linked.pose(finger, opening) @ mount.T_mount_child)
        half = 0.5 * mount.sign * opening[..., None]
        T = np.broadcast_to(mount.T_mount_child, (*q.shape[:-1], 4, 4)).copy()
        T[..., :3, 3] += half * self._finger_axes[mount.arm]
        return T

    def _mount(self, frame: str, T_frame_child: FloatArray) -> _Mount:
        if frame == "world":
            return _Mount(None, 0.0, np.asarray(T_frame_child))
        arm, _, part = frame.rpartition(".")
        return _Mount(arm, FINGER_SIGNS.get(part, 0.0), np.asarray(T_frame_child))

    def _checked(self, q: ArrayLike) -> FloatArray:
        q = np.asarray(q, dtype=np.float64)
        size = len(self.rig.state_names)
        if q.ndim not in (1, 2) or q.shape[-1] != size:
            names = ", ".join(self.rig.state_names)
            raise ValueError(f"state of shape {q.shape}, expected ({size},) or (N, {size}): {names}")
        return q
