"""Node `mover`: a stand-in for the person who jogs the arm through calibration poses.

It hears /simulator/truth, plans poses from which the chosen camera sees the board (or openings of the
gripper), goes to each on the rig's command topics, and rests there so that a picture can be taken.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from rclpy.node import Node
from std_msgs.msg import Bool, String

from tacit.geometry.transforms import FloatArray
from tacit.rig import Rig, load_rig
from tacit_ros import messages
from tacit_ros.wire.parameters import declare, parameter
from tacit_ros.wire.process import run_node
from tacit_ros.wire.qos import latched
from tacit_sim.as_built import as_built
from tacit_sim.cell import HOME, Cell
from tacit_sim.motion import Tour
from tacit_sim.poses import ViewPlanner, openings, single_moves
from tacit_sim.topics import CommandTopics

WIDE_OPEN = 0.95
"""Part of the opening range at which views are taken: the fingers hide least of the board."""

SINGLE_MOVE_DEG = 6.0


@dataclass(frozen=True)
class MoverParameters:
    """Parameters of the node."""

    rig: str = parameter("nova2_sim", "Shipped rig or path of a rig.yaml; the simulator's.")
    hidden_seed: int = parameter(0, "The simulator's: how the cell differs from the rig.", low=0)
    board: str = parameter("table", "The simulator's.", choices=("", "table", "gripper"))
    plan: str = parameter(
        "views",
        "Look at the board, open the gripper, or move one joint after the other.",
        choices=("views", "openings", "joints"),
    )
    camera: str = parameter("wrist", "Camera that is to see the board.")
    views: int = parameter(20, "Number of poses or openings.", low=1)
    seed: int = parameter(0, "Decides the poses.", low=0)
    rest_s: float = parameter(1.2, "Time at rest in each pose [simulated s].", above=0)


class MoverNode(Node):
    """Topic ~/running (Bool, latched) tells whether the tour is going on."""

    def __init__(self) -> None:
        """Plan and begin.

        Raises:
            TacitError: The rig or a parameter is wrong, or the poses are out of reach.
        """
        super().__init__("mover")
        settings = declare(self, MoverParameters)
        self._rig = as_built(load_rig(settings.rig), settings.hidden_seed)
        stops = plan(self._rig, settings)
        self.get_logger().info(f"{len(stops)} {settings.plan} planned for camera {settings.camera}")
        rate_hz = self._rig.alignment.rate_hz
        self._tour = Tour(stops, self._rig.limits("velocity"), rate_hz, settings.rest_s)
        self._commands = CommandTopics(self, self._rig)
        self._running = self.create_publisher(Bool, "~/running", latched())
        self._running.publish(messages.boolean(True))
        self.create_subscription(String, "/simulator/truth", self._on_truth, 10)

    def _on_truth(self, message: String) -> None:
        """Answer one tick with the next target."""
        truth = json.loads(message.data)
        was_over = self._tour.is_over
        target = self._tour.next(np.array(truth["state"]))
        if self._tour.is_over and not was_over:
            self.get_logger().info("the tour is over")
            self._running.publish(messages.boolean(False))
        self._commands.publish(target, int(truth["stamp_ns"]))


def plan(rig: Rig, settings: MoverParameters) -> FloatArray:
    """Return the states (N, S) to go to, by way of the start pose where the straight way is blocked."""
    widest = rig.limits("upper")[-1]
    if settings.plan == "openings":
        return openings(0.05 * widest, widest, settings.views)
    if settings.plan == "joints":
        return single_moves(SINGLE_MOVE_DEG, WIDE_OPEN * widest)
    cell = Cell(rig, board_at=settings.board)  # type: ignore[arg-type]
    planner = ViewPlanner(cell, settings.camera, settings.seed)
    views = planner.views(settings.views, WIDE_OPEN * widest)
    home = np.append(HOME, WIDE_OPEN * widest)
    stops = [home]
    for view in views:
        if not planner.is_free_way(stops[-1], view):
            stops.append(home)
        stops.append(view)
    return np.array(stops)


def main(argv: list[str] | None = None) -> int:
    """Run the node `mover`; returns 0, or 2 when it refused to start."""
    return run_node(MoverNode, argv)


if __name__ == "__main__":
    raise SystemExit(main())
