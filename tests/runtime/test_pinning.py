"""Processes run where they are told to, and the main one is let go at the end."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.data.buffers import Arrays, BatchMaker, Layout, Tensors
from tinyvit_kd.data.loader import loading
from tinyvit_kd.runtime import pinning
from tinyvit_kd.runtime.pinning import choose_cores

CPU = torch.device("cpu")
needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin processes")


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Choices are kept for the process's life."""
    choose_cores.cache_clear()
    yield
    choose_cores.cache_clear()


class Where(BatchMaker[int, list[int]]):
    """Batches that say on which cores their process may run."""

    @property
    def layout(self) -> Layout:
        return Layout(nothing=((1,), np.uint8))

    def fill(self, _task: int, _arrays: Arrays) -> list[int]:
        return sorted(os.sched_getaffinity(0))

    def join(self, _tensors: Tensors, extra: list[int]) -> list[int]:
        return extra


@needs_affinity
def test_each_worker_is_pinned_and_the_main_process_meanwhile(capfd: pytest.CaptureFixture[str]) -> None:
    before = os.sched_getaffinity(0)
    runtime = RuntimeConfig(workers=2, prefetch=1, pin_workers=True)
    cores = choose_cores(CPU, 2)
    assert cores is not None
    ended = threading.Event()
    other = threading.Thread(target=ended.wait, daemon=True)
    other.start()
    for _ in range(2):
        with loading(Where(), range(4), runtime, CPU) as batches:
            places = list(batches)
            assert os.sched_getaffinity(0) == os.sched_getaffinity(other.native_id or 0) == cores.main
        assert places == [[cores.workers[0]], [cores.workers[1]]] * 2
        assert os.sched_getaffinity(0) == os.sched_getaffinity(other.native_id or 0) == before
    ended.set()
    assert capfd.readouterr().err.count("2 workers pinned to cores") == 1


@needs_affinity
def test_without_the_option_nothing_is_pinned() -> None:
    before = sorted(os.sched_getaffinity(0))
    with loading(Where(), range(2), RuntimeConfig(workers=1, prefetch=1), CPU) as batches:
        assert list(batches) == [before] * 2


@needs_affinity
def test_what_is_pinned_within_what_is_pinned_has_the_same_cores() -> None:
    runtime = RuntimeConfig(workers=1, prefetch=1, pin_workers=True)
    with loading(Where(), range(1), runtime, CPU) as outer:
        outside = list(outer)
        choose_cores.cache_clear()
        with loading(Where(), range(1), runtime, CPU) as inner:
            assert list(inner) == outside


@needs_affinity
def test_torch_does_not_warn_of_workers_whose_cores_have_been_told(recwarn: pytest.WarningsRecorder) -> None:
    """As it would of those of an evaluation, which start while the main process is pinned to what they leave."""
    before = os.sched_getaffinity(0)
    runtime = RuntimeConfig(workers=2, prefetch=1)
    warned = []
    try:
        for pinned in (True, False):
            choose_cores(CPU, 2)
            os.sched_setaffinity(0, {min(before)})
            with loading(Where(), range(2), runtime.model_copy(update={"pin_workers": pinned}), CPU) as batches:
                assert len(list(batches)) == 2
            warned.append([str(each.message) for each in recwarn.list if "DataLoader will create" in str(each.message)])
            recwarn.clear()
    finally:
        os.sched_setaffinity(0, before)
    assert warned[0] == []
    assert warned[1]


def test_where_processes_cannot_be_pinned_a_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    assert choose_cores(CPU, 2) is None
    assert "runtime.pin_workers has no effect" in capfd.readouterr().err
    with pinning.main_pinned(None):
        pinning.pin_worker(None, 0)


@needs_affinity
def test_where_it_is_not_known_who_shares_the_machine_a_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    job = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert choose_cores(CPU, 2) is None
    assert "LOCAL_WORLD_SIZE is not set" in capfd.readouterr().err
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    choose_cores.cache_clear()
    assert choose_cores(CPU, 2) is not None


@pytest.mark.parametrize(
    ("facts", "address"),
    [
        ({"pci_domain_id": 0, "pci_bus_id": 0x3B, "pci_device_id": 0}, "0000:3b:00.0"),
        ({"pci_domain_id": 1, "pci_bus_id": 0xC1, "pci_device_id": 2}, "0001:c1:02.0"),
        ({}, None),
    ],
)
def test_a_gpu_is_looked_up_by_its_address(
    facts: dict[str, int], address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def properties(_device: Any) -> Any:
        return SimpleNamespace(**facts)

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(pinning, "pci_node", asked.append)
    assert pinning._home(torch.device("cuda", 0), 0) is None
    assert asked == ([] if address is None else [address])


@needs_affinity
def test_a_process_alone_is_pinned_near_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def home(_device: torch.device, gpu: int) -> None:
        asked.append(gpu)

    monkeypatch.setattr(pinning, "_home", home)
    choose_cores.cache_clear()
    assert choose_cores(torch.device("cuda", 2), 1) is not None
    assert asked == [2]
