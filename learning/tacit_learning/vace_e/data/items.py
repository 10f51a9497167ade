"""One window of one episode, and the streams of several windows as one padded batch.

Everything that may be missing has a mask; nothing missing is ever told apart by its zeros alone.
Legend: B batch, F frames, H W pixels, T time rows, N objects, L text tokens, P image tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from tacit_learning.vace_e.config_model import MOTION_WIDTH, OBJECT_WIDTH
from tacit_learning.vace_e.model.signals import Signals, different, pad_text, stack_images

NO_OBJECT = -1


def _empty(*shape: int, dtype: type = np.float32) -> np.ndarray:
    """Return a field that holds a new empty array of this shape when nothing is given."""
    return field(default_factory=lambda: np.zeros(shape, dtype))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class VaceEItem:
    """One window of one episode. Pixels are None where only cached latents are wanted."""

    video: np.ndarray | None  # (F, H, W, 3) u1 RGB
    control: np.ndarray | None  # (F, H, W, 3) u1 RGB, hands masked
    mask: np.ndarray | None  # (F, H, W) bool, True = generate
    reference: np.ndarray | None  # (h, w, 3) u1 RGB, the end effector; None: there is none
    prompt: str
    task_name: str
    episode_name: str
    task_label: int  # -1 unknown
    embodiment_label: int  # -1 unknown
    num_frames: int
    motion: np.ndarray = _empty(0, MOTION_WIDTH)  # (T, 20) f4
    motion_valid: np.ndarray = _empty(0, MOTION_WIDTH, dtype=bool)  # (T, 20)
    motion_times: np.ndarray = _empty(0)  # (T,) f4, frames of the window
    objects: np.ndarray = _empty(0, 0, OBJECT_WIDTH)  # (N, T, 9) f4
    object_valid: np.ndarray = _empty(0, 0, dtype=bool)  # (N, T)
    object_ids: np.ndarray = _empty(0, dtype=np.int64)  # (N,)
    object_times: np.ndarray = _empty(0)  # (T,) f4, frames of the window
    camera: np.ndarray = _empty(3, 4)  # f4, world to shares of the picture (homogeneous); zeros: unknown

    @property
    def has_motion(self) -> bool:
        """Whether any motion value is valid."""
        return bool(self.motion_valid.any())

    @property
    def has_objects(self) -> bool:
        """Whether any object pose is valid."""
        return bool(self.object_valid.any())


def signals_of(
    items: Sequence[VaceEItem],
    texts: Sequence[Tensor],
    images: Sequence[Tensor | None],
    image_dim: int,
    latent_frames: int,
    text_length: int,
) -> Signals:
    """Join the streams of several windows; shorter ones are padded with zeros that are masked.

    T, N, L and P are at least 1, so that no layer meets an empty axis; ids of padded objects are -1.

    Args:
        items: B windows.
        texts: UMT5 tokens of each prompt (L_i, text_dim); longer ones than `text_length` are cut. One tensor
            that comes several times is held once.
        images: CLIP tokens (P, image_dim) of each end effector, or None; likewise.
        image_dim: Width of image tokens, where no window has any.
        latent_frames: Latent frames of the longest window, without reference slots: (F - 1) / 4 + 1.
        text_length: Most text tokens that the transformer reads.

    Raises:
        ValueError: No window.
    """
    if not items:
        raise ValueError("no window to make a batch of")
    prompts, text_of = different(texts)
    text, text_mask = pad_text(prompts, min(text_length, max(map(len, prompts))))
    pictures, image_of = different(images)
    image, _ = stack_images(pictures or [None], image_dim)
    has_image = torch.tensor([picture is not None for picture in images])
    time = max(1, *(len(item.motion) for item in items))
    count = max(1, *(item.objects.shape[0] for item in items))
    object_time = max(1, *(item.objects.shape[1] for item in items))
    has_motion = torch.tensor([item.has_motion for item in items])
    has_objects = torch.tensor([item.has_objects for item in items])
    present = (text_mask.any(-1)[text_of.to(text.device)], has_motion, has_objects, has_image)
    return Signals(
        text=text,
        text_mask=text_mask,
        text_of=text_of,
        motion=_padded([item.motion for item in items], (time,)),
        motion_valid=_padded([item.motion_valid for item in items], (time,)),
        motion_times=_padded([item.motion_times for item in items], (time,)),
        objects=_padded([item.objects for item in items], (count, object_time)),
        object_valid=_padded([item.object_valid for item in items], (count, object_time)),
        object_ids=_padded([item.object_ids for item in items], (count,), NO_OBJECT),
        object_times=_padded([item.object_times for item in items], (object_time,)),
        camera=torch.from_numpy(np.stack([item.camera for item in items])),
        image=image,
        image_of=image_of,
        present=torch.stack([flag.to(text.device) for flag in present], dim=1),
        latent_frames=latent_frames,
    ).to(text.device)


def labels_of(items: Sequence[VaceEItem]) -> tuple[Tensor, Tensor]:
    """Return the task and the embodiment labels of windows, each (B,) i8, -1 unknown."""
    return (
        torch.tensor([item.task_label for item in items]),
        torch.tensor([item.embodiment_label for item in items]),
    )


def _padded(arrays: Sequence[np.ndarray], lengths: tuple[int, ...], fill: int = 0) -> Tensor:
    """Stack arrays whose first axes are padded to `lengths`."""
    first = arrays[0]
    stacked = np.full((len(arrays), *lengths, *first.shape[len(lengths) :]), fill, first.dtype)
    for row, array in zip(stacked, arrays, strict=True):
        row[tuple(slice(n) for n in array.shape[: len(lengths)])] = array
    return torch.from_numpy(stacked)
