"""Images: colours survive, boxes move with the pixels they frame."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tacit.errors import ImageError
from tacit.images import ImageTransform, decode_image, encode_jpeg, encode_png, load_image

RED = np.full((24, 32, 3), [250, 10, 10], np.uint8)
modes = st.sampled_from(["squash", "letterbox", "crop"])


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def rendered_box(image: np.ndarray) -> np.ndarray:
    """Edges of the bright part, subpixel: a row or column of mean m covers m / 255 of a pixel."""
    weight = image[..., 0].astype(np.float64) / 255
    columns, rows = weight.max(axis=0), weight.max(axis=1)
    edges = []
    for line in (columns, rows):
        first, last = np.flatnonzero(line > 0.02)[[0, -1]]
        edges.append((first + 0.5 - line[first], last - 0.5 + line[last]))
    return np.array([edges[0][0], edges[1][0], edges[0][1], edges[1][1]])


def picture_with_box(height: int, width: int, box: tuple[int, int, int, int]) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    return image


def test_png_keeps_every_pixel_and_rgb_order():
    image = noise(17, 23)
    np.testing.assert_array_equal(decode_image(encode_png(image)), image)
    assert cv2.imdecode(encode_png(RED), cv2.IMREAD_COLOR)[0, 0].tolist() == [10, 10, 250]  # BGR on disk


def test_jpeg_keeps_colours_within_a_few_grey_levels():
    data = encode_jpeg(RED, quality=90)
    assert data.dtype == np.uint8
    assert data.ndim == 1
    assert bytes(data[:2]) == b"\xff\xd8"
    assert np.abs(decode_image(data).astype(int) - RED).max() <= 6
    assert len(encode_jpeg(noise(60, 80), 50)) < len(encode_jpeg(noise(60, 80), 95))


def test_bytes_arrays_and_pixels_decode_alike():
    data = encode_png(RED)
    np.testing.assert_array_equal(decode_image(data.tobytes()), decode_image(data))
    assert decode_image(RED) is RED


@pytest.mark.parametrize("data", [b"", b"not an image", np.zeros(0, np.uint8), encode_png(RED)[:20]])
def test_damaged_data_is_an_error_not_a_black_image(data):
    with pytest.raises(ImageError, match="cannot be decoded"):
        decode_image(data)


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3))]
)
def test_only_rgb_bytes_are_encoded(bad):
    with pytest.raises(ImageError, match="RGB"):
        encode_png(bad)


@pytest.mark.parametrize("mode", ["squash", "letterbox"])
@pytest.mark.parametrize(("height", "width"), [(120, 160), (60, 80), (112, 112), (50, 160), (90, 90)])
def test_boxes_move_with_the_pixels_when_shrinking(mode, height, width):
    box = (40, 60, 120, 180)
    move = ImageTransform(240, 320, height, width, mode)
    expected = rendered_box(move.image(picture_with_box(240, 320, box)))
    outer = np.array([box[0], box[1], box[2], box[3]]) - 0.5  # outer edges of the bright pixels
    np.testing.assert_allclose(move.boxes(outer), expected, atol=0.05)


@pytest.mark.parametrize("mode", ["squash", "letterbox"])
@pytest.mark.parametrize(("height", "width"), [(480, 640), (300, 200), (120, 400), (224, 224)])
def test_boxes_move_with_the_pixels_when_growing(mode, height, width):
    box = (40, 30, 100, 90)
    move = ImageTransform(120, 160, height, width, mode)
    image = move.image(picture_with_box(120, 160, box))
    rows, columns = np.nonzero(image[..., 0] > 127)  # the half level of a linear ramp is the edge
    moved = move.boxes(np.array(box) - 0.5)
    found = [columns.min(), rows.min(), columns.max(), rows.max()]
    np.testing.assert_allclose(moved, found + np.array([-0.5, -0.5, 0.5, 0.5]), atol=1.01)


@settings(deadline=None, max_examples=40)
@given(st.integers(8, 90), st.integers(8, 90), st.integers(8, 90), st.integers(8, 90), modes)
def test_a_ramp_stays_a_ramp_under_the_pixel_rule(source_height, source_width, height, width, mode):
    """An image whose red value is its column number must read u at the moved pixel u'."""
    move = ImageTransform(source_height, source_width, height, width, mode)
    ramp = np.zeros((source_height, source_width, 3), np.uint8)
    ramp[..., 0] = np.arange(source_width)[None] * 2
    ramp[..., 1] = np.arange(source_height)[:, None] * 2
    image = move.image(ramp).astype(np.float64)
    place = move.placement
    u, v = place.left + place.width // 2, place.top + place.height // 2
    middle = np.array([source_width / 2, source_height / 2])
    scale = np.array([place.width / source_width, place.height / source_height])
    back = (np.array([u - place.left, v - place.top]) + 0.5) / scale - 0.5
    np.testing.assert_allclose(move.points(back), [u, v], atol=1e-9)
    assert np.abs(back - middle).max() <= 1 / scale.min() + 1
    np.testing.assert_allclose(image[v, u, :2] / 2, back, atol=0.5 + 0.26 * np.ceil(1 / scale.min()))


def test_the_same_size_changes_nothing():
    image = noise(48, 64)
    move = ImageTransform(48, 64, 48, 64)
    np.testing.assert_array_equal(move.image(image), image)
    np.testing.assert_array_equal(move.boxes([[1.0, 2, 3, 4], [np.nan] * 4]), [[1, 2, 3, 4], [np.nan] * 4])


