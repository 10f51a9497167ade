"""How a cell differs from its rig file before anyone has calibrated it: lenses, mounts, gripper, joints.

A simulator that is exactly what the rig says cannot show that calibration works. `as_built` draws the
cell that stands there; `JointError` is what its encoders get wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tacit.geometry.rotations import rotation_from_vector
from tacit.geometry.transforms import FloatArray, from_rotation
from tacit.rig import Rig, parse_rig

LENS_D = (0.05, -0.10, 0.001, -0.0005, 0.02)
"""A common machine-vision lens: 2-4 px at the border of a VGA image."""
FISHEYE_D = (-0.02, 0.01, -0.005, 0.001)
FOCAL_SPREAD, ASPECT_SPREAD, CENTRE_SPREAD = 0.02, 0.002, 0.012
"""Relative errors of data-sheet intrinsics: focal length, fx/fy, principal point by image width."""
CAMERA_MM, CAMERA_DEG = 8.0, 2.5
SENSOR_MM, SENSOR_DEG = 1.5, 2.0
"""How far printed brackets and glued gels are from their drawings."""
SENSOR_SIZE_SPREAD = 0.03
GRIPPER_SCALE, GRIPPER_OFFSET_M = 0.05, 0.001
WIGGLE_PER_RAD = 8.0
"""The repeating part of the joint error changes sign about every 20 degrees, as gear errors do."""


def as_built(rig: Rig, seed: int) -> Rig:
    """Return the rig of the cell that really stands there; the rig itself for seed 0.

    Every lens gets distortion and other intrinsics, every camera and sensor another pose, every
    gripper another opening per raw unit. Names, topics and kinematics stay.
    """
    if seed == 0:
        return rig
    random = np.random.default_rng([seed, 11])
    data = rig.model_dump(mode="json")
    for camera in data["cameras"].values():
        _bend_lens(camera, random)
        camera["T_parent_camera"] = _moved(camera["T_parent_camera"], CAMERA_MM, CAMERA_DEG, random)
    for sensor in data["tactile"].values():
        sensor["T_mount_sensor"] = _moved(sensor["T_mount_sensor"], SENSOR_MM, SENSOR_DEG, random)
        width, height, thickness = sensor["size_m"]
        scale = 1 + SENSOR_SIZE_SPREAD * random.uniform(-1, 1, 2)
        sensor["size_m"] = [width * scale[0], height * scale[1], thickness]
    for arm in data["arms"].values():
        gripper = arm["gripper"]
        if gripper and gripper["raw"] == "linear":
            gripper["scale"] *= 1 + GRIPPER_SCALE * random.uniform(0.4, 1)
            gripper["offset"] += GRIPPER_OFFSET_M * random.uniform(-1, 1)
    return parse_rig(data, f"{rig.name} as built with seed {seed}")


@dataclass(frozen=True, eq=False)
class JointError:
    """What measured joints differ by from the true ones: a constant and a part that depends on the pose.

    Attributes:
        zero: Zero offsets (n,) [rad].
        amplitude: Amplitude of the part that depends on the pose [rad].
        waves: Its wave numbers (n, n) [1/rad] and
        phases: phases (n,).
    """

    zero: FloatArray
    amplitude: float
    waves: FloatArray
    phases: FloatArray

    @classmethod
    def draw(cls, num_joints: int, zero_deg: float, pose_deg: float, seed: int) -> JointError:
        """Return an error with standard deviations `zero_deg` and `pose_deg` per joint."""
        random = np.random.default_rng([seed, 13])
        zero = np.deg2rad(zero_deg) * random.standard_normal(num_joints)
        waves = WIGGLE_PER_RAD * random.standard_normal((num_joints, num_joints))
        amplitude = float(np.deg2rad(pose_deg) * np.sqrt(2.0))
        return cls(zero, amplitude, waves, random.uniform(0, 2 * np.pi, num_joints))

    def measured(self, q: FloatArray) -> FloatArray:
        """Return what the encoders say (..., n) at true joints q (..., n) [rad]."""
        return np.asarray(q + self.zero + self.amplitude * np.sin(q @ self.waves.T + self.phases))

    def measured_state(self, state: FloatArray) -> FloatArray:
        """Return a measured state (S,) of one arm: its joints with their error, its gripper exactly."""
        count = len(self.zero)
        return np.concatenate([self.measured(state[:count]), state[count:]])


def _bend_lens(camera: dict, random: np.random.Generator) -> None:
    K = np.array(camera["K"])
    K[:2, :2] *= 1 + FOCAL_SPREAD * random.uniform(-1, 1)
    K[0, 0] *= 1 + ASPECT_SPREAD * random.uniform(-1, 1)
    K[:2, 2] += CENTRE_SPREAD * camera["width"] * random.uniform(-1, 1, 2)
    camera["K"] = K.tolist()
    coefficients = FISHEYE_D if camera["model"] == "fisheye" else LENS_D
    camera["D"] = [value * random.uniform(0.7, 1.3) for value in coefficients]


def _moved(T: list, millimetres: float, degrees: float, random: np.random.Generator) -> list:
    """Return the transform after a small motion in its own frame, uniform in direction and size."""
    turn = rotation_from_vector(np.deg2rad(degrees) * random.uniform(0.4, 1) * _direction(random))
    step = 1e-3 * millimetres * random.uniform(0.4, 1) * _direction(random)
    return np.asarray(np.array(T) @ from_rotation(turn, step)).tolist()


def _direction(random: np.random.Generator) -> FloatArray:
    vector = random.standard_normal(3)
    return np.asarray(vector / np.linalg.norm(vector))
