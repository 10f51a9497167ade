"""Node `expert`: a stand-in for the person who teleoperates; plays the scripted expert on request.

It hears /simulator/truth, where a person would look, and answers each tick on the rig's command
topics, stamped with that tick. Between demonstrations it repeats one target: stand still.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.node import Node
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger

from tacit.geometry.transforms import FloatArray
from tacit.rig import load_rig
from tacit_ros import messages
from tacit_ros.wire.parameters import declare, parameter
from tacit_ros.wire.process import run_node
from tacit_ros.wire.qos import latched
from tacit_sim.experts import Expert
from tacit_sim.failures import FAILURES
from tacit_sim.tasks import Hidden, find_task
from tacit_sim.topics import CommandTopics

RACE_TICKS = 5
"""A reset and the ~/run after it come by different ways; truth of before may be heard after both."""


HISTORY = 25
"""Commands kept for a slow recorder. A robot's commands expire; those of a lockstep cell must not."""


@dataclass(frozen=True)
class ExpertParameters:
    """Parameters of the node."""

    rig: str = parameter("nova2_sim", "Shipped rig or path of a rig.yaml; the simulator's.")
    failure: str = parameter("", "What shall go wrong in each demonstration.", choices=("", *FAILURES))


@dataclass
class Plan:
    """A demonstration in progress: who plays it, in which episode of the cell, and how far it is."""

    expert: Expert
    episode: int
    tick: int = 0


@dataclass(frozen=True)
class Still:
    """Where to stand: the state (S,) in which an episode of the cell was found or left."""

    episode: int
    target: FloatArray


class ExpertNode(Node):
    """Services: ~/run starts a demonstration from the present state, ~/cancel ends it.

    Topic ~/running (Bool, latched) tells whether one is going on.
    """

    def __init__(self) -> None:
        """Declare, subscribe, offer the services.

        Raises:
            TacitError: The rig or a parameter is wrong.
        """
        super().__init__("expert")
        settings = declare(self, ExpertParameters)
        self._rig, self._failure = load_rig(settings.rig), settings.failure
        self._experts: dict[str, Expert] = {}
        self._plan: Plan | None = None
        self._requested = False
        self._still: Still | None = None
        self._commands = CommandTopics(self, self._rig, HISTORY)
        self._running = self.create_publisher(Bool, "~/running", latched())
        self._tell()
        self.create_subscription(String, "/simulator/truth", self._on_truth, 10)
        self.create_service(Trigger, "~/run", self._run)
        self.create_service(Trigger, "~/cancel", self._cancel)

    def _run(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Begin at the next tick that is heard."""
        self._plan, self._requested = None, True
        self._tell()
        response.message, response.success = "a demonstration of the present task begins", True
        return response

    def _begin(self, truth: dict[str, Any]) -> None:
        """Plan from the truth of this tick."""
        expert = self._expert(truth["task"])
        hidden = Hidden(**truth["hidden"])
        expert.start(np.array(truth["state"]), np.array(truth["object_pose"]), self._failure, hidden)
        self._plan, self._requested = Plan(expert, truth["episode"]), False

    def _expert(self, task: str) -> Expert:
        if task not in self._experts:
            self._experts[task] = Expert(self._rig, find_task(task))
        return self._experts[task]

    def _cancel(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.message = "cancelled" if self._plan or self._requested else "nothing was running"
        self._end()
        response.success = True
        return response

    def _on_truth(self, message: String) -> None:
        """Answer one tick."""
        truth = json.loads(message.data)
        if self._requested:
            self._begin(truth)
        elif self._plan is not None and truth["episode"] != self._plan.episode:
            self._meet_reset(self._plan, truth)
        self._commands.publish(self._target(truth), int(truth["stamp_ns"]))

    def _meet_reset(self, plan: Plan, truth: dict[str, Any]) -> None:
        """Plan anew if the reset was asked for before ~/run but seen after it, else stop."""
        if plan.tick <= RACE_TICKS:
            self._begin(truth)
        else:
            self.get_logger().warning("the cell was reset: the demonstration is over")
            self._end()

    def _target(self, truth: dict[str, Any]) -> FloatArray:
        """The target (S,) of this tick, and the end of the demonstration when its plan is played."""
        plan = self._plan
        if plan is None:
            return self._standing(truth)
        target = plan.expert.target(plan.tick)
        self._still = Still(plan.episode, target)
        plan.tick += 1
        if plan.tick >= plan.expert.num_ticks:
            self._end()
        return target

    def _standing(self, truth: dict[str, Any]) -> FloatArray:
        """One and the same target all along: repeating the measured state would drift."""
        if self._still is None or self._still.episode != truth["episode"]:
            self._still = Still(truth["episode"], np.array(truth["state"]))
        return self._still.target

    def _end(self) -> None:
        self._plan, self._requested = None, False
        self._tell()

    def _tell(self) -> None:
        self._running.publish(messages.boolean(self._requested or self._plan is not None))


def main(argv: list[str] | None = None) -> int:
    """Run the node `expert`; returns 0, or 2 when it refused to start."""
    return run_node(ExpertNode, argv)


if __name__ == "__main__":
    raise SystemExit(main())
