"""Control latents agree with the pipeline of diffusers, sample by sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("diffusers")
pytest.importorskip("peft")

from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanVACEPipeline
from PIL import Image
from tiny_wan import tiny_transformer, tiny_vae

from tacit_learning.vace_e.model.conditioning import (
    decode_latents,
    encode_halves,
    encode_latents,
    encode_reference,
    join_control,
    latent_shape,
    letterbox,
    mask_latents,
    reference_batch,
    to_signed,
)

BATCH, FRAMES, HEIGHT, WIDTH = 2, 9, 32, 48


@pytest.fixture(scope="module")
def vae() -> AutoencoderKLWan:
    return tiny_vae()


@pytest.fixture(scope="module")
def pipeline(vae: AutoencoderKLWan) -> WanVACEPipeline:
    return WanVACEPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=vae,
        transformer=tiny_transformer(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


@pytest.fixture
def clip() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    video = torch.randint(256, (BATCH, FRAMES, HEIGHT, WIDTH, 3), generator=generator, dtype=torch.uint8)
    mask = torch.rand(BATCH, FRAMES, HEIGHT, WIDTH, generator=generator) > 0.5
    return video, mask


def by_pipeline(pipeline: WanVACEPipeline, video: Tensor, mask: Tensor, reference: Tensor | None) -> Tensor:
    """One sample through diffusers' own preparation, from pictures."""
    frames = [Image.fromarray(frame.numpy()) for frame in video]
    white = [Image.fromarray(frame.numpy().astype(np.uint8) * 255) for frame in mask]
    image = None if reference is None else Image.fromarray(reference.numpy())
    with torch.no_grad():
        pixels, masks, images = pipeline.preprocess_conditions(
            frames, white, image, 1, HEIGHT, WIDTH, FRAMES, torch.float32, torch.device("cpu")
        )
        latents = pipeline.prepare_video_latents(pixels, masks, images, device=torch.device("cpu"))
        return torch.cat([latents, pipeline.prepare_masks(masks, images)], dim=1)


@pytest.mark.parametrize("size", [None, (20, 70), (50, 33)])
def test_a_batch_of_control_latents_equals_the_pipeline_per_sample(
    size: tuple[int, int] | None,
    clip: tuple[Tensor, Tensor],
    vae: AutoencoderKLWan,
    pipeline: WanVACEPipeline,
) -> None:
    video, mask = clip
    images: list[Tensor | None] = [None] * BATCH
    if size is not None:
        images = [torch.randint(256, (*size, 3), dtype=torch.uint8) for _ in range(BATCH)]
    boxed = reference_batch(images, HEIGHT, WIDTH)
    slot = None if boxed is None else encode_reference(vae, boxed)
    control = join_control(*encode_halves(to_signed(video), mask, vae), mask, slot)
    assert control.shape == (BATCH, 96, 3 + (size is not None), HEIGHT // 8, WIDTH // 8)
    for i in range(BATCH):
        expected = by_pipeline(pipeline, video[i], mask[i], images[i])
        torch.testing.assert_close(control[i : i + 1], expected, rtol=1e-5, atol=5e-6)


def test_encoding_in_parts_is_encoding_at_once(clip: tuple[Tensor, Tensor], vae: AutoencoderKLWan) -> None:
    video = to_signed(clip[0])
    torch.testing.assert_close(
        encode_latents(vae, video, chunk=1), encode_latents(vae, video), rtol=1e-5, atol=5e-6
    )


def test_latents_are_normalised_by_the_statistics_of_the_vae(vae: AutoencoderKLWan) -> None:
    video = torch.rand(1, 3, 5, 16, 16) * 2 - 1
    with torch.no_grad():
        raw = vae.encode(video).latent_dist.mean.numpy()
    mean, std = (
        np.array(vae.config[name]).reshape(1, 16, 1, 1, 1) for name in ("latents_mean", "latents_std")
    )
    np.testing.assert_allclose(encode_latents(vae, video).numpy(), (raw - mean) / std, rtol=1e-4, atol=1e-5)


def test_decoding_undoes_the_normalisation_and_drops_the_reference_slot(vae: AutoencoderKLWan) -> None:
    video, reference = torch.rand(1, 3, 5, 16, 16) * 2 - 1, torch.rand(1, 3, 16, 16) * 2 - 1
    latents = torch.cat([encode_reference(vae, reference), encode_latents(vae, video)], dim=2)
    assert latents.shape == (1, 16, 3, 2, 2)
    with torch.no_grad():
        expected = vae.decode(vae.encode(video).latent_dist.mode()).sample.clamp(-1, 1)
    torch.testing.assert_close(decode_latents(vae, latents, 1), expected, rtol=1e-4, atol=1e-4)


def test_a_mask_channel_is_one_pixel_of_its_cell() -> None:
    mask = torch.zeros(1, 5, 16, 32)
    mask[0, 1, 8 + 3, 16 + 5] = 1  # of 5 frames the 2 nearest are 1 and 3
    channels = mask_latents(mask)
    assert channels.shape == (1, 64, 2, 2, 4)
    assert channels.nonzero().tolist() == [[0, 3 * 8 + 5, 0, 1, 2]]


def test_grey_is_zero_and_a_bool_mask_equals_a_float_one(clip: tuple[Tensor, Tensor]) -> None:
    assert to_signed(
        torch.tensor([[[[[0, 255, 51]]]]], dtype=torch.uint8)
    ).flatten().tolist() == pytest.approx([-1, 1, -0.6])
    assert torch.equal(mask_latents(clip[1]), mask_latents(clip[1].float()))


def test_a_reference_keeps_its_shape_on_white() -> None:
    boxed = letterbox(torch.zeros(3, 10, 40), 32, 64)
    assert (boxed == 0).nonzero()[:, 1:].amin(0).tolist() == [8, 0]
    assert (boxed == 0).nonzero()[:, 1:].amax(0).tolist() == [23, 63]
    assert boxed[:, 0].eq(1).all()


def test_samples_with_and_without_a_reference_do_not_mix() -> None:
    image = torch.zeros(8, 8, 3, dtype=torch.uint8)
    assert reference_batch([None, None], 16, 16) is None
    with pytest.raises(ValueError, match="1 of 2 samples have one"):
        reference_batch([None, image], 16, 16)


@pytest.mark.parametrize(
    ("frames", "height", "width", "message"),
    [
        (8, 32, 48, r"8 frames: expected 4 k \+ 1; trim it to 5"),
        (9, 33, 48, "48x33: both sides must be multiples of 16"),
        (9, 32, 40, "multiples of 16"),
    ],
)
def test_odd_sizes_are_refused(frames: int, height: int, width: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        latent_shape(frames, height, width)


def test_full_size_clips_have_the_published_latents() -> None:
    assert latent_shape(81, 480, 832) == (21, 60, 104)
    assert latent_shape(49, 480, 832, num_reference=1) == (14, 60, 104)
