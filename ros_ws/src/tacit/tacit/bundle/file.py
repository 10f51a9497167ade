"""The policy bundle: one ONNX file that says what it is, for which rig, and how to prove it.

Its manifest travels as JSON in the ONNX metadata. Written by the exporter through `save_bundle`,
read by `runtime` and the nodes; `onnx` itself is never imported.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.bundle.binding import Binding, bind
from tacit.bundle.inference import make_session, run_session
from tacit.bundle.manifest import (
    MANIFEST_KEY,
    MAX_MANIFEST_BYTES,
    SCHEMA_VERSION,
    Manifest,
    golden_inputs,
    output_shapes,
)
from tacit.bundle.onnx_file import check_file, graph_sha256, read_metadata, with_metadata
from tacit.bundle.player import PlaySpec
from tacit.config import parse
from tacit.config.documents import json_mapping
from tacit.errors import BundleError, ConfigError
from tacit.rig import Rig


@dataclass(frozen=True)
class PolicyBundle:
    """A bundle in memory: what it says, its bytes, and sha256 (hex) of the whole file."""

    manifest: Manifest
    model_bytes: bytes
    sha256: str
    source: str = "bundle"


def load_bundle(path: str | Path, sha256: str | None = None) -> PolicyBundle:
    """Read a bundle and check that it is whole and unedited; nothing is executed.

    Args:
        path: An `.onnx` file with a manifest.
        sha256: Expected hash of the file, where the deployment pins one.

    Raises:
        BundleError: Missing, damaged, unknown version, wrong hash, or edited after export.
    """
    path = Path(path)
    if check_file(path) and sha256 is None:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as seen:
            _manifest_of(seen, str(path))  # before the whole file is in memory
    return parse_bundle(path.read_bytes(), str(path), sha256)


def parse_bundle(model_bytes: bytes, source: str, sha256: str | None = None) -> PolicyBundle:
    """Check the bytes of a bundle as `load_bundle` does; `source` starts every message."""
    found = hashlib.sha256(model_bytes).hexdigest()
    if sha256 is not None and found != sha256.lower():
        raise BundleError(f"{source}: sha256 is {found}, expected {sha256}; this is another file")
    manifest = _manifest_of(model_bytes, source)
    graph = graph_sha256(model_bytes)
    if manifest.parameters_sha256 != graph:
        raise BundleError(
            f"{source}: parameters_sha256: the graph or its weights were changed after export "
            f"(found {graph[:12]}, expected {manifest.parameters_sha256[:12]}); export it again"
        )
    return PolicyBundle(manifest, model_bytes, found, source)


def save_bundle(path: str | Path, model_bytes: bytes, manifest: Manifest) -> PolicyBundle:
    """Write a bundle: run the graph on the golden inputs, fill in the proofs, attach the manifest.

    Args:
        path: Where to write (`.onnx`).
        model_bytes: The serialised ONNX model, weights inside.
        manifest: All fields but golden rows, parameters_sha256 and digest, which are set here.

    Raises:
        BundleError: The graph does not take or give what the manifest says.
    """
    outputs = run_graph(model_bytes, golden_inputs(manifest), manifest)
    first, last = _golden_rows(manifest, outputs)
    golden = manifest.golden.model_copy(
        update={"first_row": tuple(first.tolist()), "last_row": tuple(last.tolist())}
    )
    update = {"golden": golden, "parameters_sha256": graph_sha256(model_bytes)}
    return _write(path, model_bytes, manifest.model_copy(update=update))


def save_playing(bundle: PolicyBundle, play: PlaySpec, path: str | Path) -> PolicyBundle:
    """Write a bundle to `path` with another way of playing its chunks; the graph stays as it is.

    Raises:
        BundleError: The bundle has no chunks (it is no policy).
    """
    if bundle.manifest.kind != "act_hsa":
        raise BundleError(f"{bundle.source}: kind is {bundle.manifest.kind!r}, which has no chunks to play")
    return _write(path, bundle.model_bytes, bundle.manifest.model_copy(update={"play": play}))


def save_detector(
    bundle: PolicyBundle, thresholds: Mapping[str, float | None], path: str | Path
) -> PolicyBundle:
    """Write a progress bundle to `path` with other thresholds of done, failure, stall and regression.

    Raises:
        BundleError: The bundle tells no progress.
    """
    if bundle.manifest.kind != "progress":
        raise BundleError(f"{bundle.source}: kind is {bundle.manifest.kind!r}, which tells no progress")
    update = {"detector": dict(thresholds)}
    return _write(path, bundle.model_bytes, bundle.manifest.model_copy(update=update))


def _write(path: str | Path, model_bytes: bytes, manifest: Manifest) -> PolicyBundle:
    """Seal the manifest, attach it and write the file; a kill leaves the old file or the new one."""
    path = Path(path)
    data = with_metadata(model_bytes, {MANIFEST_KEY: manifest.seal().text()})
    bundle = parse_bundle(data, str(path))
    partial = path.with_name(f".{path.name}.part")
    partial.write_bytes(data)
    partial.replace(path)
    return bundle


def verify(bundle: PolicyBundle) -> float:
    """Run the golden sample through the graph.

    Returns:
        The largest difference from the stored rows (`relative_difference`); 0 on the machine that
        exported it.

    Raises:
        BundleError: The difference is above the manifest's tolerance, or not finite.
    """
    manifest = bundle.manifest
    outputs = run_graph(bundle.model_bytes, golden_inputs(manifest), manifest)
    expected = (np.asarray(manifest.golden.first_row), np.asarray(manifest.golden.last_row))
    found = _golden_rows(manifest, outputs)
    for row, wanted in zip(found, expected, strict=True):
        if row.shape != wanted.shape:
            raise BundleError(f"{bundle.source}: golden: {wanted.size} values, the graph gives {row.size}")
    differences = [relative_difference(row, wanted) for row, wanted in zip(found, expected, strict=True)]
    error = float(np.max(differences))  # not `max`, which may pass over a NaN
    if not error <= manifest.golden.tolerance:
        raise BundleError(
            f"{bundle.source}: golden: the graph answers {error:.2e} away from the stored rows, allowed "
            f"{manifest.golden.tolerance:.0e}; this machine or this file computes something else"
        )
    return error


def relative_difference(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return max |found - expected| / max(1, max |expected|): a memory may hold numbers well above 1."""
    return float(np.abs(found - expected).max() / max(1.0, float(np.abs(expected).max())))


