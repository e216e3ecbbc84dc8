"""What is freed is kept for the next forward pass, where glibc allocates and its user has said nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fault_injection.compare import store_differences
from benchmarks.tiny_world import World
from tests.conftest import REPOSITORY
from tests.stages.commands import command
from tinyvit_kd.runtime import allocator
from tinyvit_kd.runtime.allocator import KEEPING, LOADING, glibc, is_set_up

ON_GLIBC = pytest.mark.skipif(glibc() is None, reason="needs glibc's allocator")
OFF = {"MALLOC_PERTURB_": "0"}  # glibc's own default
PAGES = 16_384  # of 4 KiB in 64 MiB
# Allocates and frees 64 MiB ten times, which is more than glibc keeps by itself. The first times leave gaps into which
# no such block fits. Then a forked process does so, with blocks for which there is no gap.
FAULTS = """
import json, os, resource, sys, torch
from tinyvit_kd.runtime.distributed import start_job

def faults(times, mib=64):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.empty(mib << 20, dtype=torch.uint8)[: 64 << 20].fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])

with start_job("cpu", 1):
    faults(20)
    told = {"again": faults(10), "held": resident()}
    if os.fork() == 0:
        before = resident()
        told |= {"forked": faults(10, 1024), "grown": resident() - before}
        print(json.dumps(told), flush=True)
        os._exit(0)
    os.wait()
    told["after fork"] = faults(1)
print(json.dumps(told))
"""
# Pages that a loading process is given for 50 times 2 MB in blocks of 100 kB, which it frees each time.
VIEWS = """
import resource
from tinyvit_kd.runtime.allocator import keep_buffers

def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        blocks = [bytearray(b"x") * 100_000 for _ in range(20)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_buffers()
faults(1)
print(faults(50))
"""
ASKED = """
import json
from tinyvit_kd.runtime.allocator import glibc, keep_freed_memory
print(json.dumps([glibc() is None, keep_freed_memory()]))
"""
# A preloaded allocator that does nothing of its own: it passes on to glibc.
OTHER = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
void *malloc(size_t size)
{
    static void *(*next)(size_t);
    if (!next) next = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
    return next(size);
}
"""


def script(text: str, *arguments: str, **environment: str) -> list[Any]:
    """What a Python program prints, a line of JSON each."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    done = subprocess.run(
        [sys.executable, "-c", text, *arguments],
        capture_output=True,
        text=True,
        env=clean | environment,
        cwd=REPOSITORY,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@ON_GLIBC
def test_a_large_block_is_kept_for_the_next_forward_pass() -> None:
    child, parent = script(FAULTS)
    assert parent["again"] < PAGES / 10, "the same pages, ten times"
    # Before the fork all that was free was returned; else the child would hold it as long as it lives.
    assert parent["after fork"] > PAGES * 0.9
    assert child["forked"] > PAGES * 9, "a loading process returns what it frees"
    assert child["grown"] < PAGES


@ON_GLIBC
@pytest.mark.parametrize(
    "settings", [OFF, {"MALLOC_ARENA_MAX": "2"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}], ids=str
)
def test_who_sets_the_allocator_up_is_left_alone(settings: dict[str, str]) -> None:
    _, parent = script(FAULTS, **settings)
    assert parent["again"] > PAGES * 9, "ten times 64 MiB, page by page"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"GLIBC_TUNABLES": "glibc.pthread.rseq=0", "MALLOCATED": "1"}, False),
        ({"MALLOC_MMAP_MAX_": "0"}, True),
        ({"MALLOC_TRIM_THRESHOLD_": ""}, True),
        ({"GLIBC_TUNABLES": "glibc.pthread.rseq=0:glibc.malloc.mmap_max=0"}, True),
    ],
)
def test_settings_are_found_in_the_environment(environment: dict[str, str], expected: bool) -> None:
    assert is_set_up(environment) is expected


class Recorder:
    """A C library that notes how its allocator is set."""

    def __init__(self, answer: int = 1) -> None:
        self.calls: list[tuple[int, int]] = []
        self.answer = answer

    def mallopt(self, parameter: int, value: int) -> int:
        self.calls.append((parameter, value))
        return self.answer


def test_it_is_set_by_the_numbers_of_glibcs_header(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Recorder()
    monkeypatch.setattr(allocator, "glibc", lambda: library)
    monkeypatch.setattr(allocator, "_return_memory_in_forks", lambda: library.calls.append((0, 0)))
    assert allocator.keep_freed_memory({})
    assert library.calls == [(-4, 0), (-1, -1), (0, 0)]
    assert KEEPING == {-4: 0, -1: -1}
    assert LOADING == {-4: 65536, -3: 16 * 2**20, -1: 16 * 2**20}
    assert allocator.keep_buffers({})
    assert library.calls[3:] == list(LOADING.items())
    assert not allocator.keep_freed_memory({"MALLOC_ARENA_MAX": "1"})
    assert not allocator.keep_buffers({"MALLOC_ARENA_MAX": "1"})
    assert len(library.calls) == 6


def test_an_allocator_that_refuses_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "glibc", lambda: Recorder(answer=0))
    monkeypatch.setattr(allocator, "_return_memory_in_forks", lambda: pytest.fail("it keeps nothing"))
    assert not allocator.keep_freed_memory({})


@pytest.mark.skipif(sys.platform == "linux", reason="of other systems")
def test_other_systems_have_no_glibc() -> None:
    assert glibc() is None


@ON_GLIBC
def test_a_preloaded_allocator_is_left_alone(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler for the allocator to preload")
    (tmp_path / "other.c").write_text(OTHER)
    library = tmp_path / "other.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "other.c", "-ldl"], check=True)
    assert script(ASKED, LD_PRELOAD=str(library)) == [[True, False]]
    assert script(ASKED) == [[False, True]]


@ON_GLIBC
def test_a_loading_process_is_not_given_the_pages_of_a_view_again() -> None:
    (kept,), (returned,) = script(VIEWS), script(VIEWS, **OFF)
    whole = 50 * 20 * 100_000 // 4096
    assert kept < 0.05 * whole < 0.5 * whole < returned


@ON_GLIBC
def test_stores_and_students_are_the_same_with_and_without(world: World) -> None:
    trained = {}
    for name, environment in {"kept": {}, "returned": OFF}.items():
        store, output = {"path": str(world.folder / f"store-{name}"), "topk": 5, "views": 2}, world.folder / name
        dump = world.dump(store=store, runtime={"workers": 1})
        pretrain = world.pretrain(store={"path": store["path"]}, output=str(output), runtime={"workers": 1})
        for config in (dump, pretrain):
            subprocess.run(command(world.folder, config), check=True, capture_output=True, env=os.environ | environment)
        trained[name] = (output / "model.safetensors").read_bytes()
    assert store_differences(world.folder / "store-kept", world.folder / "store-returned") == []
    assert trained["kept"] == trained["returned"]
