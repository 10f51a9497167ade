"""Whether tokens are told where hands and objects are, by the camera and by their place in the picture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_vace_e import REFERENCE, drawn_inputs, make, run

from benches.control_clips import CAMERA, FRAMES, HEIGHT, WIDTH, draw_truth, make_episode
from tacit_learning.vace_e.config_model import preset
from tacit_learning.vace_e.data.prompts import Metadata, camera_of, seen_through
from tacit_learning.vace_e.data.windows import fit_video
from tacit_learning.vace_e.model.encoders import waves
from tacit_learning.vace_e.model.pointing import Places, Pointer, frame_times, places_of
from tacit_learning.vace_e.model.signals import Signals, random_signals

POSE = [[0.0, -1.0, 0.0, 0.3], [-1.0, 0.0, 0.0, 0.1], [0.0, 0.0, -1.0, 1.2], [0.0, 0.0, 0.0, 1.0]]
LOOKING_DOWN = {
    "width": 64,
    "height": 48,
    "K": [[60.0, 0, 31], [0, 61.0, 22], [0, 0, 1]],
    "T_world_camera": POSE,
}


def metadata(cameras: object, named: object = None) -> Metadata:
    task = {"task_type": "push", "embodiment_type": "arm"}
    facts = {"cameras": cameras} | ({} if named is None else {"embodiment_type_camera": named})
    return Metadata.model_validate({"metadata": facts, "per_task_attributes": {"push": task}})


@pytest.fixture
def signals() -> Signals:
    """The hand and the block of a drawn clip, as its files tell them."""
    episode = make_episode(draw_truth(0, 1))
    found = random_signals(1, preset("tiny").encoders, 8, 3, rows=FRAMES, objects=1)
    motion, valid = torch.zeros(1, FRAMES, 20), torch.zeros(1, FRAMES, 20, dtype=torch.bool)
    motion[0, :, 9:12] = torch.from_numpy(episode.hands["right"].positions)
    valid[..., 9:18] = True
    objects = torch.zeros(1, 1, FRAMES, 9)
    objects[0, 0, :, :3] = torch.from_numpy(episode.objects[0].positions)
    drawn = camera_of(metadata({"top": CAMERA}), "push")
    assert drawn is not None
    camera = torch.from_numpy(seen_through(drawn, (HEIGHT, WIDTH), (HEIGHT, WIDTH)))[None]
    return replace(found, motion=motion, motion_valid=valid, objects=objects, camera=camera)


@pytest.mark.parametrize(
    ("video", "window"), [((48, 64), (48, 64)), ((96, 128), (32, 64)), ((48, 64), (64, 48))]
)
def test_a_point_of_the_world_is_where_the_cut_picture_shows_it(
    video: tuple[int, int], window: tuple[int, int]
) -> None:
    camera = camera_of(metadata({"top": LOOKING_DOWN}), "push")
    assert camera is not None
    point = np.array([0.35, 0.12, 0.2])
    p_camera = np.linalg.inv(np.array(POSE)) @ [*point, 1]
    x, y = (np.array(LOOKING_DOWN["K"]) @ p_camera[:3])[:2] / p_camera[2]  # whole pixels have their middles
    rows, columns = np.mgrid[: video[0], : video[1]]
    scale = video[0] / 48
    centre = scale * (x + 0.5) - 0.5, scale * (y + 0.5) - 0.5
    dot = np.exp(-((columns - centre[0]) ** 2 + (rows - centre[1]) ** 2) / (2 * (2 * scale) ** 2))
    picture = fit_video(np.repeat((250 * dot)[None, ..., None], 3, -1).astype(np.uint8), *window)[0, ..., 0]
    weight = picture.astype(float) * (picture > 20)
    rows, columns = np.mgrid[: window[0], : window[1]]
    shown = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
    told = seen_through(camera, video, window) @ [*point, 1]
    np.testing.assert_allclose(told[:2] / told[2] * window[::-1] - 0.5, shown, atol=0.15)


@pytest.mark.parametrize(
    ("cameras", "named"),
    [
        ({"top": {"width": 64, "height": 48}}, None),
        ({"top": LOOKING_DOWN, "side": LOOKING_DOWN}, None),
        ({"top": LOOKING_DOWN}, {"arm": "side"}),
        ({"top": {**LOOKING_DOWN, "K": [[1.0]]}}, None),
        ({"top": None}, {"arm": ["top"]}),
        ([LOOKING_DOWN], None),
    ],
)
def test_metadata_that_leave_the_camera_open_name_none(cameras: object, named: object) -> None:
    assert camera_of(metadata(cameras, named), "push") is None
    assert camera_of(metadata({"top": LOOKING_DOWN}), "other") is None
    both = {"top": LOOKING_DOWN, "side": LOOKING_DOWN}
    assert camera_of(metadata(both, {"arm": ["side"]}), "push") is not None


def test_the_points_of_a_clip_are_where_it_was_drawn(signals: Signals) -> None:
    places, truth = places_of(signals), draw_truth(0, 1)
    moments = frame_times(3).long()
    assert moments.tolist() == [[0, 0, 0, 0], [1, 2, 3, 4], [5, 6, 7, 8]]
    pixels = places.values[0] * torch.tensor([WIDTH, HEIGHT]) - 0.5
    np.testing.assert_allclose(pixels[1].numpy(), truth.hand[moments], atol=0.05)
    np.testing.assert_allclose(pixels[2].numpy(), truth.block[moments], atol=0.05)
    assert places.seen[0].flatten(1).all(1).tolist() == [False, True, True]


def test_nothing_is_seen_of_what_is_absent_unknown_or_behind(signals: Signals) -> None:
    assert places_of(signals.without(["motion"])).seen[0, :, 0, 0].tolist() == [False, False, True]
    assert not places_of(signals.without(["objects"])).seen[0, 2].any()
    assert not places_of(replace(signals, camera=torch.zeros(1, 3, 4))).seen.any()
    assert not places_of(replace(signals, camera=-signals.camera)).seen.any()
    late = replace(signals, motion_times=signals.motion_times + 3)
    assert places_of(late).seen[0, 1].flatten().tolist() == [False] * 4 + [True] * 8


def test_tokens_as_far_from_a_point_are_told_the_same() -> None:
    torch.manual_seed(0)
    pointer, grid = Pointer(16), (3 + REFERENCE, 4, 6)
    places = torch.rand(1, 1, 3, 4, 2) / 2
    seen, kinds = torch.ones(1, 1, 3, 4, dtype=torch.bool), torch.ones(1, 1, dtype=torch.long)
    here = pointer(Places(places, seen, kinds), grid).unflatten(1, grid)
    there = pointer(Places(places + torch.tensor([1 / 6, 1 / 4]), seen, kinds), grid).unflatten(1, grid)
    torch.testing.assert_close(there[:, REFERENCE:, 1:, 1:], here[:, REFERENCE:, :-1, :-1], atol=1e-5, rtol=0)
    assert not here[:, :REFERENCE].any() and here[:, REFERENCE:].any()
    assert not pointer(Places(places, ~seen, kinds), grid).any()
    two = Places(*(torch.cat([each, each], 1) for each in (places, seen, kinds)))
    torch.testing.assert_close(pointer(two, grid).unflatten(1, grid), 2 * here)


@pytest.mark.parametrize("injection", ["adapter", "context"])
def test_the_camera_says_where_a_motion_is_drawn(injection: str) -> None:
    inputs, model = drawn_inputs(), make(injection, awake=True)
    moved = inputs.signals.camera + torch.tensor([0.0, 0, 0, 0.2]).view(1, 1, 4)
    other = inputs._replace(signals=replace(inputs.signals, camera=moved))
    assert not run(model, inputs).equal(run(model, other))
    unheard = other._replace(signals=other.signals.without(["motion", "objects"]))
    told = inputs._replace(signals=inputs.signals.without(["motion", "objects"]))
    assert run(model, told).equal(run(model, unheard))


def test_equal_tokens_differ_by_their_place_alone() -> None:
    inputs, model = drawn_inputs(), make(awake=True)
    flat = inputs._replace(
        latents=torch.ones_like(inputs.latents),
        control=torch.ones_like(inputs.control),
        signals=inputs.signals.without(["motion", "objects"]),
    )
    base, drawn = (run(model, flat, base=base)[:, :, -1].unflatten(-1, (-1, 2)) for base in (True, False))
    assert base.std(dim=3).max() < 1e-4 < 1e-3 < drawn.std(dim=3).max()


def test_a_linear_layer_finds_a_place_by_the_waves_of_a_number_and_not_by_the_number() -> None:
    metres = torch.linspace(-0.4, 0.4, 400)[:, None]
    bump = torch.exp(-((metres - 0.13) ** 2) / (2 * 0.03**2))
    valid = torch.ones_like(metres, dtype=torch.bool)
    left = [
        (bump - x @ torch.linalg.lstsq(x, bump).solution).square().mean() / bump.var()
        for x in (waves(metres, valid), torch.cat([metres, torch.ones_like(metres)], 1))
    ]
    assert left[0] < 0.2 < 0.8 < left[1]
    assert not waves(torch.full((1, 2), torch.nan), torch.zeros(1, 2, dtype=torch.bool)).any()
