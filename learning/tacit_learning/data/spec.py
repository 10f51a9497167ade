"""What a model of episodes must know beside its options: rig, streams, statistics; kept as texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tacit.config import parse
from tacit.config.documents import json_mapping, yaml_mapping
from tacit.rig import Rig, parse_rig
from tacit_learning.data.episodes import EpisodeTable
from tacit_learning.data.statistics import Statistics, compute_statistics
from tacit_learning.data.view import DataConfig, View, make_view


@dataclass(frozen=True)
class ModelSizes:
    """What the rig and the data decide about a network; image sizes are (height, width) [px]."""

    action_dim: int
    num_cameras: int
    num_sensors: int
    image_size: tuple[int, int]
    touch_size: tuple[int, int]
    taxels: tuple[tuple[int, int, int], ...] = ()  # (rows, columns, channels) of each array

    @property
    def num_touch(self) -> int:
        """Touch sensors of both kinds; `num_sensors` are those of pictures."""
        return self.num_sensors + len(self.taxels)


@dataclass(frozen=True)
class PolicySpec:
    """What a policy needs beside its configuration: the rig, its streams and the statistics."""

    rig: Rig
    view: View
    statistics: Statistics
    references: Tensor | None = None  # (S, h, w, 3) u1; None: they come with the weights

    @property
    def sizes(self) -> ModelSizes:
        """Sizes of the network."""
        seen, felt = self.view.shapes
        return ModelSizes(
            action_dim=len(self.rig.state_names),
            num_cameras=seen[0],
            num_sensors=felt[0],
            image_size=(seen[1], seen[2]),
            touch_size=(felt[1], felt[2]),
            taxels=tuple(array.shape for array in self.view.taxels.values()),
        )

    def texts(self) -> dict[str, str]:
        """Return the files of a checkpoint that `read_spec` reads, name -> content."""
        return {"rig.yaml": self.rig.to_yaml(), "statistics.json": self.statistics.model_dump_json(indent=1)}


def make_spec(table: EpisodeTable) -> PolicySpec:
    """Compute the statistics of the training split and gather what a policy needs."""
    rig = table.rig
    statistics = compute_statistics(rig.state_names, rig.gripper_indices, table.state, table.action)
    return PolicySpec(rig, table.view, statistics, torch.from_numpy(table.references))


def read_spec(texts: Mapping[str, str], data: DataConfig, source: str) -> PolicySpec:
    """Rebuild a specification from the texts of a checkpoint; touch references come with its weights.

    Args:
        texts: What `PolicySpec.texts` returned.
        data: Options of the run: which streams, at which sizes.
        source: Named in errors.
    """
    rig = parse_rig(yaml_mapping(texts["rig.yaml"], f"{source}/rig.yaml"), f"{source}/rig.yaml")
    where = f"{source}/statistics.json"
    statistics = parse(Statistics, json_mapping(texts["statistics.json"], where), where)
    return PolicySpec(rig, make_view(rig, data), statistics)
