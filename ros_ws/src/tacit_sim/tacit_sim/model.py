"""MuJoCo model of the cell, written from the rig, so the two cannot disagree.

Kinematics, camera poses and intrinsics, sensor mounts and sizes, gripper axis and limits come
from the rig; only shapes, masses and servo gains (which no rig holds) stand here.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tacit.errors import RigError
from tacit.geometry.rotations import rotation_from_rpy
from tacit.geometry.transforms import FloatArray, from_rotation, from_translation, invert
from tacit.rig import ArmSpec, CameraSpec, GripperSpec, Rig, TactileSpec
from tacit.rig.scene import camera_from_spec
from tacit_sim.attributes import numbers, pose_attributes
from tacit_sim.board import BOARD_ASSET, FLANGE_BOARD, WORLD_BOARD, BoardPlace, board_geom
from tacit_sim.lens import Lens
from tacit_sim.tasks import Task

TIMESTEP_S = 0.002
TABLE_HALF = (0.5, 0.6, 0.02)
TABLE_POSITION = (-0.3, 0.0, -0.02)
HOLE_HEIGHT_M = 0.030
FINGER_HALF = (0.010, 0.045, 0.008)
FINGER_CENTRE = (0.0, -0.039, -0.016)
"""Finger plate in the frame of its sensor (x width, y height, z out of the gel)."""

TOUCH_GROUP, ROBOT_GROUP, PAD_GROUPS = 0, 1, (2, 3)
"""Geom groups: what cameras and tactile rays see (parts, table), the arm, the gel pads left and right."""
UNFELT_GROUP, FELT_GROUP = 4, 5
"""Geom groups that no camera draws: what nobody notices, and what tactile rays alone see."""

# Link shapes of the Nova 2 as capsules (link, from, to, radius) in the frames of its URDF.
CAPSULES = (
    (1, (0, 0, -0.10), (0, 0, 0), 0.052),
    (2, (0, 0, 0.10), (-0.28, 0, 0.10), 0.045),
    (2, (0, 0, 0), (0, 0, 0.10), 0.045),
    (3, (0, 0, 0), (-0.225, 0, 0), 0.038),
    (3, (-0.225, 0, 0), (-0.225, 0, 0.11), 0.036),
    (4, (0, 0, 0), (0, -0.09, 0), 0.036),
    (5, (0, 0, 0), (0, 0.06, 0), 0.036),
    (6, (0, 0, -0.02), (0, 0, 0), 0.032),
)
URDF_ORIGINS = (
    ((0, 0, 0.2234), (0, 0, 0)),
    ((0, 0, 0), (np.pi / 2, np.pi / 2, 0)),
    ((-0.28, 0, 0), (0, 0, 0)),
    ((-0.22501, 0, 0.1175), (0, 0, -np.pi / 2)),
    ((0, -0.12, 0), (np.pi / 2, 0, 0)),
    ((0, 0.088004, 0), (-np.pi / 2, 0, 0)),
)
RELIEF_RADIUS_M, RELIEF_HEIGHT_M, RELIEF_REACH_M = 0.002, 0.0007, 0.005
"""Capsules of the ridges on a box: radius, how far they stand out of the face, half length."""
PART_COLOUR = 'rgba="0.85 0.2 0.15 1"'
MASSES_KG = (0.803, 1.578, 0.999, 0.442, 0.575, 0.124)
DAMPING = (20, 20, 15, 5, 5, 3)
ARMATURE = (0.5, 0.5, 0.3, 0.1, 0.1, 0.05)
GAINS = (4000, 4000, 3000, 1000, 1000, 500)
TORQUES_NM = (150, 150, 80, 30, 30, 20)

# Default shadows cost 40-80 ms an image: off in the model, before any GL context exists. In software
# rendering small images wait for vertices: 16 slices a capsule instead of 28 halve the time.
HEADER = f"""
<compiler angle="radian" autolimits="true"/>
<option timestep="{TIMESTEP_S}" integrator="implicitfast" cone="elliptic" impratio="10"
 noslip_iterations="3"/>
<statistic extent="1.72" center="-0.3 0 0.2"/>
<visual>
 <headlight ambient="0.45 0.45 0.45" diffuse="0.5 0.5 0.5" specular="0 0 0"/>
 <quality shadowsize="0" offsamples="0" numslices="16" numstacks="8" numquads="1"/>
 <map znear="0.005"/>
</visual>
<default>
 <geom condim="4" solref="0.006 1" solimp="0.9 0.98 0.0005 0.5 2"/>
 <default class="robot">
  <geom contype="2" conaffinity="1" group="{ROBOT_GROUP}" rgba="0.85 0.85 0.88 1"/>
 </default>
