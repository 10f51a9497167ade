"""The cache: what was put comes back bit for bit, and a key changes with all it depends on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from benches.drawn_clips import SyntheticConfig, example_tasks, write_dataset
from tacit.errors import ConfigError
from tacit_learning.vace_e.config import DataOptions
from tacit_learning.vace_e.data.cache import (
    LatentCache,
    image_key,
    pack_mask,
    text_key,
    unpack_mask,
    video_key,
)
from tacit_learning.vace_e.data.dataset import VaceEDataset

KEY = "ab" + "0" * 62


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "data", example_tasks(1)[:2], SyntheticConfig(32, 48, 17))
    return tmp_path / "data"


def dataset(root: Path, **changes: object) -> VaceEDataset:
    base = {"dataset_base_path": str(root), "height": 32, "width": 48, "num_frames": 9}
    return VaceEDataset(DataOptions.model_validate({**base, **changes}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
def test_tensors_come_back_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    cache = LatentCache(tmp_path / "cache")
    tensors = {"a": torch.randn(3, 4).mul(100).to(dtype), "b": torch.arange(5)}
    assert cache.get(KEY) is None
    cache.put(KEY, tensors)
    found = cache.get(KEY)
    assert found is not None and cache.path(KEY).is_file()
    assert all(
        torch.equal(found[name], tensors[name]) and found[name].dtype == tensors[name].dtype
        for name in tensors
    )
    assert cache.size_bytes() > 0


def test_views_of_one_storage_can_be_kept(tmp_path: Path) -> None:
    cache, base = LatentCache(tmp_path), torch.arange(6.0)
    cache.put(KEY, {"head": base[:3], "tail": base[3:], "turned": base.reshape(2, 3).T})
    found = cache.get(KEY)
    assert found is not None and torch.equal(found["turned"], base.reshape(2, 3).T)


def test_a_damaged_entry_is_made_anew(tmp_path: Path) -> None:
    cache, calls = LatentCache(tmp_path), []

    def make() -> dict[str, torch.Tensor]:
        calls.append(1)
        return {"a": torch.ones(4)}

    for _ in range(3):
        assert torch.equal(cache.get_or_make(KEY, make)["a"], torch.ones(4))
    assert len(calls) == 1
    cache.path(KEY).write_bytes(cache.path(KEY).read_bytes()[:20])
    assert cache.get(KEY) is None
    assert torch.equal(cache.get_or_make(KEY, make)["a"], torch.ones(4)) and len(calls) == 2


def test_a_kill_while_writing_leaves_no_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = LatentCache(tmp_path)
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        cache.put(KEY, {"a": torch.ones(1)})
    monkeypatch.undo()
    assert cache.get(KEY) is None and not cache.path(KEY).exists()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        LatentCache(tmp_path / "cache")


def test_a_key_changes_with_everything_it_depends_on(root: Path) -> None:
    def key(i: int = 0, encoder: str = "vae", dtype: torch.dtype = torch.float32, **changes: object) -> str:
        return video_key(dataset(root, **changes), i, encoder, dtype)

    keys = [
        key(),
        key(1),
        key(encoder="other"),
        key(dtype=torch.bfloat16),
        key(num_frames=5),
        key(window="uniform"),
        key(height=16),
        key(control_from_mask=True),
    ]
    assert len(set(keys)) == len(keys) and keys[0] == key()
    target = dataset(root).files(0).target
    os.utime(target, ns=(1, 1))
    changed = key()
    assert changed != keys[0]
    target.write_bytes(target.read_bytes() + b" ")
    os.utime(target, ns=(1, 1))
    assert key() != changed


def test_a_data_set_may_be_moved(root: Path, tmp_path: Path) -> None:
    before = video_key(dataset(root), 0, "vae", torch.float32)
    moved = Path(shutil.copytree(root, tmp_path / "elsewhere"))
    assert video_key(dataset(moved), 0, "vae", torch.float32) == before


def test_trajectories_and_metadata_leave_latents_alone(root: Path) -> None:
    before = video_key(dataset(root), 0, "vae", torch.float32)
    dataset(root).files(0).hands.unlink()
    assert video_key(dataset(root), 0, "vae", torch.float32) == before


def test_images_and_texts_have_keys_of_their_own(root: Path) -> None:
    data = dataset(root)
    first = image_key(data, 0, "clip", torch.float32)
    assert first and first != image_key(data, 0, "clip", torch.float32, size=[32, 48])
    assert first != image_key(data, 1, "clip", torch.float32)
    (data.files(0).folder / str(data.records[0].reference)).unlink()
    assert image_key(dataset(root), 0, "clip", torch.float32) is None
    texts = {text_key(text, encoder, torch.float32) for text in ("a", "b") for encoder in ("x", "y")}
    assert len(texts) == 4


def test_a_mask_takes_a_bit_per_pixel() -> None:
    mask = np.random.default_rng(0).random((5, 7, 9)) > 0.5
    packed = pack_mask(mask)
    assert packed["mask_bits"].numel() == -(-mask.size // 8)
    np.testing.assert_array_equal(unpack_mask(packed), mask)
