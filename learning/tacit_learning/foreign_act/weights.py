"""Weights of others under our names, and the sizes that they imply; nothing of a file is executed."""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tacit.errors import ConfigError
from tacit_learning.foreign_act.network import ActNetwork, Shape
from tacit_learning.layers.transformer import NormOrder

Tensors = dict[str, Tensor]

MAX_PICKLE_BYTES = 64 << 20
"""Of `dataset_stats.pkl`, which holds one episode of states beside the statistics."""

LEROBOT_NAMES = (
    (r"encoder_img_feat_input_proj\.", "projection."),
    (r"encoder_robot_state_input_proj\.", "state."),
    (r"encoder_latent_input_proj\.", "latent."),
    (r"encoder_1d_feature_pos_embed\.weight$", "positions"),
    (r"decoder_pos_embed\.weight$", "queries"),
    (r"action_head\.", "head."),
    (r"backbone\.", "backbone."),
    (r"encoder\.", "encoder."),
    (r"decoder\.", "decoder."),
)
ACT_NAMES = (
    (r"input_proj\.", "projection."),
    (r"input_proj_robot_state\.", "state."),
    (r"latent_out_proj\.", "latent."),
    (r"additional_pos_embed\.weight$", "positions"),
    (r"query_embed\.weight$", "queries"),
    (r"action_head\.", "head."),
    (r"backbones\.0\.0\.body\.", "backbone."),
    (r"transformer\.encoder\.", "encoder."),
    # act computes all its decoder layers and takes the first one's output (tonyzhaozh/act#25)
    (r"transformer\.decoder\.(?=layers\.0\.|norm\.)", "decoder."),
)
_ENCODER = {"self_attn": "attention", "norm1": "around_attention.norm", "norm2": "around_feed_forward.norm"}
_DECODER = {
    "self_attn": "self_attention",
    "multihead_attn": "cross_attention",
    "norm1": "around_self.norm",
    "norm2": "around_cross.norm",
    "norm3": "around_feed_forward.norm",
}
_BOTH = {"linear1": "feed_forward.0", "linear2": "feed_forward.3"}
_LAYER = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.(\w+)\.(.+)")


def renamed(tensors: Mapping[str, Tensor], names: tuple[tuple[str, str], ...]) -> Tensors:
    """Return the tensors that inference needs under the names of `ActNetwork`; the others are left out."""
    found: Tensors = {}
    for key, value in tensors.items():
        key = key.removeprefix("model.")
        for pattern, ours in names:
            match = re.match(pattern, key)
            if match is not None:
                found |= _in_layer(ours + key[match.end() :], value)
                break
    return found