def run_graph(
    model_bytes: bytes, inputs: Mapping[str, NDArray[Any]], manifest: Manifest
) -> dict[str, NDArray[Any]]:
    """Run the graph once and check the names and shapes of what comes out.

    Raises:
        BundleError: Inputs or outputs differ from what the manifest promises.
    """
    session = make_session(model_bytes)
    check_signature(session, manifest)
    outputs = run_session(session, inputs)
    for name, shape in output_shapes(manifest).items():
        if outputs[name].shape != shape:
            raise BundleError(f"graph output {name!r}: shape {outputs[name].shape}, expected {shape}")
    return outputs


def check_signature(session: Any, manifest: Manifest) -> None:
    """Refuse a graph whose input or output names differ from the manifest's."""
    pairs = (
        ("input", {item.name for item in session.get_inputs()}, set(golden_inputs(manifest))),
        ("output", {item.name for item in session.get_outputs()}, set(output_shapes(manifest))),
    )
    for label, found, expected in pairs:
        if (label == "input" and found != expected) or not expected <= found:
            raise BundleError(f"graph {label}s are {sorted(found)}, the manifest says {sorted(expected)}")


def check_rig(manifest: Manifest, rig: Rig) -> Binding:
    """Refuse a rig this bundle was not trained for; see `tacit.bundle.binding.bind`.

    Returns:
        How the rig's state and action vectors map to the bundle's, by name.
    """
    return bind(manifest, rig)


def describe(manifest: Manifest) -> str:
    """Return what a person wants to know about a bundle, one fact a line."""
    images = [f"{n} {i.height}x{i.width}" for n, i in {**manifest.cameras, **manifest.touch}.items()]
    images += [f"{n} {t.rows}x{t.columns}x{t.channels} taxels" for n, t in manifest.taxels.items()]
    said = "" if manifest.play else " (the default: the bundle does not say)"
    playing = [f"play       {manifest.playing}{said}"] if manifest.kind == "act_hsa" else []
    return "\n".join(
        [
            f"kind       {manifest.kind} ({manifest.schema_version}, tacit {manifest.tacit_version})",
            f"rig        {manifest.rig_name} (calibration {manifest.calibration_id[:12]})",
            f"state      {', '.join(manifest.state_names)}",
            f"images     {', '.join(images)}",
            *([f"touch      against the gel of the {manifest.touch_reference}"] if manifest.touch else []),
            f"chunk      {manifest.chunk_size} actions at {manifest.rate_hz:g} Hz ({manifest.action_space})",
            *playing,
            f"parameters {manifest.parameters_sha256[:12]}",
            f"train      {json.dumps(manifest.train, sort_keys=True)[:200]}",
        ]
    )


def _manifest_of(model: bytes | mmap.mmap, source: str) -> Manifest:
    """Return the checked manifest of a serialised model; nothing else of it is read."""
    try:
        text = read_metadata(model).get(MANIFEST_KEY)
    except BundleError as problem:
        raise BundleError(f"{source}: {problem}") from None
    if text is None:
        raise BundleError(f"{source}: no {MANIFEST_KEY!r} in its metadata; export it with `tacit export`")
    if len(text) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{source}: manifest of {len(text) >> 10} KB, limit {MAX_MANIFEST_BYTES >> 10} KB")
    return _parse_manifest(text, source)


def _parse_manifest(text: str, source: str) -> Manifest:
    """Parse strictly: JSON, version, fields, digest; in this order."""
    data = json_mapping(text, f"{source}: manifest", BundleError)
    version = data.get("schema_version")
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"{source}: schema_version is {version!r}, expected {SCHEMA_VERSION!r}; "
            "use the tacit release that exported it, or export it again"
        )
    try:
        manifest = parse(Manifest, data, f"{source}: manifest")
    except ConfigError as problem:
        raise BundleError(str(problem)) from None
    if manifest.digest != manifest.expected_digest():
        raise BundleError(
            f"{source}: manifest digest does not match its fields: it was edited; export it again"
        )
    return manifest


def _golden_rows(
    manifest: Manifest, outputs: Mapping[str, NDArray[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if manifest.kind == "act_hsa":
        chunk = outputs["chunk"][0].astype(np.float64)
        return chunk[0], chunk[-1]
    first = np.concatenate([outputs["progress"][0], outputs["done"][0]]).astype(np.float64)
    return first, outputs["hidden_out"][0].astype(np.float64)
