"""`tacit sample vace_e` and `tacit evaluate vace_e`: what a trained model draws, and how good it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from tacit.config.arguments import parse_words
from tacit.errors import ConfigError
from tacit_learning.engine.tracking import SilentReporter
from tacit_learning.vace_e.arguments import EvaluateArguments, Guidance, SampleArguments
from tacit_learning.vace_e.assembly import make_data, make_inputs, make_networks
from tacit_learning.vace_e.config import VaceEConfig
from tacit_learning.vace_e.data.dataset import VaceEDataset, find_metadata
from tacit_learning.vace_e.judge.metrics import as_json
from tacit_learning.vace_e.judge.report import write_page
from tacit_learning.vace_e.judge.validate import Validator, spread
from tacit_learning.vace_e.model.folder import AdapterSets
from tacit_learning.vace_e.sampling.from_dataset import draw_window, save_clip
from tacit_learning.vace_e.sampling.guidance import GuidanceScales
from tacit_learning.vace_e.sampling.solver import sampler_settings
from tacit_learning.vace_e.sampling.trained import Trained, choose_device, load_trained


def sample(argv: Sequence[str]) -> int:
    """Run `tacit sample vace_e`; returns the exit code."""
    arguments = parse_words(SampleArguments, argv, "tacit sample vace_e")
    console = Console(highlight=False)
    device = choose_device(arguments.device)
    trained = load_trained(arguments.checkpoint, device)
    config = with_data(trained.config, arguments.data, arguments.metadata)
    dataset = VaceEDataset(config, labels=trained.labels, extend=False, require_target=False)
    wanted = arguments.episode or ""
    windows = [i for i in range(len(dataset)) if wanted in dataset.record(i).identity]
    if not windows:
        first = dataset.records[0].identity
        raise ConfigError(f"--episode {wanted!r}: no task/episode contains it; the first is {first!r}")
    config = config.model_copy(update={"use_cache": False})
    inputs = make_inputs(config, dataset, make_networks(config, device))
    scales = scales_of(arguments.guidance, config)
    settings = sampler_settings(
        config, scales, arguments.steps, arguments.shift, arguments.sampler, arguments.seed
    )
    adapters = AdapterSets(trained.model, _runs(arguments.lora))
    for index in spread(len(windows), arguments.num):
        task = f"{dataset.record(windows[index]).task} {dataset.prompt(windows[index])}".lower()
        adapters.use(next((word for word in _runs(arguments.lora) if word.lower() in task), None))
        clip = draw_window(trained.model, inputs, windows[index], settings, device)
        console.print(str(save_clip(arguments.out, clip.name, clip)))
    return 0


def evaluate(argv: Sequence[str]) -> int:
    """Run `tacit evaluate vace_e`; returns the exit code."""
    arguments = parse_words(EvaluateArguments, argv, "tacit evaluate vace_e")
    console = Console(highlight=False)
    device = choose_device(arguments.device)
    trained = load_trained(arguments.checkpoint, device)
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    validator = _validator(trained, arguments, device)
    scores = validator.measure(trained.model, device, arguments.output_dir, trained.step)
    table = Table("metric", "value")
    for name, value in as_json(scores).items():
        table.add_row(name, value if isinstance(value, str) else f"{value:.4g}")
    console.print(table)
    console.print(str(write_page(arguments.output_dir, f"VACE-E on {arguments.test_data}")))
    return 0


def scales_of(guidance: Guidance, config: VaceEConfig) -> GuidanceScales:
    """Return the weights for a run."""
    text = config.guidance_scale if guidance.text is None else guidance.text
    return GuidanceScales(
        text=text, motion=guidance.motion, objects=guidance.objects, embodiment=guidance.embodiment
    )


def _runs(words: Sequence[str]) -> dict[str, Path]:
    """Return the folders of `word=run`."""
    pairs = [each.partition("=") for each in words]
    if odd := [word for word, equals, run in pairs if not (word and equals and run)]:
        raise ConfigError(f"--lora {odd[0]!r}: expected word=run, for example pouring=runs/pouring")
    return {word: Path(run) for word, _, run in pairs}


def with_data(config: VaceEConfig, data: Path | None, metadata: Path | None) -> VaceEConfig:
    """Return options that read another data set."""
    if data is None:
        return config
    changes: dict[str, object] = {
        "dataset_base_path": str(data),
        "task_metadata_path": None if metadata is None else str(metadata),
        "robot_data_path": None,
    }
    return find_metadata(config.model_copy(update=changes))


def _validator(trained: Trained, arguments: EvaluateArguments, device: torch.device) -> Validator:
    """Return a validator on the test data; probes are fitted on the training data, where they still lie."""
    config = with_data(trained.config, arguments.test_data, arguments.metadata)
    changes = {"num_samples": arguments.num_samples, "num_videos": arguments.num_videos}
    settings = config.validation.model_copy(update={k: v for k, v in changes.items() if v is not None})
    metrics = tuple(dict.fromkeys([*settings.metrics, "control"]))
    settings = settings.model_copy(update={"metrics": metrics})
    config = config.model_copy(update={"validation": settings, "use_cache": False})
    frozen = make_networks(config, device)
    tested = VaceEDataset(config, labels=trained.labels, extend=False)
    training = tested.subset([])
    if Path(trained.config.dataset_base_path).is_dir():
        training = make_data(trained.config, trained.labels, SilentReporter()).training
    return Validator(config, make_inputs(config, training, frozen), make_inputs(config, tested, frozen))
