"""These tests need torch: without the learning extra they are not collected."""

from __future__ import annotations

import importlib.util

import pytest

collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["test_*.py"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Several test processes share few cores; and sums then have one order."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
