"""Policy, recorder and progress as managed nodes, by the services that every lifecycle manager calls."""

from __future__ import annotations

from pathlib import Path

import pytest
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.parameter import Parameter
from tiny_bundles import policy_bundle

from tacit.errors import ConfigError
from tacit.rig import Rig
from tacit_ros.managed_node import KINDS, ManagedNode
from tacit_ros.policy_node import PolicyNode
from tacit_ros.recorder_node import RecorderNode
from tacit_ros.wire.process import WatchedNode


class Manager:
    """Calls the services of a managed node."""

    def __init__(self, bench, name: str) -> None:
        self.bench, self.name = bench, name

    def ask(self, transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return bool(self._call(ChangeState, "change_state", request).success)

    def state(self) -> int:
        return int(self._call(GetState, "get_state", GetState.Request()).current_state.id)

    def _call(self, kind: type, service: str, request: object):
        client = self.bench.node.create_client(kind, f"/{self.name}/{service}")
        self.bench.until(client.service_is_ready, service)
        future = client.call_async(request)
        self.bench.until(future.done, f"answer of {service}", 30)
        return future.result()

    def serves(self, service: str) -> bool:
        names = [name for name, _ in self.bench.node.get_service_names_and_types()]
        return f"/{self.name}/{service}" in names


@pytest.fixture
def manage(bench, monkeypatch: pytest.MonkeyPatch):
    made: list[ManagedNode] = []

    def start(kind: str, **parameters: str) -> Manager:
        def make() -> WatchedNode:
            if kind == "recorder":
                return RecorderNode(parameters)
            return PolicyNode([Parameter(name, value=value) for name, value in parameters.items()])

        monkeypatch.setitem(KINDS, kind, make)
        made.append(bench.add(ManagedNode(kind)))
        return Manager(bench, kind)

    yield start
    for node in made:
        node.close()


def test_policy_is_verified_then_there_then_gone(manage, tmp_path: Path, rig: Rig) -> None:
    manager = manage("policy", rig="nova2_sim", bundle=policy_bundle(tmp_path, rig).source)
    assert manager.state() == State.PRIMARY_STATE_UNCONFIGURED
    assert not manager.ask(Transition.TRANSITION_ACTIVATE), "activated without being verified"
    assert manager.ask(Transition.TRANSITION_CONFIGURE)
    assert manager.state() == State.PRIMARY_STATE_INACTIVE and not manager.serves("start")
    assert manager.ask(Transition.TRANSITION_ACTIVATE)
    manager.bench.until(lambda: manager.serves("start"), "the services of the policy")
    assert not manager.bench.call("/policy/start").success  # there is no robot
    assert manager.ask(Transition.TRANSITION_DEACTIVATE)
    manager.bench.until(lambda: not manager.serves("start"), "the end of the policy")
    assert manager.ask(Transition.TRANSITION_ACTIVATE)
    assert manager.state() == State.PRIMARY_STATE_ACTIVE


def test_bundle_that_is_none_is_refused_with_its_reason(manage, tmp_path: Path, capfd) -> None:
    path = tmp_path / "none.onnx"
    path.write_bytes(b"nothing")
    manager = manage("policy", rig="nova2_sim", bundle=str(path))
    assert not manager.ask(Transition.TRANSITION_CONFIGURE)
    assert manager.state() == State.PRIMARY_STATE_UNCONFIGURED
    assert "none.onnx" in capfd.readouterr().err


def test_recorder_runs_while_it_is_active(manage, tmp_path: Path) -> None:
    manager = manage("recorder", rig="nova2_sim", root=str(tmp_path))
    assert manager.ask(Transition.TRANSITION_CONFIGURE) and manager.ask(Transition.TRANSITION_ACTIVATE)
    assert manager.bench.call("/recorder/status").success
    assert manager.ask(Transition.TRANSITION_DEACTIVATE) and manager.ask(Transition.TRANSITION_CLEANUP)
    assert manager.state() == State.PRIMARY_STATE_UNCONFIGURED


def test_other_nodes_are_not_managed(ros) -> None:
    with pytest.raises(ConfigError, match="did you mean 'policy'"):
        ManagedNode("polciy")
