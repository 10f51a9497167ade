"""A new rig file from one that exists, as text: its comments, its order and its placeholders stay.

Topics, cameras and gels are replaced by what the caller says; a camera or gel of another name is a copy of
the first, with its numbers marked as placeholders.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tacit.config.documents import yaml_mapping
from tacit.errors import RigError, did_you_mean
from tacit.rig.contract import RIGS_FOLDER, Rig, load_rig, shipped_rigs
from tacit.rig.topics import NAME_PATTERN, name_problem

MARK = "# PLACEHOLDER numbers of {first}: `tacit calibrate` measures yours."
WORLD = "@world"
ABOVE = "{xyz: [0.5, 0.0, 1.0], rpy_deg: [180.0, 0.0, 90.0]}"
"""A camera that stands: a metre above the table, looking down."""


@dataclass(frozen=True)
class Wishes:
    """What is different about a new cell.

    Attributes:
        cameras: Topic of each, by name, all there are; an end `@world` says that it stands, not rides. Empty:
            as in the template.
        gels: The same of the tactile sensors.
        serials: Serial number by gel.
        topics: Topic by stream or command of the template.
    """

    cameras: Mapping[str, str] = field(default_factory=dict)
    gels: Mapping[str, str] = field(default_factory=dict)
    serials: Mapping[str, str] = field(default_factory=dict)
    topics: Mapping[str, str] = field(default_factory=dict)


def new_from(template: str, name: str, wishes: Wishes) -> tuple[str, dict[str, str]]:
    """Return the text of a rig `name` after a shipped one, and the other files it needs, text by name.

    Raises:
        RigError: No such template, no such stream or gel in it, or a name that cannot be one.
    """
    path = RIGS_FOLDER / f"{template}.yaml"
    if template not in shipped_rigs():
        raise RigError(f"--from {template}: no such rig; {did_you_mean(template, shipped_rigs())}")
    _require_name("name", name)
    for flag, topics in (("cameras", wishes.cameras), ("gels", wishes.gels), ("topics", wishes.topics)):
        for member, topic in topics.items():
            if cure := name_problem(topic.removesuffix(WORLD)):
                raise RigError(f"--{flag} {member}={topic}: no topic of ROS; {cure}")
    lines = path.read_text(encoding="utf-8").splitlines()
    lines = _replaced(lines, ("name",), name)
    for group, wanted in (("cameras", wishes.cameras), ("tactile", wishes.gels)):
        lines = _members(lines, group, wanted) if wanted else lines
    lines = _ticks(lines, wishes.cameras)
    for gel, serial in wishes.serials.items():
        lines = _replaced(lines, ("tactile", gel, "serial"), serial)
    for stream, topic in wishes.topics.items():
        group = next((g for g in ("streams", "commands") if stream in _document(lines).get(g, {})), "streams")
        lines = _replaced(lines, (group, stream, "topic"), topic)
    files = {arm["urdf"] for arm in _document(lines)["arms"].values() if "urdf" in arm}
    return "\n".join(lines) + "\n", {file: (RIGS_FOLDER / file).read_text(encoding="utf-8") for file in files}


def _require_name(what: str, name: str) -> None:
    if not re.fullmatch(NAME_PATTERN, name):
        raise RigError(f"{what} {name!r}: use letters, digits, '.', '_' and '-', at most 64")


def _document(lines: list[str]) -> dict:
    return yaml_mapping("\n".join(lines), "template", RigError)


def _node(lines: list[str], path: tuple[str, ...]) -> yaml.Node:
    """Return the value at a path.

    Raises:
        RigError: There is none; the message lists what there is.
    """
    node = yaml.compose("\n".join(lines), Loader=yaml.SafeLoader)
    for depth, key in enumerate(path):
        assert isinstance(node, yaml.MappingNode)
        members = {name.value: value for name, value in node.value}
        if key not in members:
            where = ".".join(path[:depth]) or "rig"
            raise RigError(f"{where}: no {key!r} in the template; {did_you_mean(key, members)}")
        node = members[key]
    assert node is not None
    return node


def _replaced(lines: list[str], path: tuple[str, ...], value: str) -> list[str]:
    """Put another text at a path; what follows it on its line stays."""
    node = _node(lines, path)
    number, begin, end = node.start_mark.line, node.start_mark.column, node.end_mark.column
    line = lines[number]
    return [*lines[:number], f"{line[:begin]}{_text(value)}{line[end:]}", *lines[number + 1 :]]


def _text(value: str) -> str:
    """Return a text as YAML, in quotes where it would be read as something else: 00123, no, 1e5."""
    return yaml.safe_dump(value, width=1_000_000).removesuffix("...\n").strip()


def _members(lines: list[str], group: str, wanted: Mapping[str, str]) -> list[str]:
    """Make the members of a group those wanted; the comments that stand above one go with it."""
    node = _node(lines, (group,))
    assert isinstance(node, yaml.MappingNode)
    firsts = [key.start_mark.line for key, _ in node.value]
    ends = [*firsts[1:], node.end_mark.line]
    # The mark of the end stands before the next word: comments between belong to what follows.
    while ends[-1] > firsts[-1] and not lines[ends[-1] - 1].startswith("  "):
        ends[-1] -= 1
    blocks = {k.value: lines[a:b] for (k, _), a, b in zip(node.value, firsts, ends, strict=True)}
    first = next(iter(blocks))
    made: list[str] = []
    for name, said in wanted.items():
        _require_name(group, name)
        topic, stands = said.removesuffix(WORLD), said.endswith(WORLD)
        block = blocks.get(name) or _copy(first, name, blocks[first], stands)
        made += _with_topic(block, topic, stands)
    return [*lines[: firsts[0]], *made, *lines[ends[-1] :]]


def _copy(first: str, name: str, block: list[str], stands: bool) -> list[str]:
    """Return the block of one more camera or gel, after the first."""
    copied = [f"  {name}:", f"    {MARK.format(first=first)}", *block[1:]]
    copied = [re.sub(r"^(    frame_id: ).*", rf"\g<1>{name}_optical", line) for line in copied]
    pose = r"^(    T_parent_camera: ).*"
    return [re.sub(pose, rf"\g<1>{ABOVE}", line) if stands else line for line in copied]


def _with_topic(block: list[str], topic: str, stands: bool) -> list[str]:
    base = topic.rsplit("/", 1)[0]
    changed = []
    for line in block:
        line = re.sub(r"^(    topic: ).*", rf"\g<1>{topic}", line)
        line = re.sub(r"^(    info_topic: ).*", rf"\g<1>{base}/camera_info", line)
        changed.append(re.sub(r"^(    parent: ).*", r"\g<1>world", line) if stands else line)
    return changed


def _ticks(lines: list[str], cameras: Mapping[str, str]) -> list[str]:
    """Let the first camera give the ticks where the one of the template is gone."""
    source = str(_document(lines)["alignment"]["tick_source"])
    if not cameras or source.removeprefix("camera:") in cameras or not source.startswith("camera:"):
        return lines
    return _replaced(lines, ("alignment", "tick_source"), f"camera:{next(iter(cameras))}")


def write_new(out: Path, text: str, files: Mapping[str, str]) -> tuple[Rig, list[Path]]:
    """Write a rig file and what it needs beside it, and return the rig; nothing is overwritten.

    Raises:
        RigError: One of them exists with another content, or it is no rig: then nothing is left of it.
    """
    wanted = {out: text, **{out.parent / name: content for name, content in files.items()}}
    for path, content in wanted.items():
        if path.exists() and (path == out or path.read_text(encoding="utf-8") != content):
            raise RigError(f"{path}: exists and is never overwritten; give another name or move it away")
    out.parent.mkdir(parents=True, exist_ok=True)
    made = [path for path in wanted if not path.exists()]
    for path in made:
        path.write_text(wanted[path], encoding="utf-8")
    try:
        return load_rig(out), list(wanted)
    except RigError:
        for path in made:
            path.unlink()
        raise
