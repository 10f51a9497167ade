"""Numbers are bound to names: by name where the message has names, else by their place in it."""

from __future__ import annotations

from array import array

import numpy as np
import pytest
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import PoseStamped, TwistStamped, WrenchStamped
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Float32MultiArray, Float64MultiArray, MultiArrayDimension
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from tacit.rig import NUMBER_TYPES, ArraySpec, Rig, load_rig, parse_rig
from tacit.streams import Trajectory
from tacit_ros import messages
from tacit_ros.wire.decoders import decoder_of, joint_reading_of

STAMP = 1_763_633_728_123_456_789
JOINT_STATE = "sensor_msgs/msg/JointState"
TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"
ARRAY = "std_msgs/msg/Float64MultiArray"


def wire(message: object) -> object:
    """Return the message as the receiver sees it."""
    return deserialize_message(serialize_message(message), type(message))


def test_every_type_that_a_rig_may_name_can_be_read() -> None:
    assert set(messages.READERS) == set(NUMBER_TYPES)
    for name in NUMBER_TYPES:
        if name.startswith("ur_dashboard_msgs/"):  # comes with a UR's driver, not from PyPI
            continue
        assert messages.message_class(name)


# --- joints -------------------------------------------------------------------------------------


@pytest.mark.parametrize("type_name", [JOINT_STATE, TRAJECTORY])
def test_joints_are_bound_by_name_in_any_order(type_name: str) -> None:
    message = wire(messages.build_named(type_name, ["b", "x", "a"], [2.0, 9.0, 1.0], STAMP, 0.04))
    np.testing.assert_array_equal(messages.read_named(message, type_name, ["a", "b"]), [1.0, 2.0])


@pytest.mark.parametrize("type_name", [JOINT_STATE, TRAJECTORY])
def test_missing_joint_is_named_not_guessed(type_name: str) -> None:
    message = messages.build_named(type_name, ["a", "b"], [1.0, 2.0], STAMP, 0.04)
    with pytest.raises(messages.MessageError, match="'c'.*'a', 'b'") as caught:
        messages.read_named(message, type_name, ["a", "c"])
    assert caught.value.kind == "names" and not isinstance(caught.value, messages.NotForUs)


@pytest.mark.parametrize("type_name", [JOINT_STATE, TRAJECTORY])
def test_a_message_about_other_joints_alone_is_not_for_us(type_name: str) -> None:
    message = messages.build_named(type_name, ["finger"], [0.01], STAMP, 0.04)
    with pytest.raises(messages.NotForUs):
        messages.read_named(message, type_name, ["a", "b"])


def test_a_message_about_no_joint_at_all_is_passed_over() -> None:
    with pytest.raises(messages.NotForUs):
        messages.read_named(messages.joint_state([], [], STAMP), JOINT_STATE, ["a"])


def test_a_message_without_names_is_a_fault_not_somebody_elses() -> None:
    message = messages.joint_state([], [], STAMP)
    message.position = array("d", [1.0, 2.0])
    with pytest.raises(messages.MessageError, match="'a', 'b'") as caught:
        messages.read_named(message, JOINT_STATE, ["a", "b"])
    assert not isinstance(caught.value, messages.NotForUs)


@pytest.mark.parametrize("type_name", [JOINT_STATE, TRAJECTORY])
def test_a_joint_named_twice_is_refused(type_name: str) -> None:
    message = messages.build_named(type_name, ["a", "b", "a"], [1.0, 2.0, 9.0], STAMP, 0.04)
    with pytest.raises(messages.MessageError, match="'a' stands twice") as caught:
        messages.read_named(message, type_name, ["a", "b"])
    assert caught.value.kind == "names"
    np.testing.assert_array_equal(messages.read_named(message, type_name, ["b"]), [2.0])  # b is not in doubt


def test_joint_message_with_fewer_positions_than_names_is_refused() -> None:
    message = messages.joint_state(["a", "b"], [1.0], STAMP)
    with pytest.raises(messages.MessageError, match="1 values in position for 2 names") as caught:
        messages.read_named(message, JOINT_STATE, ["a"])
    assert caught.value.kind == "size"


