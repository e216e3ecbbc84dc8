"""Processes that share a cache get the right records, whatever others do to it, and read each block once together."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.local_files import block_file
from tests.processes import wait_until
from tests.store.blocks import block_for, manifest_of, same
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.data.buffers import Arrays, BatchMaker, Layout, Tensors
from tinyvit_kd.data.loader import loading
from tinyvit_kd.errors import BlockCorruptError, BlockMissingError, ConfigError, StoreError, WorkerError
from tinyvit_kd.runtime.watchdog import Notes, loading_here
from tinyvit_kd.store.block_slots import BlockSlots, SlotSizes
from tinyvit_kd.store.cache import BlockCache, block_bytes
from tinyvit_kd.store.encodings import Planes
from tinyvit_kd.store.records import Block
from tinyvit_kd.store.store import LogitStore

FORK = multiprocessing.get_context("fork")
SOME = np.array([4, 0, 16], np.int32)
LENGTHS = (30, 30, 17)


class Watched(LogitStore):
    """A store that calls a function before each block that is read."""

    before: Callable[[int, int], None] = staticmethod(lambda _shard, _view: None)

    def read_planes(self, shard: int, view: int) -> Planes:
        self.before(shard, view)
        return super().read_planes(shard, view)


@pytest.fixture
def store(tmp_path: Path) -> Watched:
    """Three shards and four views: twelve blocks."""
    store = Watched.create(tmp_path / "store", manifest_of(LENGTHS, encoding="compact"))
    for shard, view in store.missing_blocks():
        store.write_block(shard, view, block_for(store.manifest, shard, view))
    assert isinstance(store, Watched)
    return store


def started(function: Callable[..., object], *arguments: Any, context: Any = FORK) -> BaseProcess:
    process: BaseProcess = context.Process(target=function, args=arguments, daemon=True)
    process.start()
    return process


def cache_of(store: LogitStore, slots: int, patience: float = 60) -> BlockCache:
    return BlockCache(store, slots * block_bytes(store.manifest), patience)


def true_records(store: LogitStore, view: int, shards: np.ndarray, indexes: np.ndarray) -> Block:
    expected = Block.empty(len(shards), store.manifest.topk)
    for row, (shard, index) in enumerate(zip(shards.tolist(), indexes.tolist(), strict=True)):
        expected.put(np.array([row]), block_of(store, shard, view).take(np.array([index])))
    return expected


def block_of(store: LogitStore, shard: int, view: int) -> Block:
    """Read by another object, whose reading nobody delays or counts."""
    return LogitStore.open(store.where).read_block(shard, view)


class Slow:
    """Slots' memory that takes its time, so that others overwrite it meanwhile."""

    def __init__(self, memory: np.ndarray, draw: np.random.Generator) -> None:
        self.memory, self.draw = memory, draw

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self.memory[rows]

    def take(self, rows: np.ndarray, axis: int) -> np.ndarray:
        if self.draw.random() < 0.2:
            time.sleep(0.003)
        return self.memory.take(rows, axis=axis)


def hammer(cache: BlockCache, blocks: dict[tuple[int, int], Block], seed: int, seconds: float, found: Any) -> None:
    """Gather at random, compare with whole blocks; tells how many calls there were, and how many were wrong."""
    draw = np.random.default_rng(seed)
    cache._slots._memory = Slow(cache._slots._memory, draw)  # type: ignore[assignment]
    calls = wrong = 0
    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        view, count = int(draw.integers(4)), int(draw.integers(1, 12))
        shards = draw.integers(0, 3, count).astype(np.int32)
        indexes = draw.integers(0, np.array(LENGTHS)[shards]).astype(np.int32)
        gathered = cache.gather(shards, indexes, view)
        for row, (shard, index) in enumerate(zip(shards.tolist(), indexes.tolist(), strict=True)):
            record = gathered.take(np.array([row]))
            wrong += not same(record, blocks[shard, view], np.array([index]))
        calls += 1
    found.put((calls, wrong))


