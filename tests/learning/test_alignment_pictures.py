"""Raw video: the backbone trains along, and a stream of pictures equals the whole video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_videos import tiny_alignment, tiny_video

from tacit.errors import AnnotationError, ConfigError
from tacit_learning.alignment.checkpoints import load_alignment
from tacit_learning.alignment.data.videos import VideoSet, load_annotated, make_videos
from tacit_learning.alignment.model.model import Frames
from tacit_learning.alignment.settings import AlignmentConfig
from tacit_learning.alignment.train_alignment import make_objective, train
from tacit_learning.data.annotation_files import save_annotation_set
from tacit_learning.data.annotations import AnnotationSet
from tacit_learning.engine.tracking import SilentReporter

SIZE = 8
PICTURES = {
    "height": SIZE,
    "width": SIZE,
    "grid": 1,
    "conv": {"channels": [8, 8], "strides": [2, 2], "norm": "group"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A set of raw videos: the features of tiny videos as brightness of parts of the picture."""
    annotations = []
    (tmp_path / "frames").mkdir()
    for number in range(5):
        split = "train" if number < 4 else "validation"
        annotation, features = tiny_video(f"v{number}", number, split=split)
        rows = np.clip(128 + 100 * features, 0, 255).astype(np.uint8)
        pictures = np.repeat(rows[:, :, None, None], SIZE, axis=2).repeat(3, axis=3)
        np.save(tmp_path / "frames" / f"{annotation.name}.npy", pictures)
        annotations.append(annotation)
    save_annotation_set(AnnotationSet.of_videos(annotations), tmp_path)
    return tmp_path


def configure(folder: Path, **pictures: object) -> AlignmentConfig:
    config = tiny_alignment(folder / "run").model_dump()
    config["data"] |= {"folder": str(folder), "pictures": True}
    config["encoder"] |= {"pictures": PICTURES | pictures}
    return AlignmentConfig.model_validate(config)


def test_a_run_on_pictures_trains_its_backbone_and_streams(folder: Path) -> None:
    config = configure(folder)
    torch.manual_seed(config.train.seed)
    before = make_objective(config, training(folder)).model.encoder.front.backbone.state_dict()
    train(config, SilentReporter())
    trained = load_alignment(folder / "run", "last")
    model = trained.model
    after = model.encoder.front.backbone.state_dict()
    assert all(not torch.equal(before[name], after[name]) for name in before if name.endswith("weight"))
    assert trained.config.encoder.pictures.identity is not None
    x = torch.rand(1, 12, SIZE * SIZE * 3)
    elapsed, none = torch.arange(12.0)[None] / 10, torch.zeros(1, 12, dtype=torch.long)
    memory = torch.full((1, model.state_size), 5.0)
    with torch.no_grad():
        whole = model.read(model.embed(x), Frames(x, elapsed, none[:, 0], none)).video
        for t in range(12):
            outputs, _, memory, _ = model.step(x[:, t], elapsed[:, t : t + 1], memory)
            torch.testing.assert_close(outputs.video[:, 0], whole[:, t], rtol=0, atol=1e-5)


def test_pictures_of_another_size_and_no_pictures_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="9x8 pictures have 216 values, the frames of the data have 192"):
        train(configure(folder, height=9), SilentReporter())
    with pytest.raises(ValueError, match="go together"):
        AlignmentConfig.model_validate({**configure(folder).model_dump(), "encoder": {}})
    np.save(folder / "frames" / "v0.npy", np.zeros((3, SIZE, SIZE), np.uint8))
    with pytest.raises(AnnotationError, match=r"expected uint8 \(T, H, W, 3\)"):
        load_annotated(folder, pictures=True)
    np.save(folder / "frames" / "v0.npy", np.zeros((3, SIZE, SIZE, 3), np.uint8))
    with pytest.raises(AnnotationError, match="with T = "):
        load_annotated(folder, pictures=True)
    (folder / "frames" / "v0.npy").unlink()
    with pytest.raises(AnnotationError, match="data.pictures reads raw pictures"):
        load_annotated(folder, pictures=True)


def training(folder: Path) -> VideoSet:
    """The training videos, as the trainer makes them."""
    annotated = load_annotated(folder, pictures=True)
    return make_videos(annotated, annotated.annotations.split("train"), "video")
