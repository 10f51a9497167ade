"""Raw and compressed images of every usual encoding: by values that a person can work out."""

from __future__ import annotations

import struct
from array import array

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image

from tacit.images.depth import decode_depth, encode_depth
from tacit_ros import messages

R, G, B = 200, 30, 80
GREY = 0x5A
H, W = 6, 8


def raw(encoding: str, data: np.ndarray, *, height: int = H, width: int = W, big: int = 0) -> Image:
    """An image message of rows `data` (H, ...), as a driver would fill it."""
    rows = np.ascontiguousarray(data)
    message = Image(encoding=encoding, height=height, width=width, is_bigendian=big)
    message.step = rows.nbytes // rows.shape[0]
    message.data = array("B", rows.tobytes())
    return message


def filled(*values: int, dtype: str = "u1") -> np.ndarray:
    """Every pixel holds `values`."""
    return np.broadcast_to(np.array(values, dtype), (H, W, len(values)))


def mosaic(pattern: str, dtype: str = "u1", shift: int = 0) -> np.ndarray:
    """What a sensor behind colour filters sees of one colour: `pattern` names its first two rows."""
    colours = {"r": R, "g": G, "b": B}
    square = np.array([colours[letter] << shift for letter in pattern], dtype).reshape(2, 2)
    return np.tile(square, (H // 2, W // 2))


BYTES = [
    ("rgb8", (R, G, B)),
    ("RGB8", (R, G, B)),
    ("bgr8", (B, G, R)),
    ("8UC3", (B, G, R)),
    ("rgba8", (R, G, B, 7)),
    ("bgra8", (B, G, R, 7)),
    ("8UC4", (B, G, R, 7)),
]


@pytest.mark.parametrize(("encoding", "pixel"), BYTES)
def test_colour_bytes_come_out_as_red_green_blue(encoding: str, pixel: tuple[int, ...]) -> None:
    rgb = messages.read_image(raw(encoding, filled(*pixel)))
    assert rgb.shape == (H, W, 3) and rgb.dtype == np.uint8
    assert (rgb == [R, G, B]).all()


@pytest.mark.parametrize(("encoding", "pixel"), [("rgb16", (R, G, B)), ("bgra16", (B, G, R, 7))])
@pytest.mark.parametrize("big", [0, 1])
def test_of_sixteen_bits_the_high_byte_is_kept(encoding: str, pixel: tuple[int, ...], big: int) -> None:
    values = [value << 8 | 0x11 for value in pixel]
    data = filled(*values, dtype=">u2" if big else "<u2")
    assert (messages.read_image(raw(encoding, data, big=big)) == [R, G, B]).all()


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey_becomes_three_equal_channels(encoding: str) -> None:
    data = np.arange(H * W, dtype=np.uint8).reshape(H, W)
    np.testing.assert_array_equal(messages.read_image(raw(encoding, data)), np.repeat(data[..., None], 3, 2))


def test_mono16_is_its_high_byte() -> None:
    assert (messages.read_image(raw("mono16", filled(0xC811, dtype="<u2"))) == 0xC8).all()


# ITU-R BT.601 in video range: white is Y, U, V = (235, 128, 128), pure red (81, 90, 240).
WHITE, RED = ((235, 128, 128), (255, 255, 255)), ((81, 90, 240), (254, 0, 0))


@pytest.mark.parametrize(("yuv", "rgb"), [WHITE, RED])
@pytest.mark.parametrize(
    ("encoding", "order"), [("yuyv", "yuyv"), ("yuv422_yuy2", "yuyv"), ("uyvy", "uyvy"), ("yuv422", "uyvy")]
)
def test_pairs_of_pixels_share_their_colour(
    encoding: str, order: str, yuv: tuple[int, ...], rgb: tuple[int, ...]
) -> None:
    values = dict(zip("yuv", yuv, strict=True))
    pair = np.array([values[letter] for letter in order], np.uint8)
    image = messages.read_image(raw(encoding, np.tile(pair, (H, W // 2))))
    assert np.abs(image.astype(int) - rgb).max() <= 2


@pytest.mark.parametrize(("yuv", "rgb"), [WHITE, RED])
@pytest.mark.parametrize(("encoding", "second"), [("nv12", (1, 2)), ("nv21", (2, 1))])
def test_nv12_holds_its_colours_below_the_picture(
    encoding: str, second: tuple[int, int], yuv: tuple[int, ...], rgb: tuple[int, ...]
) -> None:
    colours = np.tile(np.array([yuv[k] for k in second], np.uint8), (H // 2, W // 2))
    data = np.concatenate([np.full((H, W), yuv[0], np.uint8), colours])
    image = messages.read_image(raw(encoding, data))
    assert image.shape == (H, W, 3)
    assert np.abs(image.astype(int) - rgb).max() <= 2


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_are_named_by_their_first_two_rows(pattern: str) -> None:
    assert (messages.read_image(raw(f"bayer_{pattern}8", mosaic(pattern))) == [R, G, B]).all()
    wide = mosaic(pattern, ">u2", shift=8)
    assert (messages.read_image(raw(f"bayer_{pattern}16", wide, big=1)) == [R, G, B]).all()


def test_padding_at_the_end_of_rows_is_skipped() -> None:
    padded = np.full((H, W * 3 + 8), 99, np.uint8)
    padded[:, : W * 3] = np.tile(np.array([B, G, R], np.uint8), (H, W))
    assert (messages.read_image(raw("bgr8", padded)) == [R, G, B]).all()


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_depth_on_a_colour_camera_is_said_to_be_depth(encoding: str) -> None:
    with pytest.raises(messages.MessageError, match="depth, not colour.*kind: depth") as caught:
        messages.read_image(raw(encoding, filled(1000, dtype="<u2")))
    assert caught.value.kind == "encoding"


def test_unknown_encoding_names_a_near_one_and_gives_no_order_to_the_driver() -> None:
    with pytest.raises(messages.MessageError, match="'rgba8'") as caught:
        messages.read_image(raw("rgbaa8", filled(R, G, B)))
    assert caught.value.kind == "encoding" and "driver" not in str(caught.value)


BROKEN_SIZES = [
    {"height": 0},
    {"width": 0},
    {"height": 60_000, "width": 60_000, "step": 180_000},
    {"height": H + 1},
    {"step": 0},
    {"step": 2**32 - 1},
    {"data": array("B")},
]


@pytest.mark.parametrize("encoding", sorted({*messages.COLOUR_ENCODINGS, *messages.DEPTH_ENCODINGS}))
@pytest.mark.parametrize("wrong", BROKEN_SIZES, ids=str)
def test_sizes_are_checked_before_a_pixel_is_touched(encoding: str, wrong: dict) -> None:
    message = raw(encoding, np.zeros((H * 3 // 2 if encoding in ("nv12", "nv21") else H, W * 8), np.uint8))
    for field, value in wrong.items():
        setattr(message, field, value)
    read = messages.read_depth if encoding in messages.DEPTH_ENCODINGS else messages.read_image
    with pytest.raises(messages.MessageError) as caught:
        read(message)
    assert caught.value.kind == "size"


@pytest.mark.parametrize("encoding", ["yuyv", "nv12", "bayer_rggb8"])
def test_a_picture_of_pairs_needs_even_sides(encoding: str) -> None:
    message = raw(encoding, np.zeros((H * 2, W * 2), np.uint8), width=7)
    with pytest.raises(messages.MessageError, match="even"):
        messages.read_image(message)


# --- depth --------------------------------------------------------------------------------------


@pytest.mark.parametrize("big", [0, 1])
def test_depth_of_16_bits_is_millimetres_as_they_are(big: int) -> None:
    mm = np.arange(H * W, dtype=np.uint16).reshape(H, W) * 1000
    message = raw("16UC1", mm.astype(">u2" if big else "<u2"), big=big)
    np.testing.assert_array_equal(messages.read_depth(message), mm)


def test_depth_in_metres_is_rounded_and_what_was_not_measured_is_zero() -> None:
    metres = np.zeros((H, W), "<f4")
    metres[0, :7] = [1.0, 0.0004, 1.2346, np.nan, np.inf, -1.0, 66.0]
    mm = messages.read_depth(raw("32FC1", metres))
    assert mm[0, :7].tolist() == [1000, 0, 1235, 0, 0, 0, 0] and not mm[1:].any()


def test_colour_on_a_depth_camera_is_refused() -> None:
    with pytest.raises(messages.MessageError, match="not depth.*16UC1"):
        messages.read_depth(raw("rgb8", filled(R, G, B)))


def compressed(data: bytes, format: str) -> CompressedImage:
    return messages.compressed_image(data, 1, format=format)


DEPTH_PNG = encode_depth(np.arange(H * W, dtype=np.uint16).reshape(H, W) * 100).tobytes()
CONFIG = struct.pack("<iff", 0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("data", "format"),
    [
        (DEPTH_PNG, "16UC1; png compressed"),
        (DEPTH_PNG, "png"),
        (CONFIG + DEPTH_PNG, "16UC1; compressedDepth png"),
        (CONFIG + DEPTH_PNG, "16UC1; compressedDepth"),
    ],
)
def test_compressed_depth_is_passed_on_as_its_png(data: bytes, format: str) -> None:
    value = messages.read_compressed_depth(compressed(data, format))
    assert value.tobytes() == DEPTH_PNG
    np.testing.assert_array_equal(decode_depth(value), np.arange(H * W).reshape(H, W) * 100)


def test_inverse_depth_is_turned_back_to_millimetres() -> None:
    # compressed_depth_image_transport: quantisation 100, largest 10 m, a = q (q + 1), b = 1 - a / max.
    a, b = 100.0 * 101.0, 1.0 - 100.0 * 101.0 / 10.0
    metres = np.array([[0.5, 1.0, 2.0, 4.0], [8.0, 1.5, 3.0, 0.0]])
    with np.errstate(divide="ignore"):
        codes = np.where(metres > 0, np.floor(a / metres + b), 0).astype(np.uint16)
    data = struct.pack("<iff", 0, a, b) + encode_depth(codes).tobytes()
    mm = messages.read_compressed_depth(compressed(data, "32FC1; compressedDepth png"))
    assert mm[1, 3] == 0
    # One step of the code at distance z is z^2 / a.
    known = metres > 0
    assert (np.abs(mm[known] / 1000 - metres[known]) <= metres[known] ** 2 / a + 0.0006).all()


@pytest.mark.parametrize(
    ("data", "format", "kind"),
    [
        (cv2.imencode(".png", np.zeros((H, W), np.uint8))[1].tobytes(), "png", "encoding"),
        (cv2.imencode(".jpg", np.zeros((H, W, 3), np.uint8))[1].tobytes(), "jpeg", "encoding"),
        (CONFIG + b"\x01\x02", "16UC1; compressedDepth rvl", "encoding"),
        (b"", "16UC1; compressedDepth png", "truncated"),
        (CONFIG, "16UC1; compressedDepth png", "truncated"),
        (CONFIG + DEPTH_PNG[:-5], "16UC1; compressedDepth png", "truncated"),
    ],
)
def test_what_is_no_depth_or_not_all_of_it_is_refused(data: bytes, format: str, kind: str) -> None:
    with pytest.raises(messages.MessageError) as caught:
        messages.read_compressed_depth(compressed(data, format))
    assert caught.value.kind == kind


# --- compressed colour --------------------------------------------------------------------------

PICTURE = np.random.default_rng(0).integers(0, 256, (H, W, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("after", [b"", bytes(2000), b"\x00\x17\x23"], ids=["", "zeros", "stray"])
def test_encoded_bytes_are_passed_on_whatever_pads_them(suffix: str, after: bytes) -> None:
    data = cv2.imencode(suffix, PICTURE)[1].tobytes() + after
    message = compressed(data, "rgb8; jpeg compressed bgr8")
    assert messages.read_compressed(message).tobytes() == data
    header = messages.compressed_header(message)
    assert (header.height, header.width, header.bits) == (H, W, 8)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("missing", [1, 2, 40])
def test_a_picture_without_its_end_is_truncated(suffix: str, missing: int) -> None:
    data = cv2.imencode(suffix, PICTURE)[1].tobytes()[:-missing]
    with pytest.raises(messages.MessageError, match="cut off") as caught:
        messages.read_compressed(compressed(data, "jpeg"))
    assert caught.value.kind == "truncated"


@pytest.mark.parametrize(("data", "kind"), [(b"", "truncated"), (b"GIF89a" * 9, "encoding")])
def test_other_bytes_are_refused(data: bytes, kind: str) -> None:
    with pytest.raises(messages.MessageError, match="neither JPEG nor PNG") as caught:
        messages.read_compressed(compressed(data, "jpeg"))
    assert caught.value.kind == kind


def test_a_jpeg_with_fill_bytes_and_other_segments_states_its_size() -> None:
    data = cv2.imencode(".jpg", PICTURE)[1].tobytes()
    comment = b"\xff\xff\xff\xfe\x00\x06note"  # two fill bytes before a marker are allowed
    header = messages.compressed_header(compressed(data[:2] + comment + data[2:], "jpeg"))
    assert (header.height, header.width) == (H, W)


def test_depth_that_comes_compressed_to_a_colour_camera_is_named() -> None:
    for data, format in ((DEPTH_PNG, "png"), (CONFIG + DEPTH_PNG, "16UC1; compressedDepth png")):
        with pytest.raises(messages.MessageError, match="kind: depth"):
            messages.read_compressed(compressed(data, format))
