"""Draw videos: from noise to latents by Euler or UniPC, with guidance for each kind of condition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from torch import Tensor

from tacit_learning.losses.flow import NUM_TIMESTEPS
from tacit_learning.vace_e.arguments import Solver
from tacit_learning.vace_e.config import VaceEConfig
from tacit_learning.vace_e.config_model import STREAMS
from tacit_learning.vace_e.data.inputs import Clips
from tacit_learning.vace_e.model.conditioning import VideoCoder, decode_latents
from tacit_learning.vace_e.model.fusion import Condition
from tacit_learning.vace_e.model.vace_e import VaceE
from tacit_learning.vace_e.sampling.guidance import Cue, GuidanceScales, guided_velocity

Precision = Literal["no", "bf16", "fp16"]


@dataclass(frozen=True)
class SamplerSettings:
    """How a video is drawn.

    Attributes:
        steps: Evaluations in time.
        shift: Shift of the noise levels.
        solver: Euler, or UniPC of second order.
        scales: Guidance; 1 everywhere is the model as it is.
        seed: Seed of the noise.
        precision: Number type in which the model computes; `no` is float32.
        vace_scale: Weight of the control video.
        vace_e_scale: Weight of what the streams add to the base.
    """

    steps: int = 30
    shift: float = 3.0
    solver: Solver = "unipc"
    scales: GuidanceScales = field(default_factory=GuidanceScales)
    seed: int = 0
    precision: Precision = "no"
    vace_scale: float = 1.0
    vace_e_scale: float = 1.0


def sampler_settings(
    config: VaceEConfig,
    scales: GuidanceScales | float | None = None,
    steps: int | None = None,
    shift: float | None = None,
    solver: Solver | None = None,
    seed: int | None = None,
) -> SamplerSettings:
    """Return how a run draws its videos; what is None is as its options say.

    A number for `scales` is the guidance of the text alone.
    """
    if not isinstance(scales, GuidanceScales):
        scales = GuidanceScales(text=config.guidance_scale if scales is None else scales)
    return SamplerSettings(
        steps or config.sample_steps,
        shift or config.shift,
        solver or config.sampler,
        scales,
        config.seed if seed is None else seed,
        config.mixed_precision,
    )


@torch.no_grad()
def sample_latents(
    model: VaceE,
    clips: Clips,
    settings: SamplerSettings,
    negative_text: Tensor | None = None,
    visit: Callable[[int], None] = lambda done: None,
    with_streams: bool = True,
) -> Tensor:
    """Draw latents for a batch of clips; only their conditions are read.

    Args:
        model: In evaluation mode.
        clips: On the device of the model.
        settings: How to draw.
        negative_text: Padded tokens of the negative prompt (1, 512, D); None: zeros.
        visit: Called with the number of finished steps.
        with_streams: False draws with the base model alone.

    Returns:
        (B, 16, T, H, W), the reference slots included.
    """
    if negative_text is None:
        negative_text = torch.zeros_like(clips.text[:1])
    negative = negative_text.expand_as(clips.text).to(clips.text)
    scales = settings.scales
    with_streams = with_streams and model.encoders is not None
    if not with_streams:  # nothing but text can be left out
        scales = GuidanceScales(
            text=scales.text, motion=scales.text, objects=scales.text, embodiment=scales.text
        )
    conditions: dict[frozenset[Cue], Condition | None] = {}
    scheduler = make_scheduler(settings)
    scheduler.set_timesteps(settings.steps, device=clips.control.device)
    latents = initial_noise(clips, settings.seed)
    for done, timestep in enumerate(scheduler.timesteps, 1):
        time = timestep.float().expand(len(latents))

        def velocity(cues: frozenset[Cue], x: Tensor = latents, time: Tensor = time) -> Tensor:
            if with_streams and cues not in conditions:
                absent = [stream for stream in STREAMS if stream not in cues]
                found = model.conditioning(clips.signals.without(absent), clips.num_reference)
                conditions[cues] = found and replace(found, scale=settings.vace_e_scale)
            text = clips.text if "text" in cues else negative
            condition = conditions.get(cues)
            return model(x, time, clips.control, text, condition, settings.vace_scale).float()

        with in_precision(settings.precision, latents.device):
            guided = guided_velocity(velocity, scales)
        latents = scheduler.step(guided, timestep, latents).prev_sample
        visit(done)
    return latents


def in_precision(name: Precision, device: torch.device) -> torch.autocast:
    """Return a context in which a model computes in bf16 or fp16; `no` changes nothing."""
    dtype = torch.float16 if name == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=name != "no")


def make_scheduler(settings: SamplerSettings) -> Any:
    """Return the solver of diffusers."""
    if settings.solver == "euler":
        return FlowMatchEulerDiscreteScheduler(NUM_TIMESTEPS, shift=settings.shift)
    return UniPCMultistepScheduler(
        num_train_timesteps=NUM_TIMESTEPS,
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=settings.shift,
    )


def initial_noise(clips: Clips, seed: int) -> Tensor:
    """Return noise as the latents; a sample's depends on the seed and its place in the batch alone."""
    shape = (16, *clips.control.shape[2:])
    rows = [
        torch.randn(shape, generator=torch.Generator().manual_seed(seed + i)) for i in range(len(clips.text))
    ]
    return torch.stack(rows).to(clips.control.device)


def decode_video(vae: VideoCoder, latents: Tensor, num_reference: int = 0) -> np.ndarray:
    """Decode latents to RGB (B, F, H, W, 3) u1; reference slots are left out."""
    video = decode_latents(vae, latents, num_reference).float()
    pixels = ((video.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 4, 1).cpu().numpy()
