"""One episode as a page: what the cameras and sensors saw, where touch is, motion, time, checks."""

from __future__ import annotations

import numpy as np

from tacit.episode import AuditReport, EpisodeReader
from tacit.streams.counts import StreamCounts
from tacit.view.draw import COLOR_NAMES, COLORS, Image, draw_box, draw_quad, enlarge, picture
from tacit.view.page import Cell, Judged, Page
from tacit.view.player import player
from tacit.view.plot import Band, Line, Series, histogram, line_plot

TILE_WIDTH_PX = 320
"""Small images are enlarged to about this width."""
NEAR_LIMIT = 0.02
"""Part of a joint's range: so near to its end there is no room left."""
ONE_CLOCK_MS = 3.6e6
"""A stamp that is an hour or more from its arrival was taken on another clock; a difference says nothing."""


def episode_page(reader: EpisodeReader, report: AuditReport) -> Page:
    """Return the page of an open episode with its audit."""
    seconds = float(np.ptp(reader.tick_ns)) / 1e9
    page = Page(f"{reader.task} · {reader.path.stem}", reader.instruction)
    page.facts(
        {
            "ticks": reader.num_ticks,
            "seconds": round(seconds, 2),
            "success": {True: "yes", False: "no", None: "unlabelled"}[reader.success],
            "state": reader.state,
            "action lag": _lag(report.facts.get("lag_ms")),
            "errors": Judged(len(report.errors), not report.errors, "0"),
            "warnings": len(report.warnings),
        }
    )
    if reader.num_ticks:
        _add_player(page, reader)
    _add_checks(page, report)
    _add_motion(page, reader)
    _add_ranges(page, reader)
    _add_visibility(page, reader)
    _add_time(page, reader)
    page.section("Provenance")
    names = ("episode_uuid", "rig_id", "calibration_id", "content_sha256", "software_version")
    rows = [
        (name, str(reader.attribute(name))) for name in (*names, "wall_start_iso", "operator", "session_id")
    ]
    return page.table(("attribute", "value"), rows)


def boxed_image(reader: EpisodeReader, camera: str, tick: int) -> Image:
    """Return a camera image, enlarged when small, with the box and face of every sensor drawn."""
    image = picture(reader, camera, tick)
    factor = max(1, round(TILE_WIDTH_PX / image.shape[1]))
    image = enlarge(image, factor)
    for i, sensor in enumerate(reader.tactile):
        if not reader.is_located(camera, sensor):
            continue
        color = COLORS[i % len(COLORS)]
        image = draw_quad(image, reader.corners(camera, sensor)[tick], color, factor=factor)
        image = draw_box(image, reader.boxes(camera, sensor)[tick], color, factor=factor)
    return image


def step_bands(reader: EpisodeReader) -> list[Band]:
    """Return the annotated steps as bands over the time axis [s]."""
    seconds = _seconds(reader)
    names = list(dict.fromkeys(step.name for step in reader.steps))
    return [
        Band(float(seconds[s.start_frame]), float(seconds[s.end_frame]), s.name, names.index(s.name))
        for s in reader.steps
    ]


def _add_checks(page: Page, report: AuditReport) -> None:
    page.section("Checks")
    if not report.findings:
        page.paragraph("No finding: all rules hold.")
        return
    rows = [(f.rule, f.level, f.where, f.message) for f in report.findings]
    page.table(("rule", "level", "where", "finding"), rows, badges=1)


def _add_player(page: Page, reader: EpisodeReader) -> None:
    """All that was seen and felt, at one instant at a time."""
    page.section(
        "What was seen and felt",
        "Move with the arrow keys, play with the space bar; measured and commanded values stand below. Boxes "
        "are where the sensors are, from joints and calibration; the inner outline is the gel face.",
    )
    if reader.depth_cameras:
        page.paragraph("Depth goes from near (red) to far (blue); black is unknown.")
    if reader.taxels:
        page.paragraph("Taxels: a tile for each channel; orange is more than without contact, blue is less.")
    colors = [f"{name} {COLOR_NAMES[i % len(COLORS)]}" for i, name in enumerate(reader.tactile)]
    if colors:
        page.paragraph(f"Boxes: {', '.join(colors)}. Change: from no contact, four times amplified.")
    page.block(player(reader))


def _add_motion(page: Page, reader: EpisodeReader) -> None:
    text = "Solid: measured state. Dashed: commanded action. Shades: annotated steps."
    page.section("Motion", text)
    seconds, bands = _seconds(reader), step_bands(reader)
    grippers = _gripper_indices(reader)
    joints = [i for i in range(reader.qpos.shape[1]) if i not in grippers]
    groups = ((joints, "joint position [rad]", 300), (grippers, "gripper opening [m]", 190))
    for indices, label, height in groups:
        if not indices:
            continue
        series = []
        for color, i in enumerate(indices):
            series.append(Series(reader.state_names[i], seconds, reader.qpos[:, i], color))
            series.append(Series("", seconds, reader.action[:, i], color, True))
        page.plot(line_plot(series, x_label="time [s]", y_label=label, bands=bands, height=height))
    error = np.linalg.norm((reader.action - reader.qpos)[:, joints], axis=1)
    plot = line_plot(
        [Series("", seconds, error)], x_label="time [s]", y_label="|action - qpos| [rad]", height=170
    )
    page.plot(plot, "Distance between the commanded and the measured joints.")


