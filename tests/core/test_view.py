"""Facts about pages and drawings: boxes land on their pixels, pages stand alone and escape text."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import time
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from episode_kit import write_episode

from tacit.cli import main as tacit
from tacit.episode import EpisodeReader, Step
from tacit.episode.audit import check_episode
from tacit.images import decode_image
from tacit.view.draw import COLORS, GROUND, difference, draw_box, draw_quad, enlarge, film_strip
from tacit.view.episode_page import episode_page
from tacit.view.page import Judged, Link, Page, Tile
from tacit.view.player import player
from tacit.view.plot import Band, Line, Series, histogram, line_plot

BLACK = np.zeros((60, 80, 3), dtype=np.uint8)
VOID = {"meta", "img", "input", "br", "rect", "line", "circle", "polyline", "link"}


class Balanced(HTMLParser):
    """Fails on a tag that is not closed in order."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def check_page(text):
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)  # nothing from the network
    for svg in re.findall(r"<figure[^>]*>(<svg.*?</svg>)<(?:figcaption|/figure)", text, re.S):
        ElementTree.fromstring(svg)


def lit(image):
    """Rows and columns (min, max) that are not black."""
    rows, columns = np.nonzero(image.sum(axis=2) > 60)
    return columns.min(), rows.min(), columns.max(), rows.max()


def test_box_is_drawn_on_its_pixels():
    np.testing.assert_allclose(lit(draw_box(BLACK, [20, 10, 50, 40])), [20, 10, 50, 40], atol=1)
    assert not BLACK.any()  # the input is left alone


def test_box_on_an_enlarged_image_surrounds_the_same_pixels():
    image = enlarge(BLACK, 4)
    assert image.shape == (240, 320, 3)
    x0, y0, x1, y1 = lit(draw_box(image, [20, 10, 50, 40], factor=4))
    # pixel 20 covers 80..83 of the enlarged image, so its centre is at 81.5
    assert abs(x0 - 81.5) <= 1 and abs(y0 - 41.5) <= 1 and abs(x1 - 201.5) <= 1 and abs(y1 - 161.5) <= 1


@pytest.mark.parametrize("box", [[np.nan] * 4, [-90, -90, -50, -50], [200, 10, 300, 40]])
def test_box_behind_or_outside_draws_nothing(box):
    assert not draw_box(BLACK, box, label="left").any()


def test_box_beyond_the_edge_keeps_its_visible_sides():
    image = draw_box(BLACK, [-30, 20, 40, 90])
    np.testing.assert_allclose(lit(image), [0, 20, 40, 59], atol=1)


def test_quad_passes_through_its_corners_and_nan_draws_nothing():
    image = draw_quad(BLACK, [[10, 10], [40, 12], [38, 44], [12, 40]])
    for x, y in ((10, 10), (40, 12), (38, 44), (12, 40)):
        assert image[y, x].sum() > 100
    assert not draw_quad(BLACK, np.full((4, 2), np.nan)).any()


def test_film_strip_places_images_in_order():
    images = [np.full((10, 12, 3), 40 * (i + 1), dtype=np.uint8) for i in range(5)]
    sheet = film_strip(images, 3)
    assert sheet.shape == (24, 44, 3)
    assert [int(sheet[5, x, 0]) for x in (5, 21, 37)] == [40, 80, 120]
    assert [int(sheet[19, x, 0]) for x in (5, 21)] == [160, 200]
    assert tuple(sheet[19, 37]) == GROUND and tuple(sheet[5, 13]) == GROUND
    with pytest.raises(ValueError, match="at least one"):
        film_strip([])


def test_no_change_of_touch_is_mid_grey_and_a_press_stands_out():
    pressed = BLACK + 100
    pressed[20:30, 20:30] += 10
    change = difference(pressed, BLACK + 100)
    assert change[0, 0].tolist() == [128] * 3 and change[25, 25].tolist() == [168] * 3


def test_page_stands_alone_and_escapes_what_it_is_told():
    page = Page("A <title>", "with `code` & more")
    page.section("One", "text <b>").section("Two").section("Three")
    page.facts({"ticks": 12, "rate": 0.123456, "none": None, "done": True})
    page.table(("name", "value"), [("<x>", 1.5), ("y", -2)], "caption", badges=0)
    page.table(("verdict",), [("error",)], badges=0).table(("empty",), [])
    page.figure(BLACK, "black").plot(line_plot([Series("a & b", [0, 1], [1, 2])]))
    text = page.heading("h").details("more", "x < y").html()
    check_page(text)
    assert "text &lt;b&gt;" in text and "<code>code</code> &amp; more" in text
    assert "&minus;2" in text or "<td class=n>-2</td>" in text
    assert '<span class="badge bad">error</span>' in text


def test_figure_holds_the_image_itself():
    image = np.zeros((20, 30, 3), dtype=np.uint8)
    image[:, :10], image[:, 10:, 2] = 200, np.linspace(0, 255, 20).astype(np.uint8)
    text = Page("t").figure(image).html()
    data = base64.b64decode(re.search(r"base64,([^\"]+)", text).group(1))
    assert np.abs(decode_image(data).astype(int) - image).mean() < 4  # as near as a JPEG comes


