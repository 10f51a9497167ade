"""Choose how corners are found and which lens model fits, by the error on views that were left out.

Corners first, with one model; then refined on the picture as the board sees it; then the models. Every
error that decides is measured on the same views, so a way does not win by finding less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from tacit.errors import CalibrationError
from tacit.geometry.camera import Camera
from tacit_calibration.board import ROUND, Board
from tacit_calibration.detection import Detections, View
from tacit_calibration.estimation.board_pose import Corners, board_poses, refined, residuals, view_rms
from tacit_calibration.estimation.corner_ways import WINDOWS_PX, as_board_sees, by_window
from tacit_calibration.estimation.lens_fit import JUDGED, NUM_COEFFICIENTS, LensModel, fit_lens
from tacit_calibration.finders import Gray
from tacit_calibration.intrinsics import WANTED_COVERAGE, IntrinsicsResult, calibrate_intrinsics, held_out_rms

SIMPLEST_FIRST: tuple[LensModel, ...] = (
    *("no_k3", "plumb_bob", "rational", "fisheye"),
    *("thin_prism", "tilted"),
)
"""A fisheye model bends as freely as a fraction does, and fewer programs read it."""
KALIBR_MODELS: tuple[LensModel, ...] = ("no_k3", "fisheye")
"""What a camchain can hold."""
BASES: tuple[LensModel, ...] = ("plumb_bob", "fisheye")
SAME = 1.01
"""Errors within one percent are the same: then the simplest model is taken."""
SAME_CORNERS = 1.001
MAX_PRICE = 1.1
"""Leaving k3 out is offered up to this much of error where the edges of the image are not covered."""
AS_FOUND = "as the detector found them"
DEFAULT_WINDOW_PX = 5
TINY_PX = 1e-6
"""Drawn corners may fit exactly, and a logarithm must not become infinite."""
Say = Callable[[str], None]


class Way(NamedTuple):
    """Views with corners found one way, RMS px on views left out, half width of its window [px]."""

    views: tuple[View, ...]
    error_px: float
    window_px: int = DEFAULT_WINDOW_PX


@dataclass(frozen=True, eq=False)
class LensChoice:
    """The lens that was chosen, and what it was chosen from.

    Attributes:
        result: The lens.
        model: Which model.
        corners: How its corners were found.
        views: The views with these corners.
        ways: {name: way} of each way to find corners.
        model_errors: {model: RMS px on views left out}; infinite where a model does not fit.
    """

    result: IntrinsicsResult
    model: LensModel
    corners: str
    views: tuple[View, ...]
    ways: dict[str, Way]
    model_errors: dict[LensModel, float]


@dataclass(frozen=True, eq=False)
class _Judge:
    """What every way to find corners is measured with: the same views, one model, one start."""

    size: tuple[int, int]
    base: LensModel
    start: Camera
    names: frozenset[str]

    def used(self, views: Sequence[View]) -> list[View]:
        return [view for view in views if view.name in self.names]

    def error(self, views: Sequence[View]) -> float:
        return held_out_rms(self.used(views), self.size, self.base, self.start)


def choose_lens(
    detections: Detections,
    pictures: Callable[[str], Gray],
    board: Board,
    models: Sequence[LensModel] = SIMPLEST_FIRST,
    say: Say = lambda line: None,
) -> LensChoice:
    """Fit a lens with the corners and the model that predict left-out views best.

    Args:
        detections: Views of one board.
        pictures: The grey picture of a view by its name.
        board: What they show.
        models: The models to choose from.
        say: Is told every way and model with its error as soon as it is known.

    Raises:
        CalibrationError: Too few views, mirrored ones, no tilted view, or no model fits.
    """
    base, first = _first_fit(detections, models)
    judge = _Judge((detections.width, detections.height), base, first.camera, frozenset(first.views))
    ways = _corner_ways(detections, pictures, board, judge, first, say)
    best = _best(ways)
    errors = model_errors(judge.used(ways[best].views), judge.size, models, say)
    chosen = simplest(errors)
    result = calibrate_intrinsics(replace(detections, views=ways[best].views), chosen)
    offer = _offer(result, chosen, errors)
    result = replace(result, warnings=(*result.warnings, *offer))
    return LensChoice(result, chosen, best, ways[best].views, ways, errors)


def choose_corners(
    views: Sequence[View],
    pictures: Callable[[str], Gray],
    board: Board,
    camera: Camera,
    say: Say = lambda line: None,
) -> tuple[View, ...]:
    """Return the views with corners found in the way that fits the board best through a lens that is known.

    A pose has six numbers, corners are many: what single boards leave of the corners is their noise. Views
    count by the logarithm of that, so that one with a misread marker does not decide.

    Args:
        views: Views of one board.
        pictures: The grey picture of a view by its name.
        board: What they show.
        camera: The lens.
        say: Is told which way was kept, and how much it gains.
    """
    if not views:
        return ()

    def error(found: Sequence[View]) -> float:
        corners = Corners.of(found)
        poses = refined(corners, camera, board_poses(found, camera))
        return float(np.exp(np.mean(np.log(view_rms(corners, residuals(corners, camera, poses)) + TINY_PX))))

    ways = {AS_FOUND: Way(tuple(views), error(views))}
    for window, moved in _windows(views, pictures, board):
        ways[f"by edges within {window} px"] = Way(moved, error(moved), window)
    best = _best(ways)
    again = _as_board_sees(ways[best], pictures, board, camera)
    ways[f"{best}, refined as the board sees them"] = Way(again, error(again))
    kept = _best(ways)
    gain = "" if kept == AS_FOUND else f" instead of {_px(ways[AS_FOUND].error_px)}"
    say(f"corners {kept}: single boards miss by {_px(ways[kept].error_px)}{gain} through this lens")
    return ways[kept].views


def model_errors(
    views: Sequence[View], size: tuple[int, int], models: Sequence[LensModel], say: Say = lambda line: None
) -> dict[LensModel, float]:
    """Return {model: RMS px on views left out}; infinite where it does not fit."""
    errors: dict[LensModel, float] = {}
    for model in models:
        try:
            camera = fit_lens(views, size, model, settled=JUDGED).camera
            errors[model] = held_out_rms(views, size, model, camera)
        except (CalibrationError, np.linalg.LinAlgError):
            errors[model] = float("inf")
        say(f"  lens {model}: {_px(errors[model])}")
    return errors


def simplest(errors: dict[LensModel, float]) -> LensModel:
    """Return the simplest model whose error is the least or as good as that.

    Raises:
        CalibrationError: None fits.
    """
    least = min(errors.values())
    if not np.isfinite(least):
        raise CalibrationError(
            f"no lens fits the views ({', '.join(errors)} tried); is the board flat, was the focus locked?"
        )
    return min((m for m in errors if errors[m] <= SAME * least), key=SIMPLEST_FIRST.index)


def _offer(result: IntrinsicsResult, chosen: LensModel, errors: dict[LensModel, float]) -> tuple[str, ...]:
    """Offer the lens without k3 where corners leave the edges of the image to a high power of the radius."""
    fixed = errors.get("no_k3", float("inf"))
    is_plain = NUM_COEFFICIENTS[chosen] <= NUM_COEFFICIENTS["no_k3"]
    offers = []
    if result.coverage < WANTED_COVERAGE and not is_plain and fixed <= MAX_PRICE * errors[chosen]:
        offers.append(
            f"beyond the corners {chosen} is a guess; --model no_k3 errs less there, on views left out "
            f"by {fixed:.3f} px instead of {errors[chosen]:.3f}: take it, or more pictures of the edges"
        )
    camera = result.camera
    edges = np.array([[0, 0], [camera.width, 0], [0, camera.height], [camera.width, camera.height]]) - 0.5
    if chosen != "fisheye" and not np.isfinite(camera.undistort(edges)).all():
        offers.append(
            f"{chosen} folds over in a corner of the image, where no rays are then; take pictures there, or "
            "--model no_k3"
        )
    return tuple(offers)


def _first_fit(detections: Detections, models: Sequence[LensModel]) -> tuple[LensModel, IntrinsicsResult]:
    """Return the model that corners are judged with: pinhole or fisheye, else the best of the given ones."""
    problems, fits = [], dict[LensModel, IntrinsicsResult]()
    for base in BASES if set(BASES) <= set(models) else models:
        try:
            fits[base] = calibrate_intrinsics(detections, base)
        except CalibrationError as problem:
            problems.append(problem)
    if not fits:
        raise problems[0]
    # A model that drops more views has the easier ones left, so views count before errors.
    best = min(fits, key=lambda base: (len(fits[base].dropped), fits[base].held_out_rms_px))
    return best, fits[best]


def _corner_ways(
    detections: Detections,
    pictures: Callable[[str], Gray],
    board: Board,
    judge: _Judge,
    first: IntrinsicsResult,
    say: Say,
) -> dict[str, Way]:
    """Return every way to find corners: the detector's, by edges in windows, and the best of them refined."""
    ways = {AS_FOUND: Way(detections.views, first.held_out_rms_px)}
    say(f"  corners {AS_FOUND}: {_px(first.held_out_rms_px)} on views left out ({judge.base})")
    for window, views in _windows(detections.views, pictures, board):
        name = f"by edges within {window} px"
        ways[name] = Way(views, judge.error(views), window)
        say(f"  corners {name}: {_px(ways[name].error_px)}")
    best = _best(ways)
    window = ways[best].window_px
    camera = fit_lens(judge.used(ways[best].views), judge.size, judge.base, first.camera).camera
    again = _as_board_sees(ways[best], pictures, board, camera)
    name = f"{best}, refined as the board sees them"
    ways[name] = Way(again, judge.error(again), window)
    say(f"  corners {name}: {_px(ways[name].error_px)}")
    return ways


