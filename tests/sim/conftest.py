"""Cells that tests share: building one costs a model and a GL context."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("tacit_sim.rendering", reason="mujoco is not installed")

from tacit.rig import Rig
from tacit_sim.cell import Cell


@pytest.fixture(scope="session")
def shared_cube_cell(rig: Rig) -> Iterator[Cell]:
    cell = Cell(rig, "place_cube")
    yield cell
    cell.close()


@pytest.fixture(scope="session")
def shared_peg_cell(rig: Rig) -> Iterator[Cell]:
    cell = Cell(rig, "insert_peg")
    yield cell
    cell.close()


@pytest.fixture
def cube_cell(shared_cube_cell: Cell) -> Cell:
    shared_cube_cell.disturbed = False
    shared_cube_cell.reset(0)
    return shared_cube_cell


@pytest.fixture
def peg_cell(shared_peg_cell: Cell) -> Cell:
    shared_peg_cell.disturbed = False
    shared_peg_cell.reset(0)
    return shared_peg_cell
