"""Numbers about generated videos: PSNR and SSIM inside and outside the mask, and motion.

A number that cannot be computed is `Unavailable` with its reason, never 0. Videos are (F, H, W, 3)
uint8 RGB, masks (F, H, W) bool, True = generated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

SSIM_WINDOW, SSIM_SIGMA = (11, 11), 1.5  # Wang et al. 2004, as are the constants below
SSIM_C1, SSIM_C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
MAX_TRACKED = 400  # points that follow the flow from the first mask
SMALLEST_FLOW = 16  # pixels; cv2's DIS finds nothing in smaller pictures


@dataclass(frozen=True)
class Unavailable:
    """A number that could not be computed, and why."""

    reason: str


Score = float | Unavailable


def as_json(scores: Mapping[str, Score]) -> dict[str, float | str]:
    """Return scores for JSON and tables; what is missing says so."""
    return {
        name: f"unavailable: {score.reason}" if isinstance(score, Unavailable) else score
        for name, score in scores.items()
    }


def numbers(scores: Mapping[str, Score]) -> dict[str, float]:
    """Return the scores that are numbers."""
    return {name: score for name, score in scores.items() if not isinstance(score, Unavailable)}


def video_quality(predicted: np.ndarray, target: np.ndarray, mask: np.ndarray) -> dict[str, Score]:
    """Compare two videos inside and outside the mask.

    Args:
        predicted: (F, H, W, 3) u1.
        target: (F, H, W, 3) u1.
        mask: (F, H, W) bool, True = generated.

    Returns:
        `psnr_inside`, `psnr_outside` [dB], `ssim_inside`, `ssim_outside`; a region without a pixel is
        unavailable, and so is the PSNR of equal pictures (it is infinite).
    """
    _check(predicted, target, mask)
    error = np.square(predicted.astype(np.float64) - target).mean(-1)
    likeness = np.stack([_ssim_map(a, b) for a, b in zip(predicted, target, strict=True)])
    scores: dict[str, Score] = {}
    for name, region in (("inside", mask), ("outside", ~mask)):
        scores[f"psnr_{name}"] = _psnr(error[region])
        scores[f"ssim_{name}"] = float(likeness[region].mean()) if region.any() else _empty(name)
    return scores


def motion_accuracy(predicted: np.ndarray, target: np.ndarray, mask: np.ndarray) -> dict[str, Score]:
    """Compare how two videos move inside the mask.

    Returns:
        `flow_epe`: mean distance of the optical flows [px]. `track_error`: points of the first mask
        follow the flow of each video; mean distance of their centroids [px].
    """
    _check(predicted, target, mask)
    if len(predicted) < 2 or min(predicted.shape[1:3]) < SMALLEST_FLOW or not mask[0].any():
        why = f"needs two frames of {SMALLEST_FLOW} pixels and a mask in the first"
        return {"flow_epe": Unavailable(why), "track_error": Unavailable(why)}
    flows = [optical_flow(video) for video in (predicted, target)]
    distance = np.linalg.norm(flows[0] - flows[1], axis=-1)
    tracks = [follow(flow, mask[0]).mean(1) for flow in flows]
    return {
        "flow_epe": float(distance[mask[:-1]].mean()),
        "track_error": float(np.linalg.norm(tracks[0] - tracks[1], axis=-1).mean()),
    }


def optical_flow(video: np.ndarray) -> np.ndarray:
    """Return the dense flow of every frame to the next (F-1, H, W, 2) [px], by DIS (arXiv:1603.03590)."""
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in video]
    method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    empty = np.zeros((*grey[0].shape, 2), np.float32)
    return np.stack([method.calc(a, b, empty.copy()) for a, b in zip(grey, grey[1:], strict=False)])


def follow(flow: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Move points of a region along a flow.

    Args:
        flow: (F-1, H, W, 2) [px].
        start: (H, W) bool.

    Returns:
        Places (F, P, 2) as x, y [px].
    """
    points = np.argwhere(start)[:, ::-1].astype(np.float64)
    points = points[:: max(1, len(points) // MAX_TRACKED)]
    height, width = flow.shape[1:3]
    places = [points]
    for field in flow:
        column = np.clip(np.rint(places[-1][:, 0]).astype(int), 0, width - 1)
        row = np.clip(np.rint(places[-1][:, 1]).astype(int), 0, height - 1)
        places.append(places[-1] + field[row, column])
    return np.stack(places)


def mean_scores(scores: list[dict[str, Score]]) -> dict[str, Score]:
    """Average over videos what is available; a score that no video has keeps its reason."""
    result: dict[str, Score] = {}
    for name in scores[0] if scores else ():
        values = [each[name] for each in scores]
        present = [value for value in values if not isinstance(value, Unavailable)]
        result[name] = float(np.mean(present)) if present else values[0]
    return result


def _psnr(squared_error: np.ndarray) -> Score:
    if not squared_error.size:
        return _empty("this side of the mask")
    error = float(squared_error.mean())
    return 10 * float(np.log10(255**2 / error)) if error else Unavailable("infinite: the pictures are equal")


def _empty(name: str) -> Unavailable:
    return Unavailable(f"no pixel {name}")


def _ssim_map(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Structural similarity of two pictures at every pixel (H, W), mean over the channels."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x, variance_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    above = (2 * mean_x * mean_y + SSIM_C1) * (2 * covariance + SSIM_C2)
    below = (mean_x**2 + mean_y**2 + SSIM_C1) * (variance_x + variance_y + SSIM_C2)
    return (above / below).mean(-1)


def _blur(picture: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(picture, SSIM_WINDOW, SSIM_SIGMA, borderType=cv2.BORDER_REFLECT)


def _check(predicted: np.ndarray, target: np.ndarray, mask: np.ndarray) -> None:
    if predicted.shape != target.shape or mask.shape != target.shape[:3]:
        raise ValueError(
            f"videos {predicted.shape} and {target.shape}, mask {mask.shape}; expected (F, H, W, 3) twice "
            "and (F, H, W)"
        )
