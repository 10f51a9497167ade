"""Poses in tables with named columns, whatever tool wrote them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tacit.errors import CalibrationError
from tacit_calibration.poses.table import NUMBER, Angle, Numbers, Order, PoseRow, PoseTable, Turn, Unit

PICTURE_KEYS = ("image", "picture", "file", "filename", "image_path", "image_name", "name", "img")
UNIT = re.compile(r"[_ \[(]*((?:milli|centi)?met(?:er|re)s?|[mc]?m|deg|°|degrees?|rad|radians?)[\])]*$")
OWNER = re.compile(r"^(?:(?:actual|robot|tcp|eef?|flange|tool0?|gripper|hand|pose)[_ .])+(?=.)")
"""Whose pose it is, as loggers put it before each column: tcp_x, robot_pose_rx."""
RTDE = re.compile(r"^(?:actual_)?tcp_pose_([0-5])$")
"""How the recorder of UR's own client counts a pose's place and rotation vector."""
MIN_DELIMITERS = 2
ROS_PLACE = re.compile(r"^.*(?:position|translation)[._/]+([xyz])$")
ROS_TURN = re.compile(r"^.*(?:orientation|rotation|quaternion)[._/]+([xyzw])$")
PLACES = (("x", "y", "z"), ("tx", "ty", "tz"), ("px", "py", "pz"), ("pos_x", "pos_y", "pos_z"))
XYZW = (
    *(("qx", "qy", "qz", "qw"), ("q_x", "q_y", "q_z", "q_w"), ("ox", "oy", "oz", "ow")),
    ("quat_x", "quat_y", "quat_z", "quat_w"),
)
WXYZ = (("q1", "q2", "q3", "q4"), ("q0", "q1", "q2", "q3"))
"""How an ABB and how textbooks count, w first."""
RPY = (("roll", "pitch", "yaw"), ("r", "p", "y"))
VECTORS = (("rvx", "rvy", "rvz"), ("rotvec_x", "rotvec_y", "rotvec_z"))
ANGLES = (
    *(("rx", "ry", "rz"), ("rot_x", "rot_y", "rot_z"), ("theta_x", "theta_y", "theta_z")),
    *(("a", "b", "c"), ("w", "p", "r"), ("u", "v", "w"), ("o", "a", "t"), ("alpha", "beta", "gamma")),
)
"""Of arms and loggers, a KUKA, a FANUC, an Epson, a Kawasaki; which axes they turn about is tried."""
MATRICES = tuple(
    tuple(f"{letter}{row}{column}" for row in digits for column in digits)
    for letter in "rm"
    for digits in ("123", "012")
)


def table_of_columns(text: str, where: str) -> PoseTable | None:
    """Return a table whose first line names its columns, None where it does not.

    Raises:
        CalibrationError: The columns are no poses, or a row holds something else than numbers.
    """
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = next((mark for mark in "\t;," if first.count(mark) >= MIN_DELIMITERS), " ")
    names = [cell.strip().lower() for cell in first.lstrip("#").split(delimiter) if cell.strip()]
    if len(names) < 3 or not any(_bare(name) in ("x", "tx", "px", "pos_x") for name in names):
        return None
    columns = _columns(where, names)
    rows = []
    if delimiter == " ":
        lines = [line.split() for line in text.lstrip().splitlines()]
    else:
        lines = list(csv.reader(io.StringIO(text.lstrip(), newline=""), delimiter=delimiter))
    for number, cells in enumerate(lines[1:], start=2):
        if not any(cell.strip() for cell in cells):
            continue
        try:
            values = tuple(_number(cells[i], delimiter) for i in columns.order)
        except (ValueError, IndexError):
            raise CalibrationError(f"{where}:{number}: expected {len(columns.order)} numbers") from None
        picture = cells[columns.picture].strip() if columns.picture is not None else ""
        rows.append(PoseRow(_matrix(values) if len(values) == 12 else values, picture))
    return PoseTable(tuple(rows), columns.unit, columns.angle, columns.quaternion, columns.turn, tuple(names))


@dataclass(frozen=True)
class _Columns:
    order: tuple[int, ...]
    picture: int | None
    unit: Unit
    angle: Angle
    quaternion: Order
    turn: Turn


def _columns(where: str, names: Sequence[str]) -> _Columns:
    """Return which columns hold the pose, and what their names say of units."""
    bare = [_bare(name) for name in names]
    place = _find(bare, PLACES)
    # The y of a place is no yaw: a FANUC writes x, y, z, w, p, r.
    rest = ["" if i in (place or ()) else name for i, name in enumerate(bare)]
    xyzw, wxyz, matrix = _find(rest, XYZW), _find(rest, WXYZ), _find(rest, MATRICES)
    rpy, vector = _find(rest, RPY), _find(rest, VECTORS)
    turn = matrix or xyzw or wxyz or rpy or vector or _find(rest, ANGLES)
    if place is None or turn is None:
        raise CalibrationError(
            f"{where}: columns {', '.join(names)}; expected x,y,z (perhaps x_mm) and qx,qy,qz,qw, or roll,"
            "pitch,yaw, or rx,ry,rz (perhaps rx_deg), and perhaps image"
        )
    return _Columns(
        order=(*place, *turn),
        picture=next((i for i, name in enumerate(bare) if name in PICTURE_KEYS), None),
        unit=_unit_of_place(names[place[0]]),
        angle=_unit_of_angle(names[turn[0]]),
        quaternion="xyzw" if turn is xyzw else "wxyz" if turn is wxyz else "",
        turn="rpy" if turn is rpy else "rotation vector" if turn is vector else "",
    )


def _bare(name: str) -> str:
    """Return a column's name without its unit, and without the path that tools of ROS put before it."""
    if counted := RTDE.match(name):
        return ("x", "y", "z", *VECTORS[0])[int(counted.group(1))]
    name = UNIT.sub("", name) if not name.endswith("qm") else name
    name = ROS_PLACE.sub(r"\1", name)
    name = OWNER.sub("", name)
    return ROS_TURN.sub(r"q\1", name)


def _unit_of_place(name: str) -> Unit:
    said = UNIT.search(name)
    word = said.group(1) if said else ""
    if word.startswith("c"):
        return "cm"
    return "mm" if word.startswith(("mm", "milli")) else "m" if word.startswith("m") else ""


def _unit_of_angle(name: str) -> Angle:
    said = UNIT.search(name)
    word = said.group(1) if said else ""
    return "deg" if word.startswith(("deg", "°")) else "rad" if word.startswith("rad") else ""


def _find(names: Sequence[str], wanted: Sequence[Sequence[str]]) -> tuple[int, ...] | None:
    for group in wanted:
        if all(name in names for name in group):
            return tuple(names.index(name) for name in group)
    return None


def _number(cell: str, delimiter: str) -> float:
    if delimiter != "," and not NUMBER.fullmatch(cell.strip()):
        cell = cell.replace(",", ".")  # a decimal comma, as spreadsheets of half Europe export it
    return float(cell)


def _matrix(values: Numbers) -> Numbers:
    """Return the rows of a 3x4 matrix from a place and nine numbers of a rotation."""
    place, turn = values[:3], values[3:]
    return tuple(number for i in range(3) for number in (*turn[3 * i : 3 * i + 3], place[i]))
