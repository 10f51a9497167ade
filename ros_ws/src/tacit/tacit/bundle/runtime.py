"""Bundles at work: an observation in, a chunk of actions or a progress estimate out.

Pure of ROS and of clocks that matter: stamps come with the observation. Above `bundle`, `images`
and `inference`; chunks are played by `player`, gated by `safety`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.bundle.binding import Binding
from tacit.bundle.file import PolicyBundle, check_rig, check_signature, load_bundle, verify
from tacit.bundle.inference import LatencyStats, make_session, run_session
from tacit.bundle.manifest import ImageInput, TaxelInput, golden_inputs
from tacit.errors import BundleError, did_you_mean
from tacit.images import Image, ImageTransform
from tacit.images.depth import Depth, as_depth, depth_levels
from tacit.images.gels import against
from tacit.rig import Rig

WARM_UP_RUNS = 3
"""Runs before the first that counts: allocation makes the first ones slow."""

MAX_GAP_FRAMES = 3
"""A hole longer than this many frames of the training rate starts the progress estimate anew."""


@dataclass(frozen=True)
class Observation:
    """What the robot knows at one tick; images are RGB uint8 (H, W, 3) of the stored size, those of depth
    cameras uint16 (H, W) [mm].

    `state` (S,) is in the order of `rig.state_names` where the policy was given a rig, else in the
    order of the manifest [rad, gripper m]. `references` are the touch images of this run without contact,
    `taxels` readings (R, C, K) of arrays against what they say without contact in this run.
    """

    stamp_ns: int
    state: NDArray[Any]
    images: Mapping[str, NDArray[np.uint8] | Depth]
    touch: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    references: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    taxels: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True)
class ProgressEstimate:
    """How far the task is: both values in 0..1; `restarted` marks the first frame after a reset.

    step: the most likely step of the task ("" between steps), its probability `step_share`, the time that
    is left, and whether the task goes back (-1), stands (0) or goes on (1); success: probability that the
    task is done, and well; failure: that something goes wrong, most likely of `kind`; background: that no
    step runs. None where the bundle does not tell: bundles of before there were failures tell no success.
    """

    progress: float
    done: float
    elapsed_s: float
    restarted: bool
    step: str | None = None
    step_share: float | None = None
    remaining_s: float | None = None
    motion: float | None = None
    success: float | None = None
    failure: float | None = None
    kind: str = ""
    background: float | None = None


class OnnxGraph:
    """The graph of a bundle bound to a rig: makes its inputs, runs it, measures it."""

    def __init__(self, bundle: PolicyBundle, rig: Rig | None, num_threads: int) -> None:
        self.manifest = bundle.manifest
        self.stats = LatencyStats()
        self.binding: Binding | None = check_rig(self.manifest, rig) if rig is not None else None
        self.golden_error = verify(bundle)
        self._session = make_session(bundle.model_bytes, num_threads)
        check_signature(self._session, self.manifest)
        images = {**self.manifest.cameras, **self.manifest.touch}
        self._transforms = {
            name: ImageTransform(**spec.model_dump(exclude={"depth_range_m"}))
            for name, spec in images.items()
        }
        self._run_options: Any = None
        self._warm_up()

    @property
    def outputs(self) -> frozenset[str]:
        """Names of the outputs."""
        return frozenset(item.name for item in self._session.get_outputs())

    def inputs(self, observation: Observation) -> dict[str, NDArray[Any]]:
        """Return the tensors of an observation: state in bundle order, images in policy size.

        Raises:
            BundleError: An image is missing or not of the size that the bundle was trained on.
        """
        state = np.asarray(observation.state)
        state = self.binding.state(state) if self.binding else state
        tensors: dict[str, NDArray[Any]] = {"state": state[None].astype(np.float32)}
        groups = (
            ("image", self.manifest.cameras, observation.images),
            ("touch", self.manifest.touch, observation.touch),
        )
        for prefix, specs, images in groups:
            for name, spec in specs.items():
                image = self._transforms[name].image(_stored_image(name, spec, images))
                if prefix == "touch" and self.manifest.touch_reference == "run":
                    image = against(image, self._free_gel(name, spec, observation))
                tensors[f"{prefix}.{name}"] = np.ascontiguousarray(image)[None]
        return tensors | {
            f"taxels.{name}": _reading(name, spec, observation.taxels)[None]
            for name, spec in self.manifest.taxels.items()
        }

    def _free_gel(self, name: str, spec: ImageInput, observation: Observation) -> Image:
        """Return the gel of this run without contact, of input size."""
        if name not in observation.references:
            raise BundleError(
                f"touch {name!r}: the bundle holds touch against the untouched gel of the run, and none was "
                "taken; start the run with the gripper open"
            )
        return self._transforms[name].image(_stored_image(name, spec, observation.references))

    def run(self, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the graph; the time is added to `stats`.

        Raises:
            BundleError: ONNX Runtime refused the inputs or was stopped by `terminate`.
        """
        import onnxruntime

        self._run_options = onnxruntime.RunOptions()
        started = time.perf_counter_ns()
        outputs = run_session(self._session, tensors, self._run_options)
        self.stats.add(time.perf_counter_ns() - started)
        return outputs

    def terminate(self) -> None:
        """Abort the run in progress, from another thread; later runs are not affected."""
        options = self._run_options
        if options is not None:
            options.terminate = True

    def _warm_up(self) -> None:
        for _ in range(WARM_UP_RUNS):
            self.run(golden_inputs(self.manifest))
        self.stats = LatencyStats()


