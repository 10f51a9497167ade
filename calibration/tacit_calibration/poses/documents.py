"""Poses in JSON and YAML: lists, pairs, easy_handeye, MoveIt, messages of ROS, OpenCV's names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from tacit.config.documents import json_of, yaml_of
from tacit.errors import CalibrationError
from tacit_calibration.poses.columns import PICTURE_KEYS
from tacit_calibration.poses.lines import numbers_in
from tacit_calibration.poses.table import EXPECTED, LENGTHS, Numbers, PoseRow

ROBOT_KEYS = (
    *("robot", "hand", "effector", "gripper", "flange", "tcp", "ee", "robot_pose", "pose", "transform"),
    *("o_t_ee", "t_base_flange", "t_base_tcp", "t_base_ee", "t_base_gripper", "t_base_effector"),
    *("effector_wrt_world", "actual_tcp_pose", "tcp_pose", "gripper2base", "ee_pose", "base_t_ee"),
)
BOARD_KEYS = (
    *("optical", "tracking", "object", "target", "marker", "board", "camera", "camera_pose", "target_pose"),
    *("t_camera_board", "t_camera_target", "t_cam_board", "t_cam_target"),
    *("object_wrt_sensor", "target2cam", "board_pose", "marker_pose"),
)
JOINT_KEYS = ("joint_pose", "joints", "q", "joint_positions", "joint_values", "joint", "actual_q")
ROBOT_LISTS = ("hand_world_samples", "robot_poses", "gripper2base", "effector_wrt_world", "robot", "flange")
BOARD_LISTS = ("camera_marker_samples", "camera_poses", "target2cam", "object_wrt_sensor", "board_poses")
ROW_LISTS = ("samples", "poses", "data", "measurements", "frames", "transforms", "points")
PLACE_KEYS = ("translation", "position", "t", "xyz", "trans", "tvec", "trans_vec")
TURN_KEYS = ("rotation", "orientation", "quaternion", "quaternion_xyzw", "quat", "rot", "rvec", "rpy", "R")
ANGLE_KEYS = ("euler", "euler_angles", "angles", "rotvec", "rotation_vector")
MATRIX_KEYS = (
    *("matrix", "T", "transform", "pose", "data", "transforms"),
    *("transform_matrix", "transformation_matrix", "transformation"),
)
FLAT_KEYS = (
    ("x", "y", "z", "qx", "qy", "qz", "qw"),
    ("x", "y", "z", "rx", "ry", "rz"),
    ("x", "y", "z", "roll", "pitch", "yaw"),
    ("X", "Y", "Z", "C", "B", "A"),
)
"""A, B and C of a KUKA turn about z, y and x."""


def rows_of_document(text: str, where: str, is_json: bool) -> list[PoseRow]:
    """Return the poses of a JSON or YAML text; of several documents, as `ros2 topic echo` writes, one each.

    Raises:
        CalibrationError: No valid document, or an entry without a robot pose.
    """
    if is_json:
        return rows_of(json_of(text, where, CalibrationError), where)
    parts = [part for part in re.split(r"(?m)^---\s*$", text) if part.strip()]
    documents = [yaml_of(part, where, CalibrationError) for part in parts]
    if len(documents) > 1:
        return [_row(document, f"{where}: document {i}") for i, document in enumerate(documents)]
    return rows_of(documents[0] if documents else None, where)


def rows_of(data: Any, where: str) -> list[PoseRow]:
    """Return the poses of parsed data.

    Raises:
        CalibrationError: An entry without a robot pose.
    """
    if isinstance(data, Mapping):
        if rows := _of_parallel_lists(data, where):
            return rows
        inner = next((data[key] for key in ROW_LISTS if isinstance(data.get(key), list | Mapping)), None)
        if inner is not None and numbers_of(data) is None and numbers_of(inner) is None:
            return rows_of(inner, where)
        poses = {str(key): _first_of(value) for key, value in data.items()}
        if data and all(poses.values()) and not set(map(str.lower, poses)) & {*ROBOT_KEYS, *BOARD_KEYS}:
            # {"00.png": pose, ...}
            return [PoseRow(pose, picture) for picture, pose in poses.items() if pose]
    if isinstance(data, list) and numbers_of(data) is None:
        return [_row(entry, f"{where}: entry {i}") for i, entry in enumerate(data)]
    return [_row(data, where)]


def _of_parallel_lists(data: Mapping[str, Any], where: str) -> list[PoseRow]:
    """Return poses from lists of as many entries, also R and t under the names of OpenCV's functions."""
    robots = _list_of(data, (*ROBOT_LISTS, *ROBOT_KEYS))
    boards = _list_of(data, (*BOARD_LISTS, *BOARD_KEYS))
    if robots is None:
        return []
    if boards is not None and len(boards) != len(robots):
        raise CalibrationError(f"{where}: {len(robots)} robot poses, {len(boards)} of the board")
    rows = []
    for i, (robot, board) in enumerate(zip_longest(robots, boards or [])):
        pose = numbers_of(robot)
        if pose is None:
            raise CalibrationError(f"{where}: robot pose {i}: expected {EXPECTED}")
        rows.append(PoseRow(pose, "", numbers_of(board)))
    return rows