def test_line_goes_through_its_points_in_proportion():
    svg = line_plot([Series("a", [0, 5, 10], [0, 5, 10])], y_range=(0, 10), width=1000, height=300)
    points = re.search(r'points="([^"]+)"', svg).group(1)
    (x0, y0), (x1, y1), (x2, y2) = (map(float, p.split(",")) for p in points.split())
    assert x1 == pytest.approx((x0 + x2) / 2, abs=0.1) and y1 == pytest.approx((y0 + y2) / 2, abs=0.1)
    assert x0 < x2 and y0 > y2  # up is up


@pytest.mark.parametrize("y", [[1.0, 1.0, 1.0], [np.nan, 2.0, np.nan], [np.nan] * 3, [0, 1e9, -1e9]])
def test_any_values_make_valid_plots(y):
    bands, lines = [Band(0, 1, "step <1>")], [Line(0.5, "limit")]
    svg = line_plot([Series("a<b", range(3), y), Series("b", [], [])], bands=bands, lines=lines)
    ElementTree.fromstring(svg)
    assert "nan" not in svg
    ElementTree.fromstring(histogram(y, x_label="x", lines=[2.0]))


def test_gap_in_the_data_is_a_gap_in_the_line():
    svg = line_plot([Series("a", range(5), [1, 2, np.nan, 4, 5])])
    assert svg.count("<polyline") == 2


def test_long_series_stay_small():
    x = np.arange(200_000)
    assert len(line_plot([Series("a", x, np.sin(x / 1000))])) < 60_000


def test_histogram_counts_every_value():
    svg = histogram(np.arange(100), bins=10)
    assert sum(int(n) for n in re.findall(r": (\d+)</title>", svg)) == 100


def test_view_writes_a_page_of_an_episode_and_of_a_data_set(tmp_path, capsys):
    path = write_episode(tmp_path, 60)
    assert tacit(["view", str(path)]) == 0
    text = path.with_suffix(".html").read_text()
    check_page(text)
    assert text.count("data:image/jpeg") == 6 and "retreat" in text and "No finding" in text
    assert tacit(["view", str(tmp_path), "--out", str(tmp_path / "all.html")]) == 0
    everything = (tmp_path / "all.html").read_text()
    check_page(everything)
    assert "episode_0.hdf5" in everything and everything.count("data:image/jpeg") == 1
    assert tacit(["view", str(tmp_path / "missing.hdf5")]) == 2


def test_boxes_on_the_page_have_the_colour_of_their_sensor(tmp_path):
    from tacit.episode import EpisodeReader
    from tacit.view.episode_page import boxed_image

    with EpisodeReader(write_episode(tmp_path, 2)) as reader:
        plain = enlarge(reader.image("wrist", 0), 2).astype(int)
        boxed = boxed_image(reader, "wrist", 0).astype(int)
        changed = np.abs(boxed - plain).sum(axis=2) > 90
        for i, sensor in enumerate(reader.tactile):
            x0, y0, x1, _ = 2 * reader.boxes("wrist", sensor)[0] + 0.5
            edge = boxed[round(y0), round(x0) + 2 : round(x1) - 2]
            assert np.abs(edge - COLORS[i]).sum(axis=1).max() < 250 and changed.any()


def test_view_writes_a_recording_for_rerun_where_that_is_installed(tmp_path, capsys, recwarn):
    path = write_episode(tmp_path, 4)
    if importlib.util.find_spec("rerun") is None:
        assert tacit(["view", "--rrd", str(path)]) == 2
        assert "tacit[rerun]" in (said := capsys.readouterr().err) or ".[rerun]" in said
        assert not path.with_suffix(".rrd").exists()
        return
    assert tacit(["view", "--rrd", str(path)]) == 0
    assert not recwarn, [str(warning.message) for warning in recwarn]
    written = path.with_suffix(".rrd").read_bytes()
    assert written.startswith(b"RRF") and len(written) > 10_000
    for entity in (b"/world/wrist/boxes", b"/touch/left", b"/state/joint1", b"/action/joint1"):
        assert entity in written
    assert tacit(["view", "--rrd", str(tmp_path)]) == 2


def test_the_player_holds_every_frame_in_its_cell_and_no_name_ends_its_script(tmp_path):
    with EpisodeReader(write_episode(tmp_path, 12)) as reader:
        markup = player(reader)
        data = json.loads(re.search(r"application/json>(.*?)</script>", markup).group(1))
        assert data["ticks"] == list(range(12)) and (data["columns"], data["rows"]) == (10, 2)
        np.testing.assert_allclose(data["state"], reader.qpos, atol=1e-4)
        assert data["step"][11] == next(s.name for s in reader.steps if s.start_frame <= 11 <= s.end_frame)
        sheet = re.search(r"base64,([^)]+)\)", markup).group(1)
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(sheet), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        shown = picture[180:360, 240:480].astype(int)  # row 1, column 1: frame 11
        seen = cv2.resize(reader.image(reader.cameras[0], 11), (240, 180), interpolation=cv2.INTER_AREA)
        assert np.median(np.abs(shown - seen)) < 8  # boxes are drawn on it
        reader.steps[:] = [Step("</script><script>alert(1)", 0, 11)]
        assert "</script><script>alert" not in player(reader)


