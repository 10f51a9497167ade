"""Poses in lines of text: what controllers print, programs with taught points, bare numbers, matrices."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from tacit.errors import CalibrationError
from tacit_calibration.poses.table import EXPECTED, LENGTHS, NUMBER, Numbers, PoseRow

GROUP = re.compile(r"\[\s*\[[^\[\]]*\]\s*,\s*\[[^\[\]]*\]|\[[^\[\]]*\]|\{[^{}\[\]()]*\}|\([^()\[\]{}]*\)")
"""What brackets hold: place and quaternion of an ABB, or all numbers of other controllers."""
LETTERS = re.compile(r"\b([XYZABCWPR])\s*:?=?\s*\"?([-+]?\d*\.?\d+(?:[eE][-+]?\d+)?)")
LETTERED = "XYZCBA", "XYZWPR"
"""A KUKA's A, B and C turn about z, y and x; a FANUC's W, P and R are roll, pitch and yaw."""
KUKA_AXES = re.compile(r"\bA[1-6]\s*:?=?\s*[-+\d]")
PICTURE = re.compile(r"[^\s,;:'\"\[\](){}]+\.(?:png|jpe?g|bmp|tiff?|pgm)", re.IGNORECASE)
MARKS = tuple(
    map(
        re.compile,
        (
            *(r"\brobtarget\b", r"\bp\[", r"\{[^{}]*\bX\s*[:=]?\s*[-+\d]", r"\bGetPose\b"),
            *(r"\bX\s*=\s*\"\s*[-+\d]", r"^\s*P\d+\s*=", r"\bposx\s*\("),
        ),
    )
)
"""How programs and logs mark poses of the tool; their other lines hold joints, speeds, frames, comments."""
WITHOUT_NUMBERS = re.compile(r"^\D*[\[({:=>]\s*$|^[\])}>,;\s]+$")
"""Brackets and headings around poses; a line of words or of nan is an error."""
MAX_WRAPPED = 12
"""Lines over which one pose may go: a FANUC's take six, a robtarget broken at its brackets four."""
DECIMAL_COMMA = re.compile(r"^\s*[-+]?\d+(?:,\d+)?(?:\s*[;\s]\s*[-+]?\d+(?:,\d+)?)+\s*;?\s*$")
TF_ECHO = re.compile(
    r"Translation:\s*\[([^\]]*)\].*?Quaternion(?:\s*\(xyzw\))?\s*\[([^\]]*)\]", re.DOTALL | re.IGNORECASE
)
COMMENT = ("#", "//", "!", "%", "---")


def rows_of_text(text: str, where: str) -> list[PoseRow]:
    """Return the poses in a text: one in each line, 4x4 or 3x4 matrices over lines, or what tf2_echo prints.

    Raises:
        CalibrationError: A line is no pose, or there is none at all.
    """
    text = "\n".join(_with_points(line) for line in text.splitlines())
    rows = _of_tf_echo(text) or _of_matrices(text)
    if rows:
        return rows
    lines = [
        (number, line)
        for number, line in _unwrapped(text.splitlines())
        if line.strip() and not line.lstrip().startswith(COMMENT)
    ]
    mark = next((mark for mark in MARKS if any(mark.search(line) for _, line in lines)), None)
    for number, line in lines:
        if not (WITHOUT_NUMBERS.match(line) if mark is None else not mark.search(line)):
            picture = PICTURE.search(line)
            numbers = numbers_in(PICTURE.sub(" ", line))
            if len(numbers) not in LENGTHS:
                raise CalibrationError(f"{where}:{number}: {len(numbers)} numbers; expected {EXPECTED}")
            rows.append(PoseRow(numbers, picture.group() if picture else ""))
    if not rows:
        raise CalibrationError(f"{where}: no poses; expected {EXPECTED} in each line")
    return rows


def _unwrapped(lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Yield lines with their numbers, those of a bracket that is closed some lines later as one.

    A line that holds a pose stands for itself: it may be one of a list that is printed over many.
    """
    i = 0
    while i < len(lines):
        count = 1
        if len(numbers_in(PICTURE.sub(" ", lines[i]))) not in LENGTHS:
            ends = range(2, min(MAX_WRAPPED, len(lines) - i) + 1)
            is_open = _depth(lines[i]) > 0
            count = next((k for k in ends if is_open and _depth(" ".join(lines[i : i + k])) == 0), 1)
        joined = " ".join(lines[i : i + count])
        poses = _poses_in_brackets(joined)
        if sum(len(pose) == len(poses[0]) for pose in poses) > 1:
            joined, count = lines[i], 1
        yield i + 1, joined
        i += count


def _depth(line: str) -> int:
    return sum(line.count(mark) for mark in "[{(") - sum(line.count(mark) for mark in "]})")


def _with_points(line: str) -> str:
    """Return a line of numbers with points for decimal commas, where its separators leave no doubt."""
    bare = PICTURE.sub(" ", line)
    return line.replace(",", ".") if "," in bare and DECIMAL_COMMA.match(bare) else line


def numbers_in(line: str) -> Numbers:
    """Return the numbers of a pose in a line of text; those of another count where there is none.

    Brackets come first, for a controller names its points and speeds around them: `p[...]` of a UR,
    `[[x,y,z],[q1,...]` of an ABB, `0,{...},GetPose();` of a Dobot. Then the letters of a KUKA or a FANUC.
    Eight bare numbers are a time before seven, as tools for trajectories write.
    """
    if KUKA_AXES.search(line):
        return ()
    if found := _poses_in_brackets(line):
        return found[0]
    if named := _lettered(line):
        return named
    bare = tuple(map(float, NUMBER.findall(_with_points(line))))
    return bare[1:] if len(bare) == 8 else bare


def _poses_in_brackets(line: str) -> list[Numbers]:
    poses = []
    for group in GROUP.findall(line):
        found = _lettered(group) or tuple(map(float, NUMBER.findall(group)))
        parts = [len(NUMBER.findall(part)) for part in re.findall(r"\[([^\[\]]*)\]", group)]
        # A joint target of an ABB has two brackets as well: six axes and six outer ones.
        if len(found) in LENGTHS and (len(parts) < 2 or parts[:2] == [3, 4]):
            poses.append(found)
    return poses


def _lettered(text: str) -> Numbers:
    """Return the six numbers behind the letters of a KUKA or a FANUC, the first of each; else nothing."""
    letters = {name: float(value) for name, value in reversed(LETTERS.findall(text))}
    return next((tuple(letters[name] for name in names) for names in LETTERED if {*names} <= {*letters}), ())


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
