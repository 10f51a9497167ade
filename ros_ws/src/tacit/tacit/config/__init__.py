"""Settings and documents from outside: strict models, and text read within limits.

Imports point down this list only: models > documents.
"""

from tacit.config.models import Config, apply_overrides, load, load_json, load_yaml, parse, save, to_yaml

__all__ = ["Config", "apply_overrides", "load", "load_json", "load_yaml", "parse", "save", "to_yaml"]