def test_links_and_pictures_that_open_a_page_are_escaped():
    page = Page("t").gallery([Tile(np.zeros((4, 4, 3), np.uint8), "<b>", 'a "b"/c.html')])
    page.table(("episode",), [(Link("<i>", "x y.html"),)])
    text = page.html()
    assert 'href="a%20%22b%22/c.html"' in text and 'href="x%20y.html"' in text
    assert "<i>" not in text and "<b>" not in text
    check_page(text)


@pytest.mark.slow
def test_the_player_moves_by_keys_and_fits_a_narrow_window(tmp_path):
    from browser import chromium, console_errors, layout_faults

    path = write_episode(tmp_path, 6)
    with EpisodeReader(path) as reader:
        page = Page("t").block(player(reader)).save(tmp_path / "page.html")
        state = reader.qpos
    with chromium(400, 900) as driver:
        driver.get(page.as_uri())
        assert layout_faults(driver, 400, 900) == [] and console_errors(driver) == []

        def press(key):
            driver.execute_script(
                "document.dispatchEvent(new KeyboardEvent('keydown', {key: arguments[0]}))", key
            )
            text = driver.execute_script("return document.querySelector('tr td + td').textContent")
            return int(
                driver.execute_script("return document.querySelector('.player').dataset.frame")
            ), float(text)

        assert press("ArrowLeft") == (0, pytest.approx(state[0, 0], abs=2e-3))
        assert [press("ArrowRight")[0] for _ in range(2)] == [1, 2]
        assert press("End") == (5, pytest.approx(state[5, 0], abs=2e-3)) and press("Home")[0] == 0
        press(" ")
        deadline = time.monotonic() + 10
        while press("x")[0] < 5 and time.monotonic() < deadline:
            pass
        assert press("x")[0] == 5


@pytest.mark.parametrize(
    "verb", [["view", "--out"], ["view", "--rrd", "--out"], ["check", "--json"], ["check", "--html"]]
)
def test_no_report_replaces_a_recording_or_ends_in_a_traceback(tmp_path, capsys, verb):
    path, other = write_episode(tmp_path, 4), write_episode(tmp_path, 4)
    before = other.read_bytes()
    assert tacit([*verb, str(other), str(path)]) == 2
    assert other.read_bytes() == before and "no report replaces" in capsys.readouterr().err
    assert tacit([*verb, "/proc/nothing/x.html", str(path)]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_band_is_cut_at_the_axes_and_named_where_there_is_room():
    bands = [Band(-50, 5, "reach"), Band(5, 5.1, "grip"), Band(20, 30, "gone")]
    svg = line_plot([Series("a", [0, 10], [0, 1])], bands=bands, width=600)
    rects = [
        tuple(map(float, r)) for r in re.findall(r'class="band" x="([\d.-]+)" y="14" width="([\d.]+)"', svg)
    ]
    assert len(rects) == 2 and all(x >= 66 and x + width <= 600 - 22 + 0.1 for x, width in rects)
    assert ">reach</text>" in svg and "gone" not in svg
    assert re.search(r'class="band key".*?<text[^>]*>grip</text>', svg), "told in the legend"


def test_a_line_of_one_point_says_its_value_and_a_short_one_shows_its_points():
    svg = line_plot([Series("training", range(20), np.arange(20.0)), Series("validation", [19], [0.125])])
    assert svg.count("<circle") == 1 and ">validation: 0.125</text>" in svg
    assert line_plot([Series("a", range(4), range(4))]).count("<circle") == 4


def test_a_judged_value_says_good_or_bad_and_what_is_wanted():
    page = Page("t").facts(
        {"rate": Judged("92 %", True, "at least 90 %"), "loss": Judged(2.5, False, "below 1")}
    )
    text = page.table(("error",), [(Judged(0.5, False, "below <0.1"),)]).html()
    assert "<em>good</em>, wanted: at least 90 %" in text and 'class="judged bad"' in text
    assert "<td class=n>0.5" in text and "below &lt;0.1" in text


def test_latency_between_two_clocks_is_left_out(tmp_path):
    """Stamps of simulated time, which begins at 0, differ from arrivals by half a century."""
    with EpisodeReader(write_episode(tmp_path, 12)) as reader:
        counts = {**reader.drops["joints"], "latency_p50_ms": 1.8e12, "latency_p95_ms": 1.8e12}
        reader.drops["joints"] = counts
        reader.drops["wrist"] = {**counts, "latency_p50_ms": 12.5}
        text = episode_page(reader, check_episode(reader.path)).html()
    row = re.search(r"<tr><td>latency p50 \[ms\]</td>.*?</tr>", text).group()
    assert "&ndash;" in row and "12.5" in row and "e+12" not in text
