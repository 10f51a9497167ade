"""Poses in lines of text: what controllers print, programs with taught points, bare numbers, matrices."""

from __future__ import annotations

import re

import numpy as np

from tacit.errors import CalibrationError
from tacit_calibration.poses.table import EXPECTED, LENGTHS, NUMBER, Numbers, PoseRow

GROUP = re.compile(r"\[\s*\[[^\[\]]*\]\s*,\s*\[[^\[\]]*\]|\[[^\[\]]*\]|\{[^{}\[\]()]*\}|\([^()\[\]{}]*\)")
"""What brackets hold: place and quaternion of an ABB, or all numbers of other controllers."""
KUKA = re.compile(r"\b([XYZABC])\s*:?=?\s*([-+]?\d+\.?\d*(?:[eE][-+]?\d+)?)")
KUKA_AXES = re.compile(r"\bA[1-6]\s*:?=?\s*[-+\d]")
PICTURE = re.compile(r"[^\s,;:'\"\[\](){}]+\.(?:png|jpe?g|bmp|tiff?|pgm)", re.IGNORECASE)
MARKS = tuple(map(re.compile, (r"\brobtarget\b", r"\bp\[", r"\{[^{}]*\bX\s*[-+\d]", r"\bGetPose\b")))
"""How programs and logs mark poses of the tool; their other lines hold joints, speeds, frames, comments."""
DECIMAL_COMMA = re.compile(r"^\s*[-+]?\d+(?:,\d+)?(?:\s*;\s*[-+]?\d+(?:,\d+)?)+\s*;?\s*$")
TF_ECHO = re.compile(
    r"Translation:\s*\[([^\]]*)\].*?Quaternion(?:\s*\(xyzw\))?\s*\[([^\]]*)\]", re.DOTALL | re.IGNORECASE
)
COMMENT = ("#", "//", "!", "%", "---")


def rows_of_text(text: str, where: str) -> list[PoseRow]:
    """Return the poses in a text: one in each line, 4x4 or 3x4 matrices over lines, or what tf2_echo prints.

    Raises:
        CalibrationError: A line is no pose, or there is none at all.
    """
    rows = _of_tf_echo(text) or _of_matrices(text)
    if rows:
        return rows
    lines = [
        (number, line)
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip() and not line.lstrip().startswith(COMMENT)
    ]
    mark = next((mark for mark in MARKS if any(mark.search(line) for _, line in lines)), None)
    for number, line in lines:
        if mark is not None and not mark.search(line):
            continue
        picture = PICTURE.search(line)
        numbers = numbers_in(PICTURE.sub(" ", line))
        if len(numbers) not in LENGTHS:
            raise CalibrationError(f"{where}:{number}: {len(numbers)} numbers; expected {EXPECTED}")
        rows.append(PoseRow(numbers, picture.group() if picture else ""))
    if not rows:
        raise CalibrationError(f"{where}: no poses; expected {EXPECTED} in each line")
    return rows


def numbers_in(line: str) -> Numbers:
    """Return the numbers of a pose in a line of text; those of another count where there is none.

    Brackets come first, for a controller names its points and speeds around them: `p[...]` of a UR,
    `[[x,y,z],[q1,...]` of an ABB, `0,{...},GetPose();` of a Dobot. Then the letters of a KUKA, whose A, B
    and C turn about z, y and x. Eight bare numbers are a time before seven, as tools for trajectories write.
    """
    if KUKA_AXES.search(line):
        return ()
    for group in GROUP.findall(line):
        letters = {name: float(value) for name, value in KUKA.findall(group)}
        if len(letters) == 6:
            return tuple(letters[name] for name in "XYZCBA")
        found = tuple(map(float, NUMBER.findall(group)))
        parts = [len(NUMBER.findall(part)) for part in re.findall(r"\[([^\[\]]*)\]", group)]
        # A joint target of an ABB has two brackets as well: six axes and six outer ones.
        if len(found) in LENGTHS and (len(parts) < 2 or parts[:2] == [3, 4]):
            return found
    if DECIMAL_COMMA.match(line) and "," in line:
        line = line.replace(",", ".")
    found = tuple(map(float, NUMBER.findall(line)))
    return found[1:] if len(found) == 8 else found


def _of_tf_echo(text: str) -> list[PoseRow]:
    """Return what `tf2_echo` printed, or ROS 1's `tf_echo`: place and quaternion xyzw at each time."""
    found = [[NUMBER.findall(part) for part in match] for match in TF_ECHO.findall(text)]
    return [
        PoseRow(tuple(map(float, [*place, *turn])))
        for place, turn in found
        if (len(place), len(turn)) == (3, 4)
    ]


def _of_matrices(text: str) -> list[PoseRow]:
    """Return matrices whose rows stand in lines of their own, as NumPy prints and saves them."""
    rows: list[list[float]] = []
    pictures: dict[int, str] = {}
    for line in text.splitlines():
        numbers = list(map(float, NUMBER.findall(PICTURE.sub(" ", line))))
        if line.lstrip().startswith(COMMENT) or not line.strip(" \t[],;"):
            continue
        if (named := PICTURE.search(line)) and not numbers:
            pictures[len(rows)] = named.group()
        elif len(numbers) == 4:
            rows.append(numbers)
        else:
            return []
    values = np.array(rows).reshape(-1, 4)
    height = 4 if len(values) >= 4 and np.allclose(values[3::4], [0, 0, 0, 1], atol=1e-6) else 3
    if not len(values) or len(values) % height:
        return []
    matrices = values.reshape(-1, height * 4).tolist()
    return [PoseRow(tuple(matrix), pictures.get(height * i, "")) for i, matrix in enumerate(matrices)]
