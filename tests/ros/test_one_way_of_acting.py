"""`tacit evaluate` and `tacit run` act alike: one recorded stream of observations, the same commands."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from tiny_bundles import seeing_bundle

pytest.importorskip("tacit_sim.rendering", reason="mujoco is not installed")

from tacit.bundle import PlaySpec, load_bundle, save_playing
from tacit.bundle.runtime import OnnxPolicy
from tacit.control.acting import Acting
from tacit.rig import Rig, load_rig
from tacit.streams import Arrival
from tacit_ros import messages
from tacit_ros.policy_node import PolicyNode
from tacit_ros.wire import qos
from tacit_sim.cell import Cell
from tacit_sim.closed_loop import Runner

NUM_TICKS = 30
WAYS = {
    "the default": None,
    "blend every 7": PlaySpec(mode="blend", every_ticks=7, blend=4),
    "ensemble every 2": PlaySpec(every_ticks=2, decay=0.2),
    "open loop": PlaySpec(mode="open_loop"),
}


class ListeningRunner(Runner):
    """Writes down what the policy hears and what the cell is told."""

    def acting(self) -> Acting:
        made = super().acting()
        self.arrivals: list[Arrival] = []
        self.commands: list[tuple[int, np.ndarray]] = []
        store, command = made.inputs.store, made.command

        def heard(name: str, stamp_ns: int, recv_ns: int, value: object) -> None:
            self.arrivals.append(Arrival(name, stamp_ns, recv_ns, np.array(value)))
            store(name, stamp_ns, recv_ns, value)  # type: ignore[arg-type]

        def told(now_ns: int) -> np.ndarray | None:
            given = command(now_ns)
            if given is not None:
                self.commands.append((now_ns, given.copy()))
            return given

        made.inputs.store, made.command = heard, told  # type: ignore[method-assign]
        return made


class Player:
    """Sends recorded arrivals as the robot's messages, and hears the node's commands."""

    def __init__(self, bench, rig: Rig) -> None:  # type: ignore[no-untyped-def]
        self.rig = rig
        self.commands: list[tuple[int, np.ndarray]] = []
        self.publishers = {
            name: bench.node.create_publisher(
                messages.message_class(spec.type), spec.topic, qos.profile(spec.qos)
            )
            for name, spec in rig.specs.items()
            if name not in rig.commands
        }
        topic = rig.commands["command"].topic
        bench.node.create_subscription(JointState, topic, self._hear, 10)

    def _hear(self, message: JointState) -> None:
        positions = dict(zip(message.name, message.position, strict=True))
        command = np.array([positions[name] for name in self.rig.state_names])
        self.commands.append((messages.header_stamp_ns(message), command))

    def send(self, arrival: Arrival) -> None:
        value = np.asarray(arrival.value)
        if arrival.name in self.rig.streams:
            message = messages.joint_state(self.rig.streams[arrival.name].names, value, arrival.stamp_ns)
        else:
            message = messages.image(value, arrival.stamp_ns)
        self.publishers[arrival.name].publish(message)


@pytest.fixture(scope="module")
def cell() -> Iterator[Cell]:
    made = Cell(load_rig("nova2_sim"), "place_cube")
    yield made
    made.close()


@pytest.mark.parametrize("way", WAYS)
def test_node_and_simulator_give_the_same_commands_bit_for_bit(
    bench,  # type: ignore[no-untyped-def]
    tmp_path: Path,
    cell: Cell,
    way: str,
) -> None:
    rig = cell.rig
    path = seeing_bundle(tmp_path, rig, chunk_size=25).source
    play = WAYS[way]
    if play is not None:
        save_playing(load_bundle(path), play, path)
    runner = ListeningRunner(cell, OnnxPolicy(path, rig))
    assert runner.run(seed=3, max_ticks=NUM_TICKS).fault == ""
    assert len(runner.commands) == NUM_TICKS
    values = {"bundle": path, "lockstep": True}
    node = PolicyNode([Parameter(name, value=value) for name, value in values.items()])
    bench.add(node)
    try:
        heard = _play(bench, node, Player(bench, rig), runner.arrivals)
    finally:
        node.close()
    assert [stamp for stamp, _ in heard] == [stamp for stamp, _ in runner.commands]
    np.testing.assert_array_equal([c for _, c in heard], [c for _, c in runner.commands])
    assert np.ptp([c for _, c in heard], axis=0).max() > 1e-3  # the robot was told to move


def _play(bench, node: PolicyNode, player: Player, arrivals: list[Arrival]) -> list:  # type: ignore[no-untyped-def]
    """Send the arrivals of one instant after the other; where a tick closes, wait for its command."""
    bench.until(
        lambda: (
            all(node.count_publishers(player.rig.specs[name].topic) for name in node.inputs.names)
            and all(player.publishers[name].get_subscription_count() for name in node.inputs.names)
        ),
        "the node to be connected",
    )
    client = bench.node.create_client(Trigger, "/policy/start")
    started = False
    for stamp_ns, group in groupby(arrivals, key=lambda arrival: arrival.stamp_ns):
        instant = list(group)
        for arrival in instant:
            player.send(arrival)
        if all(arrival.name != "wrist" for arrival in instant):
            continue
        if not started:
            bench.until(lambda: node.acting.tick is not None, "the first tick")
            bench.until(client.service_is_ready, "the service")
            future = client.call_async(Trigger.Request())
            bench.until(future.done, "the answer of start")
            assert future.result().success, future.result().message
            started = True
        bench.until(
            lambda now_ns=stamp_ns: player.commands and player.commands[-1][0] == now_ns,
            f"the command of {stamp_ns}",
        )
    return player.commands
