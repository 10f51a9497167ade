"""The rig contract: shipped rigs load, contradictions are named, hashes follow the content."""

from __future__ import annotations

import copy
import functools
import shutil

import numpy as np
import pytest
import yaml

from tacit.errors import RigError
from tacit.rig import RIGS_FOLDER, Rig, canonical_hash, load_rig, parse_rig, shipped_rigs


@pytest.fixture
def data() -> dict:
    """A correct rig as a mapping that a test may spoil."""
    return load_rig("nova2_sim").model_dump(mode="json")


def refused(data: dict, message: str) -> None:
    with pytest.raises(RigError, match=message):
        parse_rig(data, "my.yaml")


def test_the_promised_rigs_are_shipped():
    assert {"nova2_sim", "nova2", "nova5", "xtrainer", "ur5e"} <= set(shipped_rigs())


@pytest.mark.parametrize("name", shipped_rigs())
def test_a_shipped_rig_survives_its_own_yaml(name):
    rig = load_rig(name)
    assert rig.name == name
    back = parse_rig(yaml.safe_load(rig.to_yaml()), "episode")
    assert back == rig
    assert back.rig_id == rig.rig_id
    assert back.calibration_id == rig.calibration_id
    assert back.state_names == rig.state_names


@pytest.mark.parametrize("name", shipped_rigs())
def test_a_shipped_rig_begins_with_the_command_that_uses_it(name):
    first_lines = (RIGS_FOLDER / f"{name}.yaml").read_text().splitlines()[:4]
    assert any("tacit" in line and line.startswith("#") for line in first_lines)


@pytest.mark.parametrize("name", ["nova2", "nova5", "xtrainer", "ur5e"])
def test_a_template_says_that_its_calibration_is_a_placeholder(name):
    assert "PLACEHOLDER" in (RIGS_FOLDER / f"{name}.yaml").read_text()
    assert "placeholder" in load_rig(name).description


def test_state_runs_through_arms_joints_then_gripper():
    rig = load_rig("xtrainer")
    expected = [
        f"{s}_{n}" for s in ("left", "right") for n in (*(f"joint{i}" for i in range(1, 7)), "gripper")
    ]
    assert rig.state_names == tuple(expected)
    assert rig.gripper_indices == (6, 13)
    assert rig.arm_slice("right") == slice(7, 13)
    assert rig.limits("velocity").shape == (14,)
    assert rig.limits("upper")[6] == 0.1063
    assert rig.joint("left_joint3").upper == 2.79


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("cameras.wrist.topik", "/x", r"my.yaml: cameras.wrist.topik: unknown key; did you mean 'topic'\?"),
        ("arms.arm.gripper.uper", 1, r"arms.arm.gripper.uper: unknown key; did you mean 'upper'\?"),
        ("streams.joints.qos.dept", 1, r"streams.joints.qos.dept: unknown key; did you mean 'depth'\?"),
        ("arms.arm.model", "nova3", r"arms.arm: model: no arm 'nova3'; did you mean 'nova"),
        ("arms.arm.dh", [], r"exactly one of model, dh, urdf; found \['model', 'dh'\]"),
        ("arms.arm.home", [0.0], "home: 1 values for 6 joints"),
        ("arms.arm.home", [0, 0, 3.0, 0, 0, 0], "home: joint3 at 3.0 is outside"),
        (
            "safety.workspace",
            {"army": {"lower": [0, 0, 0], "upper": [1, 1, 1]}},
            "no arm 'army'; did you mean",
        ),
        ("safety.workspace", {"arm": {"lower": [0, 2, 0], "upper": [1, 1, 1]}}, "is not below upper"),
        ("arms.arm.gripper.axis", [0, 0, 0], "axis is zero"),
        ("arms.arm.gripper.scale", 0, "scale is 0"),
        ("arms.arm.gripper.raw", "table", "at least two"),
        ("arms.arm.gripper.upper", -1, "greater than 0, found -1"),
        ("arms.arm.joints.0.lower", 7.0, "joint joint1: lower 7.0 is not below"),
        ("arms.arm.joints.0.name", "joint2", "state name 'joint2' is used twice"),
        ("cameras.wrist.K", [[1, 0, 0], [0, 1, 0]], "camera matrix"),
        ("cameras.wrist.K", [[0, 0, 0], [0, 1, 0], [0, 0, 1]], "fx, fy > 0"),
        ("cameras.wrist.D", [0.1, 0.2], "D: 2 coefficients, expected one of"),
        ("cameras.wrist.parent", "arm.flansch", "did you mean 'arm.flange'"),
        ("cameras.wrist.T_parent_camera", np.diag([1.0, 1, -1, 1]).tolist(), "mirror"),
        ("tactile.left.mount", "arm.finger_lft", "did you mean 'arm.finger_left'"),
        ("tactile.left.size_m", [0.02, 0.02, 0.0], "greater than 0"),
        ("streams.joints.names", ["joint1", "joint2"], "no topic carries joint3"),
        ("streams.joints.names.0", "joint_1", "did you mean 'joint1'"),
        ("commands.command.names", ["joint1"], "commands: no topic carries"),
        ("commands", {}, "at least one command topic"),
        ("arms", {}, "arms: "),
        ("alignment.tick_source", "camera:writs", "did you mean 'camera:wrist'"),
        ("alignment.rate_hz", 0, "greater than 0"),
        ("arms.arm.joints.0.upper", float("inf"), "finite number"),
        ("arms.arm.joints.0.offset", float("nan"), "finite number"),
        ("streams.joints.latency_ms", 1e30, "less than or equal to 60000"),
        ("schema_version", "tacit-rig 2", "tacit-rig 1"),
    ],
)
def test_a_contradiction_is_named_with_place_and_cure(data, path, value, message):
    node, keys = data, path.split(".")
    for key in keys[:-1]:
        node = node[int(key)] if isinstance(node, list) else node[key]
    node[int(keys[-1]) if isinstance(node, list) else keys[-1]] = value
    refused(data, message)


