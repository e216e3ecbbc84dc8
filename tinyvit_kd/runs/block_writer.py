"""Collects the teacher's answers in blocks, and writes these to the store in a thread of its own."""

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

from tinyvit_kd.batches.dump_batches import DumpBatch
from tinyvit_kd.batches.dump_tasks import Group, Span
from tinyvit_kd.runs.second_teacher import FirstTeacher
from tinyvit_kd.runtime.log import warn
from tinyvit_kd.runtime.signals import REQUEUE_EXIT_CODE
from tinyvit_kd.runtime.watchdog import stalled
from tinyvit_kd.store.records import Block
from tinyvit_kd.store.store import LogitStore

MAX_PENDING = 8  # batches whose answers may wait for being encoded and written
LAST_WRITE = 20.0  # seconds that a running write has to finish if a dump ends early

# Waits for the device; returns indices [B, K], probs [B, K] and residual [B].
Answers = Callable[[], list[npt.NDArray[Any]]]


class Assembler:
    """Collects the teacher's answers until the blocks of a group are complete."""

    def __init__(self, topk: int) -> None:
        self.topk = topk
        self._open: dict[Group, _OpenBlocks] = {}

    def add(
        self,
        batch: DumpBatch,
        indices: npt.NDArray[np.int64],
        probs: npt.NDArray[np.float32],
        residual: npt.NDArray[np.float32],
    ) -> Iterator[tuple[int, int, Block]]:
        """Add the answers for one batch.

        Args:
            batch: what the teacher has seen.
            indices: classes, [batch_size, K].
            probs: their probabilities, [batch_size, K].
            residual: probability of all other classes, [batch_size].

        Yields:
            (shard, view, block) for every block that is now complete.
        """
        rows = len(batch.status)  # without padding
        answers = Block(
            indices[:rows].astype(np.int32), probs[:rows], residual[:rows], batch.seeds, batch.digests, batch.status
        )
        first = 0
        for span in batch.task:
            if span.group not in self._open:
                self._open[span.group] = _OpenBlocks.empty(span.group, self.topk)
            blocks = self._open[span.group]
            blocks.fill(span, answers.take(slice(first, first + span.rows)))
            first += span.rows
            if blocks.filled == span.group.samples:
                del self._open[span.group]
                yield from blocks.finish()


@dataclass
class _OpenBlocks:
    """The blocks of a group while they are being filled."""

    group: Group
    blocks: list[Block]  # one per view of the group
    filled: int = 0  # samples whose answers have been filled in

    @classmethod
    def empty(cls, group: Group, topk: int) -> _OpenBlocks:
        return cls(group, [Block.empty(group.samples, topk) for _ in group.views])

    def fill(self, span: Span, answers: Block) -> None:
        for column, block in enumerate(self.blocks):
            block.put(span.indexes, answers.take(slice(column, None, len(self.blocks))))
        self.filled += span.stop - span.start

    def finish(self) -> Iterator[tuple[int, int, Block]]:
        for view, block in zip(self.group.views, self.blocks, strict=True):
            hole = ~block.valid
            block.indices[hole] = 0
            block.probs[hole] = 0
            block.residual[hole] = 0
            yield self.group.shard, view, block


class BlockWriter(AbstractContextManager["BlockWriter"]):
    """Encodes and writes blocks in a thread, while the teacher goes on with the next batches.

    To an object store it writes several at a time, each in a thread of its own.

    Args:
        store: where blocks are written to.
        topk: K, classes per record.
        timeout: seconds after which a write that has not finished is given up.
        first_teacher: checks each block against another teacher's store before it is written; None: no check.
    """

    def __init__(self, store: LogitStore, topk: int, timeout: float, first_teacher: FirstTeacher | None) -> None:
        self._store = store
        self._assembler = Assembler(topk)
        self._timeout = timeout
        self._first_teacher = first_teacher
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store-writer")
        self._pending: deque[Future[None]] = deque()
        at_a_time = store.storage.at_a_time
        self._uploads = ThreadPoolExecutor(at_a_time, thread_name_prefix="upload") if at_a_time > 1 else None
        self._uploading: deque[Future[None]] = deque()

    def submit(self, batch: DumpBatch, answers: Answers) -> None:
        """Hand over one batch; waits while more than ``MAX_PENDING`` are not written yet.

        Raises:
            StalledError: the store has not taken a block in time.
            Exception: whatever the writing of an earlier batch raised.
        """
        self._pending.append(self._thread.submit(self._write, batch, answers))
        while len(self._pending) > MAX_PENDING or (self._pending and self._pending[0].done()):
            self._finish(self._pending.popleft())

    def _finish(self, write: Future[None]) -> None:
        try:
            write.result(self._timeout)
        except FutureTimeoutError:
            what = f"the store has not taken a block for {self._timeout:g} seconds"
            raise stalled(what, self._store.where) from None

    def _write(self, batch: DumpBatch, answers: Answers) -> None:
        # The writing thread waits for the device here, while the main thread launches the next forward pass.
        for shard, view, block in self._assembler.add(batch, *answers()):
            if self._first_teacher is not None:
                self._first_teacher.require_same(shard, view, block)
            if self._uploads is None:
                self._store.write_block(shard, view, block)
            else:
                self._uploading.append(self._uploads.submit(self._store.write_block, shard, view, block))
                self._take_uploads(self._store.storage.at_a_time)

    def _take_uploads(self, left: int) -> None:
        """Wait until no more than ``left`` blocks are on their way; raises what befell one of them."""
        while len(self._uploading) > left or (self._uploading and self._uploading[0].done()):
            self._uploading.popleft().result(self._timeout)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._pending.append(self._thread.submit(self._take_uploads, 0))
        self._thread.shutdown(wait=False, cancel_futures=error is not None)
        try:
            if error is None:
                for write in self._pending:
                    self._finish(write)
        finally:  # not before: what is written until then starts uploads
            if self._uploads is not None:
                self._uploads.shutdown(wait=False, cancel_futures=True)
        if error is None:
            return
        if wait([write for write in (*self._pending, *self._uploading) if write.running()], LAST_WRITE).not_done:
            warn(f"{self._store.where} does not answer: the dump stops without its last block; {error}")
            os._exit(REQUEUE_EXIT_CODE)  # an ordinary exit would wait for the write