class OnnxPolicy:
    """A policy bundle as a function from observation to chunk.

    Args:
        bundle: A bundle, or the path of one.
        rig: Checked against the bundle, and the order of states and actions from then on; without
            it both stay in the order of the manifest.
        num_threads: Intra-op threads; see `inference.make_session`.

    Raises:
        BundleError: Damaged, edited, another kind, another rig, or another answer to its golden sample.
    """

    def __init__(
        self, bundle: PolicyBundle | str | Path, rig: Rig | None = None, num_threads: int = 1
    ) -> None:
        self.bundle = _of_kind(bundle, "act_hsa")
        self.manifest = self.bundle.manifest
        self.graph = OnnxGraph(self.bundle, rig, num_threads)

    @property
    def stats(self) -> LatencyStats:
        """Run times of the graph, without warm-up and image preparation."""
        return self.graph.stats

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """Return the chunk (K, A): row i is the target for `stamp_ns` + i / rate_hz [rad, gripper m].

        Not gated: a caller that moves a robot checks it with `safety.check_chunk`.
        """
        chunk: NDArray[np.float32] = self.graph.run(self.graph.inputs(observation))["chunk"][0]
        return self.graph.binding.action(chunk) if self.graph.binding else chunk

    def terminate(self) -> None:
        """Abort the inference in progress, from another thread."""
        self.graph.terminate()


