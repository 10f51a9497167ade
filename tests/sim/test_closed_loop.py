"""A bundle in the cell: lockstep, time limits, success and the report."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tacit_sim.rendering", reason="mujoco is not installed")
pytest.importorskip("onnx")

from tiny_bundles import manifest_for, policy_bundle, progress_bundle

from tacit.bundle import PlaySpec, load_bundle
from tacit.bundle.runtime import Observation, OnnxPolicy, ProgressEstimate
from tacit.errors import ConfigError
from tacit.images import ImageTransform, encode_png
from tacit.rig import Rig, parse_rig
from tacit_sim.cell import Cell
from tacit_sim.choose_playing import WAYS, best, trials
from tacit_sim.closed_loop import SETTLED_TICKS, Rollout, Runner
from tacit_sim.evaluate import main, summarise
from tacit_sim.experts import Expert
from tacit_sim.tasks import OVER

pytestmark = pytest.mark.sim
TICK_NS = 40_000_000


OPEN_LOOP = PlaySpec(mode="open_loop")


class PlayedExpert:
    """A policy whose one chunk is a whole demonstration; knows what no policy may know."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._expert = Expert(cell.rig, cell.task)
        self.manifest = manifest_for(cell.rig, chunk_size=180)

    def act(self, _: object) -> np.ndarray:
        self._expert.start(self._cell.state(), self._cell.object_pose())
        return np.array([self._expert.target(tick) for tick in range(self._expert.num_ticks)])


def test_a_policy_that_does_what_the_expert_does_succeeds_and_ends_early(cube_cell: Cell) -> None:
    rollout = Runner(cube_cell, PlayedExpert(cube_cell), OPEN_LOOP).run(seed=21)
    assert rollout.success and rollout.fault == ""
    assert rollout.stage == "retreat"
    assert 150 - SETTLED_TICKS < rollout.num_ticks <= 170
    assert rollout.error_m < 0.005


def test_an_episode_without_success_ends_at_the_limit(cube_cell: Cell, rig: Rig, tmp_path: Path) -> None:
    policy = OnnxPolicy(policy_bundle(tmp_path, rig), rig)
    rollout = Runner(cube_cell, policy).run(seed=21, max_ticks=6)
    assert not rollout.success
    assert rollout.num_ticks == 6
    assert policy.stats.count == 6


@pytest.mark.parametrize(("latency_ms", "inferences"), [(0, 12), (40, 12), (60, 8), (80, 6), (120, 4)])
def test_no_inference_begins_before_the_one_under_way_ends(
    cube_cell: Cell, rig: Rig, tmp_path: Path, latency_ms: int, inferences: int
) -> None:
    policy = OnnxPolicy(policy_bundle(tmp_path, rig, chunk_size=25), rig)
    Runner(cube_cell, policy, latency_ns=latency_ms * 10**6).run(seed=21, max_ticks=12)
    assert policy.stats.count == inferences


class Recalled:
    """A policy that keeps the stamps of what it saw; its chunk is the target ramp of its own time."""

    def __init__(self, rig: Rig, start: np.ndarray) -> None:
        self.manifest = manifest_for(rig, chunk_size=25)
        self.start, self.seen = start, []

    def act(self, observation: Observation) -> np.ndarray:
        self.seen.append(observation.stamp_ns)
        rows = (observation.stamp_ns - self.seen[0]) / TICK_NS + np.arange(25)
        return self.start + 1e-4 * rows[:, None]


