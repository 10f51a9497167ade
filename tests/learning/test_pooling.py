"""Tokens inside a box: weights are covered areas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tacit_learning.layers.pooling import PIXEL_CENTRE, dilate, pool, token_weights

GOLDEN = np.load(Path(__file__).parents[1] / "data" / "hsa.npz", allow_pickle=False)


def golden_weights() -> torch.Tensor:
    boxes = torch.from_numpy(GOLDEN["tokens__boxes_640x480"])
    scale = torch.tensor([224 / 640, 224 / 480, 224 / 640, 224 / 480], dtype=torch.float64)
    return token_weights(boxes * scale, (224, 224), (14, 14))


def test_weights_meet_the_golden_areas() -> None:
    expected = torch.from_numpy(GOLDEN["tokens__S224_p16__area_weights"])
    torch.testing.assert_close(golden_weights(), expected, rtol=0, atol=1e-9)


def test_a_box_covers_the_tokens_it_overlaps_and_none_when_it_is_outside() -> None:
    weights = golden_weights()
    assert torch.equal(weights > 0, torch.from_numpy(GOLDEN["tokens__S224_p16__hard_mask_any_overlap"]))
    visible = torch.from_numpy(GOLDEN["tokens__S224_p16__visible"])
    torch.testing.assert_close(weights.sum((1, 2)), visible.double())


@given(st.tuples(*[st.floats(-20, 80) for _ in range(4)]))
def test_weights_sum_to_one_or_are_all_zero(box: tuple[float, ...]) -> None:
    total = float(token_weights(torch.tensor([box], dtype=torch.float64), (48, 64), (3, 4)).sum())
    assert total == pytest.approx(0, abs=1e-9) or total == pytest.approx(1, abs=1e-9)


def test_weights_equal_counting_fine_pixels() -> None:
    box = torch.tensor([[10.3, 5.7, 41.2, 30.1]], dtype=torch.float64)
    fine = 100
    y, x = torch.meshgrid(torch.arange(48 * fine), torch.arange(64 * fine), indexing="ij")
    y, x = (y + 0.5) / fine, (x + 0.5) / fine
    inside = (x >= 10.3) & (x < 41.2) & (y >= 5.7) & (y < 30.1)
    cells = inside.view(3, 16 * fine, 4, 16 * fine).double().sum((1, 3))
    torch.testing.assert_close(
        token_weights(box, (48, 64), (3, 4))[0], cells / cells.sum(), rtol=0, atol=1e-4
    )


def test_a_missing_box_has_no_weight() -> None:
    assert token_weights(torch.full((1, 4), float("nan")), (8, 8), (2, 2)).sum() == 0


def test_box_of_one_pixel_has_edges_half_a_pixel_around_its_centre() -> None:
    box = torch.tensor([2.5, 2.5, 3.5, 3.5]) + PIXEL_CENTRE
    weights = token_weights(box[None], (8, 8), (8, 8))
    assert weights[0, 3, 3] == 1


def test_dilation_moves_every_edge_outwards() -> None:
    grown = dilate(torch.tensor([10.0, 20.0, 30.0, 40.0]), (2.0, 3.0))
    assert grown.tolist() == [7.0, 18.0, 33.0, 42.0]


def test_pool_of_a_constant_is_that_constant() -> None:
    tokens = torch.full((2, 12, 5), 3.0)
    weights = token_weights(torch.tensor([[1.0, 1.0, 40.0, 30.0]] * 2), (48, 64), (3, 4))
    torch.testing.assert_close(pool(tokens, weights), torch.full((2, 5), 3.0))
