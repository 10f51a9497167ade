"""Bundles at work: names bind, images are transformed as in training, memory is explicit."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_bundles import policy_bundle, progress_bundle, slow_bundle

from tacit.bundle.runtime import Observation, OnnxPolicy, OnnxProgress
from tacit.errors import BundleError, ImageError
from tacit.images.depth import encode_depth
from tacit.rig import Rig, parse_rig

FRAME_NS = 40_000_000


def observe(stamp_ns: int = 0, state: np.ndarray | None = None) -> Observation:
    random = np.random.default_rng(stamp_ns)
    return Observation(
        stamp_ns=stamp_ns,
        state=np.linspace(-0.3, 0.3, 7) if state is None else state,
        images={name: random.integers(0, 256, (120, 160, 3), dtype=np.uint8) for name in ("wrist", "top")},
        touch={name: random.integers(0, 256, (60, 80, 3), dtype=np.uint8) for name in ("left", "right")},
    )


def test_chunk_is_what_the_graph_says(tmp_path: Path, rig: Rig) -> None:
    state = np.linspace(-0.3, 0.3, 7)
    chunk = OnnxPolicy(policy_bundle(tmp_path, rig), rig).act(observe(state=state))
    expected = state[None] * (1 + 0.01 * np.arange(5))[:, None]
    np.testing.assert_allclose(chunk, expected, atol=1e-6)


def test_joint_order_of_the_bundle_does_not_change_the_command(tmp_path: Path, rig: Rig) -> None:
    turned = rig.state_names[::-1]
    low, high = tuple(rig.limits("lower")[::-1]), tuple(rig.limits("upper")[::-1])
    changes = {"state_names": turned, "action_names": turned, "state_min": low, "state_max": high}
    chunks = [
        OnnxPolicy(policy_bundle(tmp_path, rig, **order), rig).act(observe()) for order in ({}, changes)
    ]
    np.testing.assert_array_equal(*chunks)


def test_image_of_another_size_or_missing_is_refused(tmp_path: Path, rig: Rig) -> None:
    policy = OnnxPolicy(policy_bundle(tmp_path, rig), rig)
    small = replace(observe(), images={"wrist": np.zeros((60, 80, 3), np.uint8)})
    with pytest.raises(BundleError, match="image 'wrist'"):
        policy.act(small)
    unknown = replace(observe(), images={"wrist": np.full((120, 160, 3), np.nan, np.float32)})
    with pytest.raises(BundleError, match="image 'wrist': float32 .*, expected uint8"):
        policy.act(unknown)
    for kind, name in (("touch", "left"), ("images", "wrist")):
        with pytest.raises(BundleError, match=f"no image '{name}'"):
            policy.act(replace(observe(), **{kind: {}}))


def test_state_of_wrong_length_is_refused_by_the_engine(tmp_path: Path, rig: Rig) -> None:
    policy = OnnxPolicy(policy_bundle(tmp_path, rig))
    with pytest.raises(BundleError, match="inference failed"):
        policy.act(observe(state=np.zeros(5)))


def test_bundle_of_another_kind_is_refused(tmp_path: Path, rig: Rig) -> None:
    with pytest.raises(BundleError, match="kind is 'progress', expected 'act_hsa'"):
        OnnxPolicy(progress_bundle(tmp_path, rig))


def test_warm_up_does_not_count(tmp_path: Path, rig: Rig) -> None:
    policy = OnnxPolicy(policy_bundle(tmp_path, rig), rig)
    assert policy.stats.summary().count == 0
    policy.act(observe())
    summary = policy.stats.summary()
    assert summary.count == 1 and 0 < summary.p50_ms <= summary.p95_ms <= summary.max_ms


def test_runs_are_bit_identical(tmp_path: Path, rig: Rig) -> None:
    policy = OnnxPolicy(policy_bundle(tmp_path, rig), rig)
    np.testing.assert_array_equal(policy.act(observe()), policy.act(observe()))


def test_termination_spares_the_next_run(tmp_path: Path, rig: Rig) -> None:
    policy = OnnxPolicy(policy_bundle(tmp_path, rig), rig)
    policy.act(observe())
    policy.terminate()
    assert policy.act(observe()).shape == (5, 7)


def test_stuck_inference_is_stopped_from_another_thread(tmp_path: Path, rig: Rig) -> None:
    policy = OnnxPolicy(slow_bundle(tmp_path, rig, state_min=(-1.0,) * 7, state_max=(1.0,) * 7), rig)
    state = np.zeros(7)
    state[0] = 6.2
    failures: list[str] = []

    def act() -> None:
        try:
            policy.act(observe(state=state))
        except BundleError as problem:
            failures.append(str(problem))

    worker = threading.Thread(target=act)
    worker.start()
    deadline = time.monotonic() + 20
    while worker.is_alive() and time.monotonic() < deadline:
        policy.terminate()
        worker.join(0.02)
    assert not worker.is_alive() and "terminate" in failures[0]


def test_progress_memory_counts_frames_and_elapsed_time(tmp_path: Path, rig: Rig) -> None:
    progress = OnnxProgress(progress_bundle(tmp_path, rig), rig)
    estimates = [progress.step(observe(5_000 + k * FRAME_NS)) for k in range(4)]
    np.testing.assert_allclose([e.progress for e in estimates], [0.1, 0.2, 0.3, 0.4], atol=1e-6)
    np.testing.assert_allclose([e.elapsed_s for e in estimates], [0, 0.04, 0.08, 0.12])
    assert [e.restarted for e in estimates] == [True, False, False, False]


@pytest.mark.parametrize(("jump", "restarted"), [(3, False), (4, True), (0, True), (-2, True)])
def test_progress_restarts_on_long_gaps_and_on_time_that_does_not_advance(
    tmp_path: Path, rig: Rig, jump: int, restarted: bool
) -> None:
    progress = OnnxProgress(progress_bundle(tmp_path, rig), rig)
    for step in range(5):
        progress.step(observe((10 + step) * FRAME_NS))
    estimate = progress.step(observe((14 + jump) * FRAME_NS))
    assert estimate.restarted is restarted
    assert estimate.progress == pytest.approx(0.1 if restarted else 0.6)


def test_reset_progress_starts_anew(tmp_path: Path, rig: Rig) -> None:
    progress = OnnxProgress(progress_bundle(tmp_path, rig), rig)
    progress.step(observe(0))
    progress.reset()
    assert progress.step(observe(FRAME_NS)).elapsed_s == 0.0


def test_depth_reaches_the_graph_as_grey_levels_of_its_range(tmp_path: Path, rig: Rig) -> None:
    data = rig.model_dump(mode="json")
    data["cameras"]["wrist"]["kind"] = "depth"
    size = {"height": 120, "width": 160, "source_height": 120, "source_width": 160}
    depth_rig = parse_rig(data, "test")
    policy = OnnxPolicy(
        policy_bundle(tmp_path, depth_rig, cameras={"wrist": size | {"depth_range_m": (0.2, 1.0)}}), depth_rig
    )
    mm = np.full((120, 160), 600, np.uint16)
    mm[:, 80:] = 0
    for value in (mm, encode_depth(mm)):
        seen = policy.graph.inputs(replace(observe(), images={"wrist": value}))["image.wrist"]
        assert (seen[0, :, :80] == 128).all() and not seen[0, :, 80:].any()
    with pytest.raises(ImageError, match="expected depth"):
        policy.graph.inputs(observe())
