"""One episode as a page: what the cameras and sensors saw, where touch is, motion, time, checks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tacit.episode import AuditReport, EpisodeReader
from tacit.streams.counts import StreamCounts
from tacit.view.draw import (
    COLOR_NAMES,
    COLORS,
    Image,
    difference,
    draw_box,
    draw_quad,
    enlarge,
    film_strip,
    picture,
    touch_picture,
)
from tacit.view.page import Page
from tacit.view.player import player
from tacit.view.plot import Band, Line, Series, histogram, line_plot

SHEET_TICKS = 8
STRIP_WIDTH_PX = 1800
TILE_WIDTH_PX = 320
"""Small images are enlarged to about this width."""


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
            "action lag [ms]": _number(report.facts.get("lag_ms")),
            "errors / warnings": f"{len(report.errors)} / {len(report.warnings)}",
        }
    )
    if reader.num_ticks:
        text = "Move with the arrow keys, play with the space bar; measured and commanded values below."
        page.section("Player", text).block(player(reader))
    _add_checks(page, report)
    ticks = np.unique(np.linspace(0, reader.num_ticks - 1, SHEET_TICKS).astype(int))
    _add_images(page, reader, ticks)
    _add_motion(page, reader)
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


def contact_sheet(reader: EpisodeReader, camera: str, ticks: Sequence[int] | np.ndarray) -> Image:
    """Return boxed images of one camera at `ticks`, four to a row, with their times."""
    start = reader.tick_ns[0]
    labels = [f"{(reader.tick_ns[i] - start) / 1e9:.2f} s" for i in ticks]
    return film_strip([boxed_image(reader, camera, int(i)) for i in ticks], 4, labels)


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


def _add_images(page: Page, reader: EpisodeReader, ticks: np.ndarray) -> None:
    text = "Boxes are where the sensors are, from joints and calibration; the inner outline is the gel face."
    page.section("What was seen and felt", text)
    colors = [f"{name} {COLOR_NAMES[i % len(COLORS)]}" for i, name in enumerate(reader.tactile)]
    for camera in (*reader.cameras, *reader.depth_cameras):
        kind = ", depth from near (red) to far (blue), black where unknown" * (camera in reader.depth_cameras)
        caption = f"Camera `{camera}`{kind}" + (f"; boxes: {', '.join(colors)}." if colors else ".")
        page.figure(contact_sheet(reader, camera, ticks), caption, width=STRIP_WIDTH_PX)
    for sensor in reader.tactile:
        page.figure(*touch_strip(reader, sensor, ticks), width=STRIP_WIDTH_PX)


def touch_strip(reader: EpisodeReader, sensor: str, ticks: Sequence[int] | np.ndarray) -> tuple[Image, str]:
    """Return the images of a sensor at `ticks` and, below them, their change from the no-contact
    reference where there is one; and the caption."""
    images = [touch_picture(reader, sensor, int(i)) for i in ticks]
    reference = None if sensor in reader.taxels else reader.reference(sensor)
    caption = f"Sensor `{sensor}` at the same ticks."
    if sensor in reader.taxels:
        caption += " A tile for each channel; orange: more than without contact, blue: less."
    if reference is not None:
        images += [difference(image, reference) for image in images]
        caption = f"Sensor `{sensor}` at the same ticks; below: change from no contact, four times amplified."
    large = [enlarge(image, max(1, round(TILE_WIDTH_PX / 2 / image.shape[1]))) for image in images]
    return film_strip(large, len(ticks)), caption


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
    plot = line_plot(series, x_label="time [s]", y_label="visibility", y_range=(0.0, 1.05), height=180)
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
        rows = [(field, *(counts.get(field) for counts in reader.drops.values())) for field in fields]
        page.table(("count", *reader.drops), rows, "Arrivals and losses per stream.")


def _seconds(reader: EpisodeReader) -> np.ndarray:
    return (reader.tick_ns - reader.tick_ns[0]) / 1e9


def _gripper_indices(reader: EpisodeReader) -> list[int]:
    indices = reader.file["observations/qpos"].attrs.get("gripper_indices", ())
    return [int(i) for i in indices]


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