def doze(shard: int, view: int) -> None:
    """A read that takes a while, now and then longer than others wait for it."""
    time.sleep(0.02 if (shard + view + time.monotonic_ns() // 1000) % 7 == 0 else 0.0005)


# How processes come by the cache has nothing to do with its slots, and those that are started anew take seconds.
@pytest.mark.parametrize(
    ("start_method", "slots"),
    [("fork", 1), ("fork", 2), ("fork", 5), ("fork", 12), pytest.param("spawn", 2, marks=pytest.mark.slow)],
)
def test_processes_that_hammer_a_cache_get_what_is_in_the_blocks(start_method: str, slots: int, store: Watched) -> None:
    blocks = {(shard, view): block_of(store, shard, view) for shard in range(3) for view in range(4)}
    store.before = doze
    context: Any = multiprocessing.get_context(start_method)
    cache, found = cache_of(store, slots, patience=0.01), context.SimpleQueue()
    with cache.shared(start_method):
        processes = [started(hammer, cache, blocks, seed, 1.5, found, context=context) for seed in range(4)]
        results = [found.get() for _ in processes]
    for process in processes:
        process.join()
    assert all(calls > 20 for calls, _ in results)
    assert [wrong for _, wrong in results] == [0] * 4


@pytest.mark.parametrize("slots", [1, 3])
def test_a_batch_of_more_blocks_than_slots_is_gathered(slots: int, store: Watched) -> None:
    shards, indexes = np.array([0, 1, 2, 1, 0, 2], np.int32), np.array([29, 3, 16, 3, 0, 0], np.int32)
    cache = cache_of(store, slots)
    for context in (nullcontext(), cache.shared()):
        with context:
            for view in (0, 3, 0):
                assert same(cache.gather(shards, indexes, view), true_records(store, view, shards, indexes))


def test_each_block_is_read_once_by_all_processes_together(store: Watched) -> None:
    reads = FORK.Array("i", 3)

    def count(shard: int, _view: int) -> None:
        with reads.get_lock():
            reads[shard] += 1
        time.sleep(0.1)  # long enough for all of them to want it

    store.before = count
    cache, found = cache_of(store, 12), FORK.SimpleQueue()

    def gather() -> None:
        shards = np.array([0, 1, 2], np.int32)
        found.put(same(cache.gather(shards, SOME, 1), true_records(store, 1, shards, SOME)))

    with cache.shared():
        processes = [started(gather) for _ in range(4)]
        assert [found.get() for _ in processes] == [True] * 4
    assert reads[:] == [1, 1, 1]


def test_processes_that_need_the_same_blocks_read_different_ones_at_the_same_time(store: Watched) -> None:
    store.before = lambda _shard, _view: time.sleep(0.5)
    cache, found = cache_of(store, 12), FORK.SimpleQueue()

    def gather() -> None:
        begin = time.monotonic()
        cache.gather(np.array([0, 1, 2], np.int32), SOME, 1)
        found.put(time.monotonic() - begin)

    with cache.shared():
        processes = [started(gather) for _ in range(3)]
        assert max(found.get() for _ in processes) < 1.4  # 1.5 if one reads all of them


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP], ids=["is killed", "hangs"])
def test_a_block_is_read_here_if_the_process_that_reads_it(end: signal.Signals, store: Watched) -> None:
    begun = FORK.Event()
    main = os.getpid()

    def end_here(_shard: int, _view: int) -> None:
        if os.getpid() != main:
            begun.set()
            os.kill(os.getpid(), end)

    store.before = end_here
    cache, notes = cache_of(store, 1, patience=0.5), Notes(0)
    with cache.shared():
        process = started(lambda: cache.records(1, 2, SOME))
        assert begun.wait(20)
        begin = time.monotonic()
        with loading_here(notes):
            assert same(cache.records(1, 2, SOME), store.read_block(1, 2), SOME)
        assert 0.2 < time.monotonic() - begin < 5
        begin = time.monotonic()
        assert same(cache.records(1, 2, SOME), store.read_block(1, 2), SOME)
        assert time.monotonic() - begin < 0.2, "it is in the cache now"
    process.kill()
    process.join()


def test_what_a_process_waits_for_can_be_told(store: Watched) -> None:
    begun, notes = FORK.Event(), Notes(1)

    def wait(_shard: int, _view: int) -> None:
        begun.set()
        time.sleep(60)

    store.before = wait
    cache = cache_of(store, 12)
    with cache.shared():
        process = started(lambda: cache.records(1, 2, SOME))
        assert begun.wait(20)

        def gather() -> None:
            with loading_here(notes):
                cache.records(1, 2, SOME)

        waiting = started(gather)
        note = f"waiting for {store.block_location(1, 2)}, which another loading process is reading"
        wait_until(lambda: note in notes.read(), "it says nothing")
    for each in (process, waiting):
        each.kill()
        each.join()


def test_a_slot_whose_process_ended_while_it_filled_it_is_lost_and_no_more(store: Watched) -> None:
    cache = cache_of(store, 1)
    with cache.shared():
        slots = cache._slots
        filling = slots.slot_for(5, slots.next_turn())
        filling.__enter__()
        for view in range(4):
            assert same(cache.records(1, view, SOME), store.read_block(1, view), SOME)


def test_a_slot_that_was_filled_by_half_is_used_again(store: Watched) -> None:
    cache = cache_of(store, 1)
    slots = cache._slots

    def interrupted() -> None:
        with slots.slot_for(5, slots.next_turn()) as memory:
            assert memory is not None
            memory[:] = 255
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    here, _ = slots.copy(np.array([5]), SOME[:1], slots.next_turn())
    assert not here.any()
    assert same(cache.records(1, 2, SOME), store.read_block(1, 2), SOME)
    block_file(store, 1, 2).unlink()
    cache.records(1, 2, SOME)


