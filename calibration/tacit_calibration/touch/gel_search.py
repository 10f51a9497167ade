"""Find a gel in pictures of the open gripper: what moves with its finger, where and as large as it should.

Every picture proposes regions. Each region is a guess at where the gel sits in its finger, which the other
pictures confirm or not; the guesses that most of them confirm are fitted, and the best one is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tacit.errors import CalibrationError
from tacit.geometry.camera import Camera
from tacit.geometry.transforms import FloatArray, from_translation
from tacit.images import Image
from tacit.record.samples import load_samples
from tacit.rig import Rig
from tacit_calibration.samples import picture as read_sample
from tacit_calibration.touch.gel_regions import (
    Region,
    area,
    convex_hull,
    edges_along,
    find_regions,
    middle,
    overlap,
)
from tacit_calibration.touch.outline import MIN_OUTLINES, BoxFit, Outline, box_hull, fit_box
from tacit_calibration.touch.touch_views import TouchView, finger_views

REACH_M = 0.015
"""How far a gel may sit from where the rig has it."""
CONFIRMS = 0.7
"""Overlap of a region with the one that another picture's guess predicts."""
MIN_AGREEING = 0.5
ROUNDS, SETTLED_M = 6, 5e-5
"""Edges are looked for along the fitted box, and the box is fitted to the edges, until it stays."""
MAX_RMS_PX, MAX_RMS_SHARE = 0.85, 0.02
"""Distances of edges from the box: a gel has straight edges; on a small one by its own size."""
MIN_SUPPORT = 0.55
MAX_SIZE_CHANGE = 0.25
"""Housings are larger than gels by a third and more; a gel that is measured again is not."""
SUPPORT_COST_PX, SHIFT_M = 4.0, 0.008
"""A tenth of the outline without an edge is as bad as .4 px, and so is a place that is 3 mm off the rig's."""
MISSING_COST_PX = 2.0
CLEARLY_PX = 0.25
APART_M = 0.004
"""Two things lie further apart than this; box and face of one gel do not."""
STRAY_PX, STRAY = 1.0, 3.0
MAX_GUESSES, SAME_M = 4, 0.005
MIN_AREA_PX2 = 60.0
MAX_PIXEL = 2e4
"""Beyond this a box is nowhere near the picture, and maps of pixels overflow."""


@dataclass(frozen=True, eq=False)
class GelPicture:
    """One picture RGB (H, W, 3) and where the sensor's finger was."""

    view: TouchView
    image: Image


@dataclass(frozen=True, eq=False)
class _Guess:
    """A box fitted to the edges along it in some pictures; the smaller `cost` [px], the better."""

    fit: BoxFit
    outlines: list[Outline]
    rms_px: float
    support: float
    cost: float


def search_gel(
    rig: Rig, camera: str, name: str, pictures: Sequence[GelPicture], *, fit_size: bool = True
) -> list[Outline]:
    """Return the outline of one sensor in the pictures that show it.

    Args:
        rig: Where the gel should be, give or take `REACH_M`.
        camera: Which camera took the pictures.
        name: The sensor.
        pictures: At several openings; more than half must show it.
        fit_size: False where width and height of the rig are known to be right.

    Raises:
        CalibrationError: Nothing convincing is there, or two things are equally so.
    """
    spec = rig.tactile[name]
    search = _Search(
        rig.geometry.camera(camera),
        np.asarray(spec.T_mount_sensor),
        np.array(spec.size_m),
        pictures,
        fit_size,
    )
    guesses = sorted(search.guesses(name), key=lambda guess: guess.cost)
    best = guesses[0]
    _check(name, best, search.width_px(best), search.size_m)
    for other in guesses[1:]:
        if other.cost < best.cost + CLEARLY_PX and search.differs(best, other):
            raise CalibrationError(
                f"{name}: two things in {camera} look like its gel, {1e3 * search.shift_m(best.fit):.1f} mm "
                f"and {1e3 * search.shift_m(other.fit):.1f} mm from where the rig has it; click its corners"
            )
    return best.outlines


def _check(name: str, guess: _Guess, width_px: float, size_m: FloatArray) -> None:
    """Refuse what is no straight-edged thing, has hardly an edge, or is of another size than the gel."""
    width, height = 1e3 * guess.fit.size_m[:2]
    if np.abs(guess.fit.size_m[:2] / size_m[:2] - 1).max() > MAX_SIZE_CHANGE:
        raise CalibrationError(
            f"{name}: not found: the likeliest region is {width:.1f} x {height:.1f} mm, the rig says "
            f"{1e3 * size_m[0]:.1f} x {1e3 * size_m[1]:.1f}; its housing? give --pad if the rig is wrong"
        )
    allowed = max(MAX_RMS_PX, MAX_RMS_SHARE * width_px)
    if guess.rms_px > allowed:
        raise CalibrationError(
            f"{name}: not found: the likeliest region lies {guess.rms_px:.1f} px (RMS) off any box of its "
            f"size, expected {allowed:.1f} at most; click its corners instead"
        )
    if guess.support < MIN_SUPPORT:
        raise CalibrationError(
            f"{name}: not found: {guess.support:.0%} of the likeliest outline has a clear edge, expected "
            f"{MIN_SUPPORT:.0%}; give more light, or click its corners instead"
        )