def test_letterbox_keeps_the_aspect_and_pads_with_black():
    image = np.full((120, 160, 3), 200, np.uint8)
    output = ImageTransform(120, 160, 100, 100, "letterbox").image(image)
    lit = output[..., 0] == 200
    assert lit.any(axis=1).sum() == 75
    assert lit.any(axis=0).sum() == 100
    assert (output[:12] == 0).all()
    assert (output[-12:] == 0).all()


@pytest.mark.parametrize(("height", "width"), [(100, 100), (60, 160), (240, 240), (33, 47)])
def test_a_cut_keeps_the_aspect_covers_the_output_and_is_about_the_centre(height, width):
    move = ImageTransform(120, 160, height, width, "crop")
    output = move.image(np.full((120, 160, 3), 200, np.uint8))
    assert output.shape == (height, width, 3) and (output == 200).all(), "nothing is padded"
    corners = move.points([[0, 0], [160, 0], [0, 120]])
    across, down = np.linalg.norm(corners[1:] - corners[0], axis=1)
    assert across / down == pytest.approx(160 / 120, rel=0.01)
    middle = (move.points([[-0.5, -0.5]]) + move.points([[159.5, 119.5]])) / 2
    np.testing.assert_allclose(middle[0], [(width - 1) / 2, (height - 1) / 2], atol=0.51)


@pytest.mark.parametrize("mode", ["squash", "letterbox", "crop"])
@pytest.mark.parametrize(("height", "width"), [(60, 40), (48, 96), (97, 61)])
def test_a_mask_takes_the_nearest_pixel_where_the_points_say_it_lies(mode, height, width):
    move = ImageTransform(48, 64, height, width, mode)
    mask = np.random.default_rng(0).integers(1, 256, (48, 64), dtype=np.uint8)
    output = move.mask(mask)
    assert output.shape == (height, width) and set(np.unique(output)) <= {0, *np.unique(mask)}
    lands = np.rint(move.points(np.stack(np.mgrid[:48, :64][::-1], axis=-1))).astype(int)
    seen = (lands >= 0).all(-1) & (lands < [width, height]).all(-1)
    grows = min(move.placement.width / 64, move.placement.height / 48) >= 1
    if grows:  # then every source pixel that is seen has a pixel of its own
        np.testing.assert_array_equal(output[lands[seen][:, 1], lands[seen][:, 0]], mask[seen])
    assert (output == 0).any() == (mode == "letterbox"), "only the padding is 0"


def test_the_camera_and_the_transform_move_a_point_alike():
    from tacit.geometry.camera import PinholeCamera

    camera = PinholeCamera(np.array([[600.0, 0, 321], [0, 600, 237], [0, 0, 1]]), (), 640, 480)
    p = np.array([[0.1, 0.05, 0.4], [-0.02, 0.1, 0.3]])
    move = ImageTransform(480, 640, 224, 224)
    np.testing.assert_allclose(move.points(camera.project(p)), camera.scaled(224, 224).project(p), atol=1e-9)


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ImageError, match="80x60, the rig or bundle says 160x120"):
        ImageTransform(120, 160, 60, 80).image(noise(60, 80))


def test_sizes_and_modes_are_checked():
    with pytest.raises(ValueError, match="at least 1"):
        ImageTransform(0, 1, 1, 1)
    with pytest.raises(ValueError, match="letterbox"):
        ImageTransform(1, 1, 1, 1, "stretch")  # type: ignore[arg-type]


def test_a_picture_file_that_cannot_be_decoded_is_named(tmp_path):
    path = tmp_path / "view_3.png"
    path.write_bytes(encode_png(RED).tobytes())
    np.testing.assert_array_equal(load_image(path), RED)
    path.write_bytes(encode_png(RED).tobytes()[:-9])
    with pytest.raises(ImageError, match="view_3.png: image of .* end marker"):
        load_image(path)


@pytest.mark.parametrize(
    ("size", "reduction"), [((240, 320), 2), ((120, 160), 4), ((241, 320), 1), ((60, 90), 4)]
)
def test_a_jpeg_is_decoded_as_small_as_the_output_allows(size: tuple[int, int], reduction: int) -> None:
    transform = ImageTransform(480, 640, *size)
    assert transform.reduction == reduction
    y, x = np.mgrid[:480, :640].astype(np.float32)
    waves = 128 + 60 * np.sin(x / 9 + y / 31) + 40 * np.cos(y / 7)
    picture = np.stack([waves, 255 - waves, waves * 0.5], axis=-1).astype(np.uint8)
    data = encode_jpeg(picture)
    whole, small = transform.image(decode_image(data)), transform.decoded(data)
    assert small.shape == whole.shape == (*size, 3)
    assert np.abs(small.astype(int) - whole.astype(int)).mean() < 1.0


def test_a_png_and_raw_pixels_are_resized_as_ever() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    transform = ImageTransform(48, 64, 24, 32)
    for stored in (encode_png(picture), picture):
        np.testing.assert_array_equal(transform.decoded(stored), transform.image(picture))


def test_a_jpeg_of_another_size_is_refused_before_it_is_shrunk() -> None:
    data = encode_jpeg(np.zeros((96, 128, 3), np.uint8))
    with pytest.raises(ImageError, match="image is 128x96, the rig or bundle says 64x48"):
        ImageTransform(48, 64, 24, 32).decoded(data)
