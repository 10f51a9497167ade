"""Settings and documents from outside: options within bounds, strict models, text read within limits.

Imports point down this list only: models > arguments, claims, documents, pace.
"""

from typing import TYPE_CHECKING

from tacit.lazy import lazily

__all__ = ["Config", "apply_overrides", "load", "load_json", "load_yaml", "parse", "save", "to_yaml"]

if TYPE_CHECKING:
    from tacit.config.models import Config, apply_overrides, load, load_json, load_yaml, parse, save, to_yaml
else:  # who reads a document alone needs no models
    __getattr__ = lazily(__name__, dict.fromkeys(__all__, "models"))