def test_what_was_overwritten_while_it_was_copied_does_not_count() -> None:
    slots = BlockSlots.private(SlotSizes(blocks=3, slots=1, slot_rows=2, row_bytes=4))

    class Memory:
        """Puts another block in the slot as soon as its bytes are looked at."""

        def __init__(self) -> None:
            self.memory = slots._memory

        def take(self, rows: np.ndarray, axis: int) -> np.ndarray:
            taken = self.memory.take(rows, axis=axis)
            put(1)
            return taken

    def put(block: int) -> None:
        memory, slots._memory = slots._memory, np.zeros((2, 4), np.uint8)
        with slots.slot_for(block, slots.next_turn()) as slot:
            assert slot is not None
        slots._memory = memory

    put(0)
    slots._memory = Memory()  # type: ignore[assignment]
    here, rows = slots.copy(np.array([0, 2, 0]), np.array([0, 0, 1], np.int32), slots.next_turn())
    assert here.tolist() == [False] * 3
    assert rows.shape == (0, 4)


@pytest.mark.parametrize("kind", [BlockCorruptError, BlockMissingError])
def test_each_process_that_needs_a_bad_block_names_it_and_no_other_does(kind: type[StoreError], store: Watched) -> None:
    path = block_file(store, 1, 2)
    content = path.read_bytes()
    path.unlink()
    if kind is BlockCorruptError:
        path.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
    store.before = lambda _shard, _view: time.sleep(0.05)
    cache, found = cache_of(store, 12), FORK.SimpleQueue()

    def gather(shards: list[int]) -> None:
        try:
            cache.gather(np.array(shards, np.int32), SOME[:2], 2)
            found.put(None)
        except StoreError as error:
            found.put((type(error), error.where))

    with cache.shared():
        processes = [started(gather, shards) for shards in ([0, 1], [1, 2], [0, 2], [1, 1], [2, 0])]
        results = [found.get() for _ in processes]
        assert sorted(result is None for result in results) == [False] * 3 + [True] * 2
        assert {result for result in results if result} == {(kind, str(path))}
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        assert same(cache.records(1, 2, SOME), block_of(store, 1, 2), SOME), "it may be mended while a run goes on"


def test_the_blocks_that_any_process_used_last_are_kept(store: Watched) -> None:
    cache = cache_of(store, 2)

    def read(*views: int) -> None:
        process = started(lambda: [cache.records(0, view, SOME) for view in views])
        process.join()
        assert process.exitcode == 0

    with cache.shared():
        read(0, 1)
        read(0)
        read(2)  # takes the place of 1
        for view in range(3):
            block_file(store, 0, view).unlink()
        read(0, 2)
        with pytest.raises(BlockMissingError):
            cache.records(0, 1, SOME)


def test_a_cache_that_has_been_shared_begins_anew(store: Watched) -> None:
    cache = cache_of(store, 12)
    for _ in range(2):
        with cache.shared():
            cache.records(0, 0, SOME)
    block_file(store, 0, 0).unlink()
    with pytest.raises(BlockMissingError):
        cache.records(0, 0, SOME)


def test_memory_that_there_is_not_is_a_mistake_of_the_recipe(store: Watched) -> None:
    cache = cache_of(store, 12)
    cache._sizes = cache._sizes._replace(slot_rows=1 << 50)
    with pytest.raises(ConfigError, match=r"not enough memory.*store\.block_cache_mib"), cache.shared():
        pass


@dataclass
class Gathers(BatchMaker[int, int]):
    """Batches of a few records; task 3 ends its process at its worst moment."""

    cache: BlockCache

    @property
    def layout(self) -> Layout:
        return Layout(seeds=((3,), np.uint32))

    def shared(self) -> Any:
        return self.cache.shared()

    def fill(self, task: int, arrays: Arrays) -> int:
        if task == 3:
            with self.cache._slots._lock:
                os.kill(os.getpid(), signal.SIGKILL)
        arrays["seeds"][:] = self.cache.records(task % 3, task % 4, SOME).seeds
        return 0

    def join(self, tensors: Tensors, _extra: int) -> int:
        return int(tensors["seeds"].to(torch.int64).sum())


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_a_process_that_is_killed_with_the_lock_ends_the_run_and_does_not_hold_up_the_end(store: Watched) -> None:
    begin = time.monotonic()
    runtime = RuntimeConfig(workers=3, prefetch=2)
    with (
        pytest.raises(WorkerError),
        loading(Gathers(cache_of(store, 2)), range(100), runtime, torch.device("cpu"), check_every=0.5) as batches,
    ):
        list(batches)
    assert time.monotonic() - begin < 20
