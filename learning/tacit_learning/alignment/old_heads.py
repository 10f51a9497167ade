"""Progress heads from before checkpoints named their settings: told apart by the width of their GRU.

Beside the 128 numbers of an embedding a frame could bring its position in the prefix (v3, whose memory
also starts from a learned `h0`) or the frame count, or both. Where the width leaves a doubt, loading is
refused: a head fed with the wrong extra input gives plausible nonsense.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from tacit.errors import ConfigError
from tacit_learning.alignment.model.recipe_head import HEAD_WIDTH, RecipeHead, RecipeSpec
from tacit_learning.losses.progress import Level

EMBEDDING, RAW = 128, 2048
"""Widths of what those heads read: embeddings, or features as they came."""
GRU_INPUT = "gru.weight_ih_l0"
START = "h0"
NESTED = ("progress_head", "progress_head_state_dict", "model_state_dict", "state_dict")
"""Where such files kept the weights."""


ENCODER_MARKS = ("conv_layers", "base_model", "head_models", "attention_layer", "drop_net", "embedding_layer")
"""Parts of the names of weights of encoders of the original code."""


def load_old_head(path: str | Path, level: Level = "action") -> RecipeHead:
    """Read an old head.

    Args:
        path: `.safetensors`, or a torch file (only tensors in it are read).
        level: What its progress means; those files do not say.

    Raises:
        ConfigError: No such head in the file, or its inputs cannot be told.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; give the checkpoint of a progress head")
    loaded = load_file(path) if path.suffix == ".safetensors" else _torch_file(path)
    return old_head(loaded, str(path), level)


def old_head(weights: Mapping[str, object], source: str, level: Level = "action") -> RecipeHead:
    """Build the head whose weights these are; see `load_old_head`."""
    tensors = _head_tensors(weights, source)
    width = tensors[GRU_INPUT].shape[1]
    hidden = tensors[GRU_INPUT].shape[0] // 3
    dim, spec = detect(width, START in tensors, source)
    head = RecipeHead(spec, dim, hidden, level)
    linear = [tensors[name] for name in sorted(tensors) if not name.startswith(("gru.", START))]
    shapes = [(HEAD_WIDTH, hidden), (HEAD_WIDTH,), (1, HEAD_WIDTH), (1,)]
    found = {tuple(tensor.shape): tensor for tensor in linear}
    if len(linear) != len(shapes) or set(found) != set(shapes):
        raise ConfigError(
            f"{source}: after its GRU it has tensors of shapes {[tuple(t.shape) for t in linear]}, expected "
            f"{shapes}; heads with convolutions or attention need the code that wrote them"
        )
    state = {name: tensor for name, tensor in tensors.items() if name.startswith("gru.")}
    state |= {f"mlp.{i}.{kind}": found[shape] for (i, kind), shape in zip(_MLP, shapes, strict=True)}
    state |= {START: tensors[START].reshape(1, 1, hidden)} if spec.learned_start else {}
    head.load_state_dict(state)
    return head


def detect(width: int, has_start: bool, source: str) -> tuple[int, RecipeSpec]:
    """Tell the inputs of a head by the width of its GRU and whether its memory starts from `h0`.

    128: embedding (v2, v4); 129 with h0: and position (v3); 129 without: and frame count; 130: and both;
    2048: raw features.

    Returns:
        Width of what it reads of a frame, and what enters beside it.

    Raises:
        ConfigError: Any other combination.
    """
    known: dict[tuple[int, bool], tuple[int, RecipeSpec]] = {
        (EMBEDDING, False): (EMBEDDING, RecipeSpec()),
        (EMBEDDING + 1, True): (EMBEDDING, RecipeSpec(position=True, learned_start=True)),
        (EMBEDDING + 1, False): (EMBEDDING, RecipeSpec(count=True)),
        (EMBEDDING + 2, True): (EMBEDDING, RecipeSpec(position=True, learned_start=True, count=True)),
        (RAW, False): (RAW, RecipeSpec()),
    }
    if (width, has_start) not in known:
        start = "with a learned start (h0)" if has_start else "without a learned start (h0)"
        raise ConfigError(
            f"{source}: a GRU of width {width} {start} is ambiguous: known are 128, 2048 without, 129 with "
            "(position) or without (count), 130 with (both); export it with its settings from the code that "
            "trained it"
        )
    return known[width, has_start]


_MLP = ((0, "weight"), (0, "bias"), (2, "weight"), (2, "bias"))


def _torch_file(path: Path) -> Mapping[str, object]:
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(loaded, Mapping):
        raise ConfigError(f"{path}: holds {type(loaded).__name__}, expected a mapping of tensors")
    return loaded


def _head_tensors(weights: Mapping[str, object], source: str) -> dict[str, Tensor]:
    """Return the tensors of the head, named from `gru.` or `h0` on, wherever in the file they are."""
    for name in NESTED:
        inner = weights.get(name)
        if isinstance(inner, Mapping):
            return _head_tensors(inner, source)
    tensors = {name: value for name, value in weights.items() if isinstance(value, Tensor)}
    marks = [name for name in tensors if name.endswith(GRU_INPUT)]
    encoders = [name for name in tensors if any(mark in name for mark in ENCODER_MARKS)]
    if not marks and encoders:
        raise ConfigError(
            f"{source}: holds an encoder of the original code ({encoders[0]}, ...) and no progress head; "
            "such an encoder looks ahead and cannot stream: train one here"
        )
    if len(marks) != 1:
        raise ConfigError(f"{source}: {len(marks)} tensors end in {GRU_INPUT!r}, expected one progress head")
    prefix = marks[0].removesuffix(GRU_INPUT)
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