def shape_of(tensors: Tensors, heads: int, order: NormOrder, source: str) -> Shape:
    """Return the sizes that renamed tensors imply.

    Raises:
        ConfigError: A part is missing, or the sizes contradict each other.
    """
    try:
        chunk, dim = tensors["queries"].shape
        action = len(tensors["head.bias"])
        hidden = len(tensors["encoder.layers.0.feed_forward.0.bias"])
        latent = tensors["latent.weight"].shape[1]
        first = tensors["backbone.layer1.0.conv1.weight"]
    except (KeyError, ValueError) as problem:
        raise ConfigError(f"{source}: no ACT policy in it ({problem} is missing)") from None
    if dim % heads or dim % 4:
        raise ConfigError(
            f"{source}: width {dim} does not divide among {heads} heads; give the right --heads"
        )
    return Shape(
        dim=dim,
        heads=heads,
        feedforward=hidden,
        encoder_layers=_count(tensors, r"encoder\.layers\.(\d+)\."),
        decoder_layers=_count(tensors, r"decoder\.layers\.(\d+)\."),
        chunk=chunk,
        action=action,
        state=tensors["state.weight"].shape[1] if "state.weight" in tensors else 0,
        latent=latent,
        blocks=tuple(_count(tensors, rf"backbone\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4)),
        bottleneck=first.shape[-1] == 1,
        order=order,
    )


def network_of(tensors: Tensors, shape: Shape, source: str) -> ActNetwork:
    """Return the network with its weights, ready for inference.

    Raises:
        ConfigError: Tensors are missing, too many, or of other sizes.
    """
    network = ActNetwork(shape)
    try:
        missing, unknown = network.load_state_dict(tensors, strict=False)
    except RuntimeError as problem:
        raise ConfigError(f"{source}: {str(problem).splitlines()[-1].strip()}") from None
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unknown:
        words = ", ".join([*(f"no {name}" for name in missing), *unknown][:5])
        raise ConfigError(f"{source}: not the ACT that is known here: {words}")
    if not all(torch.isfinite(value).all() for value in tensors.values()):
        raise ConfigError(f"{source}: weights that are not finite")
    return network.eval()


def read_checkpoint(path: Path) -> Tensors:
    """Return the tensors of a file of `torch.save`, read without executing anything.

    Raises:
        ConfigError: Missing, damaged, or holding more than tensors.
    """
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as problem:
        note = str(problem).splitlines()[0][:200] if str(problem) else type(problem).__name__
        raise ConfigError(f"{path}: not the weights of a network alone, or damaged ({note})") from None
    for name in ("model", "state_dict", "model_state_dict"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(name), Mapping):
            loaded = loaded[name]
    if not isinstance(loaded, Mapping):
        raise ConfigError(f"{path}: holds {type(loaded).__name__}, expected tensors by name")
    return {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a pickled mapping such as `dataset_stats.pkl`; only arrays are ever built.

    Raises:
        ConfigError: Missing, too large, damaged, or asking for anything but arrays of numbers.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PICKLE_BYTES + 1)
    except OSError as problem:
        raise ConfigError(f"{path}: cannot be read ({problem.strerror})") from None
    if len(data) > MAX_PICKLE_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_PICKLE_BYTES >> 20} MB")
    try:
        loaded = _ArraysOnly(io.BytesIO(data)).load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError, KeyError) as problem:
        raise ConfigError(f"{path}: not arrays by name ({problem}); nothing of it was executed") from None
    except (AttributeError, ImportError, UnicodeError, OverflowError, MemoryError) as problem:
        raise ConfigError(f"{path}: damaged ({problem})") from None
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: holds {type(loaded).__name__}, expected arrays by name")
    arrays = {str(name): np.asarray(value) for name, value in loaded.items() if _is_numeric(value)}
    return {name: value for name, value in arrays.items() if value.dtype.kind in "fiu"}


_BUILDERS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): dict,
}
for _core in ("core", "_core"):  # before and after numpy 2
    _BUILDERS[f"numpy.{_core}.multiarray", "_reconstruct"] = np.zeros(1).__reduce__()[0]
    _BUILDERS[f"numpy.{_core}.multiarray", "scalar"] = np.float64(0).__reduce__()[0]


class _ArraysOnly(pickle.Unpickler):
    """Builds arrays of numbers and nothing else: every other name in the file is an error."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what builds arrays; refuse all else."""
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        if (module, name) not in _BUILDERS:
            raise pickle.UnpicklingError(f"asks for {module}.{name}"[:100])
        return _BUILDERS[module, name]


def _latin1(text: str, encoding: str) -> bytes:
    """How old protocols write the bytes of an array."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes as {encoding!r}"[:100])
    return text.encode("latin1")


def _is_numeric(value: object) -> bool:
    return isinstance(value, (int, float, np.ndarray, np.generic))


def _in_layer(name: str, value: Tensor) -> Tensors:
    """Return a tensor under the names of our layers; the three projections of an attention apart."""
    match = _LAYER.fullmatch(name)
    if match is None:
        return {name: value}
    stack, index, part, rest = match.groups()
    parts = (_ENCODER if stack == "encoder" else _DECODER) | _BOTH
    prefix = f"{stack}.layers.{index}.{parts.get(part, part)}"
    if rest in ("in_proj_weight", "in_proj_bias"):
        kind = rest.removeprefix("in_proj_")
        pieces = zip(("query", "key", "value"), value.chunk(3), strict=True)
        return {f"{prefix}.{name}.{kind}": piece for name, piece in pieces}
    return {f"{prefix}.{rest.replace('out_proj', 'output')}": value}


def _count(tensors: Tensors, pattern: str) -> int:
    """Return how many numbered parts there are."""
    numbers = [int(match[1]) for match in (re.match(pattern, name) for name in tensors) if match]
    return max(numbers, default=-1) + 1
