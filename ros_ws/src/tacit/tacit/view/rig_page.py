"""`tacit rig show`: a page that draws a rig from three sides: arm, camera frusta, faces of the gels."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import tyro
from rich.console import Console

from tacit.config.arguments import NewFile, parse_words
from tacit.geometry.kinematics import Chain, motions
from tacit.geometry.transforms import FloatArray
from tacit.rig import Rig, load_rig
from tacit.rig.scene import RigGeometry
from tacit.view.page import Cell, Page

SIDES = (("from the front", 1, 2), ("from the side", 0, 2), ("from above", 0, 1))
"""Title, and the axes of the world to the right and up."""
SIZE, EDGE = 420, 26
FRUSTUM_M = 0.15
AXIS_M = 0.1
FACE = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0], [-1, -1, 0]])
GRID_M = 0.25
LETTER, ROW = 7.5, 16
"""Width and height that a letter takes."""


@dataclass(frozen=True)
class Options:
    """Draw a rig as a self-contained page: arms at home, what each camera faces, where the gels sit."""

    rig: Annotated[str, tyro.conf.Positional]
    """Shipped rig, or a rig.yaml."""
    out: NewFile | None = None
    """The page; `<rig name>.html` when left out."""


class Stroke(NamedTuple):
    """A broken line of the drawing: points (N, 3) in the world [m], colour of the page, width [px], label."""

    points: FloatArray
    color: int
    width: float
    label: str = ""


def main(argv: list[str]) -> int:
    """Run `tacit rig show RIG [--out page.html]`."""
    options = parse_words(Options, argv, "tacit rig show")
    rig = load_rig(options.rig)
    path = rig_page(rig).save(options.out or Path(f"{rig.name}.html"))
    Console(highlight=False, soft_wrap=True).print(f"{path} ({path.stat().st_size / 1e3:.0f} kB)")
    return 0


def rig_page(rig: Rig) -> Page:
    """Return the page of a rig."""
    page = Page(rig.name, rig.description)
    page.facts(
        {
            "arms": len(rig.arms),
            "joints and grippers": len(rig.state_names),
            "cameras": len(rig.cameras),
            "tactile sensors": len(rig.tactile),
            "ticks [Hz]": rig.alignment.rate_hz,
        }
    )
    q = resting(rig)
    strokes = list(drawing(rig, q))
    posture = "at home" if rig.home is not None else "in the middle of its limits, for it has no `home`"
    page.section("From three sides", f"The arm {posture}, grippers open; world axes: x red, y green, z blue.")
    if rig.unmeasured:
        page.paragraph(f"Not drawn, because their place is not measured: {', '.join(rig.unmeasured)}.")
    for title, right, up in SIDES:
        page.plot(_svg(strokes, right, up), f"{rig.name} {title}, in metres")
    page.section("Joints")
    page.table(("joint", "lower", "upper", "at", "speed limit"), list(_joint_rows(rig, q)))
    page.section("Topics")
    page.table(("stream", "topic", "type", "Hz"), list(_topic_rows(rig)))
    return page


def resting(rig: Rig) -> FloatArray:
    """Return a state (S,) to draw: home, else the middle of the limits; grippers open."""
    middle = (rig.limits("lower") + rig.limits("upper")) / 2
    q = middle if rig.home is None else np.where(np.isnan(rig.home), middle, rig.home)
    q[list(rig.gripper_indices)] = rig.limits("upper")[list(rig.gripper_indices)]
    return q


def drawing(rig: Rig, q: FloatArray) -> Iterator[Stroke]:
    """Yield the strokes of everything whose place is known."""
    geometry = RigGeometry(rig)
    for axis, color in ((0, 3), (1, 2), (2, 0)):
        yield Stroke(np.stack([np.zeros(3), AXIS_M * np.eye(3)[axis]]), color, 1.5)
    for name, robot in geometry.robots.items():
        joints = links(robot.chain, rig.arms[name].T_world_base, q[rig.arm_slice(name)])
        yield Stroke(joints, 7, 5.0, name)
    for name, T_world_camera in geometry.camera_poses(q).items():
        camera = geometry.camera(name)
        corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * (camera.width - 1, camera.height - 1)
        rays = camera.rays(corners.astype(float)) * FRUSTUM_M
        far = rays @ T_world_camera[:3, :3].T + T_world_camera[:3, 3]
        eye = T_world_camera[:3, 3]
        yield Stroke(np.concatenate([far, far[:1]]), 1, 1.4, name)
        for corner in far:
            yield Stroke(np.stack([eye, corner]), 1, 1.0)
    for name, T_world_sensor in geometry.sensor_poses(q).items():
        width, height, _ = rig.tactile[name].size_m
        face = FACE / 2 * (width, height, 0)
        yield Stroke(face @ T_world_sensor[:3, :3].T + T_world_sensor[:3, 3], 4, 2.2, name)


def links(chain: Chain, T_world_base: FloatArray, q: FloatArray) -> FloatArray:
    """Return the origins of base, joints and flange (n + 2, 3) in the world."""
    T = np.asarray(T_world_base, dtype=float)
    points = [T[:3, 3]]
    for origin, motion in zip(chain.origins, motions(chain, q), strict=True):
        T = T @ origin
        points.append(T[:3, 3])
        T = T @ motion
    return np.array([*points, (T @ chain.end)[:3, 3]])


def _svg(strokes: Sequence[Stroke], right: int, up: int) -> str:
    """Return one view as SVG, to scale, with a grid of 0.1 m."""
    every = np.concatenate([stroke.points for stroke in strokes])[:, [right, up]]
    low, high = every.min(axis=0) - 0.05, every.max(axis=0) + 0.05
    scale = (SIZE - 2 * EDGE) / float((high - low).max())
    width, height = (high - low) * scale + 2 * EDGE

    def at(points: FloatArray) -> str:
        xy = (points[:, [right, up]] - low) * scale + EDGE
        return " ".join(f"{x:.1f},{height - y:.1f}" for x, y in xy)

    lines = [
        f'<polyline points="{at(s.points)}" fill="none" stroke="var(--c{s.color})" stroke-width="{s.width}" '
        'stroke-linejoin="round" stroke-linecap="round"/>'
        for s in strokes
    ]
    labels = [(stroke.label, at(stroke.points[-1:]).split(",")) for stroke in strokes if stroke.label]
    texts = [
        f'<text class="label" x="{x:.1f}" y="{y:.1f}">{html.escape(label)}</text>'
        for label, x, y in _apart([(label, float(x) + 4, float(y)) for label, (x, y) in labels])
    ]
    inside = _grid(low, high, scale, height) + "".join(lines + texts)
    return (
        f'<svg class="plot drawing" viewBox="0 0 {width + 60:.0f} {height:.0f}" role="img" '
        f'style="width:{width + 60:.0f}px;min-width:0">{inside}</svg>'
    )


def _apart(labels: Sequence[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """Move labels (text, x, y) down, the upper first, until none lies on another."""
    placed: list[tuple[str, float, float]] = []
    for label, x, y in sorted(labels, key=lambda one: one[2]):
        for other, left, line in placed:
            beside = x > left + LETTER * len(other) or left > x + LETTER * len(label)
            if not beside and y < line + ROW:
                y = line + ROW
        placed.append((label, x, y))
        placed.sort(key=lambda one: one[2])
    return placed


def _grid(low: FloatArray, high: FloatArray, scale: float, height: float) -> str:
    """Return lines every quarter of a metre, with their numbers."""
    right, top = (high - low) * scale + EDGE
    parts = []
    for axis in (0, 1):
        for value in np.arange(np.ceil(low[axis] / GRID_M), np.floor(high[axis] / GRID_M) + 1) * GRID_M:
            at = (value - low[axis]) * scale + EDGE
            a, b = ((at, EDGE), (at, top)) if axis == 0 else ((EDGE, at), (right, at))
            x, y = (at, height - 8) if axis == 0 else (2, height - at + 4)
            parts.append(
                f'<line class="grid" x1="{a[0]:.1f}" y1="{height - a[1]:.1f}" x2="{b[0]:.1f}" '
                f'y2="{height - b[1]:.1f}"/><text x="{x:.1f}" y="{y:.1f}">{value + 0.0:g}</text>'
            )
    return "".join(parts)


def _joint_rows(rig: Rig, q: FloatArray) -> Iterator[Sequence[Cell]]:
    for member, value in zip(rig.members, q, strict=True):
        unit = "m" if member.name in {rig.state_names[i] for i in rig.gripper_indices} else "rad"
        yield (
            member.name,
            f"{member.lower:g} {unit}",
            f"{member.upper:g} {unit}",
            f"{value:.3f} {unit}",
            f"{member.velocity:g} {unit}/s",
        )


def _topic_rows(rig: Rig) -> Iterator[Sequence[Cell]]:
    for name, spec in rig.specs.items():
        yield name, spec.topic, str(spec.type).rpartition("/")[2], spec.rate_hz
