"""Depth: millimetres survive every way they go, and are never taken for colours."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tacit.errors import ImageError
from tacit.images import MAX_PIXELS, as_rgb, decode_image, encode_jpeg, encode_png
from tacit.images.depth import (
    as_depth,
    decode_depth,
    depth_colours,
    depth_from_metres,
    depth_levels,
    encode_depth,
    to_look_at,
)
from tacit.images.encoded import is_complete, read_header

MM = np.random.default_rng(0).integers(0, 65536, (17, 23), dtype=np.uint16)
COLOURS = np.random.default_rng(1).integers(0, 256, (17, 23, 3), dtype=np.uint8)


def test_every_millimetre_survives_the_file():
    data = encode_depth(MM)
    np.testing.assert_array_equal(decode_depth(data), MM)
    np.testing.assert_array_equal(decode_depth(data.tobytes()), MM)
    np.testing.assert_array_equal(as_depth(data), MM)
    assert as_depth(MM) is MM


def test_metres_are_rounded_and_what_sixteen_bits_cannot_hold_is_a_hole():
    metres = np.array([[0.0, 0.0006, 1.2344, 65.535, 65.536, -0.5, np.nan, np.inf]])
    assert depth_from_metres(metres).tolist() == [[0, 1, 1234, 65535, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    "data",
    [
        encode_png(COLOURS),
        encode_jpeg(COLOURS),
        cv2.imencode(".png", COLOURS[..., 0])[1].reshape(-1),
        encode_depth(MM)[:-20],
        np.zeros(0, np.uint8),
    ],
)
def test_what_is_no_depth_image_is_refused(data):
    with pytest.raises(ImageError, match="depth image"):
        decode_depth(data)


@pytest.mark.parametrize("bad", [MM.astype(np.int32), MM[..., None], COLOURS, np.zeros((0, 4), np.uint16)])
def test_only_sixteen_bit_planes_are_encoded_as_depth(bad):
    with pytest.raises(ImageError, match="uint16"):
        encode_depth(bad)


def test_depth_is_not_passed_off_as_colours():
    with pytest.raises(ImageError, match="uint16"):
        as_rgb(MM)
    with pytest.raises(ImageError, match="depth"):
        as_depth(COLOURS)


def test_levels_run_from_near_to_far_and_zero_is_a_hole():
    mm = np.array([[0, 100, 200, 400, 600, 1000, 9000]], np.uint16)
    levels = depth_levels(mm, 0.2, 1.0)
    # 1 + 254 (z - 0.2) / 0.8: 0.4 m is 64.5, 0.6 m is 128
    assert levels[0, :, 0].tolist() == [0, 1, 1, 64, 128, 255, 255]
    assert levels.shape == (1, 7, 3) and (levels == levels[..., :1]).all()


def test_to_people_near_is_red_far_is_blue_and_a_hole_is_black():
    mm = np.full((20, 20), 500, np.uint16)
    mm[10:], mm[:, 0] = 1500, 0
    for picture in (depth_colours(mm), to_look_at(mm), to_look_at(encode_depth(mm))):
        near, far = picture[2, 5].astype(int), picture[15, 5].astype(int)
        assert near[0] > near[2] + 50 and far[2] > far[0]
        assert not picture[:, 0].any()
    assert not depth_colours(np.zeros((3, 4), np.uint16)).any()
    np.testing.assert_array_equal(to_look_at(encode_png(COLOURS)), COLOURS)


@pytest.mark.parametrize("height", [1, 40_000])
def test_a_header_that_states_too_many_pixels_is_refused_before_they_are_made(height):
    for data, decode in ((encode_depth(MM), decode_depth), (encode_png(COLOURS), decode_image)):
        head = bytearray(data.tobytes())
        head[16:24] = (MAX_PIXELS // height + 1).to_bytes(4, "big") + height.to_bytes(4, "big")
        with pytest.raises(ImageError):
            decode(bytes(head))


# --- what the bytes say --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encode_depth(MM), ("png", 17, 23, 16, 1)),
        (encode_png(COLOURS), ("png", 17, 23, 8, 3)),
        (encode_jpeg(COLOURS), ("jpeg", 17, 23, 8, 3)),
        (cv2.imencode(".jpg", COLOURS[..., 0])[1].reshape(-1), ("jpeg", 17, 23, 8, 1)),
        (cv2.imencode(".png", np.dstack([COLOURS, COLOURS[..., :1]]))[1].reshape(-1), ("png", 17, 23, 8, 4)),
    ],
)
def test_header_says_what_is_in_the_picture(data, expected):
    assert read_header(data) == expected
    for length in range(0, 24):
        assert read_header(data[:length]) is None  # too short to say anything: no crash


@pytest.mark.parametrize("encode", [encode_png, encode_jpeg])
def test_every_cut_shows_and_no_padding_does(encode):
    data = encode(COLOURS)
    for padding in (0, 1, 63, 5000):
        assert is_complete(np.concatenate([data, np.zeros(padding, np.uint8)]))
    for missing in (1, 2, 3, 50, len(data) // 2, len(data) - 1):
        assert not is_complete(data[:-missing])
        assert not is_complete(np.concatenate([data[:-missing], np.zeros(300, np.uint8)]))
    assert not is_complete(np.zeros(0, np.uint8))


def test_what_an_earlier_frame_left_in_the_buffer_does_not_make_a_picture_incomplete():
    stale = np.frombuffer(bytes(range(1, 200)) * 3, np.uint8)
    for data in (encode_jpeg(COLOURS), encode_png(COLOURS)):
        assert is_complete(np.concatenate([data, stale]))
        assert not is_complete(np.concatenate([data[:-20], stale]))


def test_the_end_of_a_preview_is_not_the_end_of_the_picture():
    data, preview = encode_jpeg(COLOURS), encode_jpeg(COLOURS[:8, :8]).tobytes()
    segment = b"\xff\xe1" + (len(preview) + 2).to_bytes(2, "big") + preview
    whole = np.frombuffer(data[:2].tobytes() + segment + data[2:].tobytes(), np.uint8)
    assert is_complete(whole) and read_header(whole) == ("jpeg", 17, 23, 8, 3)
    assert not is_complete(whole[:-2]) and not is_complete(whole[: len(segment) + 100])
