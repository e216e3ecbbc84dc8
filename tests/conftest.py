"""Fixtures that several test modules share."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from tinyvit_kd.runtime.signals import STOP_SIGNALS

# Tiny networks gain nothing from more threads, and threads that spin for each other stall on a busy machine.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

# What imports make stays; to collect among it, again and again, takes half of the seconds before the first test.
gc.disable()

# How long an example takes, or is being drawn, says nothing of a property: on a busy machine it is how long it waits.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_collection_finish() -> None:
    """All is imported: from here on only what tests make is looked through."""
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    """What is frozen is not torn down, which libraries would call a leak."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """A command ends with its signals ignored; this process goes on."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images for tests; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("TINYVIT_KD_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real test images are not at {folder} (set TINYVIT_KD_DATA to their folder)")
    return folder
