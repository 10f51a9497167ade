"""`tacit study control`: does a drawn hand follow the motion that it is told?

The product's own training, losses and sampler on clips whose true paths are known, for three kinds of mask
and two seeds of training, and then the motion, body and objects of one fresh clip given to another.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from benches.control_clips import (
    BLOCK,
    BODIES,
    HEIGHT,
    WIDTH,
    boxes,
    draw_truth,
    make_episode,
    reference,
    write_clips,
)
from benches.control_options import Options, read
from benches.control_page import write_study_page
from tacit.config import parse
from tacit.view.proportions import wilson_interval
from tacit_learning.engine.checkpoint import find
from tacit_learning.engine.tracking import SilentReporter
from tacit_learning.vace_e.assembly import make_inputs, make_networks
from tacit_learning.vace_e.config import VaceEConfig
from tacit_learning.vace_e.data.dataset import VaceEDataset, find_metadata
from tacit_learning.vace_e.judge.control import (
    FITTED,
    Scene,
    Trial,
    control_rows,
    distances,
    draw_trial,
    fit_tracker,
    interval,
    make_scene,
    mean_place,
)
from tacit_learning.vace_e.judge.tracker import ColourTracker
from tacit_learning.vace_e.judge.validate import Validator
from tacit_learning.vace_e.model.codec import fit_codec
from tacit_learning.vace_e.model.conditioning import reference_batch, to_signed
from tacit_learning.vace_e.run import train
from tacit_learning.vace_e.sampling.guidance import GuidanceScales
from tacit_learning.vace_e.sampling.solver import sampler_settings
from tacit_learning.vace_e.sampling.trained import Trained, load_trained

STRIPS = 4  # fresh clips that are kept for the page
CPU = torch.device("cpu")


def main(argv: list[str]) -> int:
    """Run `tacit study control`."""
    options = read(argv)
    console = Console(highlight=False)
    jobs = [(options, kind, seed) for seed in options.seeds for kind in options.masks]
    for seed in options.seeds:
        prepare(options, seed)
    if options.jobs > 1:
        with ProcessPoolExecutor(options.jobs) as pool:
            found = list(pool.map(_run, jobs))
    else:
        found = [_run(job) for job in jobs]
    pairs = list(zip(found, jobs, strict=True))
    table = {kind: summary([each for each, job in pairs if job[1] == kind]) for kind in options.masks}
    (options.out / "control.json").write_text(json.dumps(table, indent=1), encoding="utf-8")
    console.print(str(write_study_page(options.out, table, options.seeds)), soft_wrap=True)
    return 0


def prepare(options: Options, seed: int) -> None:
    """Write the clips of a seed, and fit the codec to those of training; what is there stays."""
    folder = folder_of(options, seed)
    if (folder / "codec.safetensors").is_file():
        return
    write_clips(folder / "train", options.clips, 2 * seed)
    write_clips(folder / "fresh", options.fresh, 2 * seed + 1)
    episodes = [make_episode(draw_truth(number, 2 * seed)) for number in range(min(options.clips, 100))]
    videos = torch.from_numpy(np.stack([np.stack(list(episode.video)) for episode in episodes]))
    pictures = reference_batch([torch.from_numpy(reference(body)) for body in BODIES], HEIGHT, WIDTH)
    assert pictures is not None
    fit_codec([to_signed(videos), pictures.unsqueeze(2)]).save(folder / "codec.safetensors")


def folder_of(options: Options, seed: int) -> Path:
    """Return where the clips of a seed lie."""
    return options.out / f"seed_{seed}"


def study_config(options: Options, kind: str, seed: int) -> VaceEConfig:
    """Return the options of one training: the product's own but for sizes."""
    folder = folder_of(options, seed)
    batch = 16
    epochs = -(-options.steps * batch // options.clips)
    values: dict[str, Any] = {
        "dataset_base_path": str(folder / "train"),
        "output_path": str(folder / kind),
        "cache_path": str(folder / "cache"),
        "base_model": "tiny",
        "model_size": "study",
        "codec": str(folder / "codec.safetensors"),
        "height": HEIGHT,
        "width": WIDTH,
        "num_frames": 9,
        "masks": kind,
        "mask_versions": 8,
        "batch_size": batch,
        "num_epochs": epochs,
        "max_steps": options.steps,
        "training_stages": {"all": {"trainable_models": "dit,vace,vace_e"}},
        "learning_rate": 2e-3,
        "final_learning_rate": 0.02,
        "warmup_steps": 100,
        "ema_decay": 0.995,
        "flow_shift": 1.0,
        "feature_batch": 16,
        "task_label_by": "task_type",
        "club_training_steps": 1,
        "mixed_precision": "no",
        "use_gradient_checkpointing": False,
        "sample_steps": min(16, options.steps),  # few steps only try the machinery
        "guidance_scale": 1.0,
        "save_every": 500,
        "validation": {"enabled": False, "num_samples": options.fresh},
        "logging": {"log_frequency": 50, "tensorboard": False},
        "threads": 1,
        "seed": seed,
        "device": "cpu",
    }
    last = find(Path(values["output_path"]) / "checkpoints" / "last")
    return parse(VaceEConfig, values | {"resume_from": None if last is None else str(last)}, "study")


def _run(job: tuple[Options, str, int]) -> dict[str, list[float]]:
    """Train one kind of mask and seed, and measure; what is finished is read back."""
    options, kind, seed = job
    folder = folder_of(options, seed) / kind
    kept = folder / "control.json"
    if kept.is_file():
        return json.loads(kept.read_text(encoding="utf-8"))
    started = time.process_time()
    config = study_config(options, kind, seed)
    train(config, SilentReporter())
    spent = time.process_time() - started
    rows = measure(options, load_trained(folder), seed, folder)
    rows["cpu_seconds"] = np.array([spent])
    result = {name: values.tolist() for name, values in rows.items()}
    kept.write_text(json.dumps(result), encoding="utf-8")
    return result


def measure(options: Options, trained: Trained, seed: int, folder: Path) -> dict[str, np.ndarray]:
    """Measure a trained model on fresh clips; a value for every clip."""
    config, model = trained.config, trained.model
    frozen = make_networks(config, CPU)
    training = make_inputs(config, _dataset(config, folder_of(options, seed) / "train", trained), frozen)
    fresh = make_inputs(config, _dataset(config, folder_of(options, seed) / "fresh", trained), frozen)
    fitted = list(range(0, len(training.dataset), max(1, len(training.dataset) // FITTED)))
    scene, tracker = make_scene(fresh, list(range(len(fresh.dataset)))), fit_tracker(training, fitted)
    settings = sampler_settings(config)
    drawn: dict[str, np.ndarray] = {}

    def draw(trial: Trial) -> np.ndarray:
        drawn[trial] = draw_trial(model, scene, trial, settings, CPU, 64)
        return drawn[trial]

    rows = control_rows(scene, tracker, mean_place(training, fitted), draw)
    rows |= _objects(options, scene, draw("objects"), seed)
    for scale in options.motion:
        more = sampler_settings(config, GuidanceScales(text=1.0, motion=scale))
        videos = draw_trial(model, scene, "swapped", more, CPU, 64)
        paths = np.stack([tracker.path(video) for video in videos])
        rows[f"swapped_motion_{scale:g}"] = distances(paths, scene.commanded)
    with torch.no_grad():
        probes = Validator(config, training, fresh).task_alignment(model, CPU)
    rows |= {name: np.array([value]) for name, value in probes.items() if isinstance(value, float)}
    _keep_strips(folder / "strips.npz", scene, drawn)
    return rows


def _dataset(config: VaceEConfig, folder: Path, trained: Trained) -> VaceEDataset:
    changed = config.model_copy(update={"dataset_base_path": str(folder), "task_metadata_path": None})
    return VaceEDataset(find_metadata(changed), labels=trained.labels, extend=False, seed=config.seed)


def _objects(options: Options, scene: Scene, videos: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Measure where the blocks are that stand where a partner's did, by a tracker of blocks."""
    truths = [draw_truth(number, 2 * seed) for number in range(FITTED)]
    blocks = [boxes(truth.block, BLOCK) & ~boxes(truth.hand, BLOCK + 3) for truth in truths]
    tracker = ColourTracker(
        [np.stack(list(make_episode(truth).video)) for truth in truths], blocks, [-1] * len(truths)
    )
    own, other = (np.stack([_block(scene, w) for w in each]) for each in (scene.windows, scene.partners))
    paths = np.stack([tracker.path(video) for video in videos])
    real = np.stack([tracker.path(video) for video in scene.videos])
    return {
        "objects": distances(paths, other),
        "objects_to_recording": distances(paths, own),
        "tracker_objects": distances(real, own),
    }


def _block(scene: Scene, window: int) -> np.ndarray:
    """Return the true places of the block of a window (F, 2) [px], from its trajectory."""
    positions = scene.inputs.dataset.item(window, video=False, reference=False).objects[0, :, :2]
    return 100 * positions + (np.array([WIDTH, HEIGHT]) - 1) / 2


def summary(runs: Sequence[dict[str, list[float]]]) -> dict[str, list[float]]:
    """Return mean and 95 % interval of every number over the clips of all seeds, and each seed's mean."""
    table: dict[str, list[float]] = {}
    for name in dict.fromkeys(name for run in runs for name in run):
        parts = [np.array(run[name]) for run in runs if name in run]
        values = np.concatenate(parts)
        found = [*interval(values)]
        if name.endswith("_right"):  # counts of clips: resampling would say nothing where all are right
            found[1:] = wilson_interval(int(values.sum()), len(values))
        table[name] = [*found, *(float(part.mean()) for part in parts)]
    return table


def _keep_strips(path: Path, scene: Scene, drawn: dict[str, np.ndarray]) -> None:
    """Keep the pictures of a few clips for the page."""
    partners = [scene.windows.index(partner) for partner in scene.partners[:STRIPS]]
    shown = {"recording": scene.videos[:STRIPS], "command": scene.videos[partners]}
    shown |= {trial: videos[:STRIPS] for trial, videos in drawn.items()}
    np.savez_compressed(path, allow_pickle=False, **shown)
