"""Where the hand is in a video, and whose hand it is: by its colours, learnt from recordings and masks.

No weights are needed, and the error on recordings that were not learnt from is known. A tracker is as good as
the masks: where they are loose it learns the surroundings too. Legend: F frames, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from sklearn.linear_model import LogisticRegression

PIXELS = 40_000  # to fit on
BLUR = 0.5  # of the radius of the mask: the place is where the most pixels of the hand are together
LEAST = 1e-6  # chance of a label that a pixel's colour speaks against
WINDOW = 1.5  # radii around that place, over which the mean is taken
WIDEST = 0.35  # share of white pixels above which a mask says nothing about a place


class ColourTracker:
    """Tells pixels of the hand from others by a quadratic function of their colour.

    Args:
        videos: Recordings, each (F, H, W, 3) u1.
        masks: Where the hand is in them, each (F, H, W) bool.
        kinds: A label of each video, for instance its embodiment; -1 unknown.

    Raises:
        ValueError: No video, or masks that are empty or nearly everywhere.
    """

    def __init__(
        self, videos: Sequence[np.ndarray], masks: Sequence[np.ndarray], kinds: Sequence[int]
    ) -> None:
        share = np.mean([mask.mean() for mask in masks]) if len(masks) else 0.0
        if not 0 < share < WIDEST:
            raise ValueError(f"masks are white in {100 * share:.0f} % of the pixels: they tell no place")
        per_frame = np.concatenate([mask.sum((1, 2)) for mask in masks])
        self.radius = float(np.sqrt(per_frame[per_frame > 0].mean() / np.pi))
        rng = np.random.default_rng(0)
        pixels = np.concatenate([video.reshape(-1, 3) for video in videos])
        inside = np.concatenate([mask.reshape(-1) for mask in masks])
        labels = np.repeat(kinds, [mask.size for mask in masks])
        rows = np.concatenate(
            [rng.choice(np.flatnonzero(side), min(PIXELS, int(side.sum()))) for side in (inside, ~inside)]
        )
        self._hand = _fit(pixels[rows], inside[rows])
        known = [kind for kind in sorted(set(kinds)) if kind >= 0]
        self._kind: LogisticRegression | None = None
        if len(known) > 1:
            certain = inside & (labels >= 0)
            certain[certain] = self._hand.predict(_features(pixels[certain]))
            rows = np.concatenate(
                [rng.choice(np.flatnonzero(certain & (labels == k)), PIXELS) for k in known]
            )
            self._kind = _fit(pixels[rows], labels[rows])

    def path(self, video: np.ndarray) -> np.ndarray:
        """Return the place of the hand in every frame (F, 2) as x, y [px]."""
        height, width = video.shape[1:3]
        chance = self._hand.predict_proba(_features(video.reshape(-1, 3)))[:, 1].reshape(video.shape[:3])
        rows, columns = np.mgrid[:height, :width]
        places = []
        for frame in chance:
            smooth = cv2.GaussianBlur(frame, (0, 0), max(0.5, BLUR * self.radius))
            row, column = np.unravel_index(smooth.argmax(), smooth.shape)
            near = np.maximum(abs(rows - row), abs(columns - column)) <= WINDOW * self.radius
            weight = frame * near
            places.append([(weight * columns).sum(), (weight * rows).sum()] / weight.sum())
        return np.array(places)

    def kind(self, video: np.ndarray) -> int:
        """Return the label whose colours the hand has; -1 where only one label was known."""
        if self._kind is None:
            return -1
        features = _features(video.reshape(-1, 3))
        weight = self._hand.predict_proba(features)[:, 1] ** 2
        total = weight @ np.log(self._kind.predict_proba(features) + LEAST)
        return int(self._kind.classes_[total.argmax()])


def mask_path(mask: np.ndarray) -> np.ndarray:
    """Return the middle of a mask in every frame (F, 2) as x, y [px]; NaN where it is empty."""
    rows, columns = np.mgrid[: mask.shape[1], : mask.shape[2]]
    count = mask.sum((1, 2))
    sums = np.stack([(mask * columns).sum((1, 2)), (mask * rows).sum((1, 2))], axis=-1)
    return np.where(count[:, None] > 0, sums / np.maximum(count, 1)[:, None], np.nan)


def _fit(pixels: np.ndarray, labels: np.ndarray) -> LogisticRegression:
    return LogisticRegression(max_iter=300, class_weight="balanced").fit(_features(pixels), labels)


def _features(pixels: np.ndarray) -> np.ndarray:
    """Return colours (N, 3) u1 with their products (N, 9), about -1..1."""
    colour = pixels.astype(np.float32) / 127.5 - 1
    pairs = [colour[:, i] * colour[:, j] for i in range(3) for j in range(i, 3)]
    return np.column_stack([colour, *pairs])
