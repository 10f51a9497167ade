"""Numbers about videos and features, against worlds whose answer is known."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tacit.errors import ConfigError
from tacit_learning.vace_e.judge.lpips import Lpips
from tacit_learning.vace_e.judge.metrics import (
    Unavailable,
    as_json,
    follow,
    mean_scores,
    motion_accuracy,
    numbers,
    optical_flow,
    video_quality,
)
from tacit_learning.vace_e.judge.probes import Rows, probe
from tacit_learning.vace_e.judge.validate import perceptual

SIZE = 48


def texture(seed: int = 0) -> np.ndarray:
    """Smooth noise: (SIZE, SIZE, 3) u1."""
    noise = np.random.default_rng(seed).uniform(0, 255, (SIZE, SIZE, 3))
    return np.clip((cv2.GaussianBlur(noise, (0, 0), 2) - 127) * 3 + 127, 0, 255).astype(np.uint8)


def moving(shift: float, frames: int = 5) -> np.ndarray:
    """A texture that moves right by `shift` pixels a frame."""
    first = texture()
    moves = [np.float32([[1, 0, shift * i], [0, 1, 0]]) for i in range(frames)]
    return np.stack([cv2.warpAffine(first, m, (SIZE, SIZE), borderMode=cv2.BORDER_REFLECT) for m in moves])


def half_mask(frames: int = 5) -> np.ndarray:
    mask = np.zeros((frames, SIZE, SIZE), bool)
    mask[:, :, : SIZE // 2] = True
    return mask


def test_psnr_of_a_constant_error_is_its_definition_on_either_side_of_the_mask() -> None:
    target = np.full((5, SIZE, SIZE, 3), 100, np.uint8)
    mask = half_mask()
    predicted = np.where(mask[..., None], target + 10, target + 5).astype(np.uint8)
    scores = video_quality(predicted, target, mask)
    assert scores["psnr_inside"] == pytest.approx(20 * np.log10(255 / 10))
    assert scores["psnr_outside"] == pytest.approx(20 * np.log10(255 / 5))


def test_ssim_is_one_for_equal_pictures_and_its_formula_where_nothing_varies() -> None:
    video = moving(1)
    assert video_quality(video, video, half_mask())["ssim_inside"] == pytest.approx(1)
    flat, brighter = np.full_like(video, 100), np.full_like(video, 120)
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 120 + c1) / (100**2 + 120**2 + c1)
    assert video_quality(brighter, flat, half_mask())["ssim_outside"] == pytest.approx(expected)


def test_ssim_falls_with_noise() -> None:
    video = moving(1)
    generator = np.random.default_rng(0)

    def noisy(strength: float) -> float:
        changed = np.clip(video + generator.normal(0, strength, video.shape), 0, 255).astype(np.uint8)
        return numbers(video_quality(changed, video, half_mask()))["ssim_inside"]

    assert 1 > noisy(5) > noisy(40)


def test_what_cannot_be_measured_says_so_and_is_no_number() -> None:
    video = moving(1)
    everything = np.ones((5, SIZE, SIZE), bool)
    scores = video_quality(video, video, everything)
    assert scores["psnr_inside"] == Unavailable("infinite: the pictures are equal")
    assert set(numbers(scores)) == {"ssim_inside"}
    assert as_json(scores)["ssim_outside"] == "unavailable: no pixel outside"
    still = motion_accuracy(video, video, np.zeros_like(everything))
    assert all(isinstance(score, Unavailable) for score in still.values())


def test_flow_and_track_tell_a_faster_motion_from_the_right_one() -> None:
    target, mask = moving(1), half_mask()
    centre = optical_flow(target)[:, 12:36, 12:36].mean((0, 1, 2))
    assert centre == pytest.approx([1, 0], abs=0.2)
    assert motion_accuracy(target, target, mask) == {"flow_epe": 0.0, "track_error": 0.0}
    scores = numbers(motion_accuracy(moving(2), target, mask))
    assert scores["flow_epe"] == pytest.approx(1, abs=0.3)
    assert scores["track_error"] == pytest.approx(np.mean([0, 1, 2, 3, 4]), abs=0.6)


def test_points_follow_a_known_flow() -> None:
    flow = np.full((3, 8, 8, 2), (1.0, -0.5))
    start = np.zeros((8, 8), bool)
    start[6, 2] = True
    assert follow(flow, start)[:, 0].tolist() == [[2, 6], [3, 5.5], [4, 5], [5, 4.5]]


def test_videos_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        video_quality(moving(1), moving(1, frames=4), half_mask())


def test_means_skip_what_is_unavailable() -> None:
    missing = Unavailable("why")
    scores = [{"a": 1.0, "b": missing}, {"a": missing, "b": missing}, {"a": 3.0, "b": missing}]
    assert mean_scores(scores) == {"a": 2.0, "b": missing}


def test_probes_read_what_is_there_and_chance_where_nothing_is() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 200)
    telling = generator.normal(0, 1, (200, 4)) + 6 * labels[:, None]
    blank = generator.normal(0, 1, (200, 4))
    first, second = slice(0, 100), slice(100, 200)
    read = probe("z", Rows(telling[first], labels[first]), Rows(telling[second], labels[second]))
    assert min(read[f"z_{kind}"] for kind in ("linear", "knn", "prototype")) > 0.97
    none = probe("z", Rows(blank[first], labels[first]), Rows(blank[second], labels[second]))
    assert all(0.3 < none[f"z_{kind}"] < 0.7 for kind in ("linear", "knn", "prototype", "chance"))


def test_prototypes_weigh_directions_by_how_far_the_labels_lie_apart() -> None:
    """One telling direction among thirty without meaning: the centroids lie apart in that one alone."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 400)
    features = generator.normal(0, 1, (400, 31))
    features[:, 0] += 6 * labels
    read = probe("z", Rows(features[:200], labels[:200]), Rows(features[200:], labels[200:]))
    assert read["z_prototype"] > 0.9


