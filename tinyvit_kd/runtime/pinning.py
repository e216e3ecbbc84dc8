"""Pins the main process and its loading processes to cores near the GPU, for ``runtime.pin_workers``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache

import torch

from tinyvit_kd.runtime.cores import Cores, share_cores
from tinyvit_kd.runtime.launch import place_in_job
from tinyvit_kd.runtime.log import note, warn_once
from tinyvit_kd.runtime.topology import pci_node, read_topology

_THREADS = "/proc/self/task"


@lru_cache(maxsize=8)
def choose_cores(device: torch.device, workers: int) -> Cores | None:
    """The cores of this process and its loading processes, which are told once; None if nothing can be pinned.

    Args:
        device: on which the main process computes; for a GPU, cores near it come first.
        workers: number of loading processes.
    """
    if not hasattr(os, "sched_setaffinity"):
        warn_once("pin_workers", "runtime.pin_workers has no effect: this system cannot pin processes to cores")
        return None
    place = place_in_job(os.environ, independent=True)
    if place.world_size > 1 and not os.environ.get("LOCAL_WORLD_SIZE", "").isdecimal():
        warn_once(
            "pin_workers beside others",
            "runtime.pin_workers has no effect: LOCAL_WORLD_SIZE is not set, so that nobody knows how many processes "
            "share this machine; torchrun sets it",
        )
        return None
    gpus = [device.index or 0] if place.world_size == 1 else range(place.local_world_size)
    homes = [_home(device, gpu) for gpu in gpus]
    cores = share_cores(read_topology(_allowed()), homes, place.local_rank, workers)
    note(cores.describe())
    return cores


@contextmanager
def main_pinned(cores: Cores | None) -> Iterator[None]:
    """Keep all threads of this process on its cores while the context lasts."""
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    _move_threads(cores.main)
    try:
        yield
    finally:
        _move_threads(before)


def pin_worker(cores: Cores | None, worker: int) -> None:
    """Keep this process, loading process number ``worker``, on its core."""
    if cores is not None:
        _move(0, {cores.workers[worker]})


@lru_cache(maxsize=1)
def _allowed() -> frozenset[int]:
    """The hardware threads that this process might use before anything was pinned."""
    return frozenset(os.sched_getaffinity(0))


def _home(device: torch.device, gpu: int) -> int | None:
    """The NUMA node of a GPU, by its number; None if it is not known."""
    if device.type != "cuda" or gpu >= torch.cuda.device_count():
        return None
    facts = torch.cuda.get_device_properties(gpu)
    numbers = [getattr(facts, f"pci_{part}_id", None) for part in ("domain", "bus", "device")]
    if None in numbers:
        return None  # torch before 2.8 or so does not tell
    domain, bus, slot = numbers
    return pci_node(f"{domain:04x}:{bus:02x}:{slot:02x}.0")


def _move_threads(cores: frozenset[int] | set[int]) -> None:
    tasks = os.listdir(_THREADS) if os.path.isdir(_THREADS) else ["0"]
    for task in tasks:
        _move(int(task), cores)


def _move(task: int, cores: frozenset[int] | set[int]) -> None:
    # A thread may have ended, and whoever manages the machine may have taken cores away: that costs speed alone.
    with suppress(OSError):
        os.sched_setaffinity(task, cores)
