"""Train VACE-E: read data and labels, fill the caches, then run the stages (`vace_e.run`)."""

from __future__ import annotations

import importlib
import json
import time

import torch
from accelerate import Accelerator

from tacit_learning.data.labels import LabelMaps, labels_from_json
from tacit_learning.engine.loop import Result
from tacit_learning.engine.tracking import Reporter, SilentReporter
from tacit_learning.vace_e.assembly import (
    check_labels_equal,
    describe_labels,
    describe_masks,
    make_data,
    make_inputs,
    make_networks,
)
from tacit_learning.vace_e.config import VaceEConfig
from tacit_learning.vace_e.data.inputs import Inputs
from tacit_learning.vace_e.objective import find_extra_loss
from tacit_learning.vace_e.processes import make_accelerator
from tacit_learning.vace_e.run import Materials, TrainingRun
from tacit_learning.vace_e.state import Snapshot, load_snapshot


def train(config: VaceEConfig, reporter: Reporter) -> Result | None:
    """Train as `config` says, or only fill the caches (`cache_only`).

    Returns:
        How the run ended, on the main process; None when it only filled caches.

    Raises:
        ConfigError: Options that contradict the data, the weights or the checkpoint.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    for module in config.extra_loss_modules:
        importlib.import_module(module)
    for name in config.extra_losses:
        find_extra_loss(name)
    accelerator = make_accelerator(config, reporter)
    told = reporter if accelerator.is_main_process else SilentReporter()
    materials = gather_materials(config, accelerator, told)
    if config.cache_only:
        return None
    result = TrainingRun(config, accelerator, materials, told).train()
    return result if accelerator.is_main_process else None


def gather_materials(config: VaceEConfig, accelerator: Accelerator, reporter: Reporter) -> Materials:
    """Read data and labels, and fill the caches; each process encodes its share."""
    resumed = load_snapshot(config.resume_from) if config.resume_from else None
    data = make_data(config, _saved_labels(resumed), reporter)
    check_labels_equal(data.labels, accelerator)
    describe_labels(data, config, reporter)
    frozen = make_networks(config, accelerator.device)
    training = make_inputs(config, data.training, frozen)
    held_out = make_inputs(config, data.held_out, frozen)
    if config.use_cache:
        for name, inputs in (("training", training), ("held-out", held_out)):
            _fill(name, inputs, accelerator, reporter)
    describe_masks(training, reporter)
    return Materials(data, training, held_out, resumed)


def _fill(name: str, inputs: Inputs, accelerator: Accelerator, reporter: Reporter) -> None:
    started = time.monotonic()
    own = range(accelerator.process_index, len(inputs.dataset), accelerator.num_processes)
    inputs.fill(own)
    accelerator.wait_for_everyone()
    if inputs.cache is not None:
        reporter.message(
            f"cache: {len(inputs.dataset)} {name} windows in {time.monotonic() - started:.1f} s, "
            f"{inputs.cache.size_bytes() / 1e6:.1f} MB in {inputs.cache.folder}"
        )


def _saved_labels(resumed: Snapshot | None) -> LabelMaps | None:
    if resumed is None:
        return None
    return labels_from_json(json.loads(resumed.texts["labels.json"]), "labels.json of the checkpoint")
