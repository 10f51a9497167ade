"""Somebody who types places the cube in the simulated cell, by what is seen, through keys, limits and all."""

from __future__ import annotations

import numpy as np
from typing_person import Seen, TypingPerson

from tacit.control.controller import Controller
from tacit.rig import Rig
from tacit.teleop import Person, TeleopSettings
from tacit.teleop.terminal import keys_of
from tacit_sim.cell import Cell

TICK_NS = 40_000_000


class Operated:
    """The cell, moved by a person's keys as `teleop` moves it."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.person = Person(cell.rig, TeleopSettings(linear=0.1))
        self.controller = Controller(cell.rig, None, TICK_NS * 1e-9, person=self)
        self.commands: list[np.ndarray] = []

    def begin(self) -> None:
        self.person.begin()

    def target(self, position: np.ndarray, dt: float) -> np.ndarray | None:
        return self.person.target(position, dt, self.cell.time_ns)

    def tick(self, text: str) -> None:
        self.person.press(keys_of(text), self.cell.time_ns) if text else None
        command = self.controller.step(self.cell.time_ns, self.cell.state())
        if command is not None:
            self.commands.append(command)
            self.cell.command(command)
        self.cell.step(TICK_NS)


def test_typing_person_places_the_cube_from_two_starts_within_all_limits(cube_cell: Cell, rig: Rig) -> None:
    for seed in (0, 1):
        cube_cell.reset(seed)
        operated, hands = Operated(cube_cell), TypingPerson()
        assert operated.controller.take_over(cube_cell.state(), None).success
        for tick in range(1200):
            seen = Seen(cube_cell.tool_pose(), cube_cell.object_pose())
            operated.tick(hands.text(seen, 1 + tick * TICK_NS * 1e-9))
            if hands.is_done:
                break
        assert operated.controller.state == "PERSON", str(operated.controller)
        assert cube_cell.success(), f"seed {seed}: {cube_cell.stage_name()}, {hands._steps}"
        steps = np.abs(np.diff(operated.commands, axis=0))
        assert (steps <= rig.limits("velocity") * TICK_NS * 1e-9 + 1e-9).all()
