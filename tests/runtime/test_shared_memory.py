"""A process forks until it uses what a fork would break, and then starts others anew, with memory that is shared."""

from __future__ import annotations

import multiprocessing
import sys

import pytest
import torch

from tests.data.test_transfer import mapped_file
from tinyvit_kd.runtime import shared_memory
from tinyvit_kd.runtime.shared_memory import Parcel, SharedBytes, forbid_forks, start_method

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not fork")


@pytest.fixture(autouse=True)
def _forks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_memory, "_must_not_fork", None)


def _fill(parcel: Parcel) -> None:
    parcel.content.tensor.fill_(7)


@ON_LINUX
def test_a_process_forks_until_that_is_forbidden() -> None:
    assert start_method() == "fork"
    forbid_forks()
    forbid_forks()
    assert start_method() == "spawn"


@ON_LINUX
def test_a_process_that_was_forked_too_late_says_so_and_does_not_wait_for_ever() -> None:
    forbid_forks()
    fork = multiprocessing.get_context("fork")
    said = fork.SimpleQueue()

    def use() -> None:
        try:
            forbid_forks()
        except RuntimeError as error:
            said.put(str(error))

    process = fork.Process(target=use)
    process.start()
    process.join(20)
    assert "start it anew" in said.get()


@ON_LINUX
def test_memory_for_processes_that_are_started_anew_is_a_file_without_a_name() -> None:
    shared = SharedBytes(10_000, "spawn")
    assert mapped_file(shared.tensor).startswith("/memfd:")
    parcel = Parcel(shared)
    process = multiprocessing.get_context("spawn").Process(target=_fill, args=(parcel,))
    process.start()
    process.join(60)
    assert torch.equal(shared.tensor, torch.full((10_000,), 7, dtype=torch.uint8))
