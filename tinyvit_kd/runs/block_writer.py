"""From the teacher's answers to blocks of the store, in a thread beside the teacher's."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit_kd.batches.dump import DumpBatch
from tinyvit_kd.batches.dump_tasks import Group, Span
from tinyvit_kd.runs.second_teacher import FirstTeacher
from tinyvit_kd.runtime.log import warn
from tinyvit_kd.runtime.signals import REQUEUE_EXIT_CODE
from tinyvit_kd.runtime.watchdog import stalled
from tinyvit_kd.store.records import Block
from tinyvit_kd.store.store import LogitStore


class Assembler:
    """Puts the teacher's answers together until a group's blocks are whole."""

    def __init__(self, topk: int) -> None:
        self.topk = topk
        self._open: dict[Group, _Partial] = {}

    def add(
        self,
        batch: DumpBatch,
        indices: npt.NDArray[np.int64],
        probs: npt.NDArray[np.float32],
        residual: npt.NDArray[np.float32],
    ) -> Iterator[tuple[int, int, Block]]:
        """Take the answers [batch_size, K] for a batch; yields (shard, view, block) for blocks that are now whole."""
        made = len(batch.status)
        answers = Block(
            indices[:made].astype(np.int32), probs[:made], residual[:made], batch.seeds, batch.digests, batch.status
        )
        first = 0
        for span in batch.task:
            if span.group not in self._open:
                self._open[span.group] = _Partial.empty(span.group, self.topk)
            partial = self._open[span.group]
            partial.fill(span, answers.take(slice(first, first + span.rows)))
            first += span.rows
            if partial.filled == span.group.samples:
                del self._open[span.group]
                yield from partial.whole()


@dataclass
class _Partial:
    group: Group
    blocks: list[Block]  # of each of the group's views
    filled: int = 0

    @classmethod
    def empty(cls, group: Group, topk: int) -> _Partial:
        return cls(group, [Block.empty(group.samples, topk) for _ in group.views])

    def fill(self, span: Span, answers: Block) -> None:
        for column, block in enumerate(self.blocks):
            block.put(span.indexes, answers.take(slice(column, None, len(self.blocks))))
        self.filled += span.stop - span.start

    def whole(self) -> Iterator[tuple[int, int, Block]]:
        for view, block in zip(self.group.views, self.blocks, strict=True):
            hole = ~block.valid
            block.indices[hole], block.probs[hole], block.residual[hole] = 0, 0, 0
            yield self.group.shard, view, block


QUEUE = 8  # batches whose answers may wait for encoding and writing


LAST_WRITE = 20.0  # seconds that a block which is being written has to be finished when a dump ends early


Answers = Callable[[], list[npt.NDArray[Any]]]  # waits for the device: indices [B, K], probs [B, K], residual [B]


class BlockWriter(AbstractContextManager["BlockWriter"]):
    """Encodes and writes, in one thread beside the teacher's."""

    def __init__(self, store: LogitStore, topk: int, timeout: float, first_teacher: FirstTeacher | None) -> None:
        self._store, self._assembler, self._timeout, self._forerunner = store, Assembler(topk), timeout, first_teacher
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store-writer")
        self._waiting: deque[Future[None]] = deque()

    def submit(self, batch: DumpBatch, answers: Answers) -> None:
        """Hand over one batch; waits where ``QUEUE`` others are not written yet, and raises what they raised."""
        self._waiting.append(self._thread.submit(self._write, batch, answers))
        while len(self._waiting) > QUEUE or (self._waiting and self._waiting[0].done()):
            self._finish(self._waiting.popleft())

    def _finish(self, write: Future[None]) -> None:
        try:
            write.result(self._timeout)
        except FutureTimeoutError:
            what = f"the store has not taken a block for {self._timeout:g} seconds"
            raise stalled(what, self._store.where) from None

    def _write(self, batch: DumpBatch, answers: Answers) -> None:
        # This thread waits for the device, and the next forward pass is launched meanwhile.
        for shard, view, block in self._assembler.add(batch, *answers()):
            if self._forerunner is not None:
                self._forerunner.require_same(shard, view, block)
            self._store.write_block(shard, view, block)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=False, cancel_futures=error is not None)
        if error is None:
            for write in self._waiting:
                self._finish(write)
        elif wait([write for write in self._waiting if write.running()], LAST_WRITE).not_done:
            warn(f"{self._store.where} does not answer, leaving; {error}")
            os._exit(REQUEUE_EXIT_CODE)  # an ordinary end would wait for the write
