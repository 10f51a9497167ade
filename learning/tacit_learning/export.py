"""From a checkpoint to one ONNX file: images and canonical units in, canonical units out.

Normalisation, background subtraction and weights are inside the graph; the manifest and a golden
sample travel in its metadata (`tacit.bundle`). The graph is compared with torch before it is kept.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from tacit.bundle import golden_inputs, relative_difference, run_graph, save_bundle
from tacit.bundle.manifest import ImageInput, Manifest, TaxelInput
from tacit.bundle.onnx_file import with_metadata
from tacit.bundle.player import PlayFlags, PlaySpec
from tacit.errors import BundleError, ConfigError, did_you_mean
from tacit.images import encode_png
from tacit_learning.act_hsa.policy import ActHsaPolicy
from tacit_learning.act_hsa.train import TrainedPolicy, policy_from
from tacit_learning.alignment.checkpoints import TrainedAlignment, alignment_from
from tacit_learning.alignment.model.streaming import (
    STREAM_KEY,
    FeatureGraph,
    FeatureStream,
    FrameGraph,
    StreamInfo,
    check_streams,
)
from tacit_learning.data.spec import PolicySpec
from tacit_learning.data.view import NO_TOUCH_SIZE, View
from tacit_learning.engine.checkpoint import load_checkpoint
from tacit_learning.layers.text import embed_texts

OPSET = 20
PARITY_TOLERANCE = 1e-5
PARITY_SAMPLES = 20


@dataclass(frozen=True)
class Exported:
    """A written bundle, its hash, and its largest difference from torch on random inputs."""

    path: Path
    sha256: str
    max_difference: float


class PolicyGraph(nn.Module):
    """The inference interface of a policy: one input per stream, the chunk for z = 0."""

    def __init__(self, policy: ActHsaPolicy, view: View) -> None:
        super().__init__()
        self.policy = policy
        self.num_cameras, self.num_gels = len(view.cameras), len(view.sensors)

    def forward(self, state: Tensor, *images: Tensor) -> Tensor:
        """Map state (1, A), images (1, H, W, 3) u1, cameras then gels, and taxels (1, R, C, K) to a chunk."""
        first = self.num_cameras + self.num_gels
        cameras, touch, taxels = images[: self.num_cameras], images[self.num_cameras : first], images[first:]
        flat = torch.cat([reading.flatten(1) for reading in taxels], 1) if taxels else None
        return self.policy.predict(state, torch.stack(cameras, 1), _stack(touch, state), flat)


def export_checkpoint(
    folder: str | Path, out: str | Path, task: str | None = None, play: PlayFlags | None = None
) -> Exported:
    """Write the bundle of a checkpoint or run folder, whatever its kind.

    Args:
        folder: Run or checkpoint.
        out: File to write.
        task: Which task an alignment model of several follows.
        play: How the chunks of a policy are played, where it shall not be as usual.

    Raises:
        ConfigError: No checkpoint there, or a way of playing that cannot be.
        BundleError: The graph differs from torch by more than 1e-5.
    """
    checkpoint = load_checkpoint(folder)
    if json.loads(checkpoint.texts["about.json"])["kind"] == "act_hsa":
        return export_policy(policy_from(checkpoint), out, play or PlayFlags())
    return export_alignment(alignment_from(checkpoint), out, task)


def export_policy(trained: TrainedPolicy, out: str | Path, play: PlayFlags) -> Exported:
    """Write an `act_hsa` bundle."""
    spec, chunk_size = trained.spec, trained.config.model.chunk_size
    graph = PolicyGraph(trained.policy, spec.view).eval()
    manifest = make_manifest(
        spec,
        trained.fps,
        trained.provenance,
        kind="act_hsa",
        chunk_size=chunk_size,
        play=play.applied(PlaySpec(), chunk_size),
        free_gels=free_gels(trained),
    )
    names = ["state", *_image_names(spec), *(f"taxels.{name}" for name in spec.view.taxels)]
    return export_graph(graph, manifest, names, ["chunk"], Path(out))


def export_alignment(trained: TrainedAlignment, out: str | Path, task: str | None = None) -> Exported:
    """Write a `progress` bundle of a model of images; of a model of features alone, a feature stream.

    Raises:
        BundleError: The model cannot run frame by frame.
        ConfigError: It was trained on several tasks, and none or an unknown one is chosen.
    """
    model, known, checkpoint = trained.model, trained.known, trained.checkpoint
    level = trained.config.progress.level
    check_streams(model, level, str(checkpoint.folder))
    number, said = followed_task(trained, task)
    graph = FeatureGraph(model, level, number).eval()
    provenance = {**trained.provenance, "task": said, "level": level}
    source = trained.source()
    if source is None:
        return _export_features(graph, trained, provenance, Path(out))
    images = FrameGraph(graph, source.encoder, len(source.spec.view.cameras)).eval()
    manifest = make_manifest(
        source.spec, known.fps, provenance, kind="progress", hidden_size=model.state_size
    )
    names = ["state", "hidden", "elapsed", *_image_names(source.spec)]
    return export_graph(images, manifest, names, graph.names, Path(out))


def make_manifest(
    spec: PolicySpec,
    fps: float,
    provenance: dict[str, object],
    *,
    kind: str,
    chunk_size: int = 0,
    hidden_size: int = 0,
    play: PlaySpec | None = None,
    free_gels: Mapping[str, str] | None = None,
) -> Manifest:
    """Fill in a manifest; golden rows and hashes come with `tacit.bundle.save_bundle`."""
    rig, statistics = spec.rig, spec.statistics
    acts = kind == "act_hsa"
    return Manifest(
        kind=kind,  # type: ignore[arg-type]
        rig_name=rig.name,
        rig_id=rig.rig_id,
        calibration_id=rig.calibration_id,
        calibration=rig.calibration,
        state_names=rig.state_names,
        action_names=rig.state_names if acts else (),
        cameras={
            name: ImageInput(**asdict(t), depth_range_m=spec.view.depth_range_m.get(name))
            for name, t in spec.view.cameras.items()
        },
        touch={name: ImageInput(**asdict(t)) for name, t in spec.view.sensors.items()},
        taxels={name: TaxelInput(**array.model_dump()) for name, array in spec.view.taxels.items() if acts},
        chunk_size=chunk_size,
        hidden_size=hidden_size,
        touch_reference=spec.view.touch_reference,
        free_gels=dict(free_gels or {}),
        play=play,
        rate_hz=fps,
        action_space="joint_position" if acts else "none",
        state_min=statistics.state_min,
        state_max=statistics.state_max,
        train=provenance,
    )


def free_gels(trained: TrainedPolicy) -> dict[str, str]:
    """Return how each gel looked in training, where the policy reads touch against that of its run."""
    if trained.policy.touch_reference == "training":
        return {}
    gels = zip(trained.spec.view.sensors, trained.policy.free_gels.cpu().numpy(), strict=True)
    return {name: base64.b64encode(encode_png(gel).tobytes()).decode() for name, gel in gels}


def to_onnx(
    graph: nn.Module, inputs: Sequence[Tensor], names: Sequence[str], outputs: Sequence[str]
) -> bytes:
    """Export with the dynamo exporter into one file's bytes, without source paths in its nodes."""
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            graph,
            tuple(inputs),
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            input_names=list(names),
            output_names=list(outputs),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    strip(model)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def strip(model: onnx.ModelProto) -> None:
    """Remove stack traces, module names and documentation, which hold paths of this machine."""
    del model.metadata_props[:]
    model.doc_string = ""
    for holder in (model.graph, *model.functions):
        del holder.metadata_props[:]
        holder.doc_string = ""
        values = [*holder.node, *holder.value_info]
        if isinstance(holder, onnx.GraphProto):
            values += [*holder.input, *holder.output, *holder.initializer]
        for value in values:
            del value.metadata_props[:]
            value.doc_string = ""


