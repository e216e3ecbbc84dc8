"""Several processes write one store; a killed one leaves whole blocks and nothing that looks like one."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from benchmarks.local_files import block_file, store_folder
from tests.store.blocks import block_for, manifest_of, same
from tinyvit_kd.store.store import LogitStore

SPAWN = multiprocessing.get_context("spawn")


def write_part(path: Path, part: int, parts: int) -> None:
    """Write every ``parts``-th block that a store lacks."""
    store = LogitStore.open(path, writable=True)
    for shard, view in store.missing_blocks()[part::parts]:
        store.write_block(shard, view, block_for(store.manifest, shard, view))


def write_until_killed(path: Path) -> None:
    """Write all blocks of a store but the last, and wait: whoever kills this process may be slow."""
    store = LogitStore.open(path, writable=True)
    for shard, view in store.missing_blocks()[:-1]:
        store.write_block(shard, view, block_for(store.manifest, shard, view))
    time.sleep(600)


def test_processes_write_blocks_of_the_same_array_side_by_side(tmp_path: Path) -> None:
    store = LogitStore.create(tmp_path / "store", manifest_of(lengths=(50, 50), views=16))
    with ProcessPoolExecutor(2, mp_context=SPAWN) as pool:
        list(pool.map(write_part, [store_folder(store)] * 2, [0, 1], [2, 2]))
    # Both took their part of the list of missing blocks at some moment of their own, so some may be left.
    write_part(store_folder(store), 0, 1)
    assert store.missing_blocks() == []
    assert all(
        same(store.read_block(shard, view), block_for(store.manifest, shard, view))
        for shard in range(2)
        for view in range(16)
    )


def make_and_write(folder: Path, part: int, barrier: Barrier) -> None:
    """One of two jobs that share the work without knowing of each other, from the making of the store on."""
    for number in range(8):
        barrier.wait(100)  # the other one may start much later
        store = LogitStore.create(folder / str(number), manifest_of(lengths=(5,) * 6, views=2))
        for shard in range(part, 6, 2):
            store.write_block(shard, 1, block_for(store.manifest, shard, 1))


def test_jobs_that_start_together_make_one_store_and_lose_no_block(tmp_path: Path) -> None:
    barrier = SPAWN.Barrier(2)
    jobs = [SPAWN.Process(target=make_and_write, args=(tmp_path, part, barrier)) for part in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(200)
    assert [job.exitcode for job in jobs] == [0, 0]
    for number in range(8):
        store = LogitStore.open(tmp_path / str(number))
        assert all(same(store.read_block(n, 1), block_for(store.manifest, n, 1)) for n in range(6))


@pytest.mark.parametrize("more", [0, 3])
def test_a_killed_writer_leaves_whole_blocks_and_partial_files_only(tmp_path: Path, more: int) -> None:
    store = LogitStore.create(tmp_path / "store", manifest_of(lengths=(3000,), views=200, topk=60))
    writer = SPAWN.Process(target=write_until_killed, args=(store_folder(store),))
    writer.start()
    deadline = time.monotonic() + 100
    while len(store.missing_blocks()) > 199 - more and time.monotonic() < deadline:
        time.sleep(0.005)
    writer.kill()
    writer.join()
    there = [view for view in range(200) if store.has_block(0, view)]
    assert more < len(there) < 200
    assert all(same(store.read_block(0, view), block_for(store.manifest, 0, view)) for view in there[-3:])
    names = {path.name for path in (store_folder(store) / "s000000").iterdir()}
    strays = names - {"zarr.json"} - {block_file(store, 0, view).name for view in there}
    assert all(name.endswith(".partial") for name in strays)


def test_what_a_killed_writer_left_behind_is_no_block(tmp_path: Path) -> None:
    store = LogitStore.create(tmp_path / "store", manifest_of(lengths=(30,), views=1))
    (store_folder(store) / "s000000" / "c.0.0.0123abcd.partial").write_bytes(b"half")
    assert store.missing_blocks() == [(0, 0)]
    assert not store.has_block(0, 0)
    write_part(store_folder(store), 0, 1)
    assert same(store.read_block(0, 0), block_for(store.manifest, 0, 0))
