"""The one way an ONNX Runtime session is made: CPU, few threads, no spinning, from bytes."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.errors import BundleError, MissingDependencyError

LATENCY_WINDOW = 1000
"""Runs that the latency percentiles look back on: 40 s at 25 Hz."""


def make_session(model_bytes: bytes, num_threads: int = 1) -> Any:
    """Open an ONNX Runtime session on the CPU.

    One thread by default: on a loaded machine a second one was slower than none. Spinning is off:
    it costs up to half as much CPU again between inferences.

    Raises:
        BundleError: ONNX Runtime refuses the graph.
        MissingDependencyError: onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise MissingDependencyError("onnxruntime is not installed: `pip install onnxruntime`") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(model_bytes, options, providers=["CPUExecutionProvider"])
    except engine_errors() as problem:
        raise BundleError(f"ONNX Runtime refuses the graph: {str(problem)[:300]}") from None


def run_session(
    session: Any, inputs: Mapping[str, NDArray[Any]], run_options: Any = None
) -> dict[str, NDArray[Any]]:
    """Run a session and return its outputs by name.

    Raises:
        BundleError: ONNX Runtime refused the inputs, failed, or was told to terminate.
    """
    names = [output.name for output in session.get_outputs()]
    try:
        outputs = session.run(names, dict(inputs), run_options)
    except engine_errors() as problem:
        raise BundleError(f"inference failed: {str(problem)[:300]}") from None
    return dict(zip(names, outputs, strict=True))


@functools.cache
def engine_errors() -> tuple[type[Exception], ...]:
    """Return what ONNX Runtime raises: its error classes share no base but `Exception`."""
    from onnxruntime.capi import onnxruntime_pybind11_state as engine

    own = [c for c in vars(engine).values() if isinstance(c, type) and issubclass(c, Exception)]
    return (*own, RuntimeError, ValueError)


@dataclass(frozen=True)
class LatencySummary:
    """Percentiles of run time [ms] over the last runs, and their number."""

    p50_ms: float
    p95_ms: float
    max_ms: float
    count: int


class LatencyStats:
    """Remembers the last run times and summarises them."""

    def __init__(self) -> None:
        self._durations_ms: deque[float] = deque(maxlen=LATENCY_WINDOW)
        self.count = 0

    def add(self, duration_ns: int) -> None:
        """Count one run of `duration_ns`."""
        self._durations_ms.append(duration_ns / 1e6)
        self.count += 1

    def summary(self) -> LatencySummary:
        """Return percentiles; NaN before the first run."""
        if not self._durations_ms:
            return LatencySummary(float("nan"), float("nan"), float("nan"), 0)
        durations = np.array(self._durations_ms)
        p50, p95 = np.percentile(durations, [50, 95])
        return LatencySummary(float(p50), float(p95), float(durations.max()), self.count)
