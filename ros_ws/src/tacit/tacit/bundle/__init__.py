"""A policy as one file: manifest, binding to a rig, ONNX run, chunks in time.

Imports point down this list only: runtime > file > binding > manifest > player, inference, onnx_file.
"""

from tacit.bundle.binding import Binding
from tacit.bundle.file import (
    PolicyBundle,
    check_rig,
    check_signature,
    describe,
    load_bundle,
    parse_bundle,
    relative_difference,
    run_graph,
    save_bundle,
    save_detector,
    save_playing,
    verify,
)
from tacit.bundle.manifest import (
    MANIFEST_KEY,
    SCHEMA_VERSION,
    Golden,
    ImageInput,
    Manifest,
    golden_inputs,
    output_shapes,
)
from tacit.bundle.player import PlaySpec
