"""``store copy``: takes parts of a store elsewhere, or merges parts that were dumped apart; checked, the same bytes."""

from __future__ import annotations

import copy as copying
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tinyvit_kd.errors import StoreError, TinyVitKdError
from tinyvit_kd.runs.class_lists import stored_classes
from tinyvit_kd.runs.new_store import expected_bytes
from tinyvit_kd.runs.store_parts import Block, chosen_parts, holders, open_sources
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.log import progress_bar
from tinyvit_kd.runtime.parallel import in_order, require_threads
from tinyvit_kd.runtime.signals import raise_if_stopped
from tinyvit_kd.runtime.wording import binary_size, counted, printable
from tinyvit_kd.store.copying import FAULTS, BlockCopy, Outcome, copy_block
from tinyvit_kd.store.label_sample import read_label_sample
from tinyvit_kd.store.names import CLASS_LIST, LABELS
from tinyvit_kd.store.store import LogitStore

LISTED = 20  # faults of each kind that are listed; the others are counted
AHEAD = 4  # blocks that wait for each thread
HEADINGS: dict[Outcome, str] = {
    "damaged": "damaged in the source, and not copied",
    "unread": "not readable in the source, and not copied",
    "differs": "other or damaged blocks in the target, which were kept: --replace writes the source's",
    "changed": "not given back as they were written",
}


@dataclass
class Report:
    """What came of a copy.

    Attributes:
        target: path or URL.
        outcomes: number of blocks by what came of them.
        bytes: that were written.
        nowhere: blocks that no source has.
        faults: of blocks and of the files beside them.
        present, total: blocks of the target at the end.
    """

    target: str
    outcomes: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    nowhere: int = 0
    faults: list[BlockCopy] = field(default_factory=list)
    present: int = 0
    total: int = 0

    def add(self, results: list[BlockCopy]) -> None:
        """Count what came of a block in each of the sources that have it."""
        self.bytes += sum(result.bytes for result in results)
        self.faults += [result for result in results if result.outcome in FAULTS]
        outcomes = {result.outcome for result in results}
        done = next((each for each in ("replaced", "copied", "there") if each in outcomes), None)
        if done is not None:
            self.outcomes[done] += 1
        elif outcomes <= {"gone"}:
            self.nowhere += 1

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return {
            "target": self.target,
            **{name: self.outcomes[name] for name in ("copied", "there", "replaced")},
            "bytes": self.bytes,
            "in_no_source": self.nowhere,
            "faults": [{"kind": each.outcome, "where": each.where, "reason": each.reason} for each in self.faults],
            "present": self.present,
            "missing": self.total - self.present,
        }


def copy(
    paths: Sequence[str],
    target: str,
    *,
    views: str | None = None,
    shards: str | None = None,
    replace: bool = False,
    verify: bool = False,
    threads: int = 8,
) -> Report:
    """Copy blocks from one or several stores into another one, which is made if it does not exist.

    Args:
        paths: of the sources, parts of one store.
        views, shards: which blocks; see ``chosen_parts``.
        replace: whether blocks of the target that differ are replaced.
        verify: whether blocks are read back.

    Raises:
        ConfigError, StoreError: nothing can be copied, or the target cannot be written.
        DiskSpaceError: the blocks would not fit.
    """
    sources = open_sources(paths, target)
    largest = max((source.manifest for source in sources), key=lambda manifest: manifest.views)
    parts = chosen_parts(largest, views, shards)
    with saying("listing the blocks of the sources"):
        found = holders(sources, parts)
    count = largest.views if views is None else parts.views[-1] + 1
    goal = LogitStore.create(target, largest.model_copy(update={"views": count}))
    with saying("listing the blocks of the target"):
        leftovers = goal.unfinished(parts.shards)
        absent = set(goal.missing_blocks(parts.views))
    _require_room(goal, [block for block in found if block in absent and found[block]])
    report = Report(goal.where)
    report.faults += _copy_beside(sources, goal)
    tasks = [(block, stores) for block, stores in found.items() if stores]
    report.nowhere = len(found) - len(tasks)
    with progress_bar(None, len(tasks), "block", label="store copy") as bar:
        for results in _in_threads(partial(_copy, goal, replace, verify), tasks, threads):
            report.add(results)
            bar.set_postfix_str(binary_size(report.bytes), refresh=False)
            bar.update()
    goal.remove_leftovers(leftovers)
    missing = goal.missing_blocks()
    report.total = goal.manifest.views * sum(length > 0 for length in goal.manifest.shard_lengths)
    report.present = report.total - len(missing)
    return report


