"""One window of one episode, and a batch of them: natural lengths, padded with masks.

Everything that may be missing has a mask; nothing missing is ever told apart by its zeros alone.
Legend: B batch, F frames, H W pixels, T time rows, N objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

MOTION_WIDTH = 20
"""Left position 3, left rotation 6, right position 3, right rotation 6, left gripper, right gripper."""
OBJECT_WIDTH = 9
LEFT, RIGHT, GRIPPERS = slice(0, 9), slice(9, 18), slice(18, 20)
NO_OBJECT = -1

BatchT = TypeVar("BatchT", bound="VaceEBatch")


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
    task_label: int
    embodiment_label: int
    num_frames: int
    motion: np.ndarray = field(default_factory=lambda: np.zeros((0, MOTION_WIDTH), np.float32))  # (T, 20) f4
    motion_mask: np.ndarray = field(
        default_factory=lambda: np.zeros((0, 2), bool)
    )  # (T, 2) wrists left, right
    motion_valid: np.ndarray = field(default_factory=lambda: np.zeros((0, MOTION_WIDTH), bool))  # (T, 20)
    motion_times: np.ndarray = field(
        default_factory=lambda: np.zeros(0, np.float32)
    )  # (T,) frames of the window
    objects: np.ndarray = field(
        default_factory=lambda: np.zeros((0, 0, OBJECT_WIDTH), np.float32)
    )  # (N, T, 9)
    object_valid: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), bool))  # (N, T)
    object_ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # (N,)
    object_times: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))  # (T,)

    @property
    def has_motion(self) -> bool:
        """Whether any motion value is valid."""
        return bool(self.motion_valid.any())

    @property
    def has_objects(self) -> bool:
        """Whether any object pose is valid."""
        return bool(self.object_valid.any())


@dataclass(frozen=True)
class VaceEBatch:
    """Items of one bucket (equal F, H, W). Padding is zero and masked; object ids are padded with -1.

    T and N are at least 1, so that no layer meets an empty axis.
    """

    video: Tensor | None  # (B, F, H, W, 3) u1
    control: Tensor | None  # (B, F, H, W, 3) u1
    mask: Tensor | None  # (B, F, H, W) bool
    reference: list[Tensor | None]  # each (h, w, 3) u1
    prompt: list[str]
    task_name: list[str]
    episode_name: list[str]
    task_label: Tensor  # (B,) i8, -1 unknown
    embodiment_label: Tensor  # (B,) i8, -1 unknown
    motion: Tensor  # (B, T, 20) f4
    motion_mask: Tensor  # (B, T, 2) bool
    motion_valid: Tensor  # (B, T, 20) bool
    motion_times: Tensor  # (B, T) f4
    objects: Tensor  # (B, N, T, 9) f4
    object_valid: Tensor  # (B, N, T) bool
    object_ids: Tensor  # (B, N) i8
    object_times: Tensor  # (B, T) f4
    num_frames: Tensor  # (B,) i8

    def __len__(self) -> int:
        return len(self.prompt)

    @property
    def motion_rows(self) -> Tensor:
        """Rows that say anything (B, T) bool: the key mask of motion."""
        return self.motion_valid.any(-1)

    @property
    def has_motion(self) -> Tensor:
        """(B,) bool."""
        return self.motion_rows.any(-1)

    @property
    def has_objects(self) -> Tensor:
        """(B,) bool."""
        return self.object_valid.flatten(1).any(-1)

    @property
    def has_reference(self) -> Tensor:
        """(B,) bool."""
        return torch.tensor([image is not None for image in self.reference])

    def to(self: BatchT, device: torch.device | str, non_blocking: bool = False) -> BatchT:
        """Return the batch with every tensor on `device`."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self: BatchT) -> BatchT:
        """Return the batch in pinned memory (called by the loader)."""
        return self._map(Tensor.pin_memory)

    def _map(self: BatchT, function: Callable[[Tensor], Tensor]) -> BatchT:
        changed: dict[str, object] = {
            f.name: function(value)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        changed["reference"] = [None if image is None else function(image) for image in self.reference]
        return replace(self, **changed)  # type: ignore[arg-type]


def collate(items: Sequence[VaceEItem]) -> VaceEBatch:
    """Stack items of one bucket; pad motion and objects to the longest, with masks.

    Raises:
        ValueError: No item, or items of several sizes: the sampler must keep buckets apart.
    """
    if not items:
        raise ValueError("no item to collate")
    time = max(1, *(len(item.motion) for item in items))
    count = max(1, *(item.objects.shape[0] for item in items))
    object_time = max(1, *(item.objects.shape[1] for item in items))
    return VaceEBatch(
        video=_pixels([item.video for item in items]),
        control=_pixels([item.control for item in items]),
        mask=_pixels([item.mask for item in items]),
        reference=[None if item.reference is None else torch.from_numpy(item.reference) for item in items],
        prompt=[item.prompt for item in items],
        task_name=[item.task_name for item in items],
        episode_name=[item.episode_name for item in items],
        task_label=torch.tensor([item.task_label for item in items]),
        embodiment_label=torch.tensor([item.embodiment_label for item in items]),
        motion=_padded([item.motion for item in items], (time,)),
        motion_mask=_padded([item.motion_mask for item in items], (time,)),
        motion_valid=_padded([item.motion_valid for item in items], (time,)),
        motion_times=_padded([item.motion_times for item in items], (time,)),
        objects=_padded([item.objects for item in items], (count, object_time)),
        object_valid=_padded([item.object_valid for item in items], (count, object_time)),
        object_ids=_padded([item.object_ids for item in items], (count,), NO_OBJECT),
        object_times=_padded([item.object_times for item in items], (object_time,)),
        num_frames=torch.tensor([item.num_frames for item in items]),
    )


def _pixels(arrays: Sequence[np.ndarray | None]) -> Tensor | None:
    present = [array for array in arrays if array is not None]
    if not present:
        return None
    shapes = {array.shape for array in present}
    if len(shapes) > 1 or len(present) < len(arrays):
        raise ValueError(f"videos of {sorted(shapes)} in one batch, expected one size and none missing")
    return torch.from_numpy(np.stack(present))


def _padded(arrays: Sequence[np.ndarray], lengths: tuple[int, ...], fill: int = 0) -> Tensor:
    """Stack arrays whose first axes are padded to `lengths`."""
    first = arrays[0]
    stacked = np.full((len(arrays), *lengths, *first.shape[len(lengths) :]), fill, first.dtype)
    for row, array in zip(stacked, arrays, strict=True):
        row[tuple(slice(n) for n in array.shape[: len(lengths)])] = array
    return torch.from_numpy(stacked)