def _list_of(data: Mapping[str, Any], names: Sequence[str]) -> list[Any] | None:
    lower = {str(key).lower(): value for key, value in data.items()}
    for name in names:
        turns, places = lower.get(f"r_{name}"), lower.get(f"t_{name}")
        if isinstance(turns, list) and isinstance(places, list) and len(turns) == len(places):
            return [{"rotation": R, "translation": t} for R, t in zip(turns, places, strict=True)]
        found = lower.get(name)
        if isinstance(found, Mapping):
            found = found.get("transforms", found.get("poses"))
        if isinstance(found, list) and (numbers_of(found) is None or numbers_of(found[0]) is not None):
            return found
    return None


def _row(entry: Any, where: str) -> PoseRow:
    robot, picture = numbers_of(entry), ""
    board: Numbers | None = None
    joints: Numbers | None = None
    if isinstance(entry, Mapping):
        lower = {str(key).lower(): value for key, value in entry.items()}
        picture = next((str(lower[key]) for key in PICTURE_KEYS if key in lower), "")
        robot = _first(lower, ROBOT_KEYS) or robot
        board = _first(lower, BOARD_KEYS) or _rotation_and_place(entry)
        joints = next((_flat(lower[key]) for key in JOINT_KEYS if key in lower), None)
    elif robot is None and isinstance(entry, list) and len(entry) == 2:
        robot, board = numbers_of(entry[0]), numbers_of(entry[1])
    if robot is None:
        raise CalibrationError(
            f"{where}: no robot pose; expected {EXPECTED}, perhaps under robot, pose, flange or O_T_EE"
        )
    return PoseRow(robot, picture, board, joints)


def _first_of(value: Any) -> Numbers | None:
    if isinstance(value, Mapping):
        lower = {str(key).lower(): inner for key, inner in value.items()}
        return _first(lower, ROBOT_KEYS) or numbers_of(value)
    return numbers_of(value)


def _first(lower: Mapping[str, Any], keys: Sequence[str]) -> Numbers | None:
    return next((found for key in keys if (found := numbers_of(lower.get(key))) is not None), None)


def _rotation_and_place(entry: Mapping[str, Any]) -> Numbers | None:
    """Return a board's pose from a pair of keys that end in rvec and tvec, as OpenCV's functions give it."""
    turn = next((_flat(v) for k, v in entry.items() if str(k).lower().endswith("rvec")), None)
    place = next((_flat(v) for k, v in entry.items() if str(k).lower().endswith("tvec")), None)
    return (*place, *turn) if turn and place and len(turn) == len(place) == 3 else None


def numbers_of(node: Any) -> Numbers | None:
    """Return the 6, 7, 12 or 16 numbers of a pose in any usual nesting, None where it is none."""
    if isinstance(node, Mapping):
        return _of_mapping({str(key): value for key, value in node.items()})
    if isinstance(node, str):
        found = numbers_in(node)
        return found if len(found) in LENGTHS else None
    if isinstance(node, list):
        if len(node) > 2 and [len(part) if isinstance(part, list) else 0 for part in node[:2]] == [3, 4]:
            node = node[:2]  # ABB: place, quaternion, configuration, external axes
        flat = _flat(node)
        return flat if flat is not None and len(flat) in LENGTHS else None
    return None


def _of_mapping(node: dict[str, Any]) -> Numbers | None:
    place = next((_vector(node[key]) for key in PLACE_KEYS if key in node), None)
    turn = next((_vector(node[key]) for key in (*TURN_KEYS, *ANGLE_KEYS) if key in node), None)
    if turn is None and (named := next((key for key in node if key.endswith("wxyz")), None)):
        wxyz = _flat(node[named]) or ()
        turn = (*wxyz[1:], *wxyz[:1])
    if place is not None and turn is not None and len(place) == 3 and len(turn) in (3, 4, 9):
        if len(turn) == 9:
            return tuple(np.column_stack([np.reshape(turn, (3, 3)), place]).ravel().tolist())
        return (*place, *turn)
    for names in FLAT_KEYS:
        if all(name in node for name in names):
            return _flat([node[name] for name in names])
    return next((found for key in MATRIX_KEYS if (found := numbers_of(node.get(key))) is not None), None)


def _vector(node: Any) -> Numbers | None:
    """Return three or four numbers by their names, in the order x y z w or roll pitch yaw, or any list."""
    if not isinstance(node, Mapping):
        return _flat(node)
    for names in ("xyzw", ("qx", "qy", "qz", "qw"), "xyz", ("roll", "pitch", "yaw")):
        if all(name in node for name in names):
            return _flat([node[name] for name in names])
    return None


def _flat(node: Any) -> Numbers | None:
    """Return nested lists of numbers as one tuple, None where something else is among them."""
    if isinstance(node, bool):
        return None
    if isinstance(node, int | float):
        return (float(node),)
    if not isinstance(node, list):
        return None
    parts = [_flat(part) for part in node]
    return None if any(part is None for part in parts) else tuple(v for part in parts if part for v in part)
