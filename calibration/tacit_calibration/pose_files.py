"""Tables of robot poses as people have them: CSV, JSON, YAML, strings of controllers, a file per picture.

Reads numbers and what a file says of them; what they mean where it is silent, `pose_conventions` finds out.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tacit.config.documents import MAX_JSON_BYTES, MAX_TABLE_BYTES, json_of, read_text, yaml_of
from tacit.errors import CalibrationError
from tacit.geometry.transforms import FloatArray

Angle = Literal["deg", "rad", ""]
Numbers = tuple[float, ...]
LENGTHS = (6, 7, 12, 16)
"""Place with three angles, with a quaternion, a 3x4 and a 4x4 matrix."""
EXPECTED = (
    "a place with a quaternion (7 numbers), with three angles or a rotation vector (6), or a 4x4 matrix (16)"
)
NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.])")
"""A number by itself, not the 10 of `p10` or the 1 of `Waypoint_1_p`."""
GROUP = re.compile(r"\[\s*\[[^\[\]]*\]\s*,\s*\[[^\[\]]*\]|\[[^\[\]]*\]|\{[^{}\[\]()]*\}|\([^()\[\]{}]*\)")
"""What brackets hold: place and quaternion of an ABB, or all numbers of other controllers."""
KUKA = re.compile(r"\b([XYZABC])\s*:?=?\s*([-+]?\d+\.?\d*(?:[eE][-+]?\d+)?)")
PICTURE = re.compile(r"[^\s,;:'\"]+\.(?:png|jpe?g|bmp|tiff?|pgm)", re.IGNORECASE)
ROBOT_KEYS = (
    *("robot", "hand", "effector", "gripper", "flange", "tcp", "ee", "robot_pose", "pose", "transform"),
    *("o_t_ee", "t_base_flange", "t_base_tcp", "t_base_ee", "t_base_gripper", "t_base_effector"),
)
BOARD_KEYS = (
    *("optical", "tracking", "object", "target", "marker", "board", "camera", "camera_pose", "target_pose"),
    *("t_camera_board", "t_camera_target", "t_cam_board", "t_cam_target"),
)
PICTURE_KEYS = ("image", "picture", "file", "filename", "image_path", "name")
PLACE_KEYS, TURN_KEYS = (
    ("translation", "position", "t", "xyz", "trans", "tvec"),
    ("rotation", "orientation", "quaternion", "quaternion_xyzw", "quat", "rot", "rvec", "rpy"),
)
MATRIX_KEYS = ("matrix", "T", "transform", "pose", "data")


@dataclass(frozen=True)
class PoseRow:
    """One robot pose: its numbers, the picture that was taken there, and the board's pose if it is given.

    Attributes:
        robot: 6, 7, 12 or 16 numbers.
        picture: Name of the picture, or of the file that held the pose; empty where nothing is said.
        board: Pose of the board in the camera, in the same form.
    """

    robot: Numbers
    picture: str = ""
    board: Numbers | None = None


@dataclass(frozen=True)
class PoseTable:
    """Robot poses as a file has them.

    Attributes:
        rows: The poses, all with as many numbers.
        unit: Of places: m, mm, or empty where the file does not say.
        angle: Of angles, likewise.
        quaternion: xyzw or wxyz where names say so.
        turn: rpy or rotation vector where names say so.
        named: Names of the columns, where there are any.
    """

    rows: tuple[PoseRow, ...]
    unit: Literal["m", "mm", ""] = ""
    angle: Angle = ""
    quaternion: Literal["xyzw", "wxyz", ""] = ""
    turn: Literal["rpy", "rotation vector", ""] = ""
    named: tuple[str, ...] = ()

    @property
    def robot(self) -> FloatArray:
        """Numbers (n, k) of the robot poses."""
        return np.array([row.robot for row in self.rows], dtype=np.float64)

    @property
    def boards(self) -> FloatArray | None:
        """Numbers (n, k) of the board's poses, None where pictures must tell."""
        if any(row.board is None for row in self.rows):
            return None
        return np.array([row.board for row in self.rows], dtype=np.float64)


def read_poses(path: Path) -> PoseTable:
    """Read a table of robot poses, or a folder with one file for each picture.

    Raises:
        CalibrationError: Nothing there can be read as poses; the message says where and what was expected.
    """
    if path.is_dir():
        table = _of_folder(path)
    elif path.suffix.lower() == ".csv":
        table = _of_csv(path)
    elif path.suffix.lower() in (".json", ".yaml", ".yml", ".samples"):
        table = PoseTable(tuple(_of_document(path)))
    else:
        table = _of_lines(path)
    counts = {len(row.robot) for row in table.rows}
    if len(counts) != 1:
        listed = ", ".join(map(str, sorted(counts))) or "no"
        raise CalibrationError(f"{path}: poses of {listed} numbers; expected everywhere {EXPECTED}")
    values = np.array(
        [*table.robot.ravel(), *(table.boards if table.boards is not None else np.zeros(1)).ravel()]
    )
    if not np.isfinite(values).all():
        raise CalibrationError(f"{path}: a pose holds a number that is not finite")
    return table