@pytest.mark.parametrize("velocity", [[5.0, 6.0], [0.0], [5.0, 6.0, 7.0, 8.0]])
def test_velocity_of_another_length_is_left_out_and_the_position_stands(velocity: list[float]) -> None:
    rig = load_rig("nova2_sim")
    names = [*rig.streams["joints"].names, "finger"]
    message = messages.joint_state(
        names, np.arange(7.0), STAMP, velocity=velocity, effort=np.arange(7.0) + 10
    )
    reading = joint_reading_of(rig, "joints")(wire(message))
    np.testing.assert_array_equal(reading["position"], np.arange(6.0))
    assert "velocity" not in reading
    np.testing.assert_array_equal(reading["effort"], np.arange(6.0) + 10)


# --- arrays -------------------------------------------------------------------------------------


def layout(data: list[float], dims: list[tuple[str, int, int]], offset: int = 0) -> Float64MultiArray:
    message = Float64MultiArray(data=array("d", data))
    message.layout.dim = [MultiArrayDimension(label=name, size=n, stride=stride) for name, n, stride in dims]
    message.layout.data_offset = offset
    return wire(message)  # type: ignore[return-value]


def test_array_of_another_length_is_refused() -> None:
    message = wire(messages.build_named(ARRAY, ["a", "b"], np.array([1, 2], np.float32), STAMP))
    np.testing.assert_array_equal(messages.read_named(message, ARRAY, ["a", "b"]), [1.0, 2.0])
    with pytest.raises(messages.MessageError, match="2 values") as caught:
        messages.read_named(message, ARRAY, ["a"])
    assert caught.value.kind == "size"


SKIN = ArraySpec(rows=2, columns=3, channels=2, range=((0, 1),))


@pytest.mark.parametrize(
    ("dims", "problem"),
    [
        ([], ""),
        ([("", 12)], ""),
        ([("rows", 2), ("columns", 3), ("channels", 2)], ""),
        ([("height", 2), ("width", 3), ("", 2)], ""),
        ([("", 2), ("", 3), ("", 2)], ""),
        ([("", 3), ("", 2), ("", 2)], "layout of 3 x 2 x 2, the rig says 2 rows x 3 columns x 2 channels"),
        ([("channels", 2), ("columns", 3), ("rows", 2)], "layout of 2 channels x 3 columns x 2 rows"),
        ([("rows", 2), ("columns", 3)], "layout of 2 rows x 3 columns"),
    ],
)
def test_taxels_come_by_rows_columns_and_channels_or_are_refused(dims: list, problem: str) -> None:
    message = Float32MultiArray(data=array("f", map(float, range(12))))
    message.layout.dim = [MultiArrayDimension(label=label, size=size) for label, size in dims]
    if problem:
        with pytest.raises(messages.MessageError, match=problem) as caught:
            messages.read_taxels(wire(message), SKIN)
        assert caught.value.kind == "size"
        return
    reading = messages.read_taxels(wire(message), SKIN)
    assert reading.dtype == np.float32
    np.testing.assert_array_equal(reading, np.arange(12).reshape(2, 3, 2))


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("std_msgs/msg/Float32MultiArray", (3, 2, 3)),
        ("std_msgs/msg/Float64MultiArray", (4, 5, 1)),
        ("geometry_msgs/msg/WrenchStamped", (1, 1, 6)),
    ],
)
def test_a_reading_arrives_as_it_was_sent(kind: str, shape: tuple[int, ...]) -> None:
    reading = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    data = load_rig("nova2_sim_taxels").model_dump(mode="json")
    array = dict(zip(("rows", "columns", "channels"), shape, strict=True)) | {"range": [-5, 5]}
    data["tactile"]["left"] |= {"type": kind, "array": array}
    decode = decoder_of(parse_rig(data, "test"), "left")
    np.testing.assert_array_equal(decode(wire(messages.taxels(kind, reading, STAMP))), reading)


