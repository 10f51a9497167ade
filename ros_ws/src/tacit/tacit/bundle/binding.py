"""Does this bundle belong on this rig? Joints and cameras bind by name, calibration by number.

`bind` is the contract gate: it runs once, at load, and its message names the field that differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.bundle.manifest import Manifest
from tacit.errors import BundleError, did_you_mean
from tacit.geometry.transforms import FloatArray
from tacit.rig import Rig, SafetySpec, is_depth

INTRINSICS_RELATIVE = 0.005
"""Accepted relative change of fx, fy, cx, cy: half a percent moves an edge pixel of VGA by under 2 px."""

NUMBER_TOLERANCE = 1e-4
"""Accepted change of any other geometric number (joint offsets [rad], sizes [m], distortion)."""

SCALE, SCALE_RELATIVE = "scale", 1e-3
"""Metres per count of a gripper's driver may be some 1e-4 themselves: only their ratio says something."""


@dataclass(frozen=True)
class Binding:
    """How rig vectors map to bundle vectors, by name.

    `state_from_rig[i]` is the place in the rig's state of the bundle's i-th state element;
    `action_to_rig[i]` is the place in the bundle's action of the rig's i-th element.
    """

    state_from_rig: tuple[int, ...]
    action_to_rig: tuple[int, ...]

    def state(self, rig_state: NDArray[Any]) -> NDArray[Any]:
        """Return a rig state (..., S) in the bundle's order."""
        return rig_state[..., list(self.state_from_rig)]

    def action(self, bundle_action: NDArray[Any]) -> NDArray[Any]:
        """Return bundle actions (..., A) in the order of the rig's state names."""
        return bundle_action[..., list(self.action_to_rig)]


def bind(manifest: Manifest, rig: Rig) -> Binding:
    """Check every name, image size and calibration number of a bundle against a rig.

    Raises:
        BundleError: The first thing that does not fit: field, found, expected, cure.
    """
    source = f"bundle for {manifest.rig_name} on rig {rig.name}"
    state = _permutation(rig.state_names, manifest.state_names, f"{source}: state_names")
    action = tuple(range(len(rig.state_names)))
    if manifest.kind == "act_hsa":
        action = _permutation(manifest.action_names, rig.state_names, f"{source}: action_names")
    for label, wanted, present in (
        ("cameras", manifest.cameras, rig.cameras),
        ("touch", manifest.touch, rig.gels),
    ):
        for name, image in wanted.items():
            if name not in present:
                raise BundleError(f"{source}: {label}.{name}: {did_you_mean(name, present)}")
            if is_depth(present[name]) != (image.depth_range_m is not None):
                trained, given = ("colour", "depth") if is_depth(present[name]) else ("depth", "colour")
                raise BundleError(
                    f"{source}: {label}.{name}: the rig gives {given}, the bundle was trained on {trained}; "
                    "set `kind` of the camera, or retrain"
                )
            found = (present[name].height, present[name].width)
            expected = (image.source_height, image.source_width)
            if found != expected:
                raise BundleError(
                    f"{source}: {label}.{name}: the rig gives {found[0]}x{found[1]} (h x w), the bundle "
                    f"was trained on {expected[0]}x{expected[1]}; set the camera or retrain"
                )
    for name, taxels in manifest.taxels.items():
        if name not in rig.taxels:
            raise BundleError(f"{source}: taxels.{name}: {did_you_mean(name, rig.taxels)}")
        array = rig.taxels[name].array
        told = (array.shape, array.unit, array.range)
        if told != (taxels.shape, taxels.unit, taxels.range):
            raise BundleError(
                f"{source}: taxels.{name}: the rig gives {told}, the bundle was trained on "
                f"{(taxels.shape, taxels.unit, taxels.range)}; correct `array` in the rig, or retrain"
            )
    if manifest.calibration_id != rig.calibration_id:
        _check_calibration(manifest, rig, source)
    return Binding(state, action)


