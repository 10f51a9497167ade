"""Messages: what was put in comes out again on the other side of the wire, with field checks on."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Bool, Float32

from tacit.geometry.camera import Camera, FisheyeCamera, PinholeCamera
from tacit_ros import messages

STAMP = 1_763_633_728_123_456_789


def wire(message: object) -> object:
    """Return the message as the receiver sees it."""
    return deserialize_message(serialize_message(message), type(message))


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def test_field_checks_are_on_in_these_tests() -> None:
    with pytest.raises(AssertionError):
        Float32(data=1)
    with pytest.raises(AssertionError):
        Bool(data=np.True_)


def test_stamp_survives_to_the_nanosecond() -> None:
    assert messages.ns_from_time(wire(messages.time_from_ns(STAMP))) == STAMP
    assert messages.header_stamp_ns(wire(messages.joint_state(["a"], [0.0], STAMP))) == STAMP


def test_message_without_header_has_stamp_zero() -> None:
    assert messages.header_stamp_ns(messages.float32(1.0)) == 0


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.float64(0.25), np.int64(3), True])
def test_float_arrives_whatever_number_type_it_came_from(value: float) -> None:
    assert wire(messages.float32(value)).data == pytest.approx(float(value))


@pytest.mark.parametrize("value", [True, 1, np.True_, np.int64(1)])
def test_true_arrives_as_true(value: object) -> None:
    assert wire(messages.boolean(value)).data is True


def test_integer_that_does_not_fit_is_refused_not_zeroed() -> None:
    assert wire(messages.int32(np.int64(-(2**31)))).data == -(2**31)
    with pytest.raises(ValueError, match="Int32"):
        messages.int32(2**40)


def test_rgb_image_survives(picture: np.ndarray) -> None:
    received = wire(messages.image(picture, STAMP, "cam"))
    assert (received.height, received.width, received.step) == (6, 8, 24)
    assert received.header.frame_id == "cam"
    np.testing.assert_array_equal(messages.read_image(received), picture)


def test_builder_reuses_its_buffer_and_follows_a_new_size(picture: np.ndarray) -> None:
    builder = messages.ImageBuilder("cam")
    first = builder.build(picture, 1).data
    assert builder.build(255 - picture, 2).data is first
    np.testing.assert_array_equal(messages.read_image(wire(builder.build(picture[:3], 3))), picture[:3])


def test_message_type_that_is_not_installed_says_what_to_install() -> None:
    with pytest.raises(messages.MessageError, match="pip install ros-vision-msgs"):
        messages.message_class("vision_msgs/msg/Detection2D")


def test_trajectory_reaches_its_points_one_period_apart() -> None:
    message = wire(messages.joint_trajectory(["a"], [[0.1], [0.2]], STAMP, period_s=0.4))
    times = [point.time_from_start.sec * 10**9 + point.time_from_start.nanosec for point in message.points]
    assert times == [400_000_000, 800_000_000]


@pytest.mark.parametrize("angle", [0.0, 1.0, np.pi, -2.5])
@pytest.mark.parametrize("axis", [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.6, 0.0, 0.8]])
def test_pose_carries_the_quaternion_of_the_rotation(angle: float, axis: list[float]) -> None:
    T = np.eye(4)
    T[:3, :3] = cv2.Rodrigues(np.asarray(axis, float) * angle)[0]
    T[:3, 3] = 0.1, -0.2, 0.3
    received = wire(messages.pose(T, STAMP, "base")).pose
    q = np.array([getattr(received.orientation, key) for key in "xyzw"])
    expected = np.append(np.asarray(axis) * np.sin(angle / 2), np.cos(angle / 2))
    assert abs(q @ expected) == pytest.approx(1.0, abs=1e-9)
    assert (received.position.x, received.position.y, received.position.z) == pytest.approx((0.1, -0.2, 0.3))


def test_region_covers_the_pixels_of_the_box_inside_the_image() -> None:
    roi = wire(messages.region_of_interest([-5.0, 2.0, 3.0, 4.0], 8, 6))
    assert (roi.x_offset, roi.y_offset, roi.width, roi.height) == (0, 2, 4, 3)
    for outside in ([np.nan] * 4, [20.0, 2.0, 30.0, 4.0]):
        assert messages.region_of_interest(outside, 8, 6).width == 0


LENSES = [
    (PinholeCamera, 0, "plumb_bob", 5),
    (PinholeCamera, 4, "plumb_bob", 5),
    (PinholeCamera, 5, "plumb_bob", 5),
    (PinholeCamera, 8, "rational_polynomial", 8),
    (PinholeCamera, 12, "rational_polynomial", 12),
    (PinholeCamera, 14, "rational_polynomial", 14),
    (FisheyeCamera, 4, "equidistant", 4),
]


@pytest.mark.parametrize(("kind", "count", "model", "sent"), LENSES)
def test_camera_info_names_the_model_that_its_coefficients_need(
    kind: type[Camera], count: int, model: str, sent: int
) -> None:
    K = np.array([[80.0, 0, 79.5], [0, 81.0, 59.5], [0, 0, 1]])
    D = tuple(0.001 * (k + 1) for k in range(count))
    info = wire(messages.camera_info(kind(K, D, 160, 120), STAMP, "cam"))
    np.testing.assert_array_equal(np.reshape(info.k, (3, 3)), K)
    np.testing.assert_array_equal(np.reshape(info.p, (3, 4))[:, :3], K)
    np.testing.assert_array_equal(np.reshape(info.r, (3, 3)), np.eye(3))
    assert (info.distortion_model, info.width, info.height) == (model, 160, 120)
    assert list(info.d) == [*D, *[0.0] * (sent - count)]


def test_diagnostics_carry_any_value_as_text() -> None:
    status = messages.Status("recorder", "warn", "late", {"fps": np.float32(24.5), "n": 3})
    received = wire(messages.diagnostics([status], STAMP)).status[0]
    assert received.level == b"\x01" and [v.value for v in received.values] == ["24.5", "3"]