</default>
"""


def build_mjcf(rig: Rig, task: Task, board: BoardPlace = "", scenery: str = "") -> str:
    """Return the MJCF text of `rig` (one arm with a gripper) and the parts of `task`.

    Args:
        rig: The cell's contract.
        task: Says which part lies where.
        board: Where a calibration board is: on the table, in the gripper, or nowhere. A model with a
            board needs `board.assets()` beside its text.
        scenery: MJCF of what else stands on the table.

    Raises:
        RigError: The rig has no such arm, or a camera that the cell cannot draw.
    """
    name, arm, gripper = only_arm(rig)
    lenses = lenses_of(rig)
    world = _cameras(rig, lenses, "world") + (board_geom(WORLD_BOARD) if board == "table" else "")
    width = max((lens.width for lens in lenses.values()), default=640)
    height = max((lens.height for lens in lenses.values()), default=480)
    return f"""<mujoco model="{rig.name}">{HEADER}
<visual><global offwidth="{width}" offheight="{height}"/></visual>
{BOARD_ASSET if board else ""}
<worldbody>
 <light pos="-0.3 -0.6 1.5" dir="0 0.4 -1" directional="true" castshadow="false" diffuse="0.35 0.35 0.35"/>
 {_table(task)}{scenery}{world}{_part(task)}
 {_arm(rig, name, arm, _flange_parts(rig, name, lenses, board))}
</worldbody>
<equality>
 <joint joint1="finger_right" joint2="finger_left" polycoef="0 1 0 0 0" solref="0.004 1"
  solimp="0.99 0.999 0.0001 0.5 2"/>
</equality>
<actuator>{_actuators(arm, gripper)}</actuator>
</mujoco>"""


def only_arm(rig: Rig) -> tuple[str, ArmSpec, GripperSpec]:
    """Return name, arm and gripper of a rig that the cell can stand in for."""
    if len(rig.arms) != 1:
        raise RigError(f"rig {rig.name}: arms: found {len(rig.arms)}, the simulated cell has exactly one")
    name, arm = next(iter(rig.arms.items()))
    if arm.model != "nova2" or arm.gripper is None:
        raise RigError(
            f"rig {rig.name}: arms.{name}: the simulated cell is a `model: nova2` with a gripper, found "
            f"model {arm.model!r} {'with' if arm.gripper else 'without'} one; use the rig nova2_sim"
        )
    return name, arm, arm.gripper


def tool_in_flange(rig: Rig) -> FloatArray:
    """Return T_flange_tool (4, 4): flange axes, origin midway between the gel faces when closed."""
    centres = [sensor.T_mount_sensor[:3, 3] for sensor in rig.tactile.values()]
    return from_translation(np.mean(centres, axis=0) if centres else (0.0, 0.0, 0.197))


def pose(xpos: FloatArray, xmat: FloatArray) -> FloatArray:
    """Return the pose (4, 4) of MuJoCo's position (3,) and row-major rotation (9,)."""
    T = np.eye(4)
    T[:3, :3] = xmat.reshape(3, 3)
    T[:3, 3] = xpos
    return T


def lenses_of(rig: Rig) -> dict[str, Lens]:
    """Return {camera: its lens}: what to draw for each camera of the rig."""
    return {name: Lens.of(camera_from_spec(spec), name) for name, spec in rig.cameras.items()}


def _arm(rig: Rig, name: str, arm: ArmSpec, held: str) -> str:
    """Nested bodies of the arm; each carries its capsules, the last one the gripper and what is held."""
    chain = arm.chain
    inner = _flange(rig, chain.end, held)
    for index in reversed(range(len(arm.joints))):
        joint = arm.joints[index]
        inner = f"""
<body name="link{index + 1}" gravcomp="1" {pose_attributes(chain.origins[index])}>
 <joint name="{joint.name}" axis="0 0 1" range="{joint.lower} {joint.upper}"
  damping="{DAMPING[index]}" armature="{ARMATURE[index]}"/>
 {_capsules(index, chain.origins)}{inner}
</body>"""
    base = pose_attributes(arm.T_world_base)
    return f"""<body name="base" {base}>
 <geom class="robot" type="cylinder" size="0.06 0.06" pos="0 0 0.06" mass="0.94"/>{inner}</body>"""


