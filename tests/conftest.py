"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

# Tiny networks gain nothing from more threads, and threads that spin for each other stall on a busy machine.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images for tests; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("TINYVIT_KD_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real test images are not at {folder} (set TINYVIT_KD_DATA to their folder)")
    return folder
