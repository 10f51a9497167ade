"""Tiny real bundles for tests: graphs of a few nodes whose answers can be worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tacit.bundle import ImageInput, Manifest, PolicyBundle, save_bundle
from tacit.rig import Rig

CHUNK = 5
HIDDEN = 3


def manifest_for(rig: Rig, kind: str = "act_hsa", **changes: object) -> Manifest:
    """A manifest that fits `rig`: wrist camera and left touch, pictures in half size, limits as range."""
    wrist = rig.cameras["wrist"]
    policy = kind == "act_hsa"
    fields: dict[str, object] = {
        "kind": kind,
        "rig_name": rig.name,
        "rig_id": rig.rig_id,
        "calibration_id": rig.calibration_id,
        "calibration": rig.calibration,
        "state_names": rig.state_names,
        "action_names": rig.state_names if policy else (),
        "action_space": "joint_position" if policy else "none",
        "cameras": {"wrist": _half(wrist.height, wrist.width)},
        "touch": {n: _half(gel.height, gel.width) for n, gel in rig.gels.items() if n == "left"},
        "taxels": {n: skin.array.model_dump() for n, skin in rig.taxels.items() if n == "left"},
        "chunk_size": CHUNK if policy else 0,
        "hidden_size": 0 if policy else HIDDEN,
        "rate_hz": rig.alignment.rate_hz,
        "state_min": tuple(rig.limits("lower")),
        "state_max": tuple(rig.limits("upper")),
    }
    return Manifest.model_validate(fields | changes)


def policy_bundle(folder: Path, rig: Rig, **changes: object) -> PolicyBundle:
    """chunk[i] = state * (1 + 0.01 i) + 0 * mean(images): the answer is plain, all inputs are used."""
    manifest = manifest_for(rig, **changes)
    return save_bundle(folder / "policy.onnx", policy_model(manifest), manifest)


def progress_bundle(folder: Path, rig: Rig, **changes: object) -> PolicyBundle:
    """hidden counts frames: hidden_out = hidden + 1; progress = hidden_out[0] / 10 + 0 * elapsed."""
    manifest = manifest_for(rig, "progress", **changes)
    return save_bundle(folder / "progress.onnx", progress_model(manifest), manifest)


def nan_bundle(folder: Path, rig: Rig, **changes: object) -> PolicyBundle:
    """`policy_bundle` whose whole chunk is NaN where joint1 is below -0.5 rad."""
    manifest = manifest_for(rig, **changes)
    model = onnx.load_from_string(policy_model(manifest))
    model.graph.node[-1].output[0] = "chunk_finite"
    pick = np.zeros((len(manifest.state_names), 1), dtype=np.float32)
    pick[0] = 1.0
    model.graph.initializer.extend(
        [_constant("pick", pick), _constant("half", np.float32(0.5)), _constant("nought", np.float32(0))]
    )
    model.graph.node.extend(
        [
            helper.make_node("MatMul", ["state", "pick"], ["joint1"]),
            helper.make_node("Add", ["joint1", "half"], ["shifted"]),
            helper.make_node("Log", ["shifted"], ["log"]),
            helper.make_node("Mul", ["log", "nought"], ["nothing_or_nan"]),
            helper.make_node("Add", ["chunk_finite", "nothing_or_nan"], ["chunk"]),
        ]
    )
    return save_bundle(folder / "nan.onnx", model.SerializeToString(), manifest)


def seeing_bundle(folder: Path, rig: Rig, **changes: object) -> PolicyBundle:
    """`policy_bundle` whose whole chunk is moved by 1e-5 times the sum of the means of its images."""
    manifest = manifest_for(rig, **changes)
    model = onnx.load_from_string(policy_model(manifest))
    weight = next(item for item in model.graph.initializer if item.name == "image_weight")
    weight.CopyFrom(_constant("image_weight", np.full(1, 1e-5, dtype=np.float32)))
    return save_bundle(folder / "seeing.onnx", model.SerializeToString(), manifest)


def slow_bundle(folder: Path, rig: Rig, **changes: object) -> PolicyBundle:
    """`policy_bundle` that takes minutes where joint1 is above 0.6 rad, and is quick below."""
    manifest = manifest_for(rig, **changes)
    model = onnx.load_from_string(policy_model(manifest))
    graph = model.graph
    graph.node[-1].output[0] = "chunk_fast"
    graph.initializer.extend(
        [
            _constant("square", np.eye(64, dtype=np.float32)),
            _constant("pick", np.array([[1e9]] + [[0.0]] * 6, dtype=np.float32)),
            _constant("many", np.float32(6e8)),
            _constant("nought", np.float32(0)),
            _constant("go", np.array(True)),
        ]
    )
    graph.node.extend(
        [
            helper.make_node("MatMul", ["state", "pick"], ["wish"]),
            helper.make_node("ReduceSum", ["wish"], ["wish_scalar"], keepdims=0),
            helper.make_node("Sub", ["wish_scalar", "many"], ["over"]),
            helper.make_node("Max", ["over", "nought"], ["count_float"]),
            helper.make_node("Cast", ["count_float"], ["count"], to=TensorProto.INT64),
            helper.make_node("Loop", ["count", "go", "square"], ["looped"], body=_loop_body()),
            helper.make_node("ReduceSum", ["looped"], ["total"], keepdims=0),
            helper.make_node("Mul", ["total", "nought"], ["nothing"]),
            helper.make_node("Add", ["chunk_fast", "nothing"], ["chunk"]),
        ]
    )
    return save_bundle(folder / "slow.onnx", model.SerializeToString(), manifest)


def _loop_body() -> onnx.GraphProto:
    square = [64, 64]
    return helper.make_graph(
        [
            helper.make_node("MatMul", ["square_in", "square"], ["square_out"]),
            helper.make_node("Identity", ["go_in"], ["go_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("square_in", TensorProto.FLOAT, square),
        ],
        [
            helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("square_out", TensorProto.FLOAT, square),
        ],
    )


def policy_model(manifest: Manifest) -> bytes:
    """The graph of `policy_bundle`."""
    rows = (1 + 0.01 * np.arange(manifest.chunk_size, dtype=np.float32))[None, :, None]
    nodes, zero = _image_zero(manifest)
    nodes += [
        helper.make_node("Unsqueeze", ["state", "axis"], ["state_row"]),
        helper.make_node("Mul", ["state_row", "rows"], ["scaled"]),
        helper.make_node("Add", ["scaled", zero], ["chunk"]),
    ]
    weights = [_constant("rows", rows), _constant("axis", np.array([1], dtype=np.int64))]
    shape = (1, manifest.chunk_size, len(manifest.action_names))
    return _model(nodes, weights, manifest, [_tensor("chunk", shape)])


def progress_model(manifest: Manifest) -> bytes:
    """The graph of `progress_bundle`."""
    size = manifest.hidden_size
    nodes, zero = _image_zero(manifest)
    nodes += [
        helper.make_node("Add", ["hidden", "one"], ["hidden_out"]),
        helper.make_node("MatMul", ["hidden_out", "pick"], ["count"]),
        helper.make_node("MatMul", ["state", "nothing"], ["state_zero"]),
        helper.make_node("Mul", ["elapsed", "zero"], ["elapsed_zero"]),
        helper.make_node("Sum", ["count", "state_zero", "elapsed_zero"], ["summed"]),
        helper.make_node("Reshape", [zero, "flat"], ["image_zero"]),
        helper.make_node("Add", ["summed", "image_zero"], ["progress"]),
        helper.make_node("Clip", ["progress", "zero_scalar", "one_scalar"], ["done"]),
    ]
    pick = np.zeros((size, 1), dtype=np.float32)
    pick[0] = 0.1
    weights = [
        _constant("one", np.ones((1, 1), dtype=np.float32)),
        _constant("zero", np.zeros((1, 1), dtype=np.float32)),
        _constant("zero_scalar", np.float32(0)),
        _constant("one_scalar", np.float32(1)),
        _constant("pick", pick),
        _constant("nothing", np.zeros((len(manifest.state_names), 1), dtype=np.float32)),
        _constant("flat", np.array([1, 1], dtype=np.int64)),
    ]
    shapes = {"progress": (1, 1), "done": (1, 1), "hidden_out": (1, size)}
    return _model(nodes, weights, manifest, [_tensor(name, shape) for name, shape in shapes.items()])


def _half(height: int, width: int) -> ImageInput:
    return ImageInput(height=height // 2, width=width // 2, source_height=height, source_width=width)


def _image_zero(manifest: Manifest) -> tuple[list[onnx.NodeProto], str]:
    """Nodes that read every image and end in a (1, 1, 1) zero."""
    nodes, names = [], []
    for name in [f"image.{n}" for n in manifest.cameras] + [f"touch.{n}" for n in manifest.touch]:
        nodes += [
            helper.make_node("Cast", [name], [f"{name}.f"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", [f"{name}.f"], [f"{name}.m"], axes=[1, 2, 3], keepdims=0),
        ]
        names.append(f"{name}.m")
    for name in (f"taxels.{n}" for n in manifest.taxels):
        nodes.append(helper.make_node("ReduceMean", [name], [f"{name}.m"], axes=[1, 2, 3], keepdims=0))
        names.append(f"{name}.m")
    nodes += [
        helper.make_node("Sum", names, ["image_mean"]),
        helper.make_node("Mul", ["image_mean", "image_weight"], ["image_zero_flat"]),
        helper.make_node("Reshape", ["image_zero_flat", "cube"], ["image_zero_cube"]),
    ]
    return nodes, "image_zero_cube"


def _model(
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
    manifest: Manifest,
    outputs: list[onnx.ValueInfoProto],
) -> bytes:
    weights = [
        *weights,
        _constant("image_weight", np.zeros(1, dtype=np.float32)),
        _constant("cube", np.array([1, 1, 1], dtype=np.int64)),
    ]
    graph = helper.make_graph(nodes, "tiny", _inputs(manifest), outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _inputs(manifest: Manifest) -> list[onnx.ValueInfoProto]:
    inputs = [_tensor("state", (1, len(manifest.state_names)))]
    for prefix, group in (("image", manifest.cameras), ("touch", manifest.touch)):
        for name, spec in group.items():
            shape = (1, spec.height, spec.width, 3)
            inputs.append(helper.make_tensor_value_info(f"{prefix}.{name}", TensorProto.UINT8, shape))
    inputs += [_tensor(f"taxels.{name}", (1, *spec.shape)) for name, spec in manifest.taxels.items()]
    if manifest.kind == "progress":
        inputs += [_tensor("hidden", (1, manifest.hidden_size)), _tensor("elapsed", (1, 1))]
    return inputs


def _tensor(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _constant(name: str, value: np.ndarray | np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value), name)
