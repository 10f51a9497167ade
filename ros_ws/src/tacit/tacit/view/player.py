"""A player inside a page: all streams at one instant, moved along by mouse or keys; no network, no video.

The frames of a stream lie in one picture, of which the page shows one cell; so it opens anywhere.
"""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tacit.episode import EpisodeReader
from tacit.images import encode_jpeg
from tacit.view.draw import COLORS, Image, difference, draw_box, draw_quad, picture, touch_picture

MAX_FRAMES = 100
COLUMNS = 10
CAMERA_WIDTH_PX, TOUCH_WIDTH_PX = 240, 120
GROWS = 1.5
"""A picture fills its line, up to this many times its width: one alone on a line is no giant."""
QUALITY = 70
SCRIPT = Path(__file__).with_name("player.js")


def player(reader: EpisodeReader, most: int = MAX_FRAMES) -> str:
    """Return the player of an episode as HTML: cameras with their boxes, touch, state and step.

    What a sensor with a no-contact reference felt stands beside its change from that, four times amplified.

    Args:
        reader: Of the episode.
        most: So many frames are shown, evenly over the episode: a page stays below ten megabytes.
    """
    ticks = np.unique(np.linspace(0, reader.num_ticks - 1, most).round().astype(int))
    streams = {
        name: [_camera(reader, name, int(tick)) for tick in ticks]
        for name in (*reader.cameras, *reader.depth_cameras)
    }
    for name in reader.tactile:
        felt = [touch_picture(reader, name, int(tick)) for tick in ticks]
        streams[name] = [_sized(image, TOUCH_WIDTH_PX) for image in felt]
        reference = None if name in reader.taxels else reader.reference(name)
        if reference is not None:
            changes = [difference(image, reference) for image in felt]
            streams[f"{name}, change"] = [_sized(image, TOUCH_WIDTH_PX) for image in changes]
    seconds = (reader.tick_ns[ticks] - reader.tick_ns[0]) / 1e9
    state = {
        "names": list(reader.state_names),
        "state": np.round(reader.qpos[ticks].astype(float), 4).tolist(),
        "action": np.round(reader.action[ticks].astype(float), 4).tolist(),
        "step": [_step(reader, int(tick)) for tick in ticks],
    }
    return _markup(streams, seconds, [f"tick {tick}" for tick in ticks], state | {"ticks": ticks.tolist()})


def clip_player(streams: Mapping[str, Sequence[Image]], seconds: Sequence[float] | np.ndarray) -> str:
    """Return a player of pictures alone.

    Args:
        streams: Name to frames (H, W, 3) RGB uint8; every stream has as many frames, of one size each.
        seconds: When each frame is shown [s].
    """
    return _markup(streams, np.asarray(seconds, float), [""] * len(seconds), {})


def _markup(
    streams: Mapping[str, Sequence[Image]], seconds: np.ndarray, words: Sequence[str], more: dict[str, Any]
) -> str:
    """Return the HTML of a player: pictures, bar, table and script, with what the script is told."""
    last = len(seconds) - 1
    nothing = {"names": [], "state": [], "action": [], "step": [""] * len(seconds)}
    frames = {
        **nothing,
        **more,
        "words": list(words),
        "seconds": [round(float(value), 3) for value in seconds],
        "columns": COLUMNS,
        "rows": math.ceil(len(seconds) / COLUMNS),
    }
    data = json.dumps(frames).replace("<", "\\u003c")  # names come from outside: none may end the script
    shown = "".join(_stream(name, images) for name, images in streams.items())
    return (
        f"<div class=player tabindex=0><div class=streams>{shown}</div>"
        f'<div class=bar><button type=button aria-label="play or pause">&#9654;</button>'
        f'<input type=range min=0 max={last} value=0 aria-label="frame"><output></output></div>'
        f"<table class=state><tbody></tbody></table>"
        f"<script type=application/json>{data}</script>"
        f"<script>{SCRIPT.read_text(encoding='utf-8')}</script></div>"
    )


def _stream(name: str, images: Sequence[Image]) -> str:
    """Return one stream: all its frames in one picture, shown a cell at a time."""
    height, width = images[0].shape[:2]
    rows = math.ceil(len(images) / COLUMNS)
    sheet = np.zeros((rows * height, COLUMNS * width, 3), np.uint8)
    for i, image in enumerate(images):
        y, x = (i // COLUMNS) * height, (i % COLUMNS) * width
        sheet[y : y + height, x : x + width] = image
    data = base64.b64encode(encode_jpeg(sheet, QUALITY).tobytes()).decode()
    style = (
        f"aspect-ratio:{width}/{height};background-size:{100 * COLUMNS}% {100 * rows}%;"
        f"background-image:url(data:image/jpeg;base64,{data})"
    )
    room = f"flex:{width} 1 {width}px;max-width:{GROWS * width:g}px"
    return (
        f'<figure style="{room}"><div class=cell style="{style}"></div>'
        f"<figcaption>{html.escape(name)}</figcaption></figure>"
    )


def _camera(reader: EpisodeReader, camera: str, tick: int) -> Image:
    """Return a camera picture of the player's size with the box of every sensor."""
    image = picture(reader, camera, tick)
    for i, sensor in enumerate(reader.tactile):
        if not reader.is_located(camera, sensor):
            continue
        color = COLORS[i % len(COLORS)]
        image = draw_quad(image, reader.corners(camera, sensor)[tick], color)
        image = draw_box(image, reader.boxes(camera, sensor)[tick], color)
    return _sized(image, CAMERA_WIDTH_PX)


def _sized(image: Image, width: int) -> Image:
    height = round(image.shape[0] * width / image.shape[1])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _step(reader: EpisodeReader, tick: int) -> str:
    return next((step.name for step in reader.steps if step.start_frame <= tick <= step.end_frame), "")