def _permutation(have: Sequence[str], want: Sequence[str], where: str) -> tuple[int, ...]:
    """Return for each wanted name its place in `have`; the sets must be equal."""
    for missing in (name for name in want if name not in have):
        raise BundleError(f"{where}: no joint {missing!r}; {did_you_mean(missing, have)}")
    for extra in (name for name in have if name not in want):
        raise BundleError(f"{where}: joint {extra!r} is not expected; {did_you_mean(extra, want)}")
    return tuple(list(have).index(name) for name in want)


def _check_calibration(manifest: Manifest, rig: Rig, source: str) -> None:
    """Compare the geometry this bundle uses, number by number, within the rig's tolerances."""
    for path, trained, actual in _pairs(manifest.calibration, rig.calibration, ()):
        if _is_used(path, manifest):
            problem = _difference(path, trained, actual, rig.safety)
            if problem:
                raise BundleError(
                    f"{source}: calibration.{'.'.join(path)}: {problem}; recalibrate, or retrain on this rig"
                )


def _is_used(path: Sequence[str], manifest: Manifest) -> bool:
    """Cameras and touch that are no input of the bundle may differ."""
    felt: dict[str, object] = {**manifest.touch, **manifest.taxels}
    groups: Mapping[str, Mapping[str, object]] = {"cameras": manifest.cameras, "tactile": felt}
    return path[0] not in groups or len(path) < 2 or path[1] in groups[path[0]]


def _pairs(a: Any, b: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Walk two JSON trees side by side; yield leaves (arrays of numbers are leaves)."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in sorted({*a, *b}):
            yield from _pairs(a.get(key), b.get(key), (*path, str(key)))
    elif _is_list_of_mappings(a) and _is_list_of_mappings(b) and len(a) == len(b):
        for index, (left, right) in enumerate(zip(_by_name(a), _by_name(b), strict=True)):
            yield from _pairs(left, right, (*path, str(left.get("name", index))))
    else:
        yield path, a, b


def _is_list_of_mappings(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and isinstance(value[0], Mapping)


def _by_name(items: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Joints bind by name: their order in a file is not geometry (rows of a DH table keep theirs)."""
    return (
        sorted(items, key=lambda item: str(item["name"])) if all("name" in i for i in items) else list(items)
    )


def _difference(path: Sequence[str], trained: Any, actual: Any, safety: SafetySpec) -> str | None:
    """Say how two leaves differ, or None when they agree within the tolerance of their kind."""
    left, right = _numbers(trained), _numbers(actual)
    if left is None or right is None or left.shape != right.shape:
        return None if trained == actual else f"is {actual!r:.60}, trained on {trained!r:.60}"
    if left.shape == (4, 4):
        return _pose_difference(left, right, safety)
    tolerance = INTRINSICS_RELATIVE * np.abs(left).max() if path[-1] == "K" else NUMBER_TOLERANCE
    if path[-1] == SCALE:
        tolerance = SCALE_RELATIVE * np.abs(left).max()
    largest = float(np.abs(left - right).max(initial=0.0))
    return None if largest <= tolerance else f"differs by {largest:.4g}, allowed {tolerance:.4g}"


def _numbers(value: Any) -> FloatArray | None:
    if isinstance(value, bool | str | Mapping) or value is None:
        return None
    try:
        return np.asarray(value, dtype=np.float64)
    except (ValueError, TypeError):
        return None


def _pose_difference(trained: FloatArray, actual: FloatArray, safety: SafetySpec) -> str | None:
    moved = float(np.linalg.norm(trained[:3, 3] - actual[:3, 3]))
    cosine = (np.trace(trained[:3, :3].T @ actual[:3, :3]) - 1) / 2
    turned = float(np.rad2deg(np.arccos(np.clip(cosine, -1, 1))))
    if moved <= safety.calibration_translation_m and turned <= safety.calibration_rotation_deg:
        return None
    return (
        f"moved by {1000 * moved:.1f} mm and {turned:.2f} deg, allowed "
        f"{1000 * safety.calibration_translation_m:.1f} mm and {safety.calibration_rotation_deg:.2f} deg"
    )
