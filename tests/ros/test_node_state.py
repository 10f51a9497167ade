"""A node that was killed is seen to be gone, although its last state stays readable."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
from forked import Forked
from std_msgs.msg import String
from tiny_bundles import policy_bundle, progress_bundle

from tacit.rig import load_rig
from tacit_ros.wire import qos
from tacit_ros.wire.environment import child_environment
from tacit_ros.wire.node_state import NodeState

NODES = {
    "policy": ("policy_node", policy_bundle, "IDLE"),
    "progress": ("progress_node", progress_bundle, "running"),
}


@pytest.mark.parametrize("name", NODES)
def test_node_that_was_killed_is_known_to_be_gone_when_its_lease_ends(
    bench: Any, tmp_path: Path, name: str
) -> None:
    module, make, said = NODES[name]
    bundle = make(tmp_path, load_rig("nova2_sim")).source
    state = NodeState(bench.node, f"/{name}/state")
    assert not state.is_gone and "nothing heard" in str(state)
    words = [f"tacit_ros.{module}", "--ros-args", "-p", f"bundle:={bundle}"]
    process = Forked(*words, env=child_environment())
    try:
        bench.until(lambda: state.is_alive and (state.text or name == "progress"), "the node", 60)
        if name == "progress":  # says so with its first judgement only
            state.text = said
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed = time.monotonic()
        bench.until(lambda: state.is_gone, "the end of the lease")
        # The lease is 1 s, and a machine may be slow; without one the process is missed after 3 to 4 s.
        assert time.monotonic() - killed < 2.8
        assert str(state) == f"the node is gone; its last state was {said}"
    finally:
        process.kill()


def test_state_that_comes_before_its_writer_is_known_is_not_that_of_a_dead_node(bench: Any) -> None:
    publisher = bench.node.create_publisher(String, "/somebody/state", qos.state())
    publisher.publish(String(data="HOLD (stale: joints)"))
    state = NodeState(bench.node, "/somebody/state")
    bench.until(lambda: state.text, "the state")
    assert str(state) == "HOLD (stale: joints)" and not state.is_gone
