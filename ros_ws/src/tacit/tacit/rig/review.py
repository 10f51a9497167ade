"""What is wrong in the text of a rig file, all of it at once: by line, with what to write instead.

`load_rig` stops at the first part that cannot be read. Here also stands what loads without a word and cannot
be meant: degrees for radians, millimetres for metres, one topic twice.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard, get_args

import yaml

from tacit.config.documents import MAX_YAML_BYTES, read_text, yaml_mapping
from tacit.errors import RigError, TacitError, did_you_mean
from tacit.rig.contract import RIGS_FOLDER, Rig, embed_urdf, load_rig, parse_rig
from tacit.rig.taxels import ArrayType
from tacit.rig.topics import COMMAND_TYPES, NUMBER_TYPES, ImageType, name_problem

MAX_TURN = 4 * math.pi
"""No joint of an arm turns further: UR arms, the widest, reach two turns either way."""
MAX_SPEED = 20.0
"""[rad/s]; the fastest small arms reach 12."""
LIMITS = (("lower", MAX_TURN, "rad"), ("upper", MAX_TURN, "rad"), ("velocity", MAX_SPEED, "rad/s"))
MAX_OPENING_M = 0.5
PLACEHOLDER = re.compile(r"# PLACEHOLDER|REPLACE-ME")
GROUPS = ("cameras", "tactile", "streams", "commands")
URDF_KEYS = ("urdf", "base_link", "tip_link", "xacro")
ONCE = (("topic", ("cameras", "tactile")), ("topic", ("commands",)), ("serial", ("tactile",)))
"""Key, and the groups in which no two have the same value of it."""
KeyPath = tuple[str | int, ...]


class Remark(NamedTuple):
    """One thing to mend: the line of the file (0: none), the key path, what and why."""

    line: int
    path: str
    text: str

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        return f"{where}{self.path}: {self.text}" if self.path else f"{where}{self.text}"


def review(name_or_path: str | Path) -> list[Remark]:
    """Return everything that is wrong in a rig file, in the order of its lines.

    Raises:
        RigError: There is no such file, or it is no YAML mapping.
    """
    path = Path(name_or_path)
    path = path if path.suffix in (".yaml", ".yml") else RIGS_FOLDER / f"{name_or_path}.yaml"
    if not path.is_file() and path.parent == RIGS_FOLDER:
        load_rig(name_or_path)  # says which there are
    text = read_text(path, MAX_YAML_BYTES, "YAML", RigError)
    data = yaml_mapping(text, str(path), RigError)
    lines = dict(_lines(yaml.compose(text, Loader=yaml.SafeLoader), ()))
    found = [Remark(_line(lines, where), _dotted(where), said) for where, said in _remarks(data)]
    known = {remark.path for remark in found}
    found += [remark for remark in _of_schema(path, data, lines) if remark.path not in known]
    marked = (n for n, line in enumerate(text.splitlines(), 1) if PLACEHOLDER.search(line))
    found += [Remark(n, "", "a placeholder: put your value there, then take the mark away") for n in marked]
    return sorted(found)


def _remarks(data: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    if "schema_version" not in data:
        version = Rig.model_fields["schema_version"].default
        yield (), f"`schema_version` is missing; write as the first line: schema_version: {version}"
    for arm, spec in _mapping(data.get("arms")).items():
        yield from _joints(("arms", arm), _mapping(spec))
    for group in GROUPS:
        for name, spec in _mapping(data.get(group)).items():
            yield from _topic((group, name), _mapping(spec), group)
    yield from _twice(data)


def _joints(path: KeyPath, arm: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    joints = arm.get("joints")
    for index, joint in enumerate(joints if isinstance(joints, list) else ()):
        for key, most, unit in LIMITS:
            value = _mapping(joint).get(key)
            if _is_number(value) and abs(value) > most:
                yield (
                    (*path, "joints", index, key),
                    f"{value:g} is beyond {most:.3g} {unit}; degrees? Then write {math.radians(value):.4f}",
                )
    opening = _mapping(arm.get("gripper")).get("upper")
    if _is_number(opening) and opening > MAX_OPENING_M:
        yield ((*path, "gripper", "upper"), f"opens {opening:g} m; millimetres? Then write {opening / 1e3:g}")


def _topic(path: KeyPath, spec: Mapping[str, Any], group: str) -> Iterator[tuple[KeyPath, str]]:
    for key in ("topic", "info_topic"):
        topic = spec.get(key)
        if isinstance(topic, str) and topic and (cure := name_problem(topic)):
            yield (*path, key), f"{topic!r} is no topic of ROS; {cure}"
    kind = spec.get("type")
    valid = {"commands": COMMAND_TYPES, "streams": tuple(NUMBER_TYPES)}.get(group, get_args(ImageType))
    if group == "tactile":
        valid = (*valid, *get_args(ArrayType))
    if isinstance(kind, str) and kind not in valid:
        yield (*path, "type"), f"{kind!r} is not read there; {_type_like(kind, valid)}"


def _type_like(kind: str, valid: Sequence[str]) -> str:
    """Name the type that was meant, also where `msg/` is left out or the package is."""
    last = kind.rpartition("/")[2].lower()
    same = [name for name in valid if name.rpartition("/")[2].lower() == last]
    return f"did you mean {same[0]!r}?" if same else did_you_mean(kind, valid)


def _twice(data: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """Two pictures, or two commands, on one topic; two sensors of one serial number."""
    for key, groups in ONCE:
        first: dict[str, str] = {}
        for group in groups:
            for name, spec in _mapping(data.get(group)).items():
                value = _mapping(spec).get(key)
                if not isinstance(value, str) or not value or PLACEHOLDER.search(value):
                    continue
                if value in first:
                    yield (group, name, key), f"{value} is that of {first[value]} too; each has its own"
                first.setdefault(value, f"{group}.{name}")


def _of_schema(path: Path, data: Mapping[str, Any], lines: Mapping[KeyPath, int]) -> list[Remark]:
    """Return what loading says, a line each; a URDF that is not found hides nothing else."""
    remarks, whole = [], copy.deepcopy(dict(data))
    for name, arm in _mapping(whole.get("arms")).items():
        if not isinstance(arm, dict) or "urdf" not in arm:
            continue
        try:
            embed_urdf({"arms": {name: arm}}, path.parent, str(path))
        except TacitError as problem:
            where = ("arms", name, "urdf")
            said = _after(_after(str(problem), f"{path}: "), f"{_dotted(where)}: ")
            remarks.append(Remark(_line(lines, where), _dotted(where), said))
            stand_in = {"dh": [{"d": 0, "a": 0, "alpha": 0}] * len(arm.get("joints") or ())}
            whole["arms"][name] = {k: v for k, v in arm.items() if k not in URDF_KEYS} | stand_in
    try:
        parse_rig(whole, str(path))
    except TacitError as problem:
        remarks += [_remark(_after(said, f"{path}: "), lines) for said in str(problem).splitlines()]
    return remarks


def _remark(said: str, lines: Mapping[KeyPath, int]) -> Remark:
    """Return one line of `load_rig` with the line of the file that it is about."""
    where, colon, text = said.partition(": ")
    steps = tuple(int(step) if step.isdigit() else step for step in where.split("."))
    known = bool(colon) and any(steps[:length] in lines for length in range(1, len(steps) + 1))
    return Remark(_line(lines, steps), where, text) if known else Remark(0, "", said)


def _after(text: str, start: str) -> str:
    return text.removeprefix(start)


def _lines(node: yaml.Node | None, path: KeyPath) -> Iterator[tuple[KeyPath, int]]:
    """Yield the line of every value of a document, by its key path."""
    if node is None:
        return
    yield path, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _lines(value, (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _lines(value, (*path, index))


def _line(lines: Mapping[KeyPath, int], path: KeyPath) -> int:
    """Return the line of a path, else of the nearest part above it."""
    while path and path not in lines:
        path = path[:-1]
    return lines[path] if path else 1


def _dotted(path: KeyPath) -> str:
    return ".".join(map(str, path))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