def test_stream_names_are_one_namespace(data):
    data["tactile"]["wrist"] = data["tactile"].pop("left")
    refused(data, "stream name 'wrist' is used twice")


def test_own_dh_rows_equal_the_built_in_model(data):
    from tacit.geometry.kinematics import DH_MODELS

    rows = [row._asdict() for row in DH_MODELS["nova2"]]
    data["arms"]["arm"] |= {"model": None, "dh": rows}
    q = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.02]
    own, built_in = parse_rig(data, "x"), load_rig("nova2_sim")
    np.testing.assert_array_equal(own.sensor_poses(q)["left"], built_in.sensor_poses(q)["left"])
    data["arms"]["arm"]["dh"] = [rows[0] | {"alpa": 0.0}, *rows[1:]]
    refused(data, "arms.arm.dh.0.alpa: unknown key; did you mean 'alpha'")
    data["arms"]["arm"]["dh"] = rows[:5]
    refused(data, "5 rows for 6 joints")


def test_unknown_rigs_and_joints_are_named(tmp_path):
    with pytest.raises(RigError, match="did you mean 'nova2"):
        load_rig("nova22")
    with pytest.raises(RigError, match="no such file"):
        load_rig(tmp_path / "rig.yaml")
    with pytest.raises(RigError, match="did you mean 'joint1'"):
        load_rig("nova2").index_of(["joint_1"])


def test_urdf_becomes_part_of_the_rig(tmp_path):
    for name in ("ur5e.yaml", "ur5e.urdf"):
        shutil.copy(RIGS_FOLDER / name, tmp_path)
    rig = load_rig(tmp_path / "ur5e.yaml")
    assert "<robot" in rig.arms["arm"].urdf
    assert rig.calibration_id == load_rig("ur5e").calibration_id
    (tmp_path / "ur5e.urdf").unlink()
    back = parse_rig(yaml.safe_load(rig.to_yaml()), "episode")  # stands without the file
    assert back.calibration_id == rig.calibration_id
    with pytest.raises(RigError, match=r"arms.arm.urdf: no file .*relative to the rig file"):
        load_rig(tmp_path / "ur5e.yaml")