def _capsules(index: int, origins: FloatArray) -> str:
    """Shapes of one link: URDF link frames and ours share the joint axis, so q = 0 relates them."""
    ours, urdf = np.eye(4), np.eye(4)
    for i in range(index + 1):
        ours = ours @ origins[i]
        xyz, rpy = URDF_ORIGINS[i]
        urdf = urdf @ from_rotation(rotation_from_rpy(rpy), xyz)
    T_ours_urdf = invert(ours) @ urdf
    shapes = [capsule for capsule in CAPSULES if capsule[0] == index + 1]
    text = ""
    for _, start, end, radius in shapes:
        ends = [(T_ours_urdf @ (*point, 1.0))[:3] for point in (start, end)]
        text += f"""<geom class="robot" type="capsule" size="{radius}" mass="{MASSES_KG[index] / len(shapes)}"
  fromto="{numbers(np.concatenate(ends))}"/>"""
    return text


def _flange_parts(rig: Rig, arm: str, lenses: Mapping[str, Lens], board: BoardPlace) -> str:
    """What moves with the flange: its cameras, both fingers, and a board in the gripper."""
    gripper = only_arm(rig)[2]
    fingers = "".join(_finger(rig, arm, gripper, side) for side in ("left", "right"))
    held = board_geom(FLANGE_BOARD) if board == "gripper" else ""
    return _cameras(rig, lenses, f"{arm}.flange") + fingers + held


def _flange(rig: Rig, origin: FloatArray, held: str) -> str:
    return f"""
<body name="flange" gravcomp="1" {pose_attributes(origin)}>
 <site name="flange" group="4"/><site name="tool" group="4" {pose_attributes(tool_in_flange(rig))}/>
 <geom class="robot" type="cylinder" size="0.035 0.03" pos="0 0 0.03" mass="0.25" rgba="0.25 0.25 0.28 1"/>
 <geom class="robot" type="box" size="0.055 0.022 0.028" pos="0 0 0.085" mass="0.25"
  rgba="0.25 0.25 0.28 1"/>
 {held}
</body>"""


def _finger(rig: Rig, arm: str, gripper: GripperSpec, side: str) -> str:
    """One finger on its slide, with the compliant gel pad of the sensor that is mounted on it."""
    if gripper.links is not None:
        raise RigError(f"rig {rig.name}: gripper.links: fingers of the simulated cell slide; take links out")
    sign = 1.0 if side == "left" else -1.0
    axis = sign * np.asarray(gripper.axis)
    mounted = [(n, s) for n, s in rig.tactile.items() if s.mount == f"{arm}.finger_{side}"]
    if len(mounted) != 1:
        raise RigError(
            f"rig {rig.name}: tactile: {len(mounted)} sensors on {arm}.finger_{side}, the simulated cell "
            "needs exactly one on each finger"
        )
    name, sensor = mounted[0]
    pose = pose_attributes(sensor.T_mount_sensor @ from_translation(FINGER_CENTRE))
    return f"""
<body name="finger_{side}" gravcomp="1">
 <joint name="finger_{side}" type="slide" axis="{numbers(axis)}" range="0 {gripper.upper / 2}"
  damping="8" armature="0.05"/>
 <geom class="robot" type="box" size="{numbers(FINGER_HALF)}" {pose} mass="0.06" rgba="0.45 0.45 0.5 1"/>
 {_pad(name, sensor, PAD_GROUPS[side == "right"])}
</body>"""


def _pad(name: str, sensor: TactileSpec, group: int) -> str:
    """Gel pad on a stiff spring behind its face; the virtual gel plane itself stays at rest."""
    width, height, thickness = sensor.size_m
    return f"""
<body name="pad_{name}" gravcomp="1" {pose_attributes(sensor.T_mount_sensor)}>
 <joint name="pad_{name}" type="slide" axis="0 0 -1" range="-0.0001 0.004" stiffness="12000"
  damping="25" armature="0.08"/>
 <geom name="pad_{name}" class="robot" type="box" size="{width / 2} {height / 2} {thickness / 2}"
  pos="0 0 {-thickness / 2}" mass="0.02" group="{group}" friction="1.2 0.02 0.001" priority="1"
  rgba="0.12 0.55 0.75 1"/>
</body>"""


def _cameras(rig: Rig, lenses: Mapping[str, Lens], parent: str) -> str:
    return "".join(
        _camera(name, spec, lenses[name]) for name, spec in rig.cameras.items() if spec.parent == parent
    )


def _camera(name: str, spec: CameraSpec, lens: Lens) -> str:
    """MuJoCo looks along -z with y up, and knows square pixels about the image centre only."""
    pose = pose_attributes(spec.T_parent_camera @ np.diag([1.0, -1.0, -1.0, 1.0]))
    return f'<camera name="{name}" fovy="{lens.fovy_deg!r}" {pose}/>'


