"""How many records a second: our store, a file of fixed records read one by one, and the bare limits of both."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numcodecs
import numpy as np
import numpy.typing as npt

from benchmarks.local_files import block_file, store_folder
from benchmarks.stored.raw import LeanReader, OfficialReader, load_keys
from benchmarks.stored.records import SHARD, VALUES, official_key, official_type, repeated
from benchmarks.timing import in_turns
from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.batches.stored_batches import block_caches
from tinyvit_kd.config.data import StoredTargetsConfig
from tinyvit_kd.config.training import ScheduleConfig
from tinyvit_kd.data.order import rank_lanes
from tinyvit_kd.store.codec import decode, encode, plane_rows, read_header
from tinyvit_kd.store.encodings import Planes
from tinyvit_kd.store.records import Block, BlockHeader
from tinyvit_kd.store.store import LogitStore

LANES = 64
BLOCKS = 16  # whole blocks a round
ONE, RECIPE, WORKER = "64 lanes, batches of 1,024", "8 of 64 lanes, 512 of 4,096", "the same, one of 14 workers"
RAW, OFFICIAL = "raw file, a record at a time", "raw file, as the official code reads"
COLLATED = "raw file, a record at a time into batches, shuffled"
Int32 = npt.NDArray[np.int32]
Work = Callable[[], tuple[int, float]]
"""Nothing → records, seconds."""


@contextmanager
def timed(cold: bool = False) -> Iterator[list[float]]:
    """Seconds that the block takes, in a list: of the processor, or by the clock where it waits for a disk."""
    clock = time.perf_counter if cold else time.process_time
    seconds: list[float] = []
    begin = clock()
    yield seconds
    seconds.append(clock() - begin)


def plan_for(store: LogitStore, processes: int, global_batch: int) -> StepPlan:
    """The first process's share of an epoch in the recipes' order."""
    schedule = ScheduleConfig(epochs=1, global_batch_size=global_batch, lanes=LANES)
    return StepPlan(store.manifest.shard_lengths, schedule, rank_lanes(LANES, 0, processes))


class Training:
    """A loader worker's batches, one after another; each round goes on where the last one ended.

    A round goes through 64 shards' length, so that it reads as many blocks as it uses up.
    """

    def __init__(self, store: LogitStore, processes: int, global_batch: int, workers: int) -> None:
        self.store, self.plan, self.workers, self.step = store, plan_for(store, processes, global_batch), workers, 0
        (self.cache,) = block_caches(StoredTargetsConfig(path=store_folder(store)), [store], self.plan)
        self.steps = max(1, min(SHARD * LANES * processes // global_batch, self.plan.steps_per_epoch) // workers)

    def batches(self) -> list[tuple[int, Int32, Int32]]:
        """Epoch, shards and indexes of the next round's batches."""
        steps = range(self.step, self.step + self.steps * self.workers, self.workers)
        self.step = steps.stop
        return [self.plan.samples(step) for step in steps]

    def read(self, cold: bool = False) -> tuple[int, float]:
        """The next round; the order has been made before."""
        batches = self.batches()
        with timed(cold) as seconds:
            for _, shards, indexes in batches:
                self.cache.gather(shards, indexes, 0)
        return sum(len(shards) for _, shards, _ in batches), seconds[0]

    def order(self) -> tuple[int, float]:
        """The order alone."""
        with timed() as seconds:
            batches = self.batches()
        return sum(len(shards) for _, shards, _ in batches), seconds[0]

    def cold(self) -> tuple[int, float]:
        """The next round with a cache that is empty and blocks that are not in memory."""
        begin, batches = self.step, self.batches()
        shards = np.unique(np.concatenate([shards for _, shards, _ in batches])).tolist()
        drop(block_file(self.store, shard, 0) for shard in shards)
        (self.cache,) = block_caches(StoredTargetsConfig(path=store_folder(self.store)), [self.store], self.plan)
        self.step = begin
        return self.read(cold=True)


def our_columns(store: LogitStore, block: Block) -> dict[str, Work]:
    """Reading and writing our store."""
    one, recipe, worker = Training(store, 1, 1024, 1), Training(store, 8, 4096, 1), Training(store, 8, 4096, 14)
    lengths = store.manifest.shard_lengths[:BLOCKS]
    header = header_of(store.read_planes(0, 0))
    first = repeated(block, 0, lengths[0])
    return {
        f"store, shuffled: {ONE}": one.read,
        f"store, shuffled: {RECIPE}": recipe.read,
        f"store, shuffled: {WORKER}": worker.read,
        "store, whole blocks in order": lambda: whole_blocks(store, len(lengths)),
        "zstd and decoding alone, whole blocks": lambda: without_zarr(store, len(lengths)),
        "order of shuffled reading alone": Training(store, 1, 1024, 1).order,
        "encoding": lambda: once(lambda: encode(first, header), lengths[0]),
        "encoding and writing": lambda: once(lambda: store.write_block(0, 0, first), lengths[0]),
    }


def once(work: Callable[[], object], records: int) -> tuple[int, float]:
    """Time one call."""
    with timed() as seconds:
        work()
    return records, seconds[0]


def whole_blocks(store: LogitStore, blocks: int, cold: bool = False) -> tuple[int, float]:
    """All records of the first blocks."""
    with timed(cold) as seconds:
        records = sum(len(store.read_block(shard, 0)) for shard in range(blocks))
    return records, seconds[0]


