"""The overlay: a box is drawn where the footprint says, and published as a region."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import Image, RegionOfInterest

from tacit.geometry.footprint import FACES, IN_FRONT, INTERSECTS, Footprint
from tacit.rig import load_rig
from tacit.rig.scene import RigGeometry
from tacit.view.draw import draw_footprints
from tacit_ros import messages
from tacit_ros.wire import qos

GREY = np.full((60, 80, 3), 90, np.uint8)


def footprint(box: list[float], flags: int = IN_FRONT | INTERSECTS | FACES) -> Footprint:
    x0, y0, x1, y1 = box
    corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    return Footprint(np.array(box), corners, 1.0, flags)


def test_pixels_change_on_the_box_and_not_inside_it() -> None:
    drawn = draw_footprints(GREY, {"left": footprint([20.0, 30.0, 60.0, 50.0])})
    changed = (drawn != GREY).any(axis=2)
    assert changed[30, 20:61].all() and changed[30:51, 60].all()
    assert not changed[33:48, 23:58].any()
    assert not changed[55:].any()


def test_input_image_stays_as_it_was() -> None:
    before = GREY.copy()
    draw_footprints(GREY, {"left": footprint([20.0, 30.0, 60.0, 50.0])})
    np.testing.assert_array_equal(GREY, before)


@pytest.mark.parametrize("box", [[np.nan] * 4, [200.0, 200.0, 300.0, 300.0]])
def test_sensor_outside_the_image_draws_nothing(box: list[float]) -> None:
    np.testing.assert_array_equal(draw_footprints(GREY, {"left": footprint(box, IN_FRONT)}), GREY)


def test_box_far_larger_than_the_image_does_not_overflow() -> None:
    drawn = draw_footprints(GREY, {"left": footprint([-1e9, -1e9, 1e9, 30.0])})
    changed = np.flatnonzero((drawn != GREY).any(axis=(1, 2)))
    assert 30 in changed, "the one edge that crosses the image is drawn where it is"
    assert changed.max() <= 31


def test_sensor_that_faces_away_is_grey() -> None:
    hidden = draw_footprints(GREY, {"left": footprint([20.0, 30.0, 60.0, 50.0], IN_FRONT | INTERSECTS)})
    line = hidden[40, 20].astype(int)
    assert np.ptp(line) == 0


def test_live_region_is_the_clipped_box_of_the_geometry(bench: Any) -> None:
    from tacit_ros.overlay_node import OverlayNode

    rig = load_rig("nova2_sim")
    q = np.array([0.0, -0.4, 1.2, 0.2, 1.4, 0.0, 0.05])
    expected = RigGeometry(rig).footprints(q)["wrist", "left"].box
    assert np.isfinite(expected).all()
    bench.add(OverlayNode())
    regions: list[RegionOfInterest] = []
    pictures: list[Image] = []
    bench.node.create_subscription(RegionOfInterest, "/overlay/wrist/left", regions.append, 10)
    bench.node.create_subscription(Image, "/overlay/wrist/image", pictures.append, 10)
    publishers = {
        name: bench.node.create_publisher(
            messages.message_class(spec.type), spec.topic, qos.profile(spec.qos)
        )
        for name, spec in (*rig.streams.items(), *rig.cameras.items())
    }
    camera, stamp_ns = rig.cameras["wrist"], [10**9]
    grey = np.full((camera.height, camera.width, 3), 90, np.uint8)

    def sees() -> bool:
        stamp_ns[0] += 10**9
        publishers["joints"].publish(messages.joint_state(rig.state_names[:6], q[:6], stamp_ns[0]))
        publishers["gripper_state"].publish(messages.joint_state(["gripper"], q[6:], stamp_ns[0]))
        publishers["wrist"].publish(messages.image(grey, stamp_ns[0]))
        return bool(regions and pictures)

    bench.until(sees, "overlay of the wrist camera")
    region, inside = regions[-1], np.clip(expected, -0.5, [camera.width - 0.5, camera.height - 0.5] * 2)
    first = np.array([region.x_offset, region.y_offset]) - 0.5  # outer edge of the first pixel
    last = first + [region.width, region.height]
    np.testing.assert_array_less(first - 1e-6, inside[:2], "the region starts inside the box")
    np.testing.assert_array_less(inside[:2], first + 1, "the region starts a pixel early")
    np.testing.assert_array_less(inside[2:], last + 1e-6, "the region ends inside the box")
    np.testing.assert_array_less(last - 1, inside[2:], "the region ends a pixel late")
    assert (messages.read_image(pictures[-1]) != grey).any()
    assert cv2.norm(messages.read_image(pictures[-1]), grey) > 0


def test_a_picture_that_cannot_be_decoded_is_counted_and_the_node_lives(bench: Any) -> None:
    from tacit_ros.overlay_node import OverlayNode

    node = bench.add(OverlayNode())
    bench.node.create_subscription(Image, "/overlay/wrist/image", lambda _: None, 10)
    bench.until(lambda: node._images["wrist"].get_subscription_count() > 0, "somebody looks")
    node._publish("wrist", 10**9, np.frombuffer(b"\xff\xd8 no picture \xff\xd9", np.uint8), {})
    assert node._streams.intake.counts["wrist"]["undecodable"] == 1
    assert "cannot be decoded" in node._streams.problems["wrist"]