def test_calibration_follows_the_urdfs_lengths_but_not_its_meshes(tmp_path):
    ids = []
    text = (RIGS_FOLDER / "ur5e.urdf").read_text()
    mesh = (
        '<link name="tool0"><visual><geometry><mesh filename="package://a/b.stl"/></geometry></visual></link>'
    )
    for variant in (text, text.replace('<link name="tool0"/>', mesh), text.replace("0.1625", "0.1627")):
        (tmp_path / "ur5e.urdf").write_text(variant)
        shutil.copy(RIGS_FOLDER / "ur5e.yaml", tmp_path)
        ids.append(load_rig(tmp_path / "ur5e.yaml").calibration_id)
    assert ids[0] == ids[1]
    assert ids[0] != ids[2]


def test_a_urdf_path_without_its_file_is_refused_outside_load_rig():
    data = load_rig("ur5e").model_dump(mode="json")
    data["arms"]["arm"]["urdf"] = "ur5e.urdf"
    refused(data, "load_rig")
    data = load_rig("ur5e").model_dump(mode="json")
    data["arms"]["arm"]["tip_link"] = "tool1"
    refused(data, "did you mean 'tool0'")
    data["arms"]["arm"]["tip_link"] = None
    refused(data, "base_link and tip_link are needed")


def test_two_arms_may_share_one_urdf_under_their_own_joint_names():
    data = load_rig("ur5e").model_dump(mode="json")
    names = []
    for joint in data["arms"]["arm"]["joints"]:
        joint["urdf_joint"], joint["name"] = joint["name"], "left_" + joint["name"]
        names.append(joint["name"])
    data["streams"]["joints"]["names"] = data["commands"]["arm_command"]["names"] = names
    rig, q = parse_rig(data, "x"), np.linspace(-1, 1, 7).clip(0, None)
    np.testing.assert_array_equal(rig.sensor_poses(q)["left"], load_rig("ur5e").sensor_poses(q)["left"])


def test_ur5e_flange_follows_the_makers_dh_table():
    d, a = (0.1625, 0, 0, 0.1333, 0.0997, 0.0996), (0, -0.425, -0.3922, 0, 0, 0)
    alpha = (np.pi / 2, 0, 0, np.pi / 2, -np.pi / 2, 0)
    q = np.array([0.3, -1.1, 1.4, -0.7, 0.9, 0.2])
    T = np.diag([-1.0, -1, 1, 1])  # base_link is turned by half against the DH base
    for i in range(6):
        c, s, ca, sa = np.cos(q[i]), np.sin(q[i]), np.cos(alpha[i]), np.sin(alpha[i])
        T = T @ [
            [c, -s * ca, s * sa, a[i] * c],
            [s, c * ca, -c * sa, a[i] * s],
            [0, sa, ca, d[i]],
            [0, 0, 0, 1],
        ]
    rig = load_rig("ur5e")
    np.testing.assert_allclose(rig.geometry.flange_poses([*q, 0.0])["arm"], T, atol=1e-9)


def test_calibration_id_follows_geometry_alone(data):
    rig = load_rig("nova2_sim")
    same = [("description", "x"), ("cameras.wrist.topic", "/other"), ("arms.arm.gripper.velocity", 9.0)]
    other = [
        ("cameras.wrist.K", [[83.0, 0, 79.5], [0, 83.0, 59.5], [0, 0, 1]]),
        ("tactile.left.size_m", [0.02, 0.024, 0.009]),
        ("arms.arm.gripper.scale", 1.001),
        ("arms.arm.joints.2.offset", 1e-9),
    ]
    for path, value in same + other:
        changed = yaml.safe_load(rig.to_yaml())
        node, keys = changed, path.split(".")
        for key in keys[:-1]:
            node = node[int(key)] if isinstance(node, list) else node[key]
        node[keys[-1]] = value
        found = parse_rig(changed, "x")
        assert found.rig_id != rig.rig_id
        assert (found.calibration_id == rig.calibration_id) == ((path, value) in same), path


