"""Inference in Python: a masked video, a prompt, hands, objects and a picture in; a video out.

The names of the arguments are those of Wan's VACE pipelines, with `vace_e_` before ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from tacit.convert.vace_e_files import GREY
from tacit.errors import ConfigError
from tacit_learning.vace_e.assembly import make_networks
from tacit_learning.vace_e.data.dataset import windowed_motion, windowed_objects
from tacit_learning.vace_e.data.inputs import Clips, move
from tacit_learning.vace_e.data.items import VaceEItem, labels_of, signals_of
from tacit_learning.vace_e.data.trajectories import motion_from_array, objects_from_array
from tacit_learning.vace_e.data.windows import check_size
from tacit_learning.vace_e.model.conditioning import (
    encode_halves,
    encode_reference,
    join_control,
    latent_shape,
    reference_batch,
    tile,
    to_signed,
)
from tacit_learning.vace_e.model.folder import AdapterSets
from tacit_learning.vace_e.model.signals import pad_text
from tacit_learning.vace_e.sampling.guidance import GuidanceScales
from tacit_learning.vace_e.sampling.solver import (
    SamplerSettings,
    decode_video,
    sample_latents,
    sampler_settings,
)
from tacit_learning.vace_e.sampling.trained import Trained, choose_device, load_trained

Picture = ArrayLike
"""An array (h, w, 3) u1, or a picture of PIL."""
Video = np.ndarray | Sequence[Picture]


class VaceEPipeline:
    """Draws one video per call.

    Args:
        trained: The model.
        device: Where everything runs.
    """

    def __init__(self, trained: Trained, device: torch.device) -> None:
        self.trained = trained
        self.device = device
        self.frozen = make_networks(trained.config, device)
        self._checkpoint = trained.folder
        self._loras: dict[str, AdapterSets] = {}

    @classmethod
    def from_checkpoint(cls, checkpoint: str | Path, device: str = "auto") -> VaceEPipeline:
        """Load a run or checkpoint folder."""
        where = choose_device(device)
        return cls(load_trained(checkpoint, where), where)

    def use_lora(self, run: str | Path | None) -> None:
        """Draw with the low-rank adapters of another run from now on; None: with the model's own."""
        for each in self._loras.values():
            each.use(None)
        if run is not None:
            name = str(run)
            if name not in self._loras:
                self._loras[name] = AdapterSets(self.trained.model, {name: Path(run)})
            self._loras[name].use(name)

    def __call__(
        self,
        prompt: str,
        vace_video: Video | None = None,
        vace_video_mask: Video | None = None,
        *,
        negative_prompt: str = "",
        vace_reference_image: Picture | None = None,
        vace_scale: float = 1.0,
        enable_vace_e: bool = True,
        vace_e_checkpoint: str | Path | None = None,
        vace_e_hand_motion_sequence: np.ndarray | None = None,
        vace_e_object_trajectory_sequence: np.ndarray | None = None,
        vace_e_embodiment_image_features: np.ndarray | Tensor | None = None,
        vace_e_camera: np.ndarray | None = None,
        vace_e_scale: float = 1.0,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        tiled: bool = False,
        seed: int = 0,
        cfg_scale: float | GuidanceScales | None = None,
        num_inference_steps: int | None = None,
        sigma_shift: float | None = None,
    ) -> np.ndarray:
        """Draw a video.

        Args:
            prompt, negative_prompt: What is done, and what guidance leads away from.
            vace_video: (F, H, W, 3) u1 RGB, hands masked; F = 4 k + 1, sides multiples of 16; None: grey.
            vace_video_mask: (F, H, W), white, True or > 127 = generate; None: everything.
            vace_reference_image: End effector (h, w, 3) u1. vace_e_checkpoint: Another than the pipeline's.
            enable_vace_e: False draws with the base model and what trained of it.
            vace_e_hand_motion_sequence: (T, 20), or (T, 10) of the right hand; NaN = missing; any T.
            vace_e_object_trajectory_sequence: (T, N, 9) positions and 6-D rotations; NaN = missing.
            vace_e_embodiment_image_features: CLIP tokens (P, D), or a picture; None: of the reference image.
            vace_e_camera: (3, 4) = K [R | t], from the world of the trajectories to pixels of `vace_video`.
            vace_scale, vace_e_scale: Weights of the control video, and of what the streams add.
            height, width, num_frames: Without `vace_video`; None: those of the run. tiled: Code in tiles.
            cfg_scale: Guidance of the text, or a scale for each kind of condition. seed: Of the noise.
            num_inference_steps, sigma_shift: Steps in time, and shift of the noise levels.

        Returns:
            (F, H, W, 3) u1 RGB.

        Raises:
            ConfigError: Shapes that do not belong together.
        """
        self._change_to(vace_e_checkpoint)
        size = (num_frames, height, width)
        control, mask = _check_videos(*self._shown(vace_video, vace_video_mask, size))
        tracks = _alone(vace_e_hand_motion_sequence, 2), _alone(vace_e_object_trajectory_sequence, 3)
        reference = None if vace_reference_image is None else np.array(vace_reference_image)
        image = self._image_tokens(vace_e_embodiment_image_features, reference)
        tile(self.frozen.vae, tiled)
        item = _item(prompt, control, mask, *tracks, vace_e_camera)
        clips = self._clips(item, control, mask, reference, image)
        told = sampler_settings(self.trained.config, cfg_scale, num_inference_steps, sigma_shift, seed=seed)
        told = replace(told, vace_scale=vace_scale, vace_e_scale=vace_e_scale)
        return self._draw(clips, told, negative_prompt, enable_vace_e)

    def _draw(
        self, clips: Clips, settings: SamplerSettings, negative_prompt: str, streams: bool
    ) -> np.ndarray:
        negative, _ = pad_text([self.frozen.text(negative_prompt)], clips.text.shape[1])
        clips = move(clips, self.device)
        latents = sample_latents(self.trained.model, clips, settings, negative, with_streams=streams)
        return decode_video(self.frozen.vae, latents, clips.num_reference)[0]

    def _change_to(self, checkpoint: str | Path | None) -> None:
        if checkpoint is not None and Path(checkpoint) != self._checkpoint:
            self.trained = load_trained(checkpoint, self.device)
            self._checkpoint, self._loras = Path(checkpoint), {}

    def _shown(
        self, video: Video | None, mask: Video | None, size: tuple[int | None, ...]
    ) -> tuple[Video, Video]:
        """Return the control video and its mask; without a video a grey one of the size asked for."""
        config, asked = self.trained.config, dict(zip(("num_frames", "height", "width"), size, strict=True))
        if video is None:
            sizes = [wanted or getattr(config, name) for name, wanted in asked.items()]
            video = np.full((*sizes, 3), GREY, np.uint8)
        shape = np.asarray(video).shape
        for (name, wanted), found in zip(asked.items(), shape, strict=False):
            if wanted not in (None, found):
                raise ConfigError(f"{name}: {wanted}, but vace_video is {shape}; leave it out, or resize it")
        return video, np.ones(shape[:3], bool) if mask is None else mask

    def _image_tokens(
        self, features: np.ndarray | Tensor | None, reference: np.ndarray | None
    ) -> Tensor | None:
        if features is None:
            return None if reference is None else self.frozen.image(reference)
        if features.ndim == 3:
            return self.frozen.image(np.asarray(features))
        width = self.trained.model.config.encoders.image_dim
        if features.ndim != 2 or features.shape[1] != width:
            raise ConfigError(
                f"vace_e_embodiment_image_features: {tuple(features.shape)}, expected (P, {width}), or a "
                "picture (h, w, 3)"
            )
        return torch.as_tensor(np.asarray(features), dtype=torch.float32)

    def _clips(
        self,
        item: VaceEItem,
        control: np.ndarray,
        mask: np.ndarray,
        reference: np.ndarray | None,
        image: Tensor | None,
    ) -> Clips:
        vae, sizes = self.frozen.vae, self.trained.model.config
        pixels = to_signed(torch.from_numpy(control[None]).to(self.device))
        masks = torch.from_numpy(mask[None]).to(self.device)
        picture = None if reference is None else torch.from_numpy(np.ascontiguousarray(reference))
        letterboxed = reference_batch([picture], *control.shape[1:3])
        slot = None if letterboxed is None else encode_reference(vae, letterboxed.to(self.device))
        joined = join_control(*encode_halves(pixels, masks, vae), masks, slot).float()
        tokens = self.frozen.text(item.prompt)
        length = sizes.backbone.text_length
        text, _ = pad_text([tokens], length)
        frames = latent_shape(*control.shape[:3])[0]
        signals = signals_of([item], [tokens], [image], sizes.encoders.image_dim, frames, length)
        empty = torch.zeros_like(joined[:, :1])
        references = joined.shape[2] - frames
        return Clips(empty, joined, empty, text, signals, *labels_of([item]), num_reference=references)