def _add_ranges(page: Page, reader: EpisodeReader) -> None:
    """How far each joint went, and how near to the limits of the rig."""
    if not reader.num_ticks:
        return
    rows: list[tuple[Cell, ...]] = []
    for i, member in enumerate(reader.rig.members):
        low, high = float(reader.qpos[:, i].min()), float(reader.qpos[:, i].max())
        unit = "m" if i in reader.rig.gripper_indices else "rad"
        room = min(low - member.lower, member.upper - high) / (member.upper - member.lower)
        is_gripper = i in reader.rig.gripper_indices  # made to go from one end to the other
        level = "error" if room < -NEAR_LIMIT else "warning" if room < NEAR_LIMIT and not is_gripper else "ok"
        span = f"{member.lower:.4g} to {member.upper:.4g} {unit}"
        rows.append((member.name, f"{low:.3f} to {high:.3f} {unit}", span, f"{100 * room:.0f} %", level))
    headers = ("joint", "went", "limits", "room left", "verdict")
    page.table(headers, rows, "Room: from the nearer limit, as a part of the range.", badges=4)


def _add_visibility(page: Page, reader: EpisodeReader) -> None:
    seconds = _seconds(reader)
    series = [
        Series(f"{sensor} in {camera}", seconds, reader.visibility(camera, sensor))
        for camera in (*reader.cameras, *reader.depth_cameras)
        for sensor in reader.tactile
        if reader.is_located(camera, sensor)
    ]
    if not series:
        return
    page.section("Where touch is visible")
    plot = line_plot(series, x_label="time [s]", y_label="share visible", y_range=(0.0, 1.05), height=180)
    page.plot(plot, "Share of each sensor's box that lies inside the image.")


def _add_time(page: Page, reader: EpisodeReader) -> None:
    page.section("Time")
    intervals = np.diff(reader.tick_ns) / 1e6
    plot = histogram(intervals, x_label="interval between ticks [ms]", lines=[1e3 / reader.fps])
    page.plot(plot, f"Intervals between ticks; dashed: the nominal {1e3 / reader.fps:.4g} ms.")
    late = {}
    for name in (*reader.cameras, *reader.depth_cameras, *reader.tactile):
        offset = (reader.timestamps(name)["stamp_ns"] - reader.tick_ns) / 1e6
        if len(offset) and np.ptp(offset) + abs(offset).max() > 0:
            late[name] = offset
    if late:
        series = [Series(name, _seconds(reader), offset) for name, offset in late.items()]
        half = Line(500.0 / reader.fps, "half a period")
        plot = line_plot(series, x_label="time [s]", y_label="stamp - tick [ms]", lines=[half], height=180)
        page.plot(plot, "How far each image lies from its tick.")
    if reader.drops:
        fields = list(StreamCounts(1).as_dict())
        found = {kind for counts in reader.drops.values() for kind in counts if kind not in fields}
        fields += sorted(found)  # what the intake refused or doubted
        rows = [
            (_counted(field), *(_count(field, counts.get(field)) for counts in reader.drops.values()))
            for field in fields
        ]
        page.table(("count", *reader.drops), rows, "Arrivals and losses per stream.")
        page.paragraph(
            "Latency is arrival minus stamp; it is left out where the stamps are of another clock than the "
            "arrivals, as simulated time is."
        )


def _counted(field: str) -> str:
    """Name a count with its unit: `latency_p50_ms` is `latency p50 [ms]`."""
    words = field.split("_")
    unit = {"ms": " [ms]", "hz": " [Hz]"}
    if words[0] == "hz":
        return f"{' '.join(words[1:])} rate [Hz]"
    return " ".join(words[:-1]) + unit[words[-1]] if words[-1] in unit else " ".join(words)


def _count(field: str, value: object) -> Cell:
    """Return what was counted; None for a difference of two clocks."""
    number = _number(value)
    if number is None or (field.startswith("latency") and abs(number) >= ONE_CLOCK_MS):
        return None
    return int(number) if number == int(number) else number


def _lag(value: object) -> Cell:
    number = _number(value)
    return None if number is None else f"{number:.0f} ms"


def _seconds(reader: EpisodeReader) -> np.ndarray:
    return (reader.tick_ns - reader.tick_ns[0]) / 1e9


def _gripper_indices(reader: EpisodeReader) -> list[int]:
    indices = reader.file["observations/qpos"].attrs.get("gripper_indices", ())
    return [int(i) for i in indices]


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float, np.integer, np.floating)) else None
