"""The simulated cell: one robot, one part, cameras and touch, stepped in simulated time.

Knows no ROS. Everything is a function of the seed and of the commands: the same seed gives the
same bits on one machine.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tacit.errors import ConfigError, did_you_mean
from tacit.geometry.transforms import FloatArray
from tacit.images.depth import Depth, depth_from_metres
from tacit.rig import Rig, is_depth
from tacit_sim import board
from tacit_sim.board import BoardPlace
from tacit_sim.disturbance import Disturbance
from tacit_sim.lens import Lens
from tacit_sim.model import (
    FELT_GROUP,
    PAD_GROUPS,
    ROBOT_GROUP,
    TIMESTEP_S,
    UNFELT_GROUP,
    build_mjcf,
    lenses_of,
    only_arm,
    pose,
    ridge_names,
)
from tacit_sim.rendering import SceneRenderer, SensorNoise, mujoco
from tacit_sim.surroundings import Change, Surroundings, distractors
from tacit_sim.tactile import TactileCamera
from tacit_sim.tasks import LOOK_NS, OVER, STAGES, Hidden, StageMachine, Task, Truth, find_task
from tacit_sim.taxels import TaxelArray

HOME = (-0.3424, 0.0643, 2.0576, -0.5511, -1.5708, 1.2284)
"""Start joints [rad]: tool down, flange at (-.35, 0, .297) m."""

START_JITTER_RAD = 0.02
START_OPENING_M = 0.06
SETTLE_STEPS = 50
STEP_NS = round(TIMESTEP_S * 1e9)
UPRIGHT_COSINE = float(np.cos(np.deg2rad(15.0)))
EPOCH_NS = 1_000_000_000
"""Stamps start here, not at 0, which means `unknown` in ROS."""

CAMERA_QUALITY, TACTILE_QUALITY = 90, 95
"""JPEG qualities of its drivers; touch is finer, for weak contacts are a few grey levels."""

CLEARED_XY = (0.0, 0.5)
"""Where the part stands while there is a board: at the back of the table, in nobody's view."""

RESET_NS = 200_000_000
"""A reset takes this long: a hole of five frames, which no consumer bridges."""