def _as_board_sees(
    way: Way, pictures: Callable[[str], Gray], board: Board, camera: Camera
) -> tuple[View, ...]:
    """Return the views of a way with corners found again in the picture as the board sees it."""
    poses = refined(Corners.of(way.views), camera, board_poses(way.views, camera))
    return tuple(
        as_board_sees(view, pictures(view.name), board, camera, pose, way.window_px)
        for view, pose in zip(way.views, poses, strict=True)
    )


def _best(ways: dict[str, Way]) -> str:
    """Return the first of the ways that are as good as the best to a thousandth."""
    least = min(way.error_px for way in ways.values())
    return next(name for name, way in ways.items() if way.error_px <= SAME_CORNERS * least)


def _windows(
    views: Sequence[View], pictures: Callable[[str], Gray], board: Board
) -> Iterator[tuple[int, tuple[View, ...]]]:
    if board.pattern in ROUND:
        return
    found: dict[int, list[View]] = {window: [] for window in WINDOWS_PX}
    for view in views:
        gray = pictures(view.name)
        for window, so_far in found.items():
            so_far.append(by_window(view, gray, board, window))
    yield from ((window, tuple(moved)) for window, moved in found.items())


def _px(error: float) -> str:
    return f"{error:.4f} px" if np.isfinite(error) else "does not fit"