def test_taxels_of_another_number_are_refused_and_a_wrench_is_one_of_six_channels() -> None:
    with pytest.raises(messages.MessageError, match="11 values, the rig says 2 rows") as caught:
        messages.read_taxels(wire(Float32MultiArray(data=array("f", [0.0] * 11))), SKIN)
    assert caught.value.kind == "size"
    wrench = WrenchStamped()
    wrench.wrench.force.z, wrench.wrench.torque.x = 3.0, 0.25
    tip = ArraySpec(rows=1, columns=1, channels=6, range=((-9, 9),))
    assert messages.read_taxels(wire(wrench), tip).tolist() == [[[0, 0, 3, 0.25, 0, 0]]]


@pytest.mark.parametrize(
    ("dims", "offset", "data", "expected"),
    [
        ([], 0, [1, 2, 3, 4], [1, 2, 3, 4]),
        ([], 1, [9, 1, 2, 3, 4], [1, 2, 3, 4]),
        ([("", 4, 4)], 2, [9, 9, 1, 2, 3, 4], [1, 2, 3, 4]),
        ([("rows", 2, 4), ("columns", 2, 2)], 0, [1, 2, 3, 4], [1, 2, 3, 4]),
        ([("rows", 2, 0), ("columns", 2, 0)], 0, [1, 2, 3, 4], [1, 2, 3, 4]),  # strides left out
        ([("rows", 2, 6), ("columns", 2, 3)], 0, [1, 2, 9, 3, 4, 9], [1, 2, 3, 4]),  # padded rows
        ([("d, b,c,a", 4, 4)], 0, [1, 2, 3, 4], [4, 2, 3, 1]),
        ([("torques", 4, 4)], 0, [1, 2, 3, 4], [1, 2, 3, 4]),
    ],
)
def test_layout_says_where_the_values_are(
    dims: list, offset: int, data: list[float], expected: list[float]
) -> None:
    found = messages.read_named(layout([*map(float, data)], dims, offset), ARRAY, ["a", "b", "c", "d"])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("dims", "offset"),
    [
        ([("", 5, 5)], 0),
        ([("", 3, 3)], 0),
        ([("", 2, 6), ("", 3, 3)], 0),
        ([("", 2, 400), ("", 2, 200)], 0),
        ([("", 0, 0)], 0),
        ([("", 4, 4)], 1),
        ([("", 2**32 - 1, 0), ("", 2**32 - 1, 0)], 0),
        ([("", 2, 1), ("", 2, 1), ("", 2, 1)], 0),  # eight elements that share four values
        ([("", 4, 4), *[("", 1, 1)] * 70], 0),  # more dimensions than an array can have
        ([], 2**32 - 1),
    ],
)
def test_layout_that_does_not_fit_the_values_is_refused(dims: list, offset: int) -> None:
    with pytest.raises(messages.MessageError) as caught:
        messages.read_named(layout([1.0, 2.0, 3.0, 4.0], dims, offset), ARRAY, ["a", "b", "c", "d"])
    assert caught.value.kind == "size"


@pytest.mark.parametrize("type_name", ["std_msgs/msg/Float32", "std_msgs/msg/Int32", "std_msgs/msg/Bool"])
def test_scalar_types_carry_one_value(type_name: str) -> None:
    message = wire(messages.build_named(type_name, ["x"], [1], STAMP))
    np.testing.assert_array_equal(messages.read_named(message, type_name, ["x"]), [1.0])


# --- wrench, twist, pose ------------------------------------------------------------------------


def test_wrench_is_force_then_torque_and_twist_linear_then_angular() -> None:
    wrench, twist = WrenchStamped(), TwistStamped()
    for first, second in (
        (wrench.wrench.force, wrench.wrench.torque),
        (twist.twist.linear, twist.twist.angular),
    ):
        first.x, first.y, first.z = 1.0, 2.0, 3.0
        second.x, second.y, second.z = 4.0, 5.0, 6.0
    names = list("abcdef")
    for message, kind in ((wrench, "WrenchStamped"), (twist, "TwistStamped")):
        found = messages.read_named(wire(message), f"geometry_msgs/msg/{kind}", names)
        np.testing.assert_array_equal(found, [1, 2, 3, 4, 5, 6])