def without_zarr(store: LogitStore, blocks: int) -> tuple[int, float]:
    """The same from bytes in memory, without files, zarr and checksum."""
    manifest, zstd = store.manifest, numcodecs.Zstd()
    compressed = [block_file(store, shard, 0).read_bytes()[:-4] for shard in range(blocks)]
    with timed() as seconds:
        for data, length in zip(compressed, manifest.shard_lengths, strict=False):
            rows = plane_rows(manifest.encoding, length, manifest.topk, manifest.num_classes)
            planes = np.frombuffer(zstd.decode(data), np.uint8).reshape(rows, length)
            decode(planes, header_of(planes))
    return sum(manifest.shard_lengths[:blocks]), seconds[0]


def header_of(planes: Planes) -> BlockHeader:
    """The header of a block that has one."""
    header = read_header(planes)
    assert header is not None
    return header


class RawFile:
    """Reading records of official files, in a sample of so many a round.

    Args:
        folder: of the files.
        records: in them.
        sample: records a round, a tenth of it where the file is cold.
    """

    def __init__(self, folder: Path, topk: int, records: int, sample: int) -> None:
        keys = load_keys(folder)
        self.values, self.records, self.sample = folder / VALUES, records, sample
        self.lean, self.official = LeanReader(folder, topk, keys), OfficialReader(folder, topk, keys)
        self.generator = np.random.default_rng(0)

    def close(self) -> None:
        """Close the readers."""
        self.lean.close()
        self.official.close()

    def columns(self) -> dict[str, Work]:
        """Records one by one, in both orders; and in batches, undecoded: what any reader of such a file could reach."""
        readers = ((RAW, self.lean), (OFFICIAL, self.official))
        warm: dict[str, Work] = {}
        for name, reader in readers:
            warm[f"{name}, shuffled"] = partial(self.one_by_one, reader, shuffled=True)
            warm[f"{name}, in order"] = partial(self.one_by_one, reader, shuffled=False)
        return warm | {
            COLLATED: self.into_batches,
            "raw file, batches of 1,024 by numpy.take, not decoded": self.batches,
            f"cold: {RAW}, shuffled": partial(self.one_by_one, self.lean, shuffled=True, cold=True),
            f"cold: {RAW}, in order": partial(self.one_by_one, self.lean, shuffled=False, cold=True),
        }

    def one_by_one(self, reader: LeanReader | OfficialReader, shuffled: bool, cold: bool = False) -> tuple[int, float]:
        """Look each record up by its key, and make arrays of it."""
        keys = [official_key(number) for number in self._numbers(shuffled, self.sample // 10 if cold else self.sample)]
        if cold:
            drop([self.values])
        with timed(cold) as seconds:
            for key in keys:
                reader.read(key)
        if cold:
            recall(self.values)
        return len(keys), seconds[0]

    def into_batches(self) -> tuple[int, float]:
        """The same, and what our reader gives: arrays [B, …] of the types that the loss takes."""
        keys = [official_key(number) for number in self._numbers(shuffled=True, count=self.sample)]
        with timed() as seconds:
            for first in range(0, len(keys), 1024):
                batch = Block.empty(len(keys[first : first + 1024]), self.lean.topk)
                for row, key in enumerate(keys[first : first + 1024]):
                    batch.seeds[row], batch.indices[row], batch.probs[row] = self.lean.read(key)
        return len(keys), seconds[0]

    def batches(self) -> tuple[int, float]:
        """Copy records as they are out of an array of all."""
        # Not out of a mapped file, which the system would not forget.
        packed = np.fromfile(self.values, official_type(self.lean.topk))
        numbers = np.array(self._numbers(shuffled=True, count=self.sample))
        with timed() as seconds:
            for first in range(0, len(numbers), 1024):
                packed.take(numbers[first : first + 1024])
        return len(numbers), seconds[0]

    def _numbers(self, shuffled: bool, count: int) -> list[int]:
        if shuffled:
            numbers: list[int] = self.generator.permutation(self.records)[:count].tolist()
            return numbers
        first = int(self.generator.integers(self.records - count + 1))
        return list(range(first, first + count))


def cold_columns(store: LogitStore) -> dict[str, Work]:
    """Reading our store when none of it is in memory."""
    blocks = len(store.manifest.shard_lengths[:BLOCKS])

    def in_order() -> tuple[int, float]:
        drop(block_file(store, shard, 0) for shard in range(blocks))
        return whole_blocks(store, blocks, cold=True)

    return {
        f"cold: store, shuffled: {RECIPE}": Training(store, 8, 4096, 1).cold,
        "cold: store, whole blocks in order": in_order,
    }


def drop(paths: Iterable[Path]) -> None:
    """Ask the system to forget what it keeps of these files in memory."""
    for path in paths:
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(file)


def recall(path: Path) -> None:
    """Bring a file back into memory."""
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass


def forgets(path: Path) -> bool:
    """Whether files can be dropped from memory here; on a RAM disk, for one, they cannot."""
    if not hasattr(os, "posix_fadvise") or not hasattr(os, "RWF_NOWAIT"):
        return False
    drop([path])
    file = os.open(path, os.O_RDONLY)
    try:
        os.preadv(file, [bytearray(1)], 0, os.RWF_NOWAIT)  # succeeds where the byte is in memory
        return False
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(file)


def measure(columns: dict[str, Work], rounds: int) -> dict[str, float]:
    """Records a second by column, the median of the rounds after one to warm up."""
    timed = {name: partial(_rate, work) for name, work in columns.items()}
    return {name: statistics.median(each) for name, each in in_turns(timed, rounds).items()}


def _rate(work: Work) -> float:
    records, seconds = work()
    return records / seconds