def _of_folder(folder: Path) -> PoseTable:
    files = [p for p in folder.iterdir() if p.suffix.lower() in (".txt", ".json", ".yaml", ".yml", ".csv")]
    rows = []
    for path in sorted(files, key=lambda p: [int(d) for d in re.findall(r"\d+", p.stem)] or [0]):
        try:
            found = _of_document(path) if path.suffix.lower() in (".json", ".yaml", ".yml") else _lines(path)
        except CalibrationError:
            continue  # notes and settings lie beside poses; what is left over is counted by the caller
        if len(found) == 1:
            rows.append(PoseRow(found[0].robot, found[0].picture or path.stem, found[0].board))
    if not rows:
        raise CalibrationError(f"{folder}: no file with one robot pose; expected {EXPECTED}")
    # A result or a setting may look like a pose too: the form that most files share is meant.
    forms = [(len(row.robot), row.board is not None) for row in rows]
    common = max(set(forms), key=forms.count)
    return PoseTable(tuple(row for row, form in zip(rows, forms, strict=True) if form == common))


def _of_lines(path: Path) -> PoseTable:
    return PoseTable(tuple(_lines(path)))


def _lines(path: Path) -> list[PoseRow]:
    """Return the pose of every line: what a controller prints, numbers, or a JSON object."""
    rows = []
    text = read_text(path, MAX_TABLE_BYTES, "table of poses", CalibrationError)
    for number, line in enumerate(text.splitlines(), start=1):
        where = f"{path}:{number}"
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line.lstrip().startswith('{"'):
            rows.append(_row(json_of(line, where, CalibrationError), where))
            continue
        picture = PICTURE.search(line)
        numbers = _numbers_in(PICTURE.sub(" ", line))
        if len(numbers) not in LENGTHS:
            raise CalibrationError(f"{where}: {len(numbers)} numbers; expected {EXPECTED}")
        rows.append(PoseRow(numbers, picture.group() if picture else ""))
    if not rows:
        raise CalibrationError(f"{path}: no poses; expected {EXPECTED} in each line")
    return rows


def _numbers_in(line: str) -> Numbers:
    """Return the numbers of a pose in a line of text; those of another count where there is none.

    Brackets come first, for a controller names its points and speeds around them: `p[...]` of a UR,
    `[[x,y,z],[q1,...]` of an ABB, `0,{...},GetPose();` of a Dobot. Then the letters of a KUKA, whose A, B
    and C turn about z, y and x. Eight bare numbers are a time before seven, as tools for trajectories write.
    """
    for group in GROUP.findall(line):
        found = tuple(map(float, NUMBER.findall(group)))
        letters = {name: float(value) for name, value in KUKA.findall(group)}
        if len(letters) == 6:
            return tuple(letters[name] for name in "XYZCBA")
        if len(found) in LENGTHS:
            return found
    found = tuple(map(float, NUMBER.findall(line)))
    return found[1:] if len(found) == 8 else found


def _of_csv(path: Path) -> PoseTable:
    text = read_text(path, MAX_TABLE_BYTES, "table of poses", CalibrationError)
    first = next((line for line in text.splitlines() if line.strip()), "")
    names = [cell.strip().lower() for cell in re.split(r"[,;\t]", first)]
    if not any(name and name[0] in "xtp" and not NUMBER.fullmatch(name) for name in names):
        return _of_lines(path)
    delimiter = max(",;\t", key=first.count)
    table = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    columns = _columns(path, names)
    rows = []
    for number, cells in enumerate(table[1:], start=2):
        if not any(cell.strip() for cell in cells):
            continue
        try:
            values = tuple(float(cells[i]) for i in columns.order)
        except (ValueError, IndexError):
            raise CalibrationError(f"{path}:{number}: expected {len(columns.order)} numbers") from None
        rows.append(PoseRow(values, cells[columns.picture].strip() if columns.picture is not None else ""))
    return PoseTable(tuple(rows), columns.unit, columns.angle, columns.quaternion, columns.turn, tuple(names))


@dataclass(frozen=True)
class _Columns:
    order: tuple[int, ...]
    picture: int | None
    unit: Literal["m", "mm", ""]
    angle: Angle
    quaternion: Literal["xyzw", "wxyz", ""]
    turn: Literal["rpy", "rotation vector", ""]