def _actuators(arm: ArmSpec, gripper: GripperSpec) -> str:
    servos = "".join(
        f'<position name="{j.name}" joint="{j.name}" kp="{GAINS[i]}" dampratio="1" '
        f'forcerange="{-TORQUES_NM[i]} {TORQUES_NM[i]}" ctrlrange="{j.lower} {j.upper}"/>'
        for i, j in enumerate(arm.joints)
    )
    return servos + (
        f'<position name="{gripper.name}" joint="finger_left" kp="1500" dampratio="1" '
        f'forcerange="-25 25" ctrlrange="-0.01 {gripper.upper / 2}"/>'
    )


def _table(task: Task) -> str:
    text = f"""
<geom name="table" type="box" size="{numbers(TABLE_HALF)}" pos="{numbers(TABLE_POSITION)}"
 rgba="0.62 0.55 0.45 1"/>"""
    if not task.hole_width:
        return text + "".join(
            f'<geom name="goal{i}" type="cylinder" size="0.03 0.0005" pos="{x} {y} 0.0005" contype="0" '
            'conaffinity="0" group="1" rgba="0.2 0.65 0.3 1"/>'
            for i, (x, y) in enumerate(task.marks)
        )
    (x, y), wall, radius = task.goal_xy, 0.008, task.hole_width / 2
    for i in range(8):
        angle = i * np.pi / 4
        centre = np.array([x, y]) + (radius + wall) * np.array([np.cos(angle), np.sin(angle)])
        text += f"""<geom name="hole{i}" type="box" size="{wall} 0.011 {HOLE_HEIGHT_M / 2}"
 pos="{numbers(centre)} {HOLE_HEIGHT_M / 2}" euler="0 0 {angle}" rgba="0.2 0.65 0.3 1"/>"""
    return text


def _part(task: Task) -> str:
    group = FELT_GROUP if task.sleeve else TOUCH_GROUP
    return f"""
<body name="part" pos="{numbers(task.start_xy)} {task.half_height}">
 <freejoint name="part"/>
 <geom name="part" type="{task.part_shape}" size="{numbers(task.part_size)}" mass="0.05" group="{group}"
  {PART_COLOUR}/>
 {_sleeve(task)}{_ridges(task)}
</body>"""


def _sleeve(task: Task) -> str:
    """What cameras see in place of the part. Its place is set for each episode: not 0, which MuJoCo
    takes for a geom that never leaves the middle of its body."""
    if task.sleeve is None:
        return ""
    return (
        f'<geom name="sleeve" type="box" size="{numbers(task.sleeve)}" pos="0 0.001 0" mass="0" contype="0" '
        f'conaffinity="0" group="{ROBOT_GROUP}" {PART_COLOUR}/>'
    )


def ridge_names(task: Task, kind: int) -> list[str]:
    """Return the names of the geoms that make the ridges of a kind, on all four sides."""
    return [f"ridge{kind}_{side}_{way}" for side in range(4) for way in task.ridges[kind]]


def _ridges(task: Task) -> str:
    """Ridges on each side of a box, for touch to see: a flat face wider than the gel shows no shape.

    They stand out less than the gel is thick, so they sink in and the face behind them carries the load:
    they take no part in contacts.
    """
    group = TOUCH_GROUP if len(task.ridges) == 1 else UNFELT_GROUP  # of several kinds, each episode shows one
    x, y = task.part_size[:2]
    sides = (((1, 0), (0, 1), x), ((-1, 0), (0, 1), x), ((0, 1), (1, 0), y), ((0, -1), (1, 0), y))
    geoms = []
    for kind, ways in enumerate(task.ridges):
        names = iter(ridge_names(task, kind))
        for outward, along, half in sides:
            centre = np.array((*outward, 0.0)) * (half - RELIEF_RADIUS_M + RELIEF_HEIGHT_M)
            for way in ways:
                direction = np.array((*along, 0.0) if way == "along" else (0.0, 0.0, 1.0))
                ends = (*(centre - RELIEF_REACH_M * direction), *(centre + RELIEF_REACH_M * direction))
                geoms.append(
                    f'<geom name="{next(names)}" type="capsule" fromto="{numbers(ends)}" mass="0" '
                    f'size="{RELIEF_RADIUS_M}" contype="0" conaffinity="0" group="{group}" {PART_COLOUR}/>'
                )
    return "".join(geoms)
