"""Find and read checkpoints of alignment runs: the best by combined loss, by alignment, or the last."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from tacit.config import parse
from tacit.config.documents import json_mapping, yaml_mapping
from tacit.errors import ConfigError, did_you_mean
from tacit_learning.alignment.data.episode_videos import EpisodeSource, load_source
from tacit_learning.alignment.data.videos import Known
from tacit_learning.alignment.model.model import AlignmentModel, Shape
from tacit_learning.alignment.settings import ALIGNMENT, COMBINED, AlignmentConfig
from tacit_learning.engine.checkpoint import Checkpoint, find, load_checkpoint

KINDS = ("alignment", "progress")
ABOUT = 1
"""Version of `about.json` and of the names of weights in an alignment checkpoint."""
ABOUT_TRAINING = ("git", "dataset_sha256", "tacit_version", "labels", "tasks", "failures", "step_seconds")
"""What a bundle keeps of it; checkpoints of before there were failures lack the last two."""
BEST = {"best_combined": COMBINED, "best_alignment": ALIGNMENT}
Choice = Literal["combined", "alignment", "last"]
FOLDERS: dict[Choice, tuple[str, ...]] = {
    "combined": ("best_combined", "best"),
    "alignment": ("best_alignment", "best"),
    "last": ("last",),
}


@dataclass(frozen=True)
class TrainedAlignment:
    """A model in evaluation mode and everything that its checkpoint says."""

    model: AlignmentModel
    config: AlignmentConfig
    known: Known
    checkpoint: Checkpoint

    @property
    def provenance(self) -> dict[str, object]:
        """What a bundle tells of its training."""
        about = json.loads(self.checkpoint.texts["about.json"])
        kept = {key: about[key] for key in ABOUT_TRAINING if key in about}
        position = {"step": self.checkpoint.position.step, "metrics": dict(self.checkpoint.metrics)}
        return kept | position | {"num_videos": len(about["train_videos"])}

    def source(self) -> EpisodeSource | None:
        """Return how its features come from images; None for a model of features alone."""
        found, weights = self.checkpoint, weights_of(self.checkpoint, "frames.")
        return load_source(self.config.data.episodes, found.texts, weights, str(found.folder))


def find_checkpoint(run: str | Path, choice: str = "combined") -> Path:
    """Return the checkpoint folder of a run; older runs have one `best` for both choices.

    Args:
        run: A run folder; a checkpoint folder is returned as it is.
        choice: combined, alignment or last.

    Raises:
        ConfigError: No such choice, the run has no such checkpoint, or it is a file of the original code.
    """
    if choice not in FOLDERS:
        raise ConfigError(f"checkpoint {choice!r}: no such choice; {did_you_mean(choice, FOLDERS)}")
    run = Path(run)
    if run.is_file():
        raise ConfigError(
            f"{run}: a file of weights, not a run folder; encoders of the original code look ahead, so they "
            "cannot stream and are not read: train again. A progress head in it can be the start of one here "
            "(progress.learnable.old_head)"
        )
    if (run / "state.json").is_file():
        return run
    for name in FOLDERS[choice]:  # type: ignore[index]
        if found := find(run / "checkpoints" / name):
            return found
    present = sorted(p.parent.name for p in run.glob("checkpoints/*/state.json"))
    raise ConfigError(
        f"{run}: no checkpoint {' or '.join(FOLDERS[choice])}; it has {present or 'none'}"  # type: ignore[index]
    )


def load_alignment(run: str | Path, choice: str = "combined") -> TrainedAlignment:
    """Rebuild a trained model.

    Raises:
        ConfigError: No such checkpoint, another kind of model, or another format.
    """
    return alignment_from(load_checkpoint(find_checkpoint(run, choice)))


def alignment_from(checkpoint: Checkpoint) -> TrainedAlignment:
    """Rebuild the model of a loaded checkpoint."""
    source = str(checkpoint.folder)
    about = json_mapping(checkpoint.texts.get("about.json", "{}"), f"{source}/about.json")
    if about.get("kind") not in KINDS:
        raise ConfigError(f"{source}: kind is {about.get('kind')!r}, expected one of {', '.join(KINDS)}")
    if about.get("format_version") != ABOUT:
        raise ConfigError(
            f"{source}: format_version {about.get('format_version')!r}, expected {ABOUT}; train it again, or "
            "use the release that wrote it"
        )
    where = f"{source}/config.yaml"
    config = parse(AlignmentConfig, yaml_mapping(checkpoint.texts["config.yaml"], where), where)
    labels, tasks = tuple(about["labels"]), tuple(about["tasks"])
    told = {"failures": tuple(about.get("failures", ())), "seconds": about.get("step_seconds", {})}
    known = Known(labels, tasks, float(about["fps"]), about["shares"], about["num_features"], **told)
    sizes = (known.num_features, len(labels) + 1, len(tasks), len(known.failures))
    shape = Shape(*sizes, int(about.get("text_width", 0)))
    model = AlignmentModel(config, shape)
    weights = weights_of(checkpoint, "model.")
    expected, found = ({k: v.shape for k, v in part.items()} for part in (model.state_dict(), weights))
    if other := sorted(name for name, _ in expected.items() ^ found.items()):
        raise ConfigError(
            f"{source}: was trained when its nets were others ({other[0]}: {found.get(other[0])}, expected "
            f"{expected.get(other[0])}); train it again, or use the release that wrote it"
        )
    model.load_state_dict(weights)
    return TrainedAlignment(model.eval(), config, known, checkpoint)


def weights_of(checkpoint: Checkpoint, prefix: str) -> dict[str, Tensor]:
    """Return the weights whose names start with `prefix`, without it."""
    return {k.removeprefix(prefix): v for k, v in checkpoint.weights.items() if k.startswith(prefix)}
