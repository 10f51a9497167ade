"""Where hands and objects are in the picture, told to every token of the video: the control map.

A trajectory says metres of the world and a token knows nothing of metres, so a network learns slowly where to
draw. Where the camera is known the two meet: each token is told how far each tracked point is from it.
Legend: B batch, P points, T rows, J latent frames, R C rows and columns of tokens, E width of the streams.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tacit_learning.vace_e.config_model import STREAMS, TEMPORAL
from tacit_learning.vace_e.model.encoders import sinusoid
from tacit_learning.vace_e.model.signals import Signals

HANDS = ((0, 3), (9, 12))  # columns of the positions in a motion
NEAR = 2.0  # frames within which a row speaks for a frame
FAR = 16.0  # tokens; what is farther off is told as if it were there
WAVES = (32.0, 16.0, 8.0, 4.0, 2.0, 1.0)  # lengths in which an offset is told [tokens]
CODE = TEMPORAL * (
    2 * len(WAVES) + 1
)  # of one axis: sines and cosines at each moment, and whether it is known


class Places(NamedTuple):
    """Where tracked points are at the four moments of each latent frame; the first frame stands still."""

    values: Tensor  # (B, P, J, 4, 2) x, y, shares of the picture's width and height
    seen: Tensor  # (B, P, J, 4) bool: known, told, before a known camera
    kinds: Tensor  # (B, P): left hand 0, right hand 1, objects 2 + id


def places_of(signals: Signals) -> Places:
    """Project the hands and objects of a batch by its cameras."""
    motion, valid = signals.motion, signals.motion_valid
    hands = torch.stack([motion[..., first:last] for first, last in HANDS], dim=1)
    known = torch.stack([valid[..., first:last].all(-1) for first, last in HANDS], dim=1)
    told = signals.present[:, [STREAMS.index("motion"), STREAMS.index("objects")], None, None]
    moments = frame_times(signals.latent_frames, motion.device).flatten()
    parts = [
        _at(moments, hands, known & told[:, 0], signals.motion_times),
        _at(moments, signals.objects[..., :3], signals.object_valid & told[:, 1], signals.object_times),
    ]
    positions, seen = (torch.cat(each, dim=1) for each in zip(*parts, strict=True))
    camera = signals.camera.float()
    seen_by = torch.einsum("bij,bpfj->bpfi", camera[..., :3], positions.float()) + camera[:, None, None, :, 3]
    seen = seen & (seen_by[..., 2] > 0)
    places = seen_by[..., :2] / torch.where(seen, seen_by[..., 2], 1.0).unsqueeze(-1)
    hand_kinds = torch.arange(len(HANDS), device=motion.device).expand(len(motion), -1)
    kinds = torch.cat([hand_kinds, len(HANDS) + signals.object_ids], dim=1)
    shape = (signals.latent_frames, TEMPORAL)
    return Places(places.unflatten(2, shape), seen.unflatten(2, shape), kinds)


def frame_times(count: int, device: torch.device | None = None) -> Tensor:
    """Return the frames that a latent frame holds (J, 4): four times frame 0, then 4j-3..4j."""
    frames = torch.arange(1 - TEMPORAL, TEMPORAL * (count - 1) + 1, dtype=torch.float32, device=device)
    return frames.clamp(min=0).unflatten(0, (count, TEMPORAL))


def _at(moments: Tensor, rows: Tensor, known: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows (B, P, F, 3) that are nearest in time to moments (F,), and which are near (B, P, F)."""
    away = (times.unsqueeze(-1) - moments).abs().unsqueeze(1)  # (B, 1, T, F)
    least, index = torch.where(known.unsqueeze(-1), away, torch.inf).min(dim=2)
    near = least <= NEAR
    found = torch.where(known.unsqueeze(-1), rows, 0.0).gather(2, index.unsqueeze(-1).expand(-1, -1, -1, 3))
    return found, near


class Pointer(nn.Module):
    """sum_p W_2 silu(W_x code(x_p - x) + W_y code(y_p - y) + W_k kind_p) for a token at x, y."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.across, self.down = nn.Linear(CODE, dim), nn.Linear(CODE, dim)
        self.kind = nn.Linear(dim, dim)
        self.leave = nn.Linear(dim, dim)

    def forward(self, places: Places, grid: tuple[int, int, int]) -> Tensor:
        """Return codes (B, J R C, E); zero where nothing is seen.

        Args:
            places: Points of J latent frames.
            grid: Latent frames with the reference slots, which come first; rows; columns.
        """
        frames, rows, columns = grid
        seen = places.seen.unsqueeze(3)
        x = self.across(self._code(places.values[..., 0], seen, columns)).unsqueeze(3)
        y = self.down(self._code(places.values[..., 1], seen, rows)).unsqueeze(4)
        kind = self.kind(sinusoid(places.kinds, self.kind.in_features).to(x.dtype))
        told = self.leave(nn.functional.silu(x + y + kind[:, :, None, None, None]))
        told = (told * places.seen.any(-1)[..., None, None, None]).sum(1)
        slots = (0, 0, 0, 0, 0, 0, frames - told.shape[1], 0)
        return nn.functional.pad(told, slots).flatten(1, 3)

    def _code(self, places: Tensor, seen: Tensor, count: int) -> Tensor:
        """Encode offsets of points (B, P, J, 4) from the middles of tokens: (B, P, J, count, CODE)."""
        middles = torch.arange(count, device=places.device) + 0.5
        offset = (count * places.unsqueeze(3) - middles[:, None]).clamp(-FAR, FAR)
        angles = [2 * math.pi / length * offset for length in WAVES]
        waves = torch.stack([each for angle in angles for each in (angle.sin(), angle.cos())], dim=-1)
        known = seen.unsqueeze(-1).to(waves.dtype)
        coded = torch.cat([waves * known, known.expand(*waves.shape[:-1], 1)], dim=-1).flatten(-2)
        return coded.to(self.across.weight.dtype)