class OnnxProgress:
    """A progress bundle with its memory: one frame in, progress and completion out.

    The memory starts anew on `reset`, on a gap of more than 3 frames, and on a stamp that does not
    advance. Feed it at the training rate (`manifest.rate_hz`): twice the rate is half the speed.
    """

    def __init__(
        self, bundle: PolicyBundle | str | Path, rig: Rig | None = None, num_threads: int = 1
    ) -> None:
        self.bundle = _of_kind(bundle, "progress")
        self.manifest = self.bundle.manifest
        self.graph = OnnxGraph(self.bundle, rig, num_threads)
        self.reset()

    @property
    def outputs(self) -> frozenset[str]:
        """Names of what the graph tells."""
        return self.graph.outputs

    def reset(self) -> None:
        """Forget everything: the next observation is the first of its episode."""
        self._hidden = np.zeros((1, self.manifest.hidden_size), dtype=np.float32)
        self._started_ns: int | None = None
        self._last_ns = 0

    def step(self, observation: Observation) -> ProgressEstimate:
        """Return the estimate at an observation and carry the memory on.

        Raises:
            BundleError: The graph refused the input; the memory is unchanged.
        """
        stamp_ns = observation.stamp_ns
        if self._started_ns is not None and self._is_broken(stamp_ns):
            self.reset()
        started_ns = stamp_ns if self._started_ns is None else self._started_ns
        elapsed_s = (stamp_ns - started_ns) / 1e9
        tensors = self.graph.inputs(observation)
        tensors["hidden"] = self._hidden
        tensors["elapsed"] = np.array([[elapsed_s]], dtype=np.float32)
        outputs = self.graph.run(tensors)
        restarted = self._started_ns is None
        self._hidden, self._started_ns, self._last_ns = outputs["hidden_out"], started_ns, stamp_ns
        progress, done = float(outputs["progress"][0, 0]), float(outputs["done"][0, 0])
        step, share = self._likely_step(outputs)
        failure, kind = self._likely_failure(outputs)
        return ProgressEstimate(
            progress,
            done,
            elapsed_s,
            restarted,
            step=step,
            step_share=share,
            remaining_s=_number(outputs, "remaining"),
            motion=_number(outputs, "motion"),
            success=_number(outputs, "success"),
            failure=failure,
            kind=kind,
            background=None if share is None else float(outputs["classes"][0, 0]),
        )

    def _likely_failure(self, outputs: Mapping[str, NDArray[Any]]) -> tuple[float | None, str]:
        """Return the probability that something goes wrong and its likely kind, where the graph tells."""
        kinds = self.manifest.train.get("failures", ())
        shares = outputs["failure"][0] if "failure" in outputs else np.zeros(0)
        if len(shares) != len(kinds) + 1 or not len(kinds):
            return None, ""
        return float(1.0 - shares[0]), str(kinds[int(shares[1:].argmax())])

    def _likely_step(self, outputs: Mapping[str, NDArray[Any]]) -> tuple[str | None, float | None]:
        """Return the name and probability of the step, where the graph gives classes."""
        names = ("", *self.manifest.train.get("labels", ()))
        shares = outputs["classes"][0] if "classes" in outputs else np.zeros(0)
        if len(names) != len(shares) or not np.isfinite(shares).all():
            return None, None
        best = int(shares.argmax())
        return names[best], float(shares[best])

    def _is_broken(self, stamp_ns: int) -> bool:
        gap_ns = stamp_ns - self._last_ns
        return gap_ns <= 0 or gap_ns > (MAX_GAP_FRAMES + 0.5) * 1e9 / self.manifest.rate_hz


def _number(outputs: Mapping[str, NDArray[Any]], name: str) -> float | None:
    return float(outputs[name][0, 0]) if name in outputs else None


def _of_kind(bundle: PolicyBundle | str | Path, kind: str) -> PolicyBundle:
    loaded = bundle if isinstance(bundle, PolicyBundle) else load_bundle(bundle)
    if loaded.manifest.kind != kind:
        raise BundleError(f"{loaded.source}: kind is {loaded.manifest.kind!r}, expected {kind!r}")
    return loaded


def _reading(name: str, spec: TaxelInput, readings: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    if name not in readings:
        raise BundleError(f"observation: taxels.{name}: missing; {did_you_mean(name, readings)}")
    reading = np.asarray(readings[name], np.float32)
    if reading.shape != spec.shape:
        raise BundleError(f"observation: taxels.{name}: shape {reading.shape}, expected {spec.shape}")
    return reading


def _stored_image(name: str, spec: ImageInput, images: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
    """The picture (H, W, 3) of the stored size; depth becomes grey levels here, and nowhere else."""
    if name not in images:
        raise BundleError(f"observation has no image {name!r}; {did_you_mean(name, images)}")
    image = images[name]
    if spec.depth_range_m is not None:
        image = depth_levels(as_depth(image), *spec.depth_range_m)
    expected = (spec.source_height, spec.source_width, 3)
    if image.shape != expected or image.dtype != np.uint8:
        raise BundleError(f"image {name!r}: {image.dtype} {image.shape}, expected uint8 {expected}")
    return image