@pytest.mark.parametrize("latency_ms", [0, 40, 60, 80, 120])
def test_a_late_chunk_is_not_played_before_its_time_and_its_past_rows_are_skipped(
    cube_cell: Cell, rig: Rig, latency_ms: int
) -> None:
    cube_cell.reset(5)
    policy = Recalled(rig, cube_cell.state())
    obeyed: list[tuple[int, np.ndarray]] = []
    runner = Runner(cube_cell, policy, latency_ns=latency_ms * 10**6)
    take = cube_cell.command
    cube_cell.command = lambda target: (obeyed.append((cube_cell.time_ns, target)), take(target))  # type: ignore[method-assign]
    try:
        runner.run(seed=5, max_ticks=40)
    finally:
        del cube_cell.command
    first_ns = obeyed[0][0]
    assert first_ns == policy.seen[0] + -(-latency_ms * 10**6 // TICK_NS) * TICK_NS
    # Every chunk speaks of the same ramp, so once all of them were observed in motion, each command is on
    # it, whichever chunk it comes from; one that skipped too few or too many rows would be off.
    after = [(now_ns, target) for now_ns, target in obeyed if now_ns - first_ns > 25 * TICK_NS]
    for now_ns, target in after:
        expected = policy.start + 1e-4 * (now_ns - policy.seen[0]) / TICK_NS
        np.testing.assert_allclose(target, expected, atol=2e-6)
    assert len(after) > 5


def test_a_fault_of_the_gates_ends_the_motion_as_in_the_node(
    cube_cell: Cell, rig: Rig, tmp_path: Path
) -> None:
    policy = OnnxPolicy(policy_bundle(tmp_path, rig, state_max=(0.0,) * 7), rig)
    rollout = Runner(cube_cell, policy).run(seed=21, max_ticks=6)
    assert not rollout.success and rollout.fault.startswith("input is not ready: out_of_range")


def test_another_gel_that_drifts_does_not_move_what_a_policy_reads_as_touch(
    cube_cell: Cell, rig: Rig, tmp_path: Path
) -> None:
    spec = manifest_for(rig).touch["left"]
    usual = ImageTransform(60, 80, spec.height, spec.width).image(cube_cell.reference("left"))
    of_run = {"free_gels": {"left": base64.b64encode(encode_png(usual).tobytes()).decode()}}
    cell = Cell(rig, "place_cube", changes=("gel",))
    read = {}
    for kind in ("run", "training"):
        policy = OnnxPolicy(policy_bundle(tmp_path, rig, touch_reference=kind, **of_run), rig)
        inputs, found = policy.graph.inputs, []
        policy.graph.inputs = lambda seen, inputs=inputs, found=found: (  # type: ignore[method-assign]
            found.append(inputs(seen)) or found[-1]
        )
        assert Runner(cell, policy).run(seed=21, max_ticks=12).fault == ""
        read[kind] = np.array([tensors["touch.left"][0] for tensors in found], float)
    cell.close()
    assert np.abs(read["run"] - 128).mean() < 1.5  # noise of the sensor, and half a second of drift
    assert np.abs(read["training"] - usual).mean() > 4


class ExactProgress:
    """Knows the length of the episode, and is off by a tenth."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

        self.manifest = manifest_for(cell.rig, "progress")

    def reset(self) -> None:
        self.stages: list[int] = []

    def step(self, _: object) -> ProgressEstimate:
        self.stages.append(self._cell.stage())
        done = float(self._cell.success())
        says = {"success": done, "failure": 0.0}
        return ProgressEstimate(0.1, done, 0.0, False, **says)


def test_progress_error_is_measured_against_the_stages_of_the_episode(cube_cell: Cell) -> None:
    progress = ExactProgress(cube_cell)
    rollout = Runner(cube_cell, PlayedExpert(cube_cell), OPEN_LOOP, progress=progress).run(seed=21)
    # Five stages of equal weight; within each, progress grows in a straight line.
    truth = []
    for stage in range(5):
        length = progress.stages.count(stage)
        truth += [(stage + (k + 1) / length) / 5 for k in range(length)]
    truth += [1.0] * progress.stages.count(OVER)
    assert rollout.num_ticks == len(truth)
    assert rollout.done_tick is not None and 2 <= rollout.done_tick - len(truth) + 15 <= 6, (
        "soon after success"
    )
    assert rollout.alarms == ("stalled",), "it says a tenth all along"
    assert rollout.progress_mae == pytest.approx(np.abs(np.array(truth) - 0.1).mean(), abs=1e-6)


class SaysMiss(ExactProgress):
    """Sees a miss at its tenth frame."""

    def step(self, _: object) -> ProgressEstimate:
        super().step(_)
        says = {"success": 0.0, "failure": float(len(self.stages) >= 10), "kind": "miss"}
        return ProgressEstimate(0.1, 0.0, 0.0, False, **says)


@pytest.mark.parametrize(("stop_on", "stops"), [("failed", True), ("both", True), ("done", False)])
def test_a_failure_that_is_named_stops_the_policy_where_that_is_asked_for(
    cube_cell: Cell, stop_on: str, stops: bool
) -> None:
    progress, expert = SaysMiss(cube_cell), PlayedExpert(cube_cell)
    runner = Runner(cube_cell, expert, OPEN_LOOP, progress=progress, stop_on=stop_on)
    rollout = runner.run(seed=21, max_ticks=25)
    assert rollout.alarms == ("failed miss",) and not rollout.success
    # It must hold for .3 s, which are eight frames of 40 ms, the tenth the first of them.
    assert rollout.num_ticks == (17 if stops else 25)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--stop-on", "failed"], "--progress"),
        (["--no-headless"], "no window"),
        (["--choose-playing", "--touch", "blank", "--latency-ms", "40"], "leave out --latency-ms, --touch"),
    ],
)
def test_options_that_would_change_nothing_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        main(["--bundle", "x.onnx", *words])


def test_a_control_of_touch_needs_a_policy_that_feels(rig: Rig, tmp_path: Path) -> None:
    bundle = policy_bundle(tmp_path, rig, touch={}).source
    with pytest.raises(ConfigError, match="--touch blank: .* has no touch as an input"):
        main(["--bundle", str(bundle), "--touch", "blank"])


def test_report_counts_failures_by_stage_and_errors_of_successes_alone() -> None:
    report = summarise(
        [
            Rollout(1, True, 160, 0.001, "retreat", goal=1, mark=1, placed_on=1),
            Rollout(2, False, 260, 0.2, "reach", progress_mae=None),
            Rollout(3, False, 160, 0.4, "reach", goal=1, mark=0, placed_on=0),
            Rollout(4, False, 260, 0.03, "carry", goal=1, mark=1),
        ]
    )
    assert (report["episodes"], report["successes"], report["success_rate"]) == (4, 1, 0.25)
    assert report["failures_by_stage"] == {"reach": 2, "carry": 1}
    assert (report["right_mark"], report["placed_on_any_mark"]) == (2, 2)
    assert report["placement_error_mm"]["max"] == pytest.approx(1.0)
    assert report["placement_error_all_mm"]["max"] == pytest.approx(400.0)
    json.dumps(report)


def test_command_line_writes_report_and_film(rig: Rig, tmp_path: Path) -> None:
    policy_bundle(tmp_path, rig)
    progress_bundle(tmp_path, rig)
    output, films = tmp_path / "report.json", tmp_path / "films"
    words = ["--bundle", str(tmp_path / "policy.onnx"), "--progress", str(tmp_path / "progress.onnx")]
    words += ["--episodes", "2", "--max-ticks", "3", "--output", str(output), "--films", str(films)]
    assert main([*words, "--headless"]) == 0
    report = json.loads(output.read_text())
    assert report["successes"] == 0 and report["inference"]["count"] == 6
    assert [rollout["seed"] for rollout in report["rollouts"]] == [10_000, 10_001]
    assert len(list(films.glob("seed_*_failure.png"))) == 2


def test_a_window_is_not_promised() -> None:
    with pytest.raises(ConfigError, match="tacit up policy"):
        main(["--bundle", "x.onnx", "--no-headless"])


def test_choice_counts_successes_over_all_latencies_and_prefers_the_first_of_equals() -> None:
    def success_of(play: PlaySpec, latency_ms: float, seed: int) -> bool:
        return play.mode == "blend" and (latency_ms > 0 or seed == 7) or latency_ms == 0

    tried = list(trials(10, range(7, 10), success_of))
    assert [trial.play for trial in tried] == [way for way in WAYS if way.every_ticks < 10]
    assert {trial.successes for trial in tried} == {(3, 0, 0, 0), (3, 3, 3, 3)}
    assert best(tried).mode == "blend"
    assert best(trials(25, range(2), lambda *_: True)) == PlaySpec()


def test_choosing_writes_the_way_into_the_bundle(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "policy.onnx"
    policy_bundle(tmp_path, rig, chunk_size=4, play=PlaySpec(mode="replace", every_ticks=3))
    output = tmp_path / "choice.json"
    words = ["--bundle", str(path), "--choose-playing", "--episodes", "1", "--max-ticks", "2"]
    assert main([*words, "--output", str(output)]) == 0
    assert load_bundle(path).manifest.play == PlaySpec()
    report = json.loads(output.read_text())
    assert report["seeds"] == [30_000, 30_000] and len(report["trials"]) == 2


def test_flags_override_the_way_of_the_bundle(rig: Rig, tmp_path: Path) -> None:
    bundle = policy_bundle(tmp_path, rig, chunk_size=8, play=PlaySpec(every_ticks=3))
    words = ["--bundle", bundle.source, "--episodes", "1", "--max-ticks", "7"]
    for flags, inferences, mode in (
        ([], 3, "temporal_ensemble"),
        (["--every", "1"], 7, "temporal_ensemble"),
        (["--mode", "replace"], 7, "replace"),
        (["--latency-ms", "160"], 2, "temporal_ensemble"),
    ):
        assert main([*words, *flags, "--output", str(tmp_path / "r.json")]) == 0
        report = json.loads((tmp_path / "r.json").read_text())
        assert (report["inference"]["count"], report["play"]["mode"]) == (inferences, mode)


def test_a_policy_that_sees_depth_runs_in_the_cell(rig: Rig, tmp_path: Path) -> None:
    data = rig.model_dump(mode="python")
    data["cameras"]["wrist"]["kind"] = "depth"
    depth_rig = parse_rig(data, "test")
    wrist = depth_rig.cameras["wrist"]
    size = {"height": 60, "width": 80, "source_height": wrist.height, "source_width": wrist.width}
    bundle = policy_bundle(tmp_path, depth_rig, cameras={"wrist": size | {"depth_range_m": (0.05, 0.8)}})
    cell = Cell(depth_rig, "place_cube")
    try:
        rollout = Runner(cell, OnnxPolicy(bundle, depth_rig), film_every=5).run(seed=21, max_ticks=10)
    finally:
        cell.close()
    assert rollout.fault == "" and rollout.num_ticks == 10
    assert rollout.frames[0].shape[2] == 3
