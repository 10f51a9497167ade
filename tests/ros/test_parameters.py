"""Parameters are judged at the start and while a node runs: a wrong one is refused with the reason."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import pytest
from rclpy.node import Node
from rclpy.parameter import Parameter

from tacit.errors import ConfigError
from tacit_ros.capture_node import CaptureParameters
from tacit_ros.overlay_node import OverlayParameters
from tacit_ros.policy_node import PolicyParameters
from tacit_ros.progress_node import ProgressParameters
from tacit_ros.recorder_node import RecorderParameters
from tacit_ros.wire.parameters import declare, read

WRONG = [
    (RecorderParameters, "jpeg_quality", 101, "at least 1 and at most 100"),
    (RecorderParameters, "jpeg_quality", 0, "at least 1 and at most 100"),
    (RecorderParameters, "tactile_quality", -1, "at least 0 and at most 100"),
    (RecorderParameters, "jpeg_quality", "best", "is a str, expected int"),
    (RecorderParameters, "jpeg_quality", True, "is a bool, expected int"),
    (RecorderParameters, "rate_tolerance", 0.0, "above 0"),
    (RecorderParameters, "rate_tolerance", -0.1, "above 0"),
    (RecorderParameters, "rate_tolerance", math.nan, "above 0"),
    (RecorderParameters, "rate_tolerance", math.inf, "at most 10"),
    (RecorderParameters, "min_free_gb", -1.0, "at least 0"),
    (RecorderParameters, "task", "../elsewhere", "Identifier of the task"),
    (RecorderParameters, "task", "", "Identifier of the task"),
    (RecorderParameters, "stamps", "recieve", "did you mean 'receive'"),
    (PolicyParameters, "num_threads", 0, "at least 1"),
    (PolicyParameters, "replan_ticks", -3, "at least 0"),
    (PolicyParameters, "blend", -2, "at least 0, or -1"),
    (PolicyParameters, "ensemble_m", -0.5, "at least 0, or -1"),
    (PolicyParameters, "ensemble_m", math.nan, "at least 0, or -1"),
    (PolicyParameters, "realtime_priority", 100, "at most 99"),
    (PolicyParameters, "mode", "blnd", "did you mean 'blend'"),
    (PolicyParameters, "sha256", "abc", "Expected sha256"),
    (PolicyParameters, "dry_run", 1, "is a int, expected bool"),
    (ProgressParameters, "num_threads", -1, "at least 1"),
    (ProgressParameters, "done_above", 1.5, "at most 1"),
    (ProgressParameters, "done_below", -0.1, "at least 0"),
    (ProgressParameters, "dwell_s", -0.1, "at least 0"),
    (ProgressParameters, "stall_after_s", -5.0, "at least 0"),
    (ProgressParameters, "stall_gain", -0.1, "at least 0"),
    (ProgressParameters, "regression_drop", 2.0, "at most 1"),
    (ProgressParameters, "motion_gain_s", -0.1, "at least 0"),
    (ProgressParameters, "motion_drop_s", -0.1, "at least 0"),
    (ProgressParameters, "signal", "finished", "valid: "),
    (OverlayParameters, "rate_hz", 0.0, "above 0"),
    (CaptureParameters, "camera", False, "is a bool, expected str"),
]


@pytest.fixture
def nodes(ros: object) -> Iterator[list[Node]]:
    made: list[Node] = []
    yield made
    for node in made:
        node.destroy_node()


def node_with(nodes: list[Node], *overrides: Parameter) -> Node:
    nodes.append(Node("judged", parameter_overrides=list(overrides)))
    return nodes[-1]


@pytest.mark.parametrize(("settings", "name", "value", "reason"), WRONG)
def test_wrong_value_is_refused_at_the_start_and_while_the_node_runs(
    nodes: list[Node], settings: type, name: str, value: object, reason: str
) -> None:
    with pytest.raises(ConfigError, match=f"parameter {name}: .*{reason}"):
        declare(node_with(nodes, Parameter(name, value=value)), settings)
    node = node_with(nodes)
    before = declare(node, settings)
    [result] = node.set_parameters([Parameter(name, value=value)])
    assert not result.successful and f"parameter {name}: " in result.reason and reason in result.reason
    assert read(node, settings) == before


LIVE = {
    RecorderParameters: {"task", "instruction", "rate_tolerance", "min_free_gb"},
    PolicyParameters: {"speed_limit"},  # it may be lowered
}


@pytest.mark.parametrize(
    "settings",
    [RecorderParameters, PolicyParameters, ProgressParameters, OverlayParameters, CaptureParameters],
)
def test_parameter_that_is_looked_at_once_may_not_change_and_the_others_may(
    nodes: list[Node], settings: type
) -> None:
    node = node_with(nodes)
    before = declare(node, settings)
    live = LIVE.get(settings, set())
    for field in dataclasses.fields(settings):
        same = Parameter(field.name, value=field.default)
        assert node.set_parameters([same])[0].successful  # as `ros2 param load` does
        choices = field.metadata["rule"].choices
        other = choices[-1] if choices else {"sha256": "0" * 64}.get(field.name) or _another(field.default)
        [result] = node.set_parameters([Parameter(field.name, value=other)])
        assert result.successful == (field.name in live), (field.name, result.reason)
        assert result.successful or f"start it anew with {field.name}:=" in result.reason
    after = dataclasses.asdict(read(node, settings))
    assert {name for name, value in dataclasses.asdict(before).items() if value != after[name]} == live


def _another(value: object) -> object:
    """A different value of the same kind that is within every range of these nodes."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return abs(value) * 0.8 + 0.05 if isinstance(value, float) else f"{value}x"


def test_one_wrong_change_of_several_changes_nothing(nodes: list[Node]) -> None:
    node = node_with(nodes)
    declare(node, RecorderParameters)
    changes = [Parameter("task", value="pour"), Parameter("min_free_gb", value=-1.0)]
    assert not node.set_parameters_atomically(changes).successful
    assert read(node, RecorderParameters).task == "task"


def test_constraints_stand_in_the_description(nodes: list[Node]) -> None:
    node = node_with(nodes)
    declare(node, RecorderParameters)
    quality, task = (node.describe_parameter(name) for name in ("jpeg_quality", "task"))
    assert quality.additional_constraints == "at least 1 and at most 100; fixed once the node runs"
    assert "fixed" not in task.additional_constraints


def test_number_for_a_text_is_text_and_parameters_of_others_are_left_alone(nodes: list[Node]) -> None:
    node = node_with(nodes, Parameter("task", value=3))
    assert declare(node, RecorderParameters).task == "3"
    node.declare_parameter("foreign", 1)
    assert node.set_parameters([Parameter("foreign", value=2)])[0].successful
    assert node.set_parameters([Parameter("task", value=4)])[0].successful
    assert read(node, RecorderParameters).task == "4"
