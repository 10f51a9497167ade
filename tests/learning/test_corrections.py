"""Corrections of a policy by a person: recorded as segments, kept by edits, trained on with own weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from episode_kit import drawn_image, rig, tick_at

from tacit.config import parse
from tacit.episode import EpisodeReader, EpisodeWriter, check_episode
from tacit.episode.annotated import read_sources
from tacit.episode.cut import trim
from tacit.episode.schema import SEGMENTS, SOURCE_COLUMN
from tacit.errors import ConfigError
from tacit.rig import Rig, parse_rig
from tacit.streams import Sample
from tacit_learning.data.episodes import find_training_episodes, load_table
from tacit_learning.data.view import DataConfig
from tacit_learning.data.weights import row_weights

TOLD = [None, 0, 0, 0, 1, 1, 1, 0, 0, 1]
"""Who commands at each tick; None: nobody has said so yet."""


def with_source(plain: Rig) -> Rig:
    data = plain.model_dump(mode="json")
    data["streams"]["source"] = {
        "topic": "/policy/source",
        "type": "std_msgs/msg/Int32",
        "rate_hz": 25.0,
        "role": "extra",
        "required": False,
        "names": ["source"],
    }
    return parse_rig(data, "test")


@pytest.fixture
def corrected(tmp_path: Path) -> Path:
    references = {name: drawn_image(0, 60, 80) for name in ("left", "right")}
    writer = EpisodeWriter(
        tmp_path / "episode_0.hdf5", with_source(rig()), task="t", sim=True, sync=False, references=references
    )
    for i, told in enumerate(TOLD):
        tick = tick_at(i)
        if told is not None:
            sample = Sample(np.array([float(told)]), tick.stamp_ns, tick.stamp_ns, i, True)
            tick = replace(tick, samples={**tick.samples, "source": sample})
        writer.append(tick)
    return writer.close(True)


def test_corrections_are_segments_of_the_episode_and_an_edit_counts_them_anew(corrected: Path) -> None:
    with h5py.File(corrected) as file:
        told = json.loads(file[SOURCE_COLUMN].attrs[SEGMENTS])
        assert told == [["policy", 1, 3], ["person", 4, 6], ["policy", 7, 8], ["person", 9, 9]]
        assert read_sources(file).tolist() == [-1 if who is None else who for who in TOLD]
    assert not [f for f in check_episode(corrected).findings if "source" in f.message]
    trim(corrected, 5, 8)
    with EpisodeReader(corrected) as reader:
        told = json.loads(reader.file[SOURCE_COLUMN].attrs[SEGMENTS])
    assert told == [["person", 0, 1], ["policy", 2, 3]]


def test_frames_weigh_by_who_commanded(corrected: Path) -> None:
    config = DataConfig(
        datasets=(str(corrected.parent),), trim_idle=False, source_weights={"policy": 0.0, "person": 3.0}
    )
    weights = row_weights(load_table(find_training_episodes(config), config), config)
    expected = [1.0 if who is None else (0.0, 3.0)[who] for who in TOLD]
    np.testing.assert_array_equal(weights, expected)


@pytest.mark.parametrize("weights", [{"human": 1.0}, {"person": -1.0}, {"policy": float("nan")}])
def test_weights_of_nobody_and_below_nothing_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="source_weights"):
        parse(DataConfig, {"datasets": ["a"], "source_weights": weights}, "run.yaml")
