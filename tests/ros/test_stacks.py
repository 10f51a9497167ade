"""Stacks: the one description of what runs, with options that reach the right node."""

from __future__ import annotations

import importlib.util

import pytest

from tacit.errors import ConfigError
from tacit.rig import load_rig
from tacit_ros.run.stacks import NODES, STACKS, arguments, build_stack, templates

BUNDLES = {"policy.bundle": "p.onnx", "progress.bundle": "q.onnx"}


def names(stack: str, **options: str) -> list[str]:
    return [node.name for node in build_stack(stack, "nova2_sim", options).nodes]


def test_recording_on_a_simulated_rig_starts_the_cell_and_its_expert() -> None:
    assert names("record") == ["simulator", "expert", "recorder", "overlay"]


def test_real_rig_gets_no_simulator() -> None:
    real = load_rig("nova2_sim").model_copy(update={"simulation": None})
    assert [spec.name for spec in templates("record", real)] == ["recorder", "overlay"]
    with pytest.raises(ConfigError, match="simulation"):
        templates("simulate", real)


def test_plain_option_reaches_every_node_that_has_it_and_a_scoped_one_only_its_own() -> None:
    stack = build_stack("record", "nova2_sim", {"seed": "7", "task": "lift", "recorder.task": "pile"})
    by_name = {node.name: node.parameters for node in stack.nodes}
    assert by_name["simulator"]["seed"] == 7
    assert (by_name["simulator"]["task"], by_name["recorder"]["task"]) == ("lift", "pile")
    assert all(parameters["rig"] == "nova2_sim" for parameters in by_name.values())


def test_option_is_read_as_the_type_of_its_default() -> None:
    stack = build_stack("record", "nova2_sim", {"lockstep": "True", "real_time_factor": "0", "operator": "3"})
    by_name = {node.name: node.parameters for node in stack.nodes}
    assert by_name["simulator"]["lockstep"] is True
    assert by_name["simulator"]["real_time_factor"] == 0.0
    assert isinstance(by_name["simulator"]["real_time_factor"], float)
    assert by_name["recorder"]["operator"] == "3"


@pytest.mark.parametrize(
    ("stack", "options", "words"),
    [
        ("recrod", {}, "record"),
        ("record", {"taks": "x"}, "task"),
        ("record", {"expert.root": "x"}, "recorder.root"),
        ("record", {"seed": "x"}, "int"),
        ("record", {"lockstep": "1"}, "true or false"),
        ("policy", {}, "bundle"),
        ("record", {"rig": "other"}, "no option 'rig'"),
    ],
)
def test_mistake_is_named(stack: str, options: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_stack(stack, "nova2_sim", options)


@pytest.mark.parametrize("stack", STACKS)
def test_arguments_of_a_stack_are_accepted_by_it(stack: str) -> None:
    options = {key: str(value) or "x" for key, value in arguments(stack).items()}
    assert build_stack(stack, "nova2_sim", options, STACKS[stack].extra).nodes


def test_desk_runs_on_demand_where_episodes_are_recorded() -> None:
    names = lambda extra: [node.name for node in build_stack("record", "nova2_sim", {}, extra).nodes]  # noqa: E731
    assert "desk" in names(["desk"]) and "desk" not in names([])
    with pytest.raises(ConfigError, match="record, teleop, full have one"):
        build_stack("simulate", "nova2_sim", {}, ["desk"])
    with pytest.raises(ConfigError, match="did you mean 'description'"):
        build_stack("record", "nova2_sim", {}, ["descripton"])


def test_two_bundles_are_told_apart() -> None:
    assert set(BUNDLES) <= set(arguments("full"))
    by_name = {n.name: n.parameters for n in build_stack("full", "nova2_sim", BUNDLES).nodes}
    assert (by_name["policy"]["bundle"], by_name["progress"]["bundle"]) == ("p.onnx", "q.onnx")
    assert list(arguments("policy")).count("bundle") == 1


@pytest.mark.parametrize("node", NODES.values(), ids=NODES)
def test_every_node_of_a_stack_exists(node) -> None:
    assert importlib.util.find_spec(node.module), node.module


def test_a_stack_runs_without_the_nodes_left_out() -> None:
    stack = build_stack("record", "nova2_sim").without(["overlay"])
    assert [node.name for node in stack.nodes] == ["simulator", "expert", "recorder"]


def test_leaving_out_an_unknown_node_names_the_close_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'overlay'"):
        build_stack("record", "nova2_sim").without(["overlai"])
