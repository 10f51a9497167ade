"""Every picture from outside is judged once: frozen, black, or not to be decoded."""

from __future__ import annotations

import numpy as np
import pytest
from fed_intake import SECOND, WALL, real

from tacit.images import encode_jpeg, encode_png
from tacit.images.depth import encode_depth
from tacit.rig import Rig
from tacit.streams import Intake


@pytest.mark.parametrize("encoded", [False, True])
def test_frozen_and_black_pictures_are_doubted_and_a_noisy_dark_one_is_not(rig: Rig, encoded: bool) -> None:
    spec, random = rig.cameras["top"], np.random.default_rng(0)
    shape = (spec.height, spec.width, 3)

    def kinds(pictures: list[np.ndarray]) -> list[str | None]:
        intake, found = Intake(rig), []
        for k, picture in enumerate(pictures):
            value = encode_jpeg(picture) if encoded else picture
            intake.take("top", WALL + k * 40_000_000, WALL + k * 40_000_000, value, k * 40_000_000)
            finding = intake.findings().get("top")
            found.append(finding.kind if finding else None)
        return found

    scene = random.integers(0, 255, shape, dtype=np.uint8)
    assert kinds([scene] * 6) == [None] * 4 + ["frozen"] * 2
    assert kinds([scene] * 5 + [scene[::-1]]) == [None] * 4 + ["frozen", None]
    assert kinds([random.integers(0, 9, shape, dtype=np.uint8) for _ in range(2)]) == ["black"] * 2
    others = [scene[:, ::-1], scene[::-1, ::-1]]
    assert kinds([scene, *others] * 3) == [None] * 6 + ["frozen"] * 3  # it goes round its buffers
    assert kinds([random.integers(248, 256, shape, dtype=np.uint8) for _ in range(2)]) == ["black"] * 2
    assert kinds([random.integers(0, 40, shape, dtype=np.uint8) for _ in range(9)]) == [None] * 9


def test_an_encoded_picture_whose_light_has_gone_is_doubted_at_once(rig: Rig) -> None:
    intake, random = Intake(rig), np.random.default_rng(0)
    for k in range(40):
        levels = (0, 255) if k < 35 else (0, 9)
        picture = encode_jpeg(random.integers(*levels, (120, 160, 3), dtype=np.uint8))
        stamp_ns = WALL + k * 40_000_000
        intake.take("top", stamp_ns, stamp_ns, picture, k * 40_000_000)
        assert ("top" in intake.findings()) == (k >= 35)


@pytest.mark.parametrize("kind", ["color", "depth"])
def test_a_picture_that_cannot_be_decoded_is_refused_where_it_is_looked_at(rig: Rig, kind: str) -> None:
    intake = Intake(real(rig, top={"kind": kind}))
    picture = np.zeros((120, 160), np.uint16) if kind == "depth" else np.zeros((120, 160, 3), np.uint8)
    data = encode_depth(picture) if kind == "depth" else encode_png(picture)
    data[60:70] ^= 255  # header and end marker are well, the middle is not
    assert intake.take("top", WALL, WALL, data, 0) is None
    assert intake.problems["top"].kind == "undecodable"


def test_a_picture_that_would_cost_minutes_is_not_decoded_on_arrival(rig: Rig) -> None:
    intake, data = Intake(rig), encode_jpeg(np.zeros((120, 160, 3), np.uint8))
    scan = data[data.tobytes().index(b"\xff\xda") : -2]
    many = np.concatenate([data[:-2], *[scan] * 64, data[-2:]])
    assert intake.take("top", WALL, WALL, many, 0) is None
    assert intake.problems["top"].kind == "undecodable" and "scans" in intake.problems["top"].text


def test_how_many_equal_pictures_are_normal_stands_in_the_rig(rig: Rig) -> None:
    intake = Intake(real(rig, top={"frozen_after": 20}))
    picture = np.full((120, 160, 3), 90, np.uint8)
    for k in range(1, 22):
        intake.take("top", WALL + k * SECOND, WALL + k * SECOND, picture, k * SECOND)
        assert ("top" in intake.findings()) == (k >= 20)
