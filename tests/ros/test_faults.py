"""Every kind of fault from outside is seen by policy and recorder, and nothing else is: in virtual time."""

from __future__ import annotations

from pathlib import Path

import pytest

from benches.faults import alarms_missed, false_alarms, make_policy, measure, misses
from benches.faults_kinds import FAULTS, Fault
from benches.faults_world import bench_rig
from tacit.bundle.runtime import OnnxPolicy
from tacit.rig import Rig

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def rig() -> Rig:
    return bench_rig()


@pytest.fixture(scope="module")
def policy(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> OnnxPolicy:
    return make_policy(rig, tmp_path_factory.mktemp("bundle"))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_is_seen_held_for_and_named(fault: Fault, rig: Rig, policy: OnnxPolicy) -> None:
    row = measure(fault, 1, rig, policy)  # `tacit bench faults` does so twenty times
    assert misses(fault, row) == [] and row.outside == 0


def test_nothing_is_seen_where_nothing_is_wrong(rig: Rig, policy: OnnxPolicy, tmp_path: Path) -> None:
    assert alarms_missed(false_alarms(2, 0.5, rig, policy)) == []
