"""Two processes over gloo train as one: the same losses, labels and weights."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import vace_e_runs
from vace_e_runs import losses, run, small_config, write_small_dataset

from tacit.config import save
from tacit_learning.engine.checkpoint import load_checkpoint
from tacit_learning.vace_e.config import VaceEConfig

pytestmark = pytest.mark.slow
TRAIN = ("-m", "tacit.cli", "train", "vace_e", "--config")
TRAIN_SHARDED = (str(Path(vace_e_runs.__file__).with_name("vace_e_fsdp_on_cpu.py")),)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_dataset(tmp_path_factory.mktemp("vace_e") / "data")


def run_two(config: VaceEConfig, folder: Path, program: tuple[str, ...] = TRAIN) -> None:
    """Train with two processes by torchrun."""
    path = folder / "two.yaml"
    save(config, path)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONFAULTHANDLER": "1"}
    run = subprocess.Popen(
        [*torchrun, *program, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        said, _ = run.communicate(timeout=200)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGABRT)  # each process says where its threads are
        said, _ = run.communicate()
    assert run.returncode == 0, said[-12000:]


@pytest.mark.parametrize("feature_batch", [16, 0], ids=["feature batch", "in-batch"])
def test_two_processes_give_the_losses_and_labels_of_one(
    data: Path, tmp_path: Path, feature_batch: int
) -> None:
    options = {"feature_batch": feature_batch, "modality_dropout": 0.3}
    one = small_config(data, tmp_path / "one", batch_size=4, **options)
    expected = run(one)
    two = small_config(data, tmp_path / "two", batch_size=2, **options)
    run_two(two, tmp_path)
    found = load_checkpoint(two.output_path)
    assert json.loads(found.texts["labels.json"]) == json.loads(expected.texts["labels.json"])
    for row, reference in zip(losses(two), losses(one), strict=True):
        assert row == pytest.approx(reference, rel=1e-5, abs=1e-5)
    # Adam turns a gradient that is 0 but for rounding into a whole step (1e-3), so single weights may differ
    differences = [float((found.weights[k] - v).abs().mean()) for k, v in expected.weights.items()]
    assert max(differences) < 2e-4 and sorted(differences)[len(differences) // 2] < 1e-6


def test_a_sharded_run_and_its_resume_equal_one_process(data: Path, tmp_path: Path) -> None:
    settings = {"enabled": True, "held_out": 0.0, "num_samples": 2, "num_videos": 1}
    options = {"validation": settings, "sample_steps": 1}
    one = small_config(data, tmp_path / "one", batch_size=4, **options)
    expected = run(one)
    first = small_config(data, tmp_path / "first", batch_size=2, distributed="fsdp2", max_steps=5)
    run_two(first, tmp_path, TRAIN_SHARDED)
    second = small_config(
        data, tmp_path / "second", batch_size=2, distributed="fsdp2", resume_from=first.output_path, **options
    )
    run_two(second, tmp_path, TRAIN_SHARDED)
    for row, reference in zip(losses(first) + losses(second), losses(one), strict=True):
        balances = [key for key in reference if key.startswith("w_task")]
        reference = {key: value for key, value in reference.items() if key not in balances}
        assert row == pytest.approx(reference, rel=1e-5, abs=1e-5)
    assert set(load_checkpoint(second.output_path).weights) == set(expected.weights)
    scores = [json.loads((tmp_path / n / "validation.json").read_text())["scores"] for n in ("one", "second")]
    assert scores[1]["flow"] == pytest.approx(scores[0]["flow"], rel=1e-4)