def _shares(camera: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a camera (3, 4) to pixels, whose middles are whole numbers, as one to shares of the picture."""
    found = np.asarray(camera, np.float64)
    if found.shape != (3, 4):
        raise ConfigError(f"vace_e_camera: {found.shape}, expected (3, 4) = K [R | t]")
    scale = np.array([[1 / width, 0, 0.5 / width], [0, 1 / height, 0.5 / height], [0, 0, 1]])
    return (scale @ found).astype(np.float32)


def _alone(array: np.ndarray | Tensor | None, axes: int) -> np.ndarray | None:
    """Return an array without the axis of a batch of one."""
    if array is None:
        return None
    found = np.asarray(array)
    return found[0] if found.ndim == axes + 1 and len(found) == 1 else found


def _check_videos(video: Video, mask: Video) -> tuple[np.ndarray, np.ndarray]:
    control, white = np.asarray(video), np.asarray(mask)
    if white.ndim == 4:
        white = white.max(-1)
    if control.ndim != 4 or control.shape[-1] != 3 or control.dtype != np.uint8:
        raise ConfigError(
            f"vace_video: {control.shape} of {control.dtype}, expected (F, H, W, 3) RGB of uint8"
        )
    if white.shape != control.shape[:3]:
        raise ConfigError(f"vace_video_mask: {white.shape}, expected {control.shape[:3]} as vace_video")
    check_size(control.shape[1], control.shape[2], control.shape[0])
    return np.ascontiguousarray(control), white if white.dtype == bool else white > 127


def _item(
    prompt: str,
    control: np.ndarray,
    mask: np.ndarray,
    motion: np.ndarray | None,
    objects: np.ndarray | None,
    camera: np.ndarray | None,
) -> VaceEItem:
    """Return the window that the arrays describe; rows are spread over its time."""
    frames = np.arange(len(control))
    streams: dict[str, np.ndarray] = {}
    if motion is not None:
        found = motion_from_array(motion)
        streams |= windowed_motion(found, frames, frames, len(found.values))
    if objects is not None:
        tracks = objects_from_array(objects)
        streams |= windowed_objects(tracks, frames, frames, tracks.values.shape[1])
    if camera is not None:
        streams["camera"] = _shares(camera, *control.shape[1:3])
    return VaceEItem(None, None, None, None, prompt, "", "", -1, -1, len(control), **streams)
