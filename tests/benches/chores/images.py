"""Draw the arm's world as small images, and turn images into features as a frozen encoder would.

Nuisance: camera shift and shake, brightness and flicker, a wandering distractor, pixel noise, of another
strength in every video. They run on while the task stands still, so travelled distance is a poor clock.
Legend: T frames, H height and width of the square image, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benches.chores.world import BASE, WIPE_SIZE, Array, Course, Sites, joints
from tacit.config import Config

Images = NDArray[np.uint8]
TABLE, LINK, HAND = (0.55, 0.5, 0.42), (0.2, 0.2, 0.25), (0.1, 0.1, 0.1)
CUBE, BIN, DIRT = (0.75, 0.25, 0.2), (0.4, 0.42, 0.5), (0.42, 0.36, 0.28)
DARK, LIT, KNOB, POINTER, DISTRACTOR = (
    (0.3, 0.1, 0.3),
    (1.0, 0.9, 0.2),
    (0.8, 0.8, 0.8),
    (0, 0, 0),
    (0.2, 0.6, 0.3),
)


class ImageConfig(Config):
    """Size of the images and how much they vary; lengths in units of the image, light as a factor.

    `shift` and `brightness` are drawn once per video, `shake` and `flicker` are the strongest tremble
    from frame to frame.
    """

    size: int = 32
    shift: float = 0.01
    brightness: float = 0.1
    shake: float = 0.012
    flicker: float = 0.07
    distractor: float = 0.055
    noise: float = 0.05


@dataclass
class _Canvas:
    """Images (T, H, H, 3) in 0..1 and the position (T, H, H, 2) of each pixel, y up."""

    pixels: NDArray[np.float32]
    position: Array
    edge: float

    def paint(self, distance: Array, colour: Array | tuple[float, ...]) -> None:
        """Cover where the signed distance (T, H, H) is negative, with soft edges."""
        cover = 1 / (1 + np.exp(np.clip(distance / self.edge, -30, 30)))[..., None]
        shade = np.asarray(colour, np.float32).reshape(-1, 1, 1, 3)
        self.pixels += cover.astype(np.float32) * (shade - self.pixels)

    def disc(self, centre: Array, radius: float) -> Array:
        """Return the distance to discs at `centre` (T, 2)."""
        return np.linalg.norm(self.position - _spread(centre), axis=-1) - radius

    def box(self, centre: Array, half: Array) -> Array:
        """Return the distance to boxes of half sizes `half` (2,) or (T, 2) at `centre` (T, 2)."""
        return (np.abs(self.position - _spread(centre)) - _spread(np.atleast_2d(half))).max(axis=-1)

    def bar(self, begin: Array, end: Array, radius: float) -> Array:
        """Return the distance to capsules from `begin` to `end` (T, 2)."""
        axis, rest = _spread(end - begin), self.position - _spread(begin)
        along = np.clip((rest * axis).sum(-1) / np.maximum((axis**2).sum(-1), 1e-9), 0, 1)
        return np.linalg.norm(rest - along[..., None] * axis, axis=-1) - radius


def draw_images(course: Course, sites: Sites, config: ImageConfig, rng: np.random.Generator) -> Images:
    """Draw every frame of a course.

    Returns:
        Images (T, H, H, 3) RGB u1.
    """
    length, size = len(course), config.size
    centres = (np.arange(size) + 0.5) / size
    shift = rng.uniform(-config.shift, config.shift, 2) + _tremble(length, 2, config.shake, rng)
    grid = np.stack(np.meshgrid(centres, centres[::-1]), axis=-1)
    position = grid - _spread(shift)
    table = np.asarray(TABLE, np.float32) * (0.8 + 0.4 * position[..., 1:]).astype(np.float32)
    canvas = _Canvas(table, position, 0.4 / size)
    _paint_objects(canvas, course, sites)
    _paint_arm(canvas, course)
    if config.distractor > 0:
        canvas.paint(canvas.disc(_wander(length, rng), config.distractor), DISTRACTOR)
    gain = 1 + rng.uniform(-config.brightness, config.brightness) + _tremble(length, 1, config.flicker, rng)
    noisy = gain[..., None, None] * canvas.pixels + config.noise * rng.standard_normal(
        canvas.pixels.shape, np.float32
    )
    return (255 * np.clip(noisy, 0, 1)).astype(np.uint8)


@dataclass(frozen=True)
class FeatureMap:
    """Images to features: principal components of training images, scaled to unit mean square."""

    mean: NDArray[np.float32]
    components: NDArray[np.float32]

    @classmethod
    def fit(cls, images: Images, num_features: int, seed: int) -> FeatureMap:
        """Fit to images (N, H, H, 3)."""
        from sklearn.decomposition import PCA  # slow to import

        flat = _flat(images)
        pca = PCA(num_features, svd_solver="randomized", random_state=seed).fit(flat)
        scale = np.sqrt(pca.explained_variance_.mean())
        return cls(pca.mean_.astype(np.float32), (pca.components_ / scale).astype(np.float32))

    def __call__(self, images: Images) -> NDArray[np.float32]:
        """Map images (T, H, H, 3) to features (T, D) f4."""
        return (_flat(images) - self.mean) @ self.components.T


def _paint_objects(canvas: _Canvas, course: Course, sites: Sites) -> None:
    one = np.ones((len(course), 1))
    canvas.paint(canvas.box(sites.bin * one, np.array([0.09, 0.06])), BIN)
    dirt = WIPE_SIZE / 2 * np.concatenate([1 - course.wiped[:, None], one], axis=1)
    centre = sites.board + np.stack([WIPE_SIZE[0] / 2 * course.wiped, 0 * course.wiped], axis=1)
    canvas.paint(canvas.box(centre, dirt), DIRT)
    glow = np.asarray(DARK) + course.lit[:, None] * (np.asarray(LIT) - np.asarray(DARK))
    canvas.paint(canvas.disc(sites.button * one, 0.05), glow)
    canvas.paint(canvas.disc(sites.knob * one, 0.06), KNOB)
    tip = sites.knob + 0.06 * np.stack([np.cos(course.knob), np.sin(course.knob)], axis=1)
    canvas.paint(canvas.bar(sites.knob * one, tip, 0.015), POINTER)
    canvas.paint(canvas.box(course.cube, np.array([0.04, 0.04])), CUBE)


def _paint_arm(canvas: _Canvas, course: Course) -> None:
    elbow = joints(course.hand)[1]
    canvas.paint(canvas.bar(BASE * np.ones((len(course), 1)), elbow, 0.035), LINK)
    canvas.paint(canvas.bar(elbow, course.hand, 0.03), LINK)
    opening = (0.03 + 0.03 * course.grip)[:, None] * np.array([1.0, 0.0])
    for side in (-1, 1):
        canvas.paint(canvas.disc(course.hand + side * opening, 0.025), HAND)


def _wander(length: int, rng: np.random.Generator) -> Array:
    """Return a smooth random path (T, 2) that crosses the picture."""
    time = np.arange(length)[:, None]
    period, offset = rng.uniform(60, 160, 2), rng.uniform(0, 2 * np.pi, 2)
    return 0.5 + rng.uniform(0.25, 0.45, 2) * np.sin(2 * np.pi * time / period + offset)


def _tremble(length: int, size: int, amplitude: float, rng: np.random.Generator) -> Array:
    """Return noise (T, size) of every frame, of another strength in every video."""
    return amplitude * rng.random() * rng.standard_normal((length, size))


def _spread(points: Array) -> Array:
    return points[:, None, None, :]


def _flat(images: Images) -> NDArray[np.float32]:
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
