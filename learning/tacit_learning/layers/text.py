"""Frozen embeddings of a few texts, by a text encoder in a local folder; it is needed in training alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tacit.errors import ConfigError


@torch.no_grad()
def embed_texts(folder: str | Path, texts: Sequence[str]) -> Tensor:
    """Embed texts (N, E) f4, each of unit norm.

    Encoders of two towers (CLIP, SigLIP) give their text features; of others the last layer is averaged over
    the tokens of a text, of an encoder and decoder (T5) that of the encoder.

    Args:
        folder: A transformers model with its tokenizer.
        texts: At least one.

    Raises:
        ConfigError: No such model or tokenizer there; nothing is downloaded.
    """
    tokenizer, model = _load(Path(folder))
    fed = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
    known = {name: fed[name] for name in ("input_ids", "attention_mask") if name in fed}
    if hasattr(model, "get_text_features"):
        found = model.get_text_features(**known)
        found = found if isinstance(found, Tensor) else found.pooler_output
    else:
        hidden = model(**known).last_hidden_state
        mask = known.get("attention_mask", torch.ones(hidden.shape[:2])).unsqueeze(-1).to(hidden)
        found = (hidden * mask).sum(1) / mask.sum(1)
    return torch.nn.functional.normalize(found.float(), dim=-1)


def _load(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; give one with a text encoder and its tokenizer")
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        model = AutoModel.from_pretrained(str(folder), local_files_only=True).eval()
    except (OSError, ValueError, KeyError) as problem:
        note = " ".join(str(problem).split())[:200]
        raise ConfigError(f"{folder}: no text encoder with its tokenizer ({note})") from None
    is_two_sided = bool(getattr(model.config, "is_encoder_decoder", False))
    return tokenizer, model.get_encoder() if is_two_sided else model
