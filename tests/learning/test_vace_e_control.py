"""Whether control can be measured: masks that tell no place, cues left out, true clips judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benches.control import Options, main, prepare, study_config, summary
from benches.control_clips import BODIES, boxes, draw_truth, make_episode
from tacit.errors import ConfigError
from tacit_learning.vace_e.assembly import make_inputs, make_networks
from tacit_learning.vace_e.config_model import STREAMS, preset
from tacit_learning.vace_e.data.dataset import VaceEDataset, find_metadata
from tacit_learning.vace_e.data.inputs import Inputs
from tacit_learning.vace_e.data.masks import drawn_mask, loosened
from tacit_learning.vace_e.data.noise import Place, draw_versions, drop_cues
from tacit_learning.vace_e.judge.control import (
    Trial,
    control_rows,
    fit_tracker,
    make_scene,
    mean_place,
    through_codec,
)
from tacit_learning.vace_e.judge.tracker import ColourTracker
from tacit_learning.vace_e.model.codec import load_codec
from tacit_learning.vace_e.model.conditioning import encode_latents
from tacit_learning.vace_e.model.signals import random_signals
from tacit_learning.vace_e.sampling.guidance import ORDER

SEED = 50
TIGHT = [boxes(draw_truth(number, SEED).hand, 6) for number in range(2)]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Options:
    options = Options(
        tmp_path_factory.mktemp("study"),
        masks=("loose",),
        seeds=(SEED,),
        clips=24,
        fresh=6,
        steps=2,
        motion=(),
    )
    prepare(options, SEED)
    return options


@pytest.fixture(scope="module")
def inputs(study: Options) -> Inputs:
    config = find_metadata(study_config(study, "loose", SEED))
    networks = make_networks(config, torch.device("cpu"))
    return make_inputs(config.model_copy(update={"use_cache": False}), VaceEDataset(config), networks)


def test_a_drawn_mask_hides_the_whole_hand_and_rarely_follows_it() -> None:
    drawn = [drawn_mask(TIGHT[0], TIGHT[1], np.random.default_rng(seed)) for seed in range(300)]
    assert all((mask >= TIGHT[0]).all() for mask in drawn)
    follows = np.mean([(mask != mask[0]).any() for mask in drawn])
    assert 0.05 < follows < 0.16
    assert len({mask.tobytes() for mask in drawn}) > 200


@pytest.mark.parametrize("kind", ["loose", "open"])
def test_the_fixed_mask_is_the_same_in_every_frame(kind: str) -> None:
    mask = loosened(TIGHT[0], kind)  # type: ignore[arg-type]
    assert (mask == mask[0]).all() and (mask >= TIGHT[0]).all()
    assert mask.all() == (kind == "open")


def test_what_a_mask_hides_is_in_neither_half_of_the_control(inputs: Inputs) -> None:
    video = inputs.pixels(0)
    clips = inputs.clips([0, 0], [0, 3])
    empty = encode_latents(inputs.frozen.vae, torch.zeros(1, 3, 9, 32, 48))[0]
    assert video.mask is not None and video.control is not None and not clips.share[0].equal(clips.share[1])
    assert (video.control[video.mask] == 128).all()
    for row in range(2):
        hidden = (clips.share[row, 0] == 1)[1:]  # behind the reference
        assert hidden.any()
        for half in range(2):  # what is kept, and what lies under the mask
            latents = clips.control[row, 16 * half : 16 * half + 16, 1:]
            torch.testing.assert_close(latents[:, hidden], empty[:, hidden], atol=1e-4, rtol=0)


def test_every_branch_of_guidance_is_trained_as_often() -> None:
    signals = random_signals(20_000, preset("tiny").encoders, 8, 1, rows=1, text_tokens=1, image_tokens=1)
    dropped, unprompted = drop_cues(signals, Place(0), 3, 0.1)
    kept = [
        tuple(name for name, on in zip(STREAMS, row, strict=True) if on) for row in dropped.present.tolist()
    ]
    for count in range(len(ORDER) - 1):
        share = np.mean([row == ORDER[:count] for row in kept])
        assert share == pytest.approx(0.1 / 4, abs=0.005), ORDER[:count]
    assert np.mean([row == ("text", "objects", "embodiment") for row in kept]) == pytest.approx(
        0.05, abs=0.006
    )
    assert np.mean([row == STREAMS for row in kept]) == pytest.approx(0.7, abs=0.015)
    assert unprompted.equal(~dropped.present[:, 0])


def test_two_processes_drop_and_choose_masks_as_one() -> None:
    signals = random_signals(40, preset("tiny").encoders, 8, 1, rows=1)
    whole, prompts = drop_cues(signals, Place(0), 5, 0.3)
    parts = [drop_cues(signals.rows(slice(20 * r, 20 * r + 20)), Place(0, r, 2), 5, 0.3) for r in range(2)]
    assert torch.cat([part.present for part, _ in parts]).equal(whole.present)
    assert torch.cat([each for _, each in parts]).equal(prompts)
    versions = [draw_versions(Place(0, r, 2), 5, 20, 9) for r in range(2)]
    assert versions[0] + versions[1] == draw_versions(Place(0), 5, 40, 9)
    assert set(versions[0] + versions[1]) == set(range(9))


def test_the_judge_tells_a_hand_that_follows_from_one_that_reads_the_mask(inputs: Inputs) -> None:
    scene = make_scene(inputs, range(16))
    tracker, middle = fit_tracker(inputs, range(16, 24)), mean_place(inputs, range(16, 24))
    recordings = {i: np.asarray(inputs.dataset.item(i, reference=False).video) for i in scene.windows}
    places = {window: place for place, window in enumerate(scene.windows)}

    def obedient(trial: Trial) -> np.ndarray:
        return np.stack([recordings[w] for w in (scene.partners if trial == "swapped" else scene.windows)])

    rows = control_rows(scene, tracker, middle, obedient)
    means = {name: float(values.mean()) for name, values in rows.items()}
    assert means["swapped"] == pytest.approx(means["tracker"], abs=0.2)
    assert means["tracker"] < 1.2 > means["codec"] < means["middle"] < means["other_path"]
    assert means["swapped_to_recording"] == pytest.approx(means["other_path"], abs=1.0)
    assert means["tracker_body_right"] == 1 and means["body_right"] == 0  # the picture was not obeyed
    assert all(scene.partners[places[w]] != w for w in scene.windows)

    deaf = control_rows(scene, tracker, middle, lambda trial: through_codec(scene))
    assert deaf["swapped"].mean() > 4 and deaf["swapped_to_recording"].mean() < 1.2


def test_a_share_that_is_always_right_has_a_wilson_interval() -> None:
    table = summary([{"body_right": [1.0] * 20, "own": [1.0, 3.0]}, {"body_right": [1.0] * 12, "own": [2.0]}])
    assert table["body_right"] == pytest.approx([1, 0.8928, 1, 1, 1], abs=1e-4)  # Wilson 1927: n / (n + z^2)
    assert (
        table["own"][0] == 2
        and table["own"][3:] == [2, 2]
        and 1 <= table["own"][1] < 2 < table["own"][2] <= 3
    )


def test_a_tracker_refuses_masks_that_tell_no_place() -> None:
    video = np.stack(list(make_episode(draw_truth(0, SEED)).video))
    with pytest.raises(ValueError, match="tell no place"):
        ColourTracker([video], [np.ones(video.shape[:3], bool)], [0])


def test_a_codec_refuses_other_files(tmp_path: Path) -> None:
    (tmp_path / "codec.safetensors").write_bytes(b"no codec")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_codec(tmp_path / "codec.safetensors")


@pytest.mark.slow
def test_the_study_trains_measures_and_goes_on_where_it_stopped(study: Options) -> None:
    told = [
        "--out",
        str(study.out),
        "--masks",
        "loose",
        "--seeds",
        str(SEED),
        "--clips",
        "24",
        "--fresh",
        "6",
    ]
    assert main([*told, "--steps", "2", "--motion"]) == 0
    page = (study.out / "control.html").read_text(encoding="utf-8")
    assert "loose masks" in page and "data:image" in page
    kept = study.out / f"seed_{SEED}/loose/control.json"
    written = kept.stat().st_mtime_ns
    assert main([*told, "--steps", "2", "--motion"]) == 0
    assert kept.stat().st_mtime_ns == written
    assert set(BODIES) == {"human", "claw"}
