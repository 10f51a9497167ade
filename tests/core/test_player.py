"""Chunks played against a clock: past rows are skipped, seams are smooth, the ensemble is the paper's."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.bundle.player import PLAY_MODES, ChunkPlayer, PlayFlags, PlaySpec, TemporalEnsembler
from tacit.errors import ConfigError

MS = 1_000_000
PERIOD = 40 * MS
GOLDEN = Path(__file__).parents[1] / "data" / "temporal_ensembling.npz"


@pytest.mark.parametrize("m", [0.01, 0.1])
def test_ensemble_equals_the_reference_implementation(m: float) -> None:
    golden = np.load(GOLDEN, allow_pickle=False)
    ensembler = TemporalEnsembler(golden["chunks"].shape[1], m)
    actions = [ensembler.update(chunk) for chunk in golden["chunks"]]
    np.testing.assert_allclose(actions, golden[f"lerobot_m{m}"], atol=1e-6)


def test_exact_zero_is_a_prediction_like_any_other() -> None:
    golden = np.load(GOLDEN, allow_pickle=False)
    chunks = golden["chunks_with_exact_zero"]
    ensembler = TemporalEnsembler(chunks.shape[1], 0.01)
    actions = [ensembler.update(chunk) for chunk in chunks]
    np.testing.assert_allclose(actions, golden["lerobot_m0.01_with_zero"], atol=1e-6)


def test_player_ensembles_by_stamp_as_the_ensembler_does_by_step() -> None:
    chunks = np.load(GOLDEN, allow_pickle=False)["chunks"]
    ensembler, player = TemporalEnsembler(9, 0.1), ChunkPlayer(PERIOD, "temporal_ensemble", m=0.1)
    for step, chunk in enumerate(chunks):
        player.add(chunk, step * PERIOD)
        np.testing.assert_allclose(player.command(step * PERIOD), ensembler.update(chunk), atol=1e-12)


def test_reset_ensemble_starts_from_its_first_chunk() -> None:
    ensembler = TemporalEnsembler(3)
    ensembler.update(np.ones((3, 2)))
    ensembler.reset()
    assert ensembler.update(np.full((3, 2), 5.0)).tolist() == [5.0, 5.0]


def test_wrong_chunk_length_is_refused() -> None:
    with pytest.raises(ValueError, match="expected \\(4, A\\)"):
        TemporalEnsembler(4).update(np.zeros((3, 2)))


def ramp(start: float, rows: int = 20, slope: float = 1.0) -> np.ndarray:
    return (start + slope * np.arange(rows, dtype=float))[:, None]


def play(player: ChunkPlayer, now_ns: int) -> float:
    command = player.command(now_ns)
    assert command is not None
    return float(command[0])


@pytest.mark.parametrize("mode", PLAY_MODES)
def test_first_chunk_starts_at_its_first_row_however_late(mode: str) -> None:
    player = ChunkPlayer(PERIOD, mode)
    player.add(ramp(0.0), stamp_ns=0)
    assert play(player, 7 * PERIOD) == 0.0
    assert play(player, 8 * PERIOD) == 1.0


def test_later_chunks_skip_the_rows_that_their_inference_took() -> None:
    player = ChunkPlayer(PERIOD, "replace")
    player.add(ramp(0.0), stamp_ns=0)
    play(player, 0)
    player.add(ramp(100.0), stamp_ns=2 * PERIOD)
    assert play(player, 5 * PERIOD) == 103.0


def test_blend_fades_with_the_stated_weights() -> None:
    player = ChunkPlayer(PERIOD, "blend", blend=4)
    player.add(np.zeros((20, 1)), 0)
    play(player, 0)
    player.add(np.ones((20, 1)), 3 * PERIOD)
    seen = [play(player, (5 + k) * PERIOD) for k in range(7)]
    np.testing.assert_allclose(seen, [0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0], atol=1e-12)


@pytest.mark.parametrize("late", [0.0, 0.25, 0.5, 0.9])
def test_blend_counts_from_the_instant_of_the_command_not_from_the_row_before(late: float) -> None:
    player = ChunkPlayer(PERIOD, "blend", blend=4)
    player.add(np.zeros((20, 1)), 0)
    play(player, 0)
    player.add(np.ones((20, 1)), 3 * PERIOD)
    first_ns = 5 * PERIOD + round(late * PERIOD)
    # alpha grows by 1 / (blend + 1) a row and is 1 / (blend + 1) at the first command, wherever it falls.
    seen = [play(player, first_ns + k * PERIOD) for k in range(4)]
    np.testing.assert_allclose(seen, [0.2, 0.4, 0.6, 0.8], atol=1e-9)


def test_a_chunk_seen_at_standstill_starts_with_the_first_command_however_late_it_comes() -> None:
    player = ChunkPlayer(PERIOD, "replace")
    player.add(ramp(0.0), stamp_ns=0)
    assert play(player, 2 * PERIOD) == 0.0  # the robot stood still until now
    player.add(ramp(100.0), stamp_ns=PERIOD)  # and so it did when this was seen
    assert play(player, 3 * PERIOD) == 101.0
    player.add(ramp(200.0), stamp_ns=3 * PERIOD)
    assert play(player, 5 * PERIOD) == 202.0


def test_another_mode_brings_its_own_ticks_and_nothing_else_changes() -> None:
    way = PlaySpec(every_ticks=2, decay=0.3)
    assert PlayFlags().applied(way, 25) == way
    assert PlayFlags(decay=0.1).applied(way, 25) == PlaySpec(every_ticks=2, decay=0.1)
    assert PlayFlags("blend").applied(way, 25).every_ticks == 10
    assert PlayFlags("blend").applied(way, 8).every_ticks == 4
    assert PlayFlags("blend", blend=3).applied(way, 25).every_ticks == 3
    assert PlayFlags("replace", every=5).applied(way, 25).every_ticks == 5
    assert PlayFlags("open_loop").applied(way, 25) == PlaySpec(mode="open_loop", decay=0.3)
    with pytest.raises(ConfigError, match="every_ticks"):
        PlayFlags(every=-1).applied(way, 25)


def test_blend_of_a_chunk_with_itself_changes_nothing() -> None:
    player = ChunkPlayer(PERIOD, "blend")
    player.add(ramp(0.0), 0)
    play(player, 0)
    player.add(ramp(3.0, 17), 3 * PERIOD)
    assert [play(player, k * PERIOD) for k in range(4, 20)] == pytest.approx(range(4, 20))


def test_blend_seam_is_smaller_than_the_jump_of_replace() -> None:
    steps = {}
    for mode in ("blend", "replace"):
        player = ChunkPlayer(PERIOD, mode)
        player.add(ramp(0.0, 40, 0.1), 0)
        values = [play(player, k * PERIOD) for k in range(5)]
        player.add(ramp(2.0, 40, 0.1), 4 * PERIOD)
        values += [play(player, k * PERIOD) for k in range(5, 30)]
        steps[mode] = max(abs(b - a) for a, b in pairwise(values))
    assert steps["blend"] < 0.35 < 1.5 < steps["replace"]


def test_open_loop_plays_a_chunk_to_its_end_then_the_newest() -> None:
    player = ChunkPlayer(PERIOD, "open_loop")
    seen = []
    for step in range(10):
        player.add(ramp(100.0 * step, rows=5), step * PERIOD)
        seen.append(play(player, step * PERIOD))
    assert seen == [0, 1, 2, 3, 4, 500, 501, 502, 503, 504]


@pytest.mark.parametrize("mode", PLAY_MODES)
def test_exhausted_player_gives_nothing_and_recovers(mode: str) -> None:
    player = ChunkPlayer(PERIOD, mode)
    assert player.command(0) is None
    player.add(ramp(0.0, rows=3), 0)
    assert [player.command(k * PERIOD) is None for k in range(5)] == [False] * 3 + [True] * 2
    player.add(ramp(50.0, rows=3), 6 * PERIOD)
    assert play(player, 6 * PERIOD) == 50.0


def test_chunk_that_ended_before_it_arrived_is_not_played() -> None:
    player = ChunkPlayer(PERIOD, "blend")
    player.add(ramp(0.0, rows=3), 0)
    play(player, 0)
    player.add(ramp(9.0, rows=3), PERIOD)
    assert player.command(6 * PERIOD) is None


def test_commands_between_rows_lie_on_the_line() -> None:
    player = ChunkPlayer(PERIOD, "replace")
    player.add(ramp(0.0), 0)
    play(player, 0)
    assert play(player, 2 * PERIOD + PERIOD // 4) == pytest.approx(2.25)


def test_rows_left_counts_down_to_zero() -> None:
    player = ChunkPlayer(PERIOD, "blend")
    player.add(ramp(0.0, rows=4), 0)
    seen = []
    for step in range(5):
        player.command(step * PERIOD)
        seen.append(player.rows_left(step * PERIOD))
    assert seen == [4, 3, 2, 1, 0]


@given(
    mode=st.sampled_from(PLAY_MODES),
    delays=st.lists(st.integers(0, 6), min_size=3, max_size=12),
    offsets=st.lists(st.floats(-1, 1), min_size=12, max_size=12),
)
def test_commands_stay_within_the_span_of_all_chunks(
    mode: str, delays: list[int], offsets: list[float]
) -> None:
    player, now = ChunkPlayer(PERIOD, mode, blend=3), 0
    for delay, offset in zip(delays, offsets, strict=False):
        player.add(np.full((8, 1), offset), max(0, now - delay * PERIOD))
        command = player.command(now)
        if command is not None:
            assert min(offsets) - 1e-9 <= command[0] <= max(offsets) + 1e-9
        now += PERIOD


def test_unknown_mode_is_refused_with_the_choices() -> None:
    with pytest.raises(ValueError, match="temporal_ensemble"):
        ChunkPlayer(PERIOD, "blnd")  # type: ignore[arg-type]
