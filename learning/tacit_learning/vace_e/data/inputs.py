"""From items to what the network reads: encoded once by the frozen networks, kept in the cache.

Fresh and cached tensors are the same bits: both go through the number type of the cache.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from tacit.convert.vace_e_files import hide
from tacit_learning.losses.flow import mask_share
from tacit_learning.vace_e.config_model import TEMPORAL, ModelConfig
from tacit_learning.vace_e.data.batch_choice import Draw
from tacit_learning.vace_e.data.cache import (
    LatentCache,
    image_key,
    pack_mask,
    text_key,
    unpack_mask,
    video_key,
)
from tacit_learning.vace_e.data.dataset import VaceEDataset
from tacit_learning.vace_e.data.items import VaceEItem, labels_of, signals_of
from tacit_learning.vace_e.data.jitter import jittered
from tacit_learning.vace_e.data.masks import drawn_mask, loosened
from tacit_learning.vace_e.model.conditioning import (
    encode_halves,
    encode_latents,
    encode_reference,
    join_control,
    reference_batch,
    to_signed,
)
from tacit_learning.vace_e.model.frozen import Frozen
from tacit_learning.vace_e.model.signals import Signals, pad_text

NEGATIVE_PROMPT = ""  # what guidance leads away from, and what a sample without its prompt trains on
KEPT_BYTES = 512_000_000  # of latents of windows in memory: all of a small data set
KEPT_TOKENS = 4096
"""Texts and images whose tokens stay in memory; an image takes 0.7 MB in bf16."""

Entry = Mapping[str, Tensor]
BatchT = TypeVar("BatchT", "Clips", "FeatureBatch")


@dataclass(frozen=True)
class Clips:
    """A batch of clips as the network reads it; reference slots come first.

    Attributes:
        latents: x_0 (B, 16, T, H, W); None when there is no target video.
        control: (B, 96, T, H, W).
        share: White share of each cell (B, 1, T, H, W).
        text: Zero-padded tokens of the prompt (B, 512, D).
        signals: Streams.
        task_label: (B,), -1 unknown.
        embodiment_label: (B,), -1 unknown.
        num_reference: Latent frames that hold a reference image.
    """

    latents: Tensor
    control: Tensor
    share: Tensor
    text: Tensor
    signals: Signals
    task_label: Tensor
    embodiment_label: Tensor
    num_reference: int

    def __len__(self) -> int:
        return len(self.latents)


@dataclass(frozen=True)
class FeatureBatch:
    """Streams and labels of the feature losses."""

    signals: Signals
    task_label: Tensor
    embodiment_label: Tensor


def move(batch: BatchT, device: torch.device) -> BatchT:
    """Return clips or a feature batch on `device`."""
    changed: dict[str, Any] = {
        each.name: value.to(device)
        for each in fields(batch)
        if isinstance(value := getattr(batch, each.name), Tensor | Signals)
    }
    return replace(batch, **changed)


class Inputs:
    """Encoded inputs of the windows of a data set.

    Args:
        dataset: The windows.
        frozen: Networks that encode; made only when something is missing.
        model: Sizes of the network.
        cache: None: encode every time.
        dtype: Number type of what is kept in the cache.
        seed: Seed of the jittered views.
    """

    def __init__(
        self,
        dataset: VaceEDataset,
        frozen: Frozen,
        model: ModelConfig,
        cache: LatentCache | None,
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> None:
        self.dataset = dataset
        self.frozen = frozen
        self.model = model
        self.cache = cache
        self.dtype = dtype
        self.seed = seed
        self._tokens: OrderedDict[str, Tensor] = OrderedDict()
        self._greys: dict[torch.Size, Tensor] = {}
        self._windows: dict[tuple[int, int], Entry] = {}
        self._room = KEPT_BYTES

    def fill(self, numbers: Sequence[int], visit: Callable[[int], None] = lambda done: None) -> None:
        """Encode what the cache lacks of these windows, one kind after the other to save memory."""
        self.tokens_of(NEGATIVE_PROMPT)
        kinds: tuple[Callable[[int], object], ...] = (self.text_tokens, self.image_tokens, self._latents)
        done = 0
        for kind, name in zip(kinds, ("text", "image", "vae"), strict=True):
            for i in numbers:
                kind(i)
                for version in range(1, self.num_versions if name == "vae" else 0):
                    self._halves(i, version)
                done += 1
                visit(done)
            self.frozen.release(name)

    @property
    def num_versions(self) -> int:
        """Versions of a window's mask: the fixed one, and those that were drawn for training."""
        return 1 + (self.dataset.options.mask_versions if self.dataset.options.masks == "loose" else 0)

    def clips(self, numbers: Sequence[int], versions: Sequence[int] | None = None) -> Clips:
        """Return windows of one bucket as a batch on the CPU, in float32.

        Args:
            numbers: The windows.
            versions: Of their masks; None: 0, the fixed one.
        """
        items = [self.dataset.item(i, video=False, reference=False) for i in numbers]
        pairs = zip(numbers, versions or [0] * len(numbers), strict=True)
        entries = [self._window(i, version) for i, version in pairs]
        target, inactive, reactive = (
            torch.stack([entry[name] for entry in entries]).float()
            for name in ("target", "inactive", "reactive")
        )
        mask = torch.stack([unpack_mask(entry) for entry in entries])
        reference = self._reference_batch(numbers)
        latents = target if reference is None else torch.cat([reference, target], dim=2)
        num_reference = latents.shape[2] - target.shape[2]
        text, _ = pad_text([self.text_tokens(i) for i in numbers], self.model.backbone.text_length)
        return Clips(
            latents,
            join_control(inactive, reactive, mask, reference),
            mask_share(mask, tuple(latents.shape[2:]), num_reference),  # type: ignore[arg-type]
            text,
            self._signals(items, numbers, target.shape[2]),
            *labels_of(items),
            num_reference=num_reference,
        )

    def features(self, draws: Sequence[Draw], step: int | None = None) -> FeatureBatch:
        """Return streams and labels of windows, jittered by their view at a step; None: as they are."""
        items = [self._view(draw, step) for draw in draws]
        frames = (max(item.num_frames for item in items) - 1) // TEMPORAL + 1
        return FeatureBatch(self._signals(items, [draw.item for draw in draws], frames), *labels_of(items))

    def text_tokens(self, i: int) -> Tensor:
        """Return the tokens of the prompt of window i (L, D) float32."""
        return self.tokens_of(self.dataset.prompt(i))

    def tokens_of(self, text: str) -> Tensor:
        """Return the tokens of any text (L, D) float32."""
        key = text_key(text, self.frozen.identity, self.dtype)
        return self._kept(key, lambda: self.frozen.text(text))

    def image_tokens(self, i: int) -> Tensor | None:
        """Return the tokens of the end effector of window i (P, D) float32; None without a picture."""
        key = image_key(self.dataset, i, self.frozen.identity, self.dtype, role="embodiment")
        return None if key is None else self._kept(key, lambda: self.frozen.image(self._picture(i)))

    def pixels(self, i: int) -> VaceEItem:
        """Return window i with its pixels, its mask and control as the fixed version has them."""
        return self._hidden(self._pixels(i), 0)

    def _pixels(self, i: int) -> VaceEItem:
        return self.dataset.item(i, reference=False)

    def _view(self, draw: Draw, step: int | None) -> VaceEItem:
        item = self.dataset.item(draw.item, video=False, reference=False)
        if step is None:
            return item
        return jittered(item, np.random.default_rng([self.seed, step, draw.item, draw.view]))

    def _signals(self, items: Sequence[VaceEItem], numbers: Sequence[int], latent_frames: int) -> Signals:
        """Join the streams of items with the tokens of their windows' prompts and pictures."""
        prompts = {self.dataset.prompt(i) for i in numbers}
        tokens = {prompt: self.tokens_of(prompt) for prompt in prompts}
        texts = [tokens[self.dataset.prompt(i)] for i in numbers]
        episodes = {self.dataset.record(i).identity: i for i in numbers}
        pictures = {name: self.image_tokens(i) for name, i in episodes.items()}
        images = [pictures[self.dataset.record(i).identity] for i in numbers]
        width, length = self.model.encoders.image_dim, self.model.backbone.text_length
        return signals_of(items, texts, images, width, latent_frames, length)

    def _window(self, i: int, version: int) -> Entry:
        """Return target and control of window i under a version of its mask; kept where there is room."""
        entry = self._windows.get((i, version))
        if entry is None:
            entry = {**self._latents(i), **(self._halves(i, version) if version else {})}
            self._room -= sum(value.nbytes for value in entry.values())
            if self._room > 0 and self.cache is not None:
                self._windows[i, version] = entry
        return entry

    def _latents(self, i: int) -> Entry:
        """Return what the autoencoder makes of window i, and of its reference image."""
        self._reference(i)
        key = video_key(self.dataset, i, self.frozen.identity, self.dtype)
        return self._entry(key, lambda: self._encode_video(i))

    def _encode_video(self, i: int) -> Entry:
        item = self._pixels(i)
        made = self._encode_halves(item, i, 0)
        target = torch.zeros_like(made["inactive"])  # sampling needs none
        if item.video is not None:
            target = encode_latents(self.frozen.vae, _signed(item.video, self.frozen.device))[0]
        return {"target": target.to(self.dtype), **made}

    def _halves(self, i: int, version: int) -> Entry:
        """Return the control of window i under a drawn version of its mask."""
        key = video_key(self.dataset, i, self.frozen.identity, self.dtype, version)
        return self._entry(key, lambda: self._encode_halves(self._pixels(i), i, version))

    def _encode_halves(self, item: VaceEItem, i: int, version: int) -> Entry:
        item = self._hidden(item, version, i)
        if item.control is None or item.mask is None:
            raise ValueError(f"window {i} has no control video or no mask")
        mask = torch.from_numpy(item.mask[None]).to(self.frozen.device)
        video, vae = _signed(item.control, self.frozen.device), self.frozen.vae
        if self.dataset.options.masks == "tight":
            inactive, reactive = encode_halves(video, mask, vae)
        else:  # nothing lies under the mask, whatever its shape
            inactive, reactive = (
                encode_latents(vae, torch.where(mask[:, None], 0.0, video)),
                self._empty(video),
            )
        halves = {"inactive": inactive, "reactive": reactive}
        return {name: half[0].to(self.dtype) for name, half in halves.items()} | pack_mask(item.mask)

    def _empty(self, video: Tensor) -> Tensor:
        """Return the latents of a grey video of the same size; encoded once."""
        if video.shape not in self._greys:
            self._greys[video.shape] = encode_latents(self.frozen.vae, torch.zeros_like(video))
        return self._greys[video.shape]

    def _hidden(self, item: VaceEItem, version: int, i: int = 0) -> VaceEItem:
        """Return an item under a version of its mask: what it adds is hidden in the control as well."""
        if item.control is None or item.mask is None or self.dataset.options.masks == "tight":
            return item
        mask = loosened(item.mask, self.dataset.options.masks)
        if version:
            decoy = self.dataset.mask_like(i, version)
            mask = drawn_mask(item.mask, decoy, self.dataset.draws(i, version))
        return replace(item, mask=mask, control=hidden(item.control, mask))

    def _reference(self, i: int) -> Tensor | None:
        facts = {"role": "reference", "size": list(self.dataset.bucket(i)[1:])}
        key = image_key(self.dataset, i, self.frozen.identity, self.dtype, **facts)
        if key is None:
            return None
        return self._entry(key, lambda: {"latents": self._encode_reference(i)})["latents"]

    def _encode_reference(self, i: int) -> Tensor:
        bucket = self.dataset.bucket(i)
        picture = torch.from_numpy(self._picture(i))
        letterboxed = reference_batch([picture], bucket.height, bucket.width)
        if letterboxed is None:
            raise ValueError(f"window {i} has no reference image")
        return encode_reference(self.frozen.vae, letterboxed.to(self.frozen.device))[0].to(self.dtype)

    def _reference_batch(self, numbers: Sequence[int]) -> Tensor | None:
        found = [self._reference(i) for i in numbers]
        present = [each for each in found if each is not None]
        if present and len(present) < len(found):
            raise ValueError("windows with and without a reference image in one batch; bucket them apart")
        return torch.stack(present).float() if present else None

    def _picture(self, i: int) -> np.ndarray:
        picture = self.dataset.reference(i)
        if picture is None:
            raise ValueError(f"window {i} has no picture of the end effector")
        return picture

    def _entry(self, key: str, make: Callable[[], Entry]) -> Entry:
        if self.cache is not None:
            return self.cache.get_or_make(key, make)
        return {name: value.cpu() for name, value in make().items()}

    def _kept(self, key: str, make: Callable[[], Tensor]) -> Tensor:
        """Return tokens from memory, the cache, or fresh, in this order."""
        if key not in self._tokens:
            entry = self._entry(key, lambda: {"tokens": make().to(self.dtype)})
            self._tokens[key] = entry["tokens"]
            if len(self._tokens) > KEPT_TOKENS:
                self._tokens.popitem(last=False)
        self._tokens.move_to_end(key)
        return self._tokens[key].float()


def hidden(video: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return a video (F, H, W, 3) with grey where the mask (F, H, W) says so."""
    return np.stack([hide(*pair) for pair in zip(video, mask, strict=True)])


def _signed(video: np.ndarray, device: torch.device) -> Tensor:
    """Return frames (F, H, W, 3) u1 as a batch of one in -1..1 (1, 3, F, H, W)."""
    return to_signed(torch.from_numpy(video[None]).to(device))