def pose_of(*quaternion: float) -> PoseStamped:
    message = PoseStamped()
    message.pose.position.x, message.pose.position.y, message.pose.position.z = 0.1, 0.2, 0.3
    for key, value in zip("xyzw", quaternion, strict=True):
        setattr(message.pose.orientation, key, value)
    return message


def test_pose_is_position_and_a_quaternion_of_length_one() -> None:
    q = np.array([0.5, -0.5, 0.5, 0.5])
    found = messages.read_named(pose_of(*(q * 1.0005)), "geometry_msgs/msg/PoseStamped", list("abcdefg"))
    np.testing.assert_allclose(found, [0.1, 0.2, 0.3, *q], atol=1e-15)  # rounding on the way is taken out


@pytest.mark.parametrize(
    ("quaternion", "kind"),
    [
        ((0.0, 0.0, 0.0, 0.0), "message"),
        ((0.0, 0.0, 0.0, 0.9), "message"),
        ((np.nan, 0.0, 0.0, 1.0), "not_finite"),
    ],
)
def test_pose_without_an_orientation_is_refused(quaternion: tuple[float, ...], kind: str) -> None:
    with pytest.raises(messages.MessageError, match="unit quaternion") as caught:
        messages.read_named(pose_of(*quaternion), "geometry_msgs/msg/PoseStamped", list("abcdefg"))
    assert caught.value.kind == kind


# --- trajectories -------------------------------------------------------------------------------


def planned(positions: list[list[float]], seconds: list[float], names: list[str]) -> JointTrajectory:
    points = [
        JointTrajectoryPoint(positions=array("d", row), time_from_start=messages.duration(s))
        for row, s in zip(positions, seconds, strict=True)
    ]
    return JointTrajectory(joint_names=names, points=points)


def trajectory_rig() -> Rig:
    data = load_rig("nova2_sim").model_dump(mode="json")
    data["commands"]["command"]["type"] = TRAJECTORY
    data["arms"]["arm"]["joints"][1] |= {"sign": -1, "offset": 0.5, "lower": -6.0, "upper": 6.0}
    return parse_rig(data, "test")


def test_several_points_are_a_motion_not_the_first_of_them() -> None:
    rig = trajectory_rig()
    names = list(rig.commands["command"].names)
    message = planned([[0.1 * k] * 7 for k in range(4)], [0.0, 1.0, 2.0, 3.0], names[::-1])
    value = decoder_of(rig, "command")(wire(message))
    assert isinstance(value, Trajectory)
    halfway = np.full(7, 0.15)
    halfway[1] = -0.15 + 0.5  # the driver counts this joint the other way round, from another zero
    np.testing.assert_allclose(value.at(1_500_000_000), halfway)
    assert decoder_of(rig, "command")(planned([[0.1] * 7], [3.0], names)).shape == (7,)  # a target, as ever


@pytest.mark.parametrize("seconds", [[0.0, 0.0], [1.0, 0.5], [-1.0, 1.0]])
def test_points_that_are_not_in_the_order_of_time_are_refused(seconds: list[float]) -> None:
    with pytest.raises(messages.MessageError, match="time_from_start"):
        messages.read_named(planned([[0.0], [1.0]], seconds, ["a"]), TRAJECTORY, ["a"])


def test_a_point_without_positions_is_refused() -> None:
    message = planned([[0.0], [1.0]], [0.0, 1.0], ["a"])
    message.points.append(JointTrajectoryPoint(time_from_start=Duration(sec=2)))
    with pytest.raises(messages.MessageError, match="point 2: 0 positions for 1 names"):
        messages.read_named(message, TRAJECTORY, ["a"])
