"""Pictures of episodes for the report: sensor boxes, film strips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tacit.episode import EpisodeReader
from tacit.view.draw import COLORS, draw_box, enlarge, film_strip

Image = NDArray[np.uint8]
FILM_FRAMES = 8


def located_touch(path: Path, num_moments: int = 4, factor: int = 2) -> Image:
    """Draw the stored sensor boxes of an episode at a few moments, with the touch images beside.

    Returns:
        One row per moment: every camera with the boxes of all sensors, then every touch image.
    """
    with EpisodeReader(path) as episode:
        moments = np.linspace(0, episode.num_ticks - 1, num_moments + 2).astype(int)[1:-1]
        tiles: list[Image] = []
        for tick in moments:
            tiles += [boxed_image(episode, camera, tick, factor) for camera in episode.cameras]
            height = tiles[-1].shape[0]
            touch = [episode.touch(sensor, tick) for sensor in episode.gels]
            tiles += [enlarge(image, max(1, height // image.shape[0])) for image in touch]
        columns = len(episode.cameras) + len(episode.gels)
    return film_strip(tiles, columns)


def boxed_image(episode: EpisodeReader, camera: str, tick: int, factor: int = 1) -> Image:
    """Return one stored image, enlarged, with the stored box of every sensor drawn."""
    image = enlarge(episode.image(camera, tick), factor)
    for color, sensor in zip(COLORS, episode.tactile, strict=False):
        box = episode.boxes(camera, sensor)[tick]
        image = draw_box(image, box, color, sensor, factor=factor)
    return image


def film(path: Path, camera: str = "", frames: int = FILM_FRAMES) -> Image:
    """Return frames of one camera (the first stored by default), evenly spaced, in one row."""
    with EpisodeReader(path) as episode:
        camera = camera or episode.cameras[0]
        ticks = np.linspace(0, episode.num_ticks - 1, frames).astype(int)
        labels = [f"{tick / episode.fps:.1f} s" for tick in ticks]
        return film_strip([episode.image(camera, tick) for tick in ticks], frames, labels)
