"""Guidance weighs each cue with as few evaluations as needed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

pytest.importorskip("diffusers")
pytest.importorskip("peft")

from tiny_vace_e import Inputs, drawn_inputs, make, run

from tacit_learning.vace_e.config_model import STREAMS
from tacit_learning.vace_e.sampling.guidance import ORDER, Cue, GuidanceScales, guided_velocity


@pytest.fixture
def inputs() -> Inputs:
    return drawn_inputs()


CUE_VALUES = {"text": 1.0, "motion": 10.0, "objects": 100.0, "embodiment": 1000.0}


@pytest.mark.parametrize(
    ("scales", "evaluations"),
    [
        (dict.fromkeys(ORDER, 1.0), 1),
        (dict.fromkeys(ORDER, 5.0), 2),
        ({"text": 5.0, "motion": 1.0, "objects": 1.0, "embodiment": 1.0}, 3),
        ({"text": 5.0, "motion": 2.0, "objects": 3.0, "embodiment": 0.0}, 4),
        (dict.fromkeys(ORDER, 0.0), 1),
    ],
)
def test_guidance_weighs_each_cue_with_as_few_evaluations_as_needed(
    scales: dict[str, float], evaluations: int
) -> None:
    asked: list[frozenset[Cue]] = []

    def velocity(cues: frozenset[Cue]) -> Tensor:
        asked.append(cues)
        return torch.tensor(7.0 + sum(CUE_VALUES[cue] for cue in cues))

    found = guided_velocity(velocity, GuidanceScales(**scales))
    expected = 7.0 + sum(scale * CUE_VALUES[cue] for cue, scale in scales.items())
    assert found.item() == pytest.approx(expected)
    assert len(asked) == len(set(asked)) == evaluations


def test_one_scale_for_all_is_plain_classifier_free_guidance(inputs: Inputs) -> None:
    model = make(awake=True)

    def velocity(cues: frozenset[Cue]) -> Tensor:
        absent = [stream for stream in STREAMS if stream not in cues]
        text = inputs.text if "text" in cues else torch.zeros_like(inputs.text)
        kept = inputs._replace(text=text, signals=inputs.signals.without(absent))
        return run(model, kept)

    found = guided_velocity(velocity, GuidanceScales(text=3, motion=3, objects=3, embodiment=3))
    nothing, everything = velocity(frozenset()), velocity(frozenset(ORDER))
    torch.testing.assert_close(found, nothing + 3 * (everything - nothing), rtol=1e-4, atol=1e-5)