def test_a_ring_is_read_by_neighbours_but_by_no_line() -> None:
    generator = np.random.default_rng(0)
    angle, labels = generator.uniform(0, 2 * np.pi, 400), generator.integers(0, 2, 400)
    radius = 1 + labels + generator.normal(0, 0.05, 400)
    ring = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    read = probe("z", Rows(ring[:200], labels[:200]), Rows(ring[200:], labels[200:]))
    assert read["z_knn"] > 0.97
    assert read["z_linear"] < 0.65


def test_unknown_labels_neither_fit_nor_count() -> None:
    features, labels = np.eye(6), np.array([0, 1, 0, 1, -1, -1])
    unknown = Rows(features, np.full(6, -1))
    assert isinstance(probe("z", Rows(features, labels), unknown)["z_knn"], Unavailable)
    assert isinstance(probe("z", unknown, Rows(features, labels))["z_linear"], Unavailable)


def lpips_weights() -> tuple[dict[str, torch.Tensor], torch.nn.Sequential]:
    """A VGG16 of four channels as a plain list of layers, and its weights under the names of lpips."""
    torch.manual_seed(0)
    layers: list[torch.nn.Module] = []
    weights = {f"lin{k}.model.1.weight": torch.rand(1, 4, 1, 1) for k in range(5)}
    for block, count in enumerate((2, 2, 3, 3, 3), 1):
        layers += [torch.nn.MaxPool2d(2)] if block > 1 else []
        for _ in range(count):
            convolution = torch.nn.Conv2d(4 if layers else 3, 4, 3, padding=1)
            weights[f"net.slice{block}.{len(layers)}.weight"] = convolution.weight.detach()
            weights[f"net.slice{block}.{len(layers)}.bias"] = convolution.bias.detach()
            layers += [convolution, torch.nn.ReLU()]
    return weights, torch.nn.Sequential(*layers)


def test_lpips_is_the_weighted_distance_of_unit_features_after_each_block() -> None:
    weights, network = lpips_weights()
    videos = [moving(1, frames=2), moving(3, frames=2)]
    expected = 0.0
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    with torch.no_grad():
        pictures = [(torch.from_numpy(v).float() / 127.5 - 1 - shift) / scale for v in videos]
        pictures = [picture.permute(0, 3, 1, 2) for picture in pictures]
        for block, end in enumerate((4, 9, 16, 23, 30)):
            a, b = (torch.nn.functional.normalize(network[:end](each), dim=1) for each in pictures)
            line = weights[f"lin{block}.model.1.weight"]
            expected += float(((a - b) ** 2 * line).sum(1).mean())
    assert Lpips(weights)(*videos) == pytest.approx(expected, rel=1e-5)
    assert Lpips(weights)(videos[0], videos[0]) == 0


def test_lpips_is_unavailable_without_its_file_and_refuses_another(tmp_path: Path) -> None:
    video = moving(1)
    assert isinstance(perceptual(None, video, video)["lpips"], Unavailable)
    assert "holds no lpips_vgg" in perceptual(str(tmp_path), video, video)["lpips"].reason
    weights, _ = lpips_weights()
    save_file(weights, tmp_path / "lpips_vgg.safetensors")
    assert perceptual(str(tmp_path), video, video)["lpips"] == 0
    save_file({"a": torch.zeros(1)}, tmp_path / "lpips_vgg.safetensors")
    with pytest.raises(ConfigError, match="weights are missing"):
        perceptual(str(tmp_path), video, video)
