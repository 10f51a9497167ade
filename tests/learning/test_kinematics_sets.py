"""Drawn sets of robot kinematics: what they must have to stand in for real ones."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import numpy as np

from benches.kinematics import IDLE, make_set, write_mstcn
from tacit_learning.alignment.data.videos import load_annotated


def test_a_set_has_the_numbers_and_repeats_of_real_ones_and_is_read_as_it_is(tmp_path: Path) -> None:
    trials = make_set("suturing", users=3, trials=2)
    again = make_set("suturing", users=3, trials=2)
    np.testing.assert_array_equal(trials[4].features, again[4].features)
    for trial in trials:
        assert trial.features.shape == (len(trial.labels), 38) and np.isfinite(trial.features).all()
        for arm in (0, 19):
            rotation = trial.features[len(trial.features) // 2, arm + 3 : arm + 12].reshape(3, 3)
            np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=0.1)
        steps = [name for name, _ in groupby(trial.labels) if name != IDLE]
        assert len(steps) > 1.5 * len(set(steps)), "steps come again"
    annotated = load_annotated(write_mstcn(trials, tmp_path / "set", held_out=(1,)))
    assert {v.split for v in annotated.annotations.videos} == {"train", "test"}
    name = trials[0].name
    np.testing.assert_array_equal(annotated.features[name], trials[0].features)
