"""`tacit bench alignment`: its plain references compute what the losses compute, and its table is whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benches import alignment as bench
from benches import alignment_references as bench_references
from tacit.cli import main
from tacit.tools.bench import load_bench
from tacit_learning.alignment.settings import TERMS
from tacit_learning.losses.mixture import fit_mixture

CASES = {case.name: case for case in bench.cases()}  # once: here lengths are others than there


@pytest.mark.parametrize("name", CASES)
def test_plain_reference_has_the_value_and_the_gradient_of_the_loss(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of GTCC all but the fit, which is another one there."""
    monkeypatch.setattr(bench_references, "fit_by_lbfgs", fit)
    case = CASES[name]
    videos = torch.nn.functional.normalize(torch.randn(2, 24, 16), dim=-1).requires_grad_()
    drops = torch.randn(2, 17, requires_grad=True)
    loss, expected = case.loss(videos, drops), case.reference(videos, drops)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    found, wanted = (torch.autograd.grad(value, videos)[0] for value in (loss, expected))
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)


def test_bench_prints_and_writes_every_case(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    small = [
        case._replace(num_frames=12, bar_ms=bar) for case, bar in zip(CASES.values(), bars(), strict=False)
    ]
    monkeypatch.setattr(bench, "cases", lambda: iter(small))
    threads = torch.get_num_threads()
    assert main(["bench", "alignment", "--rounds", "1", "--json", str(tmp_path / "rows.json")]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["name"] for row in rows] == [case.name for case in small]
    assert all(row["milliseconds"] > 0 and row["ratio"] > 0 for row in rows)
    printed = capsys.readouterr().out
    assert all(case.name.split(",")[0] in printed for case in small)
    assert "holds" in printed and "missed" in printed
    assert torch.get_num_threads() == threads


def test_the_documented_command_finds_this_bench_with_every_loss_of_a_pair_of_videos() -> None:
    assert load_bench("alignment") is bench.main
    measured = {case.name.split(",")[0].lower() for case in CASES.values()}
    assert {"soft-dtw", *TERMS} <= measured


def fit(histogram: torch.Tensor, components: int) -> tuple[torch.Tensor, torch.Tensor]:
    mixture = fit_mixture(histogram.unsqueeze(0), components)
    return mixture.shares[0], mixture.components(len(histogram))[0]


def bars() -> Iterator[float]:
    """Bars that hold and bars that do not, in turns."""
    while True:
        yield from (1e6, 1e-6)
