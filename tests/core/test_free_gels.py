"""The untouched gels of a run: taken at its start, refused when touched; other gels do not move the input."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_bundles import manifest_for, policy_bundle

from tacit.bundle.runtime import Observation, OnnxPolicy
from tacit.control.free_gels import FreeGels
from tacit.errors import BundleError
from tacit.images import Image, encode_png
from tacit.rig import Rig

OPEN, CLOSED = np.append(np.zeros(6), 0.06), np.append(np.zeros(6), 0.02)


def gel(height: int, width: int, pressed: float = 0.0) -> Image:
    """A gel lit from one side, with a dent of `pressed` grey levels."""
    y, x = np.mgrid[:height, :width] / [[[height]], [[width]]]
    dent = np.exp(-((x - 0.5) ** 2 + (y - 0.4) ** 2) / 0.01)
    light = 90 + 60 * x - 20 * y + pressed * dent
    return np.stack([light, light * 0.8, 200 - light], axis=-1).astype(np.uint8)


def another(image: Image) -> Image:
    """The same through a replaced gel: other colours, and warmer lamps."""
    return np.clip(image * np.array([1.15, 0.9, 1.0]) + [12, -8, 20], 0, 255).astype(np.uint8)


def of_run() -> dict[str, object]:
    png = base64.b64encode(encode_png(gel(30, 40)).tobytes()).decode()
    return {"touch_reference": "run", "free_gels": {"left": png}}


def test_a_free_gel_is_taken_whatever_its_colour_and_a_touched_one_refused(rig: Rig) -> None:
    gels = FreeGels(rig, manifest_for(rig, **of_run()))
    for touched in (gel(60, 80, 60), another(gel(60, 80, 60))):
        assert "left is touched" in str(gels.take(OPEN, {"left": touched}))
        assert gels.images == {}
    assert gels.take(OPEN, {"left": another(gel(60, 80))}) is None
    assert np.array_equal(gels.images["left"], another(gel(60, 80)))


def test_a_closed_gripper_is_refused_unless_the_gels_are_known_from_before(rig: Rig) -> None:
    gels = FreeGels(rig, manifest_for(rig, **of_run()))
    assert "open by 20 mm; a run begins" in str(gels.take(CLOSED, {"left": gel(60, 80)}))
    assert gels.take(OPEN, {"left": gel(60, 80)}) is None
    assert gels.take(CLOSED, {"left": gel(60, 80, 60)}) is None
    assert np.array_equal(gels.images["left"], gel(60, 80))
    assert FreeGels(rig, manifest_for(rig)).take(CLOSED, {}) is None  # a bundle with the gels of training


def test_another_gel_does_not_move_the_input_of_the_network(rig: Rig, tmp_path: Path) -> None:
    policy = OnnxPolicy(policy_bundle(tmp_path, rig, **of_run()), rig)
    free = {"left": gel(60, 80)}
    seen = Observation(0, OPEN, {"wrist": np.zeros((120, 160, 3), np.uint8)}, free, free)
    swapped = {"left": another(gel(60, 80))}
    grey = policy.graph.inputs(seen)["touch.left"]
    assert (grey == 128).all()
    moved = policy.graph.inputs(replace(seen, touch=swapped, references=swapped))["touch.left"]
    assert np.array_equal(moved, grey)
    pressed = policy.graph.inputs(replace(seen, touch={"left": gel(60, 80, 60)}))["touch.left"]
    assert pressed.max() > 160
    with pytest.raises(BundleError, match="none was taken; start the run with the gripper open"):
        policy.act(replace(seen, references={}))


def test_an_older_bundle_keeps_its_digest_and_a_half_one_is_refused(rig: Rig) -> None:
    assert "touch_reference" not in manifest_for(rig).text() and "free_gels" not in manifest_for(rig).text()
    assert manifest_for(rig, **of_run()).expected_digest() != manifest_for(rig).expected_digest()
    with pytest.raises(ValueError, match="free_gels must hold a picture of each sensor"):
        manifest_for(rig, touch_reference="run")
