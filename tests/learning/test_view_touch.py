"""`tacit view touch`: heat lies where the touch is most alike, beside the box and the numbers."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_world import tiny_config, tiny_table

from tacit.errors import ConfigError
from tacit_learning.act_hsa.evaluate import INPUTS
from tacit_learning.act_hsa.train import Tables, load_policy, train_on_tables, windows_of
from tacit_learning.act_hsa.view_actions import courses, error_by_step
from tacit_learning.act_hsa.view_touch import main, make_page, overlay
from tacit_learning.engine.tracking import SilentReporter


def test_heat_is_hottest_at_the_token_that_is_most_alike() -> None:
    values = np.zeros((4, 4), np.float32)
    values[1, 2] = 1.0
    shown = overlay(np.full((32, 32, 3), 128, np.uint8), values, np.array([2.0, 20.0, 6.0, 28.0], np.float32))
    assert shown.shape == (320, 320, 3)
    redness = shown[..., 0].astype(int) - shown[..., 2]
    cells = np.median(redness.reshape(4, 80, 4, 80), axis=(1, 3))
    assert np.unravel_index(int(cells.argmax()), cells.shape) == (1, 2)
    edge = shown[200:280, 20].reshape(-1, 3)  # the left side of the box, where no heat is
    assert (np.abs(edge.astype(int) - shown[240, 40]) > 30).any(axis=1).mean() > 0.9


def test_a_page_shows_held_out_frames_and_a_run_without_alignment_is_refused(tmp_path: Path) -> None:
    for name, weight in (("with", 0.5), ("without", 0.0)):
        config = tiny_config(tmp_path / name, hsa__weight=weight, train__steps=1)
        train_on_tables(config, Tables(tiny_table(2), None), SilentReporter())
    trained, state = load_policy(tmp_path / "with"), torch.get_rng_state()
    table = tiny_table(2, seed=5)
    html = make_page(trained, table, 3, "held-out").html()
    assert "Error by horizon and joint" in html
    assert html.count(">demonstrated<") == 2 * 7, "of each joint, at the line and in the legend"
    batch = windows_of(trained.config, table).__getitems__([3, 29])
    predicted, true = courses(trained.policy, [batch])
    np.testing.assert_array_equal(true, table.action[[3, 29]])
    errors = error_by_step(trained.policy, [batch])
    deviation = trained.policy.action_std.numpy()
    np.testing.assert_allclose(errors[0], (np.abs(predicted - true) / deviation).mean(0), rtol=1e-4)
    last = trained.policy.predict(*(batch[key][:1] for key in INPUTS))[0, 4].detach().numpy()
    # the second frame is the last of its episode: it has no fifth step
    np.testing.assert_allclose(errors[4], np.abs(last - table.action[7]) / deviation, rtol=1e-4)
    assert torch.equal(torch.get_rng_state(), state)
    assert (
        html.count("<img") == 6 and len(re.findall("wrist, touching; [^<]*</span>", html)) == 6
    )  # both fingers of three frames
    for name in ("point into their box", "touch of another episode"):
        assert re.search(f"{name}.*?[0-9][.][0-9]", html)
    with pytest.raises(ConfigError, match="trained without HSA"):
        main([str(tmp_path / "without"), "--out", str(tmp_path / "page.html")])
