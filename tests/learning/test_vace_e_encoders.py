"""Streams know time and identity, ignore what is masked, and survive what is missing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

pytest.importorskip("diffusers")

from tacit.errors import ConfigError
from tacit_learning.vace_e.config_model import PRESETS, STREAMS, EncoderConfig, ModelConfig, Stream, preset
from tacit_learning.vace_e.data.items import VaceEItem, signals_of
from tacit_learning.vace_e.model.encoders import Encoders, latent_frame_times, pool_to_latent_frames, sinusoid
from tacit_learning.vace_e.model.signals import Signals, random_signals

CONFIG = preset("tiny").encoders
TEXT_DIM, FRAMES = 32, 5


@pytest.fixture
def encoders() -> Encoders:
    torch.manual_seed(0)
    return Encoders(CONFIG, TEXT_DIM).eval()


@pytest.fixture
def signals() -> Signals:
    return random_signals(3, CONFIG, TEXT_DIM, FRAMES, generator=torch.Generator().manual_seed(1))


def change(encoders: Encoders, before: Signals, after: Signals) -> Tensor:
    """Relative change of z_task of every sample."""
    with torch.no_grad():
        old, new = encoders(before).z_task, encoders(after).z_task
    return (new - old).norm(dim=1) / old.norm(dim=1)


def everything(encoders: Encoders, signals: Signals) -> Tensor:
    """What the video reads: tokens that exist, and both features, of a single sample."""
    with torch.no_grad():
        task, embodiment, z_task, z_emb = encoders(signals)
    parts = [task.values[task.mask].flatten(), embodiment.values[embodiment.mask].flatten(), z_task, z_emb]
    return torch.cat([part.flatten() for part in parts])


def test_reversed_motion_changes_the_task_feature_clearly(encoders: Encoders, signals: Signals) -> None:
    reversed_time = replace(signals, motion=signals.motion.flip(1))
    other_motion = replace(signals, motion=signals.motion.roll(1, 0))
    found = change(encoders, signals, reversed_time)
    assert found.min() > 0.02
    assert (found / change(encoders, signals, other_motion)).min() > 0.1


def test_reversed_motion_is_told_at_the_real_size_too() -> None:
    torch.manual_seed(0)
    encoders = Encoders(EncoderConfig(), 64).eval()
    signals = random_signals(2, EncoderConfig(), 64, 21, rows=81)
    swapped = replace(signals, objects=signals.objects.flip(1), object_ids=signals.object_ids.flip(1))
    reversed_time = change(encoders, signals, replace(signals, motion=signals.motion.flip(1)))
    assert reversed_time.min() > 1e4 * change(encoders, signals, swapped).max()
    assert reversed_time.min() > 0.01


def test_the_order_of_objects_with_their_ids_does_not_matter(encoders: Encoders, signals: Signals) -> None:
    swapped = replace(
        signals,
        objects=signals.objects.flip(1),
        object_ids=signals.object_ids.flip(1),
        object_valid=signals.object_valid.flip(1),
    )
    assert change(encoders, signals, swapped).max() < 1e-6


def test_objects_that_swap_their_ids_are_another_scene(encoders: Encoders, signals: Signals) -> None:
    swapped = replace(signals, object_ids=signals.object_ids.flip(1))
    assert change(encoders, signals, swapped).min() > 1e-3


def test_reversed_objects_change_the_task_feature(encoders: Encoders, signals: Signals) -> None:
    assert change(encoders, signals, replace(signals, objects=signals.objects.flip(2))).min() > 1e-3


def test_the_embodiment_feature_sees_the_image_alone(encoders: Encoders, signals: Signals) -> None:
    moved = replace(signals, motion=signals.motion + 1, text=-signals.text, objects=-signals.objects)
    with torch.no_grad():
        before = encoders(signals)
        assert torch.equal(encoders(moved).z_emb, before.z_emb)
        after = encoders(replace(signals, image=-signals.image))
    assert torch.equal(after.z_task, before.z_task)
    assert not torch.allclose(after.z_emb, before.z_emb, atol=1e-2)


@pytest.mark.parametrize("poison", [math.nan, math.inf, 1e9])
def test_masked_values_have_no_influence(encoders: Encoders, signals: Signals, poison: float) -> None:
    hidden = torch.zeros_like(signals.motion_valid)
    hidden[:, ::3] = True  # whole rows
    hidden[:, :, 3:9] = True  # and one rotation everywhere
    valid = signals.motion_valid & ~hidden
    missing = torch.zeros_like(signals.object_valid)
    missing[:, 1, 4:] = True
    words = torch.ones_like(signals.text_mask)
    words[:, 4:] = False
    masked = replace(signals, motion_valid=valid, object_valid=~missing, text_mask=words)
    poisoned = replace(
        masked,
        motion=torch.where(hidden, poison, signals.motion),
        objects=torch.where(missing.unsqueeze(-1), poison, signals.objects),
        text=torch.where(words.unsqueeze(-1), signals.text, poison),
        motion_times=torch.where(valid.any(-1), signals.motion_times, poison),
    )
    assert torch.equal(everything(encoders, poisoned), everything(encoders, masked))


def test_padding_has_no_influence(encoders: Encoders, signals: Signals) -> None:
    def longer(value: Tensor, axis: int) -> Tensor:
        extra = torch.zeros_like(value.narrow(axis, 0, 1)).expand(
            *(4 if i == axis else size for i, size in enumerate(value.shape))
        )
        return torch.cat([value, extra], axis)

    one = signals.rows(slice(0, 1))
    padded = replace(
        one,
        text=longer(one.text, 1),
        text_mask=longer(one.text_mask, 1),
        motion=longer(one.motion, 1),
        motion_valid=longer(one.motion_valid, 1),
        motion_times=longer(one.motion_times, 1),
        objects=longer(longer(one.objects, 2), 1),
        object_valid=longer(longer(one.object_valid, 2), 1),
        object_ids=longer(one.object_ids, 1),
        object_times=longer(one.object_times, 1),
    )
    torch.testing.assert_close(everything(encoders, padded), everything(encoders, one), rtol=1e-5, atol=1e-5)


def test_a_batch_equals_its_samples(encoders: Encoders, signals: Signals) -> None:
    with torch.no_grad():
        together = encoders(signals)
        for i in range(len(signals)):
            alone = encoders(signals.rows(slice(i, i + 1)))
            for whole, part in ((together.z_task, alone.z_task), (together.z_emb, alone.z_emb)):
                torch.testing.assert_close(whole[i : i + 1], part, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("absent", [("text",), ("motion",), ("objects",), ("embodiment",), STREAMS])
def test_an_absent_stream_is_finite_unread_and_keeps_its_encoder_in_the_graph(
    absent: tuple[Stream, ...], encoders: Encoders, signals: Signals
) -> None:
    gone = signals.without(absent)
    other = random_signals(3, CONFIG, TEXT_DIM, FRAMES, generator=torch.Generator().manual_seed(9))
    changed = {
        "text": {"text": other.text},
        "motion": {"motion": other.motion},
        "objects": {"objects": other.objects},
        "embodiment": {"image": torch.full_like(other.image, math.nan)},
    }
    values = {key: value for stream in absent for key, value in changed[stream].items()}
    assert torch.equal(everything(encoders, replace(gone, **values)), everything(encoders, gone))
    encoded = encoders(gone)
    (encoded.z_task.sum() + encoded.z_emb.square().sum()).backward()
    without = [name for name, parameter in encoders.named_parameters() if parameter.grad is None]
    assert without == []
    assert all(parameter.grad.isfinite().all() for parameter in encoders.parameters())


def test_rows_that_are_all_masked_equal_an_absent_stream_up_to_its_presence(
    encoders: Encoders, signals: Signals
) -> None:
    empty = replace(
        signals,
        motion_valid=torch.zeros_like(signals.motion_valid),
        object_valid=torch.zeros_like(signals.object_valid),
    )
    task = encoders(empty).task
    assert task.values.isfinite().all()
    assert task.mask.sum(1).tolist() == [1 + CONFIG.latents + 1 + 1] * 3  # text, and two null tokens


def test_without_task_streams_only_the_image_speaks() -> None:
    encoders = Encoders(CONFIG, TEXT_DIM, ("embodiment",))
    task, embodiment, z_task, z_emb = encoders(random_signals(2, CONFIG, TEXT_DIM, FRAMES))
    assert task.values.shape[1] == 3 and z_task.shape == z_emb.shape == (2, CONFIG.feature_dim)
    (z_task.sum() + z_emb.sum() + embodiment.values.sum()).backward()
    assert all(parameter.grad is not None for parameter in encoders.parameters())


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(0, 2**31 - 1))
def test_rows_are_averaged_in_the_latent_frame_that_holds_their_time(count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    times = np.sort(generator.uniform(0, 4 * count - 3, 7))
    values, mask = generator.normal(size=(7, 2)), generator.uniform(size=7) > 0.3
    found, exists = pool_to_latent_frames(
        torch.from_numpy(values)[None], torch.from_numpy(mask)[None], torch.from_numpy(times)[None], count
    )
    for frame in range(count):
        low = -1.0 if frame == 0 else 4 * frame - 3.999
        high = math.inf if frame == count - 1 else 4 * frame + 0.001
        rows = mask & (times > low) & (times <= high)
        assert bool(exists[0, frame]) == bool(rows.any())
        if rows.any():
            np.testing.assert_allclose(found[0, frame].numpy(), values[rows].mean(0), atol=1e-12)


def test_latent_frames_stand_for_frame_0_then_groups_of_four() -> None:
    groups = [[0], [1, 2, 3, 4], [5, 6, 7, 8]]
    assert latent_frame_times(3).tolist() == [float(np.mean(group)) for group in groups]
    frames = torch.arange(9.0)[None]
    pooled = pool_to_latent_frames(frames.unsqueeze(-1), torch.ones(1, 9, dtype=torch.bool), frames, 3)
    assert pooled.values.flatten().tolist() == [0, 2.5, 6.5]


def test_codes_of_different_frames_and_ids_differ() -> None:
    codes = sinusoid(torch.arange(512.0), 32)
    distances = torch.cdist(codes, codes) + 9 * torch.eye(512)
    assert distances.min() > 0.1


def test_windows_become_signals_with_what_is_present() -> None:
    rows = 9
    complete = VaceEItem(
        video=None,
        control=None,
        mask=None,
        reference=None,
        prompt="a",
        task_name="a",
        episode_name="episode_0",
        task_label=0,
        embodiment_label=0,
        num_frames=rows,
        motion=np.ones((rows, 20), np.float32),
        motion_valid=np.ones((rows, 20), bool),
        motion_times=np.arange(rows, dtype=np.float32),
        objects=np.ones((1, rows, 9), np.float32),
        object_valid=np.ones((1, rows), bool),
        object_ids=np.array([7]),
        object_times=np.arange(rows, dtype=np.float32),
    )
    video_only = VaceEItem(None, None, None, None, "b", "b", "episode_1", 1, 1, rows)
    texts = [torch.zeros(2, 32), torch.zeros(1, 32)]
    signals = signals_of([complete, video_only], texts, [None, torch.zeros(5, 32)], 32, 3, 16)
    assert signals.text_mask.tolist() == [[True, True], [True, False]]
    assert signals.present.tolist() == [[True, True, True, False], [True, False, False, True]]
    assert signals.object_ids.tolist() == [[7], [-1]]
    torch.manual_seed(0)
    encoded = Encoders(CONFIG, 32)(signals)
    assert encoded.z_task.isfinite().all() and encoded.task.values.isfinite().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": (0, 3)}, "the transformer has blocks 0..2"),
        ({"layers": (2, 0)}, "expected sorted block numbers"),
        ({"layers": (1, 1)}, "each once"),
        ({"layers": ()}, "at least one"),
        ({"layers": "0,-1"}, "expected sorted"),
    ],
)
def test_choices_that_the_network_does_not_have_are_refused(changes: dict[str, object], message: str) -> None:
    values = preset("tiny").model_dump() | changes
    with pytest.raises(ValueError, match=message):
        ModelConfig.model_validate(values)


def test_layers_may_be_a_string_and_block_0_must_read_the_control() -> None:
    values = preset("tiny").model_dump() | {"layers": "0, 2"}
    assert ModelConfig.model_validate(values).layers == (0, 2)
    values["backbone"]["vace_layers"] = (1, 2)
    with pytest.raises(ValueError, match="block 0 must be among them"):
        ModelConfig.model_validate(values)


def test_an_unknown_preset_names_the_close_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'wan_14b' or 'wan_1_3b'|did you mean"):
        preset("wan_13b")
    assert set(PRESETS) >= {"tiny", "small", "wan_1_3b", "wan_14b"}