class Cell:
    """A simulated robot cell.

    Args:
        rig: The cell's contract; see `tacit_sim.model.build_mjcf` for what it must hold.
        task: Name of the first task; `reset` may choose another.
        disturbed: The robot executes each command plus a seeded disturbance of the tool.
        board_at: Put a calibration board on the table or into the gripper, and the part out of its way.
        changes: What differs from the cell of the demonstrations, drawn anew in every episode.
    """

    def __init__(
        self,
        rig: Rig,
        task: str | None = None,
        *,
        disturbed: bool = False,
        board_at: BoardPlace = "",
        changes: Collection[Change] = (),
    ) -> None:
        self.rig = rig
        self._changes, self.board_at = changes, board_at
        self._lenses = lenses_of(rig)
        self.disturbed = disturbed
        self._time_ns = EPOCH_NS
        sizes = [(image.height, image.width) for image in rig.images.values()]
        self._noise = SensorNoise(*np.max(sizes, axis=0, initial=1))
        self._renderers: dict[tuple[int, int], SceneRenderer] = {}
        default = rig.simulation.task if rig.simulation else "place_cube"
        self._load(find_task(task or default))
        self.reset(0)

    def _load(self, task: Task) -> None:
        """Compile the model of `task` and find our addresses in it."""
        self.close()
        self.task = task
        text = build_mjcf(self.rig, task, self.board_at, distractors(self._changes))
        self.model = mujoco.MjModel.from_xml_string(text, board.assets() if self.board_at else None)
        self._surroundings = Surroundings(self.model, task, self._changes)
        self.data = mujoco.MjData(self.model)
        arm_name, arm, gripper = only_arm(self.rig)
        joints = [self.model.joint(joint.name) for joint in arm.joints]
        self._qpos = np.array([joint.qposadr[0] for joint in joints])
        self._dof = np.array([joint.dofadr[0] for joint in joints])
        fingers = [self.model.joint(f"finger_{side}") for side in ("left", "right")]
        self._finger_qpos = np.array([finger.qposadr[0] for finger in fingers])
        self._finger_dof = np.array([finger.dofadr[0] for finger in fingers])
        self._part_qpos = int(self.model.joint("part").qposadr[0])
        self._part = int(self.model.body("part").id)
        self._part_geom = int(self.model.geom("part").id)
        self._tool = int(self.model.site("tool").id)
        self._pads = {name: int(self.model.geom(f"pad_{name}").id) for name in self.rig.tactile}
        self._mounts = {
            name: int(self.model.body(sensor.mount.removeprefix(f"{arm_name}.")).id)
            for name, sensor in self.rig.tactile.items()
        }
        rays = self.rig.simulation.tactile_rays if self.rig.simulation else (40, 30)
        self._touch = {
            name: TactileCamera(self.model, sensor.size_m, rays, sensor.width, sensor.height)
            for name, sensor in self.rig.gels.items()
        }
        skins = self.rig.taxels.items()
        self._taxels = {name: TaxelArray(self.model, name, spec, self._pads[name]) for name, spec in skins}

    def close(self) -> None:
        """Free the GL contexts; rendering again makes new ones."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers = {}

    def reset(self, seed: int, task: str | None = None, hidden: Hidden | None = None) -> None:
        """Start an episode: place the part, set the arm to its start, let both settle.

        Args:
            seed: Decides start positions and, if there is one, the disturbance.
            task: Another task than the present one.
            hidden: What no camera shows; drawn from the seed if left out.

        Raises:
            ConfigError: No such task.
        """
        if task is not None and task != self.task.name:
            self._load(find_task(task))
        self.hidden = self.task.draw(seed) if hidden is None else hidden
        self.task = self.task.of(self.hidden)
        self._hide()
        random = np.random.default_rng([seed, 0])
        mujoco.mj_resetData(self.model, self.data)
        self._surroundings.draw(seed)
        self._place_part(random)
        q = np.asarray(HOME) + random.uniform(-START_JITTER_RAD, START_JITTER_RAD, len(HOME))
        self.data.qpos[self._qpos] = q
        self.data.qpos[self._finger_qpos] = START_OPENING_M / 2
        self._set_targets(np.append(q, START_OPENING_M))
        mujoco.mj_step(self.model, self.data, SETTLE_STEPS)
        self._time_ns += RESET_NS
        self._began_ns = self._time_ns
        self._stages = StageMachine(self.task)
        self._disturbance = Disturbance(self.task, seed) if self.disturbed else None
        self._observe()

    def _place_part(self, random: np.random.Generator) -> None:
        task = self.task
        offset = (random.random(2) - 0.5) * task.start_spread
        yaw = random.uniform(-1.0, 1.0) * task.start_yaw
        i = self._part_qpos
        x, y = np.asarray(CLEARED_XY if self.board_at else task.start_xy) + offset
        self.data.qpos[i : i + 3] = (x, y + self.hidden.shift_m, task.half_height)
        self.data.qpos[i + 3 : i + 7] = (np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2))

    def _hide(self) -> None:
        """Let touch feel the ridges of the kind alone, and put the sleeve where the part would be."""
        if len(self.task.ridges) > 1:
            for kind in range(len(self.task.ridges)):
                group = FELT_GROUP if kind == self.hidden.kind else UNFELT_GROUP
                for name in ridge_names(self.task, kind):
                    self.model.geom(name).group = group
        if self.task.sleeve is not None:
            self.model.geom("sleeve").pos = (0.0, -self.hidden.shift_m, 0.0)

    @property
    def time_ns(self) -> int:
        """Simulated time; it never goes back, also not over a reset."""
        return self._time_ns

    def command(self, target: ArrayLike) -> None:
        """Set the target in `rig.state_names` order (S,) [rad, m], clipped to the rig's limits.

        Each call is one control tick to the disturbance. The last target holds until the next.

        Raises:
            ValueError: Wrong shape, or not finite.
        """
        target = np.asarray(target, dtype=np.float64)
        if target.shape != (len(self.rig.state_names),) or not np.isfinite(target).all():
            raise ValueError(f"command {target}: expected {len(self.rig.state_names)} finite numbers")
        if self._disturbance is not None:
            push = self._disturbance.next(float(self.tool_pose()[2, 3]))
            target = np.append(target[:-1] + self._joint_offset(push), target[-1])
        self._set_targets(np.clip(target, self.rig.limits("lower"), self.rig.limits("upper")))

    def place(self, state: ArrayLike) -> None:
        """Put arm and gripper at a state (S,) at once, at rest; time does not pass, the part stays."""
        target = np.asarray(state, dtype=np.float64)
        self.data.qpos[self._qpos] = target[:-1]
        self.data.qpos[self._finger_qpos] = target[-1] / 2
        self.data.qvel[:] = 0.0
        self._set_targets(target)
        self._observe()

    def hold(self) -> None:
        """Stop where the arm is now; the gripper keeps its grip."""
        self.data.ctrl[:-1] = self.data.qpos[self._qpos]

    def _joint_offset(self, tool_offset: FloatArray) -> FloatArray:
        """Joint change (6,) that moves the tool by (6,): damped least squares at the present pose."""
        jacobian = np.zeros((6, self.model.nv))
        mujoco.mj_jacSite(self.model, self.data, jacobian[:3], jacobian[3:], self._tool)
        J = jacobian[:, self._dof]
        return J.T @ np.linalg.solve(J @ J.T + 1e-6 * np.eye(6), tool_offset)

    def _set_targets(self, target: FloatArray) -> None:
        """Write servo targets; the gripper's servo counts one finger, half the opening."""
        self.data.ctrl[:-1] = target[:-1]
        self.data.ctrl[-1] = target[-1] / 2

    def step(self, duration_ns: int) -> None:
        """Advance simulated time by looks of 10 ms, each five physics steps.

        Raises:
            ValueError: The duration is not a whole number of looks.
        """
        looks, rest = divmod(duration_ns, LOOK_NS)
        if rest or looks < 1:
            raise ValueError(f"step of {duration_ns} ns: expected a positive multiple of {LOOK_NS} ns")
        for _ in range(looks):
            mujoco.mj_step(self.model, self.data, LOOK_NS // STEP_NS)
            self._time_ns += LOOK_NS
            self._observe()

    def _observe(self) -> None:
        """Bring derived quantities up to the new state, then look at the truth."""
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
        self._stages.update(self.truth())

    def state(self) -> FloatArray:
        """Return measured joints [rad] and opening [m] (S,) in `rig.state_names` order."""
        opening = self.data.qpos[self._finger_qpos].sum()
        return np.append(self.data.qpos[self._qpos], opening)

    def velocity(self) -> FloatArray:
        """Return the rates of `state` (S,) [rad/s, m/s]."""
        return np.append(self.data.qvel[self._dof], self.data.qvel[self._finger_dof].sum())

    def effort(self) -> FloatArray:
        """Return joint torques [N m] and the gripper's force [N] (S,)."""
        forces = self.data.qfrc_actuator
        return np.append(forces[self._dof], forces[self._finger_dof].sum() / 2)

    def render(self, camera: str) -> NDArray[np.uint8] | Depth:
        """Return the image of a camera of the rig: colours (H, W, 3) uint8, or depth (H, W) uint16 [mm]."""
        lens = self._lens(camera)
        if is_depth(self.rig.cameras[camera]):
            drawn = depth_from_metres(self._renderer(lens).depth(self.data, camera))
            return np.maximum(lens.labels(drawn.astype(np.int32)), 0).astype(np.uint16)
        return lens.image(self._renderer(lens).rgb(self.data, camera))

    def sensed(self, name: str) -> NDArray[np.uint8] | Depth:
        """Return what a camera or gel sends now: its picture with sensor noise."""
        picture = self.render(name) if name in self.rig.cameras else self.touch(name)
        return self._noise.add(picture, name, self._time_ns)

    def reading(self, sensor: str, *, blank: bool = False) -> NDArray[np.float32]:
        """Return what an array sends now (R, C, K), with its noise; or would send if it touched nothing."""
        return self._taxels[sensor].sent(self.data, self.sensor_pose(sensor), self._time_ns, blank)

    def sensed_reference(self, sensor: str) -> NDArray[np.uint8]:
        """Return what a gel that touches nothing would send now."""
        return np.asarray(self._noise.add(self.gel_reference(sensor), sensor, self._time_ns), dtype=np.uint8)

    def segmentation(self, camera: str) -> NDArray[np.int32]:
        """Return the geom id at each pixel (H, W), -1 where there is none."""
        lens = self._lens(camera)
        return lens.labels(self._renderer(lens).geoms(self.data, camera))

    def pad_mask(self, camera: str, sensor: str, *, occluded: bool = True) -> NDArray[np.bool_]:
        """Return where the camera sees the pad of a sensor (H, W).

        Args:
            camera: Camera of the rig.
            sensor: Tactile sensor of the rig.
            occluded: Let the rest of the cell hide the pad; without it the pad alone is drawn.
        """
        pad = self._pads[sensor]
        if occluded:
            return self.segmentation(camera) == pad
        group = int(self.model.geom_group[pad])
        lens = self._lens(camera)
        return lens.labels(self._renderer(lens).geoms(self.data, camera, groups=(group,))) == pad

    def pad_box(self, camera: str, sensor: str) -> tuple[int, int, int, int] | None:
        """Return the box of the pixels that show a pad: first and last column and row; None unseen."""
        rows, columns = np.nonzero(self.pad_mask(camera, sensor))
        if len(rows):
            return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())
        return None

    def _lens(self, camera: str) -> Lens:
        if camera not in self._lenses:
            raise ConfigError(f"camera {camera!r}: not in the rig; {did_you_mean(camera, self.rig.cameras)}")
        return self._lenses[camera]

    def _renderer(self, lens: Lens) -> SceneRenderer:
        size = (lens.width, lens.height)
        if size not in self._renderers:
            self._renderers[size] = SceneRenderer(self.model, *size)
        return self._renderers[size]

    def touch(self, sensor: str) -> NDArray[np.uint8]:
        """Return the image (H, W, 3) of a gel; exactly `reference` without contact."""
        if not self.is_touched(sensor):
            return self.gel_reference(sensor)
        return self._gel(sensor, self._touch[sensor].image(self.indentation(sensor)))

    def is_touched(self, sensor: str) -> bool:
        """Tell whether the pad of a sensor touches anything."""
        return self._pads[sensor] in self._in_contact()

    def indentation(self, sensor: str) -> FloatArray:
        """Return how deep parts stand in the gel of a sensor (rows, columns) [m]."""
        return self._touch[sensor].indentation(self.data, self.sensor_pose(sensor))

    def reference(self, sensor: str) -> NDArray[np.uint8] | NDArray[np.float32]:
        """Return the image (H, W, 3) or reading (R, C, K) of a sensor that touches nothing."""
        return self._taxels[sensor].reference if sensor in self._taxels else self.gel_reference(sensor)

    def gel_reference(self, sensor: str) -> NDArray[np.uint8]:
        """Return the image (H, W, 3) of a gel that touches nothing."""
        return self._gel(sensor, self._touch[sensor].reference)

    def _gel(self, sensor: str, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return self._surroundings.gel(sensor, image, (self._time_ns - self._began_ns) / 1e9)

    def _in_contact(self, geom: int | None = None) -> set[int]:
        """Geoms that touch something, or that touch `geom`."""
        pairs = self.data.contact.geom
        if geom is not None:
            pairs = pairs[(pairs == geom).any(axis=1)]
        return set(pairs.ravel().tolist()) - {geom}

    def touching_robot(self) -> bool:
        """Tell whether the arm or its gripper touches table or part."""
        mujoco.mj_collision(self.model, self.data)
        robot = np.isin(self.model.geom_group[self.data.contact.geom], (ROBOT_GROUP, *PAD_GROUPS))
        return bool((robot[:, 0] != robot[:, 1]).any()) if len(robot) else False

    def sensor_pose(self, sensor: str) -> FloatArray:
        """Return T_world_sensor (4, 4) of the gel plane at rest."""
        body = self._mounts[sensor]
        T_world_mount = pose(self.data.xpos[body], self.data.xmat[body])
        return T_world_mount @ self.rig.tactile[sensor].T_mount_sensor

    def tool_pose(self) -> FloatArray:
        """Return T_world_tool (4, 4): flange axes, origin between the gel faces."""
        return pose(self.data.site_xpos[self._tool], self.data.site_xmat[self._tool])

    def object_pose(self) -> FloatArray:
        """Return T_world_part (4, 4)."""
        return pose(self.data.xpos[self._part], self.data.xmat[self._part])

    def truth(self) -> Truth:
        """Return position and contacts of the part."""
        touching = self._in_contact(self._part_geom)
        pressed = [pad in touching for pad in self._pads.values()]
        upright = bool(self.data.xmat[self._part, 8] > UPRIGHT_COSINE)
        position = self.data.xpos[self._part].copy()
        height = float(self.data.site_xpos[self._tool, 2])
        return Truth(position, all(pressed), any(pressed), upright, tool_height=height)

    def stage(self) -> int:
        """Return the index into `tasks.STAGES` that the truth shows; `tasks.OVER` after the last of them."""
        return OVER if self._stages.over else self._stages.index

    def stage_name(self) -> str:
        """Return the name of the present stage, or of the last one."""
        return STAGES[self._stages.index]

    def lifted(self) -> bool:
        """Tell whether the part has been raised high enough in this episode."""
        return self._stages.lifted

    def success(self) -> bool:
        """Tell whether the task is done now."""
        return self._stages.success(self.truth())

    def placed_on(self) -> int | None:
        """Return the index of the mark, right or wrong, on which the part was placed and let go."""
        return self._stages.placed_on(self.truth())
