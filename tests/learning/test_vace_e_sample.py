"""Drawing and validating with a trained model: commands, the Python pipeline, guidance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from vace_e_runs import run, small_config, write_small_dataset

from tacit.cli import main
from tacit.config import parse
from tacit.convert.video import probe_video
from tacit.errors import ConfigError
from tacit_learning.vace_e.arguments import Guidance
from tacit_learning.vace_e.assembly import make_inputs, make_networks
from tacit_learning.vace_e.commands import scales_of
from tacit_learning.vace_e.config import VaceEConfig
from tacit_learning.vace_e.data.dataset import VaceEDataset
from tacit_learning.vace_e.sampling.guidance import GuidanceScales
from tacit_learning.vace_e.sampling.pipeline import VaceEPipeline
from tacit_learning.vace_e.sampling.solver import SamplerSettings, sample_latents
from tacit_learning.vace_e.sampling.trained import Trained, load_trained


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_dataset(tmp_path_factory.mktemp("vace_e") / "data")


@pytest.fixture(scope="module")
def checkpoint(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    settings = {"enabled": True, "num_videos": 1, "num_samples": 2, "held_out": 0.4}
    run(small_config(data, folder, max_steps=4, sample_steps=2, guidance_scale=2.0, validation=settings))
    return folder


@pytest.fixture(scope="module")
def trained(checkpoint: Path) -> Trained:
    return load_trained(checkpoint)


def test_the_run_leaves_validation_samples_and_a_page_that_needs_nothing_else(checkpoint: Path) -> None:
    scores = json.loads((checkpoint / "validation.json").read_text())["scores"]
    assert scores["lpips"].startswith("unavailable")
    assert 0 < scores["flow"] < 10
    assert scores["flow"] == pytest.approx(np.mean([v for k, v in scores.items() if "flow_sigma" in k]))
    assert {"psnr_inside", "flow_epe", "embodiment_of_task_linear", "embodiment_of_task_knn"} <= set(scores)
    assert len(list((checkpoint / "samples").glob("*.mp4"))) == 1
    page = (checkpoint / "report.html").read_text()
    assert "<svg" in page and "data:image/" in page and "Right hand grasping" in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page


def test_sampling_writes_videos_of_the_windows_size(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    words = f"sample vace_e {checkpoint} --data {data} --out {tmp_path} --num 1 --steps 2 --device cpu"
    assert main(words.split()) == 0
    (video,) = tmp_path.glob("*.mp4")
    info = probe_video(video)
    assert (info.frames, info.height, info.width) == (9, 32, 48)
    assert cv2.imread(str(video.with_suffix(".png"))) is not None


def test_sampling_needs_no_target_video(checkpoint: Path, tmp_path: Path) -> None:
    data = write_small_dataset(tmp_path / "data", episodes=1)
    for target in data.glob("*/episode_0/episode_0.mp4"):
        target.unlink()
    words = (
        f"sample vace_e {checkpoint} --data {data} --out {tmp_path / 'out'} --num 1 --steps 1 --device cpu"
    )
    assert main(words.split()) == 0
    assert len(list((tmp_path / "out").glob("*.mp4"))) == 1


def test_an_episode_that_does_not_exist_is_named(
    checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"sample vace_e {checkpoint} --data {data} --out {tmp_path} --episode nobody --device cpu"
    assert main(words.split()) == 2
    assert "no task/episode contains it" in capsys.readouterr().err


def test_evaluation_repeats_the_fixed_grid_exactly(checkpoint: Path, data: Path, tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        out = tmp_path / name
        words = f"--checkpoint {checkpoint} --test_data {data} --output_dir {out} --num_videos 0 --device cpu"
        assert main(["evaluate", "vace_e", *words.split()]) == 0
        found.append(json.loads((out / "validation.json").read_text())["scores"])
        assert (out / "report.html").is_file()
    assert found[0] == found[1]
    control = {name: score for name, score in found[0].items() if name.startswith("control_")}
    assert {"control_own", "control_swapped", "control_absent", "control_tracker"} <= set(control)
    assert all(np.isfinite(score) and score >= 0 for score in control.values())
    assert control["control_tracker"] < control["control_middle"]


def test_a_folder_without_checkpoint_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "vace_e", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "no checkpoint" in capsys.readouterr().err


def test_samples_of_a_batch_equal_samples_alone(trained: Trained, data: Path) -> None:
    config = trained.config.model_copy(update={"use_cache": False})
    dataset = VaceEDataset(config, labels=trained.labels, extend=False)
    inputs = make_inputs(config, dataset, make_networks(config, torch.device("cpu")))
    settings = SamplerSettings(steps=2, scales=GuidanceScales(text=2.0, motion=1.5))
    both = sample_latents(trained.model, inputs.clips([0, 5]), settings)
    for row, window in enumerate((0, 5)):
        alone = SamplerSettings(steps=2, scales=settings.scales, seed=settings.seed + row)
        single = sample_latents(trained.model, inputs.clips([window]), alone)
        torch.testing.assert_close(both[row], single[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("solver", ["euler", "unipc"])
def test_both_solvers_reach_the_end_of_a_straight_path(solver: str, trained: Trained, data: Path) -> None:
    """With v = n - x0 for one x0, the flow is straight and ends there in any number of steps."""
    config = trained.config.model_copy(update={"use_cache": False})
    dataset = VaceEDataset(config, labels=trained.labels, extend=False)
    clips = make_inputs(config, dataset, make_networks(config, torch.device("cpu"))).clips([0])

    class Straight:
        encoders = None

        def __call__(self, x: torch.Tensor, time: torch.Tensor, *_: object) -> torch.Tensor:
            return (x - clips.latents) / (time / 1000).view(-1, 1, 1, 1, 1)

    settings = SamplerSettings(steps=4, solver=solver, scales=GuidanceScales(text=1.0))  # type: ignore[arg-type]
    found = sample_latents(Straight(), clips, settings)  # type: ignore[arg-type]
    # UniPC of diffusers gives the model its times rounded down to whole thousandths
    torch.testing.assert_close(found, clips.latents, rtol=0, atol=1e-4 if solver == "euler" else 1e-2)


def arrays(frames: int = 9) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    video = generator.integers(0, 255, (frames, 32, 48, 3)).astype(np.uint8)
    mask = np.zeros((frames, 32, 48), bool)
    mask[:, 8:20, 10:30] = True
    return video, mask


@pytest.fixture(scope="module")
def pipeline(trained: Trained) -> VaceEPipeline:
    return VaceEPipeline(trained, torch.device("cpu"))


def test_the_call_of_the_notes_runs_as_it_is(pipeline: VaceEPipeline) -> None:
    """Pictures of PIL, a batch of one, sizes, tiles and scales; without a video all is generated."""
    video, mask = arrays()
    pictures = [Image.fromarray(frame) for frame in video]
    masks = [Image.fromarray(frame.astype(np.uint8) * 255).convert("RGB") for frame in mask]
    options: dict[str, Any] = {
        "vace_e_hand_motion_sequence": np.zeros((1, 9, 20), np.float32),
        "vace_reference_image": pictures[0],
        "num_inference_steps": 1,
        "cfg_scale": 1.0,
    }
    sized: dict[str, Any] = {"height": 32, "width": 48, "num_frames": 9, "tiled": True}
    sized |= {"vace_scale": 1.0, "vace_e_scale": 1.0}
    plain = pipeline("prompt", video, mask, **options)
    same = pipeline(prompt="prompt", vace_video=pictures, vace_video_mask=masks, **sized, **options)
    assert np.abs(same.astype(int) - plain).max() <= 1, "tiles of this size are the whole"
    for name in ("vace_scale", "vace_e_scale"):
        assert not np.array_equal(pipeline("prompt", video, mask, **{name: 0.0}, **options), plain), name
    base = pipeline("prompt", video, mask, enable_vace_e=False, **options)
    np.testing.assert_array_equal(pipeline("prompt", video, mask, vace_e_scale=0.0, **options), base)
    assert pipeline("prompt", height=32, width=48, num_frames=5, **options).shape == (5, 32, 48, 3)
    with pytest.raises(ConfigError, match="height: 64, but vace_video is"):
        pipeline("prompt", video, mask, height=64, **options)


def test_samples_are_drawn_with_the_guidance_of_the_run() -> None:
    config = parse(VaceEConfig, {"dataset_base_path": "d", "output_path": "o", "guidance_scale": 3.5}, "run")
    assert scales_of(Guidance(), config).text == 3.5
    assert scales_of(Guidance(text=2.0, motion=1.5), config) == GuidanceScales(text=2.0, motion=1.5)


def test_the_pipeline_reads_arrays_under_the_names_of_the_notes(checkpoint: Path) -> None:
    pipeline = VaceEPipeline.from_checkpoint(checkpoint, device="cpu")
    video, mask = arrays()
    motion = np.zeros((9, 20), np.float32)
    motion[:, [3, 7, 12, 16]] = 1  # columns of the unit rotation
    objects = np.zeros((9, 2, 9), np.float32)
    options = {"num_inference_steps": 2, "cfg_scale": 1.0, "seed": 3}
    everything = pipeline(
        "Right hand grasping bottle",
        video,
        mask,
        vace_reference_image=video[0],
        vace_e_hand_motion_sequence=motion,
        vace_e_object_trajectory_sequence=objects,
        vace_e_embodiment_image_features=np.ones((5, 32), np.float32),
        vace_e_camera=np.array([[40.0, 0, 24, 24], [0, 40, 16, 16], [0, 0, 1, 1]]),
        **options,
    )
    assert everything.shape == (9, 32, 48, 3) and everything.dtype == np.uint8
    again = pipeline("Right hand grasping bottle", video, mask * np.uint8(255), **options)
    plain = pipeline("Right hand grasping bottle", video, mask, **options)
    assert np.array_equal(again, plain)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 8}, "8 is not 4 k \\+ 1"),
        ({"vace_video_mask": np.zeros((9, 32, 32), bool)}, "vace_video_mask"),
        ({"vace_e_object_trajectory_sequence": np.zeros((9, 9))}, "expected \\(T, N, 9\\)"),
        ({"vace_e_embodiment_image_features": np.zeros((5, 7))}, "expected \\(P, 32\\)"),
        ({"vace_e_camera": np.eye(3)}, "expected \\(3, 4\\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    checkpoint: Path, change: dict[str, object], message: str, pipeline: VaceEPipeline
) -> None:
    change = dict(change)
    video, mask = arrays(int(change.pop("frames", 9)))  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match=message):
        pipeline("prompt", video, change.pop("vace_video_mask", mask), num_inference_steps=1, **change)  # type: ignore[arg-type]
