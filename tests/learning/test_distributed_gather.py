"""Two gloo processes train as one: gradients of gathered rows, CLUB kept equal, no hanging."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from in_two_processes import in_two_processes
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tacit_learning.engine.distributed import (
    broadcast_module,
    equal_over_processes,
    gather_rows,
    rank,
    world_size,
)
from tacit_learning.layers.backbone import weights_sha256
from tacit_learning.losses.club import ClubEstimator, fit_club
from tacit_learning.losses.contrastive import supervised_contrastive_loss

ROWS, WIDTH, WORLD = 6, 5, 2


def inputs() -> tuple[Tensor, Tensor]:
    """Rows of all processes and their labels; classes lie across the processes."""
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64)
    return rows, torch.tensor([0, 1, 2, 0, 1, 2])


def encoder() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDTH, 7), nn.Tanh(), nn.Linear(7, 4)).double()


def losses(features: Tensor, labels: Tensor, club: ClubEstimator) -> Tensor:
    information = club.mutual_information(features[:, :2], features[:, 2:])
    return supervised_contrastive_loss(features, labels, 0.3) + 0.5 * information


def new_club() -> ClubEstimator:
    torch.manual_seed(1)
    return ClubEstimator(2, 2, 8).double()


def train_share(number: int, folder: str) -> None:
    """One step on a share of the rows; writes gradients and what else is compared."""
    model = DistributedDataParallel(encoder())
    rows, labels = inputs()
    share = slice(number * ROWS // WORLD, (number + 1) * ROWS // WORLD)
    features = gather_rows(model(rows[share]))
    everyone = gather_rows(labels[share])
    losses(features, everyone, new_club()).backward()
    torch.manual_seed(number)
    club = ClubEstimator(2, 2, 8)
    equal_before = equal_over_processes(club)
    broadcast_module(club)
    equal_after = equal_over_processes(club)
    fit_club(club, torch.optim.Adam(club.parameters()), features[:, :2], features[:, 2:], steps=2)
    answer = {
        "gradients": [parameter.grad for parameter in model.parameters()],
        "labels": everyone,
        "equal": (equal_before, equal_after, equal_over_processes(club)),
    }
    torch.save(answer, Path(folder) / f"{number}.pt")


def gather_unequal(number: int, folder: str) -> None:
    """Give each process another number of rows."""
    try:
        gather_rows(torch.zeros(2 + number, 3))
    except ValueError as problem:
        (Path(folder) / f"{number}.txt").write_text(str(problem))


def process(folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    number = dist.get_rank()
    try:
        assert (rank(), world_size()) == (number, WORLD)
        train_share(number, folder)
        gather_unequal(number, folder)
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes wrote; starting them is what takes time, so it happens once."""
    folder = tmp_path_factory.mktemp("two")
    in_two_processes(process, str(folder))
    return folder


@pytest.fixture(scope="module")
def two_processes(folder: Path) -> list[dict[str, object]]:
    return [torch.load(folder / f"{number}.pt", weights_only=True) for number in range(WORLD)]


def test_gradients_of_two_processes_equal_those_of_one(two_processes: list[dict[str, object]]) -> None:
    model = encoder()
    rows, labels = inputs()
    losses(model(rows), labels, new_club()).backward()
    for answer in two_processes:
        for found, parameter in zip(answer["gradients"], model.parameters(), strict=True):
            ratio = found.norm() / parameter.grad.norm()
            assert ratio.item() == pytest.approx(1, abs=1e-6)
            torch.testing.assert_close(found, parameter.grad, rtol=1e-6, atol=1e-12)


def test_labels_come_in_the_order_of_ranks(two_processes: list[dict[str, object]]) -> None:
    assert all(torch.equal(answer["labels"], inputs()[1]) for answer in two_processes)


def test_the_estimator_is_equal_after_a_broadcast_and_stays_equal(
    two_processes: list[dict[str, object]],
) -> None:
    assert [answer["equal"] for answer in two_processes] == [(False, True, True)] * WORLD


def test_unequal_rows_raise_on_every_process_and_hang_none(folder: Path) -> None:
    for number in range(WORLD):
        message = (folder / f"{number}.txt").read_text()
        assert "shapes [(2, 3), (3, 3)] on ranks 0..1" in message


def test_one_process_keeps_its_rows_and_their_graph() -> None:
    rows = torch.randn(3, 2, requires_grad=True)
    assert gather_rows(rows) is rows and world_size() == 1 and rank() == 0
    assert equal_over_processes(nn.Linear(2, 2))


def test_the_digest_tells_a_changed_bit_and_a_changed_name() -> None:
    layer = nn.Linear(2, 2)
    digest = weights_sha256(layer)
    with torch.no_grad():
        layer.weight[0, 0].copy_(torch.nextafter(layer.weight[0, 0], torch.tensor(9.0)))
    assert weights_sha256(layer) != digest
    assert weights_sha256(nn.ModuleList([layer])) != weights_sha256(layer)