def parity(graph: nn.Module, model_bytes: bytes, manifest: Manifest, names: Sequence[str]) -> float:
    """Return the largest `relative_difference` between torch and onnxruntime on random inputs."""
    worst = 0.0
    for seed in range(PARITY_SAMPLES):
        sample = manifest.model_copy(
            update={"golden": manifest.golden.model_copy(update={"seed": 1000 + seed})}
        )
        inputs = golden_inputs(sample)
        outputs = list(run_graph(model_bytes, inputs, manifest).values())
        with torch.no_grad():
            expected = graph(*(torch.from_numpy(inputs[name]) for name in names))
        expected = expected if isinstance(expected, tuple) else (expected,)
        differences = [relative_difference(a, b.numpy()) for a, b in zip(outputs, expected, strict=True)]
        worst = max(worst, float(max(differences)))
    return worst


def export_graph(
    graph: nn.Module, manifest: Manifest, names: list[str], outputs: list[str], out: Path
) -> Exported:
    """Write the bundle of a graph, after comparing it with torch.

    Args:
        graph: One input per name, in evaluation mode.
        manifest: Without golden rows and hashes.
        names: Inputs in the order that `graph` takes them.
        outputs: What it returns.
        out: File to write.

    Raises:
        BundleError: The graph differs from torch by more than 1e-5.
    """
    tensors = [torch.from_numpy(golden_inputs(manifest)[name]) for name in names]
    model_bytes = to_onnx(graph, tensors, names, outputs)
    difference = parity(graph, model_bytes, manifest, names)
    _refuse_difference(out, difference)
    manifest = manifest.model_copy(update={"train": {**manifest.train, "export_difference": difference}})
    out.parent.mkdir(parents=True, exist_ok=True)
    return Exported(out, save_bundle(out, model_bytes, manifest).sha256, difference)