def _columns(path: Path, names: Sequence[str]) -> _Columns:
    """Return which columns hold the pose, and what their names say of units."""
    bare = [re.sub(r"[_ \[(]*(mm|m|deg|rad|degrees|radians)[\])]*$", "", name) for name in names]
    place = _find(bare, ("x", "y", "z"), ("tx", "ty", "tz"), ("px", "py", "pz"), ("pos_x", "pos_y", "pos_z"))
    quaternion = _find(bare, ("qx", "qy", "qz", "qw"), ("q_x", "q_y", "q_z", "q_w"), ("ox", "oy", "oz", "ow"))
    rpy = _find(bare, ("roll", "pitch", "yaw"), ("r", "p", "y"))
    vector = _find(bare, ("rvx", "rvy", "rvz"), ("rotvec_x", "rotvec_y", "rotvec_z"))
    angles = _find(bare, ("rx", "ry", "rz"), ("a", "b", "c"), ("w", "p", "r"))
    turn = quaternion or rpy or vector or angles
    if place is None or turn is None:
        raise CalibrationError(
            f"{path}: columns {', '.join(names)}; expected x,y,z (perhaps x_mm) and qx,qy,qz,qw, or roll,"
            "pitch,yaw, or rx,ry,rz (perhaps rx_deg), and perhaps image"
        )
    picture = next((i for i, name in enumerate(bare) if name in PICTURE_KEYS), None)
    unit = next((u for u in ("mm", "m") if re.search(rf"[_ \[(]{u}[\])]*$", names[place[0]])), "")
    said = names[turn[0]]
    angle: Angle = "deg" if "deg" in said else "rad" if "rad" in said else ""
    kind: Literal["rpy", "rotation vector", ""] = (
        "rpy" if turn is rpy else "rotation vector" if turn is vector else ""
    )
    return _Columns((*place, *turn), picture, unit, angle, "xyzw" if turn is quaternion else "", kind)  # type: ignore[arg-type]


def _find(names: Sequence[str], *wanted: Sequence[str]) -> tuple[int, ...] | None:
    for group in wanted:
        if all(name in names for name in group):
            return tuple(names.index(name) for name in group)
    return None


def _of_document(path: Path) -> list[PoseRow]:
    """Return the poses of a JSON or YAML file: lists, pairs, easy_handeye's samples, single poses."""
    text = read_text(path, MAX_JSON_BYTES, "file of poses", CalibrationError)
    read = json_of if path.suffix.lower() == ".json" else yaml_of
    data = read(text, str(path), CalibrationError)
    if isinstance(data, Mapping):
        for key in ("samples", "poses", "data", "measurements"):
            if isinstance(data.get(key), list):
                data = data[key]
                break
    if isinstance(data, list) and numbers_of(data) is None:
        rows = [_row(entry, f"{path}: entry {i}") for i, entry in enumerate(data)]
    else:
        rows = [_row(data, str(path))]
    return rows


def _row(entry: Any, where: str) -> PoseRow:
    robot, picture = numbers_of(entry), ""
    board: Numbers | None = None
    if isinstance(entry, Mapping):
        picture = next((str(v) for k, v in entry.items() if str(k).lower() in PICTURE_KEYS), "")
        robot = _first(entry, ROBOT_KEYS) or robot
        board = _first(entry, BOARD_KEYS) or _rotation_and_place(entry)
    elif robot is None and isinstance(entry, list) and len(entry) == 2:
        robot, board = numbers_of(entry[0]), numbers_of(entry[1])
    if robot is None:
        raise CalibrationError(
            f"{where}: no robot pose; expected {EXPECTED}, perhaps under one of {ROBOT_KEYS}"
        )
    return PoseRow(robot, picture, board)


def _first(entry: Mapping[str, Any], keys: Sequence[str]) -> Numbers | None:
    lower = {str(key).lower(): value for key, value in entry.items()}
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
        found = _numbers_in(node)
        return found if len(found) in LENGTHS else None
    if isinstance(node, list):
        if len(node) > 2 and [len(part) if isinstance(part, list) else 0 for part in node[:2]] == [3, 4]:
            node = node[:2]  # ABB: place, quaternion, configuration, external axes
        flat = _flat(node)
        return flat if flat is not None and len(flat) in LENGTHS else None
    return None


def _of_mapping(node: dict[str, Any]) -> Numbers | None:
    place = next((_vector(node[key], "xyz") for key in PLACE_KEYS if key in node), None)
    turn = next((_vector(node[key], "xyzw") for key in TURN_KEYS if key in node), None)
    if place is not None and turn is not None and len(place) == 3 and len(turn) in (3, 4, 9):
        if len(turn) == 9:
            return tuple(np.column_stack([np.reshape(turn, (3, 3)), place]).ravel().tolist())
        return (*place, *turn)
    for names in (("x", "y", "z", "qx", "qy", "qz", "qw"), ("x", "y", "z", "rx", "ry", "rz")):
        if all(name in node for name in names):
            return _flat([node[name] for name in names])
    return next((found for key in MATRIX_KEYS if (found := numbers_of(node.get(key))) is not None), None)


def _vector(node: Any, names: str) -> Numbers | None:
    if isinstance(node, Mapping):
        present = [name for name in names if name in node]
        return _flat([node[name] for name in present])
    return _flat(node)


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