def describe(report: Report) -> str:
    """A report for people."""
    copied = report.outcomes["copied"] + report.outcomes["replaced"]
    replaced = f", {report.outcomes['replaced']:,} of them in place of others" if report.outcomes["replaced"] else ""
    there = f"; {report.outcomes['there']:,} were there already" if report.outcomes["there"] else ""
    lines = [f"copied {counted(copied, 'block')}, {binary_size(report.bytes)}{replaced}{there}"]
    if report.nowhere:
        lines.append(
            f"in no source: {counted(report.nowhere, 'block')} (no fault: run this again once they are dumped)"
        )
    for outcome, heading in HEADINGS.items():
        faults = [fault for fault in report.faults if fault.outcome == outcome]
        if faults:
            more = [f"  … and {len(faults) - LISTED:,} more"] if len(faults) > LISTED else []
            shown = [f"  {printable(fault.where)}: {printable(fault.reason)}" for fault in faults[:LISTED]]
            lines += [f"{heading}: {len(faults):,}", *shown, *more]
    whole = "all" if report.present == report.total else f"{report.present:,}"
    return "\n".join([*lines, f"{printable(report.target)} has {whole} of {counted(report.total, 'block')}"])


def _copy(
    target: LogitStore, replace: bool, verify: bool, own: _Own, task: tuple[Block, list[LogitStore]]
) -> list[BlockCopy]:
    """Copy a block from each source that has it: the first that is whole counts, the others are compared with it."""
    (shard, view), sources = task
    results: list[BlockCopy] = []
    for source in sources:
        written = any(result.outcome in ("copied", "replaced") for result in results)
        results.append(
            copy_block(own(source), own(target), shard, view, replace=replace and not written, verify=verify)
        )
    return results


class _Own(threading.local):
    """The stores of a thread: a local storage reads parts of files for one thread alone."""

    def __init__(self) -> None:
        self._stores: dict[int, LogitStore] = {}

    def __call__(self, store: LogitStore) -> LogitStore:
        if id(store) not in self._stores:
            self._stores[id(store)] = LogitStore(
                copying.copy(store.storage), store.manifest, store.writable, store.fsync
            )
        return self._stores[id(store)]


Task = tuple[Block, list[LogitStore]]


def _in_threads(
    function: Callable[[_Own, Task], list[BlockCopy]], tasks: Sequence[Task], threads: int
) -> Iterator[list[BlockCopy]]:
    """What came of each task, in their order; only a few of them wait for each thread."""
    require_threads(threads)
    own = _Own()
    with ThreadPoolExecutor(threads, thread_name_prefix="store-copy") as pool:
        for copies in in_order(pool, partial(function, own), tasks, AHEAD * threads):
            raise_if_stopped()
            yield copies


def _require_room(target: LogitStore, blocks: list[Block]) -> None:
    manifest = target.manifest
    lengths = [manifest.shard_lengths[shard] for shard, _ in blocks]
    target.storage.require_free_space(expected_bytes(lengths, manifest.encoding, manifest.topk, manifest.num_classes))


def _copy_beside(sources: Sequence[LogitStore], target: LogitStore) -> Iterator[BlockCopy]:
    """Copy the class list and the sample of labels, where the target has none; yields what is wrong with them."""
    checks: dict[str, Callable[[LogitStore], object]] = {
        CLASS_LIST: stored_classes,
        LABELS: lambda store: read_label_sample(store.storage),
    }
    for name, check in checks.items():
        if target.storage.info(name) is None:
            yield from _copy_first(sources, target, name, check)


def _copy_first(
    sources: Sequence[LogitStore], target: LogitStore, name: str, check: Callable[[LogitStore], object]
) -> Iterator[BlockCopy]:
    for source in sources:
        try:
            if source.storage.info(name) is None:
                continue
            check(source)
            target.storage.write(name, source.storage.read(name))
            return
        except (TinyVitKdError, OSError) as error:
            reason = error.what if isinstance(error, StoreError) else str(error)
            yield BlockCopy("damaged", where=source.storage.locate(name), reason=reason)