def _export_features(
    graph: FeatureGraph, trained: TrainedAlignment, provenance: dict[str, object], out: Path
) -> Exported:
    """Write a model of features, after comparing a streamed video with torch."""
    known, size = trained.known, trained.model.state_size
    names = ["features", "hidden", "elapsed"]
    sample = (torch.zeros(1, known.num_features), torch.zeros(1, size), torch.ones(1, 1))
    info = StreamInfo(
        num_features=known.num_features,
        hidden_size=size,
        fps=known.fps,
        level=trained.config.progress.level,
        labels=known.labels,
        failures=known.failures,
        task=str(provenance["task"]),
        train=provenance,
    )
    data = with_metadata(to_onnx(graph, sample, names, graph.names), {STREAM_KEY: info.model_dump_json()})
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(data)
    difference = _stream_parity(graph, out)
    _refuse_difference(out, difference)
    return Exported(out, hashlib.sha256(data).hexdigest(), difference)


def _stream_parity(graph: FeatureGraph, path: Path) -> float:
    """Return the largest difference of progress between the file and torch over a random video."""
    stream, scale = FeatureStream(path), graph.model.scale
    features = scale.mean + scale.std * torch.randn(
        PARITY_SAMPLES, len(scale.mean), generator=torch.Generator().manual_seed(0)
    )
    hidden, worst = torch.zeros(1, graph.model.state_size), 0.0
    for t, row in enumerate(features):
        elapsed = torch.tensor([[t / stream.info.fps]], dtype=torch.float32)
        with torch.no_grad():
            progress, done, hidden, *_ = graph(row[None], hidden, elapsed)
        found = stream.step(row.numpy(), round(t * 1e9 / stream.info.fps))
        worst = max(worst, abs(found.progress - float(progress)), abs(found.done - float(done)))
    return worst


def followed_task(trained: TrainedAlignment, task: str | None) -> tuple[int, str]:
    """Return the number of the task to follow and its name.

    A model that reads the text of its task follows one that it has not seen: its text takes the first place.
    """
    tasks, reads = trained.known.tasks, trained.model.task_text
    if task is None and len(tasks) == 1:
        return 0, tasks[0]
    if task in tasks:
        return tasks.index(task), task
    if task is None or reads is None or trained.config.text is None:
        raise ConfigError(f"--task {task}: the model knows several; {did_you_mean(str(task), tasks)}")
    reads.texts[0] = embed_texts(trained.config.text.folder, [task])[0]
    return 0, task


def _refuse_difference(out: Path, difference: float) -> None:
    if not difference <= PARITY_TOLERANCE:
        raise BundleError(
            f"{out}: the graph differs from torch by {difference:.1e}, allowed {PARITY_TOLERANCE:.0e}; "
            "this is a defect of the export, please report it with your configuration"
        )


def _image_names(spec: PolicySpec) -> list[str]:
    return [f"image.{name}" for name in spec.view.cameras] + [f"touch.{name}" for name in spec.view.sensors]


def _stack(touch: Sequence[Tensor], state: Tensor) -> Tensor:
    """Stack touch images to (1, S, h, w, 3); S may be 0."""
    if touch:
        return torch.stack(list(touch), 1)
    return torch.zeros(len(state), 0, *NO_TOUCH_SIZE, 3, dtype=torch.uint8)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's own messages from the user."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