def test_hash_ignores_the_order_of_keys():
    assert canonical_hash({"a": 1.0, "b": [1]}) == canonical_hash({"b": [1], "a": 1.0})
    assert canonical_hash({"a": 1.0}) != canonical_hash({"a": 1.0000000000000002})


def test_a_rig_cannot_be_changed_in_place():
    rig = load_rig("nova2_sim")
    with pytest.raises(ValueError, match="read-only"):
        rig.cameras["wrist"].K[0, 0] = 1.0
    with pytest.raises(ValueError, match="frozen"):
        rig.name = "other"  # type: ignore[misc]


def test_sections_may_be_transforms_in_any_form(data):
    data["cameras"]["top"]["T_parent_camera"] = {"xyz": [0, 0, 1], "rpy_deg": [180, 0, 0]}
    rig = Rig.model_validate(data)
    np.testing.assert_allclose(rig.cameras["top"].T_parent_camera[:3, 3], [0, 0, 1])


@pytest.mark.parametrize(
    ("group", "name", "wrong", "hint"),
    [
        ("streams", "joints", "sensor_msgs/JointState", "did you mean 'sensor_msgs/msg/JointState'"),
        ("streams", "joints", "sensor_msgs/msg/JointStates", "did you mean 'sensor_msgs/msg/JointState'"),
        ("streams", "progress", "std_msgs/msg/Float66", "did you mean .*Float32"),
        ("streams", "joints", "trajectory_msgs/msg/JointTrajectory", "did you mean|valid:"),
        ("streams", "gripper_state", "geometry_msgs/msg/WrenchStamped", "did you mean|valid:"),
        ("commands", "command", "geometry_msgs/msg/TwistStamped", "did you mean|valid:"),
        ("cameras", "top", "sensor_msgs/msg/Images", "sensor_msgs/msg/Image"),
    ],
)
def test_a_type_that_we_do_not_read_is_refused_when_the_rig_is_loaded(data, group, name, wrong, hint):
    data[group][name]["type"] = wrong
    refused(data, rf"{group}.{name}.type: .*({hint})")


@pytest.mark.parametrize(
    ("kind", "count"), [("WrenchStamped", 6), ("TwistStamped", 6), ("PoseStamped", 7), ("Float32", 1)]
)
def test_a_type_of_so_many_numbers_needs_so_many_names(data, kind, count):
    package = "std_msgs" if kind == "Float32" else "geometry_msgs"
    extra = {"topic": "/t", "type": f"{package}/msg/{kind}", "rate_hz": 100.0, "role": "extra"}
    data["streams"]["tool"] = extra | {"names": [f"v{i}" for i in range(count)]}
    assert parse_rig(data, "my.yaml").streams["tool"].role == "extra"
    data["streams"]["tool"] = extra | {"names": [f"v{i}" for i in range(count + 1)]}
    refused(data, f"streams.tool.names: {count + 1} names, but .*{kind} carries {count} number")


def test_rig_from_before_a_field_existed_keeps_its_id_and_one_that_uses_it_does_not() -> None:
    rig = load_rig("nova2_sim")
    as_before = rig.model_dump(mode="json")
    del as_before["calibrations"], as_before["unmeasured"], as_before["drivers"]
    del as_before["safety"]["estop_topic"], as_before["safety"]["heartbeat"]
    for arm in as_before["arms"].values():
        del arm["gripper"]["links"], arm["gripper"]["urdf_joint"]
    later_fields = {"kind", "stamps", "frozen_after", "output_hz", "device", "scale", "ready"}
    for group in ("cameras", "tactile", "streams", "commands"):
        for spec in as_before[group].values():
            for field in later_fields & set(spec):
                del spec[field]
    assert parse_rig(as_before, "my.yaml").rig_id == rig.rig_id == canonical_hash(as_before)
    later = {
        ("cameras", "top"): {"frozen_after": 20},
        ("safety",): {"heartbeat": {"topic": "/pedal"}},
        ("tactile", "left"): {"device": {"rotate_deg": 90}},
    }
    for path, change in later.items():
        data = copy.deepcopy(as_before)
        functools.reduce(dict.__getitem__, path, data).update(change)
        assert parse_rig(data, "my.yaml").rig_id != rig.rig_id