@dataclass(frozen=True, eq=False)
class _Search:
    lens: Camera
    T_mount: FloatArray
    size_m: FloatArray
    pictures: Sequence[GelPicture]
    fit_size: bool

    def guesses(self, name: str) -> list[_Guess]:
        """Return what enough pictures agree on.

        Raises:
            CalibrationError: Nothing.
        """
        needed = max(MIN_OUTLINES, int(np.ceil(MIN_AGREEING * len(self.pictures))))
        thicknesses = tuple(dict.fromkeys((float(self.size_m[2]), 0.0)))
        regions = [self._regions(picture, thicknesses) for picture in self.pictures]
        found, most = list[_Guess](), 0
        for thickness in thicknesses:
            for shift in self._agreed(regions, thickness):
                guess = self._fitted(regions, shift, thickness)
                most = max(most, len(guess.outlines))
                if len(guess.outlines) >= needed:
                    found.append(guess)
        if not found:
            seen = sum(bool(several) for several in regions)
            raise CalibrationError(
                f"{name}: not found: {seen} of {len(self.pictures)} pictures show a region of one colour, "
                f"shaped like the gel, within {1e3 * REACH_M:.0f} mm of where the rig has it, and {most} "
                f"agree on its place, expected {needed}. Its colour must differ from what is around it, it "
                "must be lit and whole in the picture, the gripper open; or click its corners"
            )
        return found

    def _hull(self, view: TouchView, shift: FloatArray, thickness: float) -> FloatArray | None:
        return box_hull(
            view, self.lens, from_translation(shift) @ self.T_mount, np.array([*self.size_m[:2], thickness])
        )

    def _regions(self, picture: GelPicture, thicknesses: Sequence[float]) -> list[Region]:
        hulls = [self._hull(picture.view, np.zeros(3), thickness) for thickness in thicknesses]
        shapes = [hull for hull in hulls if hull is not None]
        if not shapes or area(shapes[0]) < MIN_AREA_PX2:
            return []
        px_per_m = np.sqrt(area(shapes[0]) / (self.size_m[0] * self.size_m[1]))
        return find_regions(picture.image, shapes, float(REACH_M * px_per_m))

    def _agreed(self, regions: list[list[Region]], thickness: float) -> list[FloatArray]:
        """Return shifts in the flange (3,) [m] by how well pictures confirm them, different ones only."""
        voted = []
        for picture, several in zip(self.pictures, regions, strict=True):
            for region in several:
                shift = self._shift_of(picture.view, region, thickness)
                if shift is not None:
                    voted.append((self._votes(regions, shift, thickness), shift))
        voted.sort(key=lambda pair: -pair[0])
        chosen: list[FloatArray] = []
        for votes, shift in voted:
            if votes < CONFIRMS or len(chosen) == MAX_GUESSES:
                break
            if all(np.linalg.norm(shift - other) > SAME_M for other in chosen):
                chosen.append(shift)
        return chosen

    def _shift_of(self, view: TouchView, region: Region, thickness: float) -> FloatArray | None:
        """Return the shift (3,) [m] that puts the box where one region is, as near as its size says."""
        expected = self._hull(view, np.zeros(3), thickness)
        if expected is None:
            return None
        T = view.T_camera_flange @ from_translation(view.opening_m * view.slide) @ self.T_mount
        centre = T[:3, 3]
        off_middle = self.lens.project(centre[None])[0] - middle(expected)
        ray = self.lens.rays(middle(region.hull) + off_middle)
        nearer = np.sqrt(area(region.hull) / area(expected))
        placed = ray * (np.linalg.norm(centre) / nearer / np.linalg.norm(ray))
        shift = view.T_camera_flange[:3, :3].T @ (placed - centre)
        return shift if np.linalg.norm(shift) < 2 * REACH_M else None

    def _votes(self, regions: list[list[Region]], shift: FloatArray, thickness: float) -> float:
        """Return the sum over pictures of how well some region overlaps the shifted box."""
        votes = 0.0
        for picture, several in zip(self.pictures, regions, strict=True):
            hull = self._hull(picture.view, shift, thickness)
            if hull is not None and several:
                best = max(overlap(hull, region.hull) for region in several)
                votes += best if best >= CONFIRMS else 0.0
        return votes

    def _fitted(self, regions: list[list[Region]], shift: FloatArray, thickness: float) -> _Guess:
        """Return the box fitted to the regions that agree, then to the edges along it in every picture."""
        outlines = []
        for picture, several in zip(self.pictures, regions, strict=True):
            hull = self._hull(picture.view, shift, thickness)
            if hull is None or not several:
                continue
            region = max(several, key=lambda one: overlap(hull, one.hull))
            if overlap(hull, region.hull) >= CONFIRMS:
                outlines.append(Outline(picture.view, region.points, thickness))
        fit = self._fit(from_translation(shift) @ self.T_mount, self.size_m, outlines)
        for _ in range(ROUNDS):
            outlines = self._tracked(fit, thickness)
            if len(outlines) < MIN_OUTLINES:
                break
            before = fit.T_mount_sensor[:3, 3]
            fit = self._fit(fit.T_mount_sensor, fit.size_m, outlines)
            outlines, fit = self._without_strays(outlines, fit)
            if np.linalg.norm(fit.T_mount_sensor[:3, 3] - before) < SETTLED_M:
                break
        rms_px = float(np.sqrt(np.mean(np.concatenate(fit.left) ** 2)))
        support = float(np.mean([outline.support for outline in outlines])) if outlines else 0.0
        missing = 1 - len(outlines) / len(self.pictures)
        cost = rms_px + SUPPORT_COST_PX * (1 - support) + MISSING_COST_PX * missing
        return _Guess(fit, outlines, rms_px, support, cost + self.shift_m(fit) / SHIFT_M)

    def _fit(self, T: FloatArray, size: FloatArray, outlines: Sequence[Outline]) -> BoxFit:
        return fit_box(self.lens, T, size, outlines, fit_size=self.fit_size)

    def _tracked(self, fit: BoxFit, thickness: float) -> list[Outline]:
        """Return the edges along the fitted box in all pictures that show enough of them."""
        outlines = []
        for picture in self.pictures:
            size = np.array([*fit.size_m[:2], thickness])
            hull = box_hull(picture.view, self.lens, fit.T_mount_sensor, size)
            if hull is not None and np.abs(hull).max() < MAX_PIXEL:
                points, support = edges_along(picture.image, hull)
                if support >= MIN_SUPPORT / 2:
                    outlines.append(Outline(picture.view, points, thickness, support))
        return outlines

    def _without_strays(self, outlines: list[Outline], fit: BoxFit) -> tuple[list[Outline], BoxFit]:
        """Leave out pictures whose edges contradict those of the others."""
        rms = np.array([np.sqrt(np.mean(left**2)) for left in fit.left])
        is_good = rms <= max(STRAY_PX, STRAY * float(np.median(rms)))
        kept = [outline for outline, good in zip(outlines, is_good, strict=True) if good]
        if len(kept) == len(outlines) or len(kept) < MIN_OUTLINES:
            return outlines, fit
        return kept, self._fit(fit.T_mount_sensor, fit.size_m, kept)

    def shift_m(self, fit: BoxFit) -> float:
        """Return how far a fitted box lies from where the rig has it [m]."""
        return float(np.linalg.norm(fit.T_mount_sensor[:3, 3] - self.T_mount[:3, 3]))

    def differs(self, first: _Guess, second: _Guess) -> bool:
        """Tell whether two guesses are two things."""
        apart = first.fit.T_mount_sensor[:3, 3] - second.fit.T_mount_sensor[:3, 3]
        return float(np.linalg.norm(apart)) > APART_M

    def width_px(self, guess: _Guess) -> float:
        """Return about how wide a gel is in the pictures."""
        return float(np.sqrt(area(self._seen(guess))))

    def _seen(self, guess: _Guess) -> FloatArray:
        hull = box_hull(guess.outlines[0].view, self.lens, guess.fit.T_mount_sensor, guess.fit.size_m)
        return convex_hull(guess.outlines[0].points) if hull is None else hull


def find_outlines(
    rig: Rig, camera: str, folder: Path, sensor: str, *, fit_size: bool = True
) -> list[Outline]:
    """Return the outlines of a sensor in the samples of a folder.

    Raises:
        CalibrationError: It is not found; says why.
    """
    images = {sample.image: sample for sample in load_samples(folder).samples}
    views = finger_views(rig, camera, folder, sensor)
    pictures = [GelPicture(view, read_sample(folder, images[view.click.image])) for view in views]
    return search_gel(rig, camera, sensor, pictures, fit_size=fit_size)


def outlines_of_arm(
    rig: Rig, camera: str, folder: Path, *, fit_size: bool = True
) -> tuple[dict[str, list[Outline]], list[CalibrationError]]:
    """Return {sensor: its outlines} of the arm that moved, and why a sensor has none."""
    arm, found, problems = load_samples(folder).arm, {}, list[CalibrationError]()
    for name, spec in rig.tactile.items():
        if spec.mount.startswith(f"{arm}."):
            try:
                found[name] = find_outlines(rig, camera, folder, name, fit_size=fit_size)
            except CalibrationError as problem:
                problems.append(problem)
    return found, problems
