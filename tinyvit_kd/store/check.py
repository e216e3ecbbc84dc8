"""Reads every block of a store once: is it sound? And removes what is not."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from tinyvit_kd.errors import BlockCorruptError, BlockForeignError, BlockMissingError, StoreError, StoreUnreadableError
from tinyvit_kd.storage.base import Entry
from tinyvit_kd.store.arrays import array_shape, open_array
from tinyvit_kd.store.integrity import block_problem
from tinyvit_kd.store.names import (
    CLASS_LIST,
    DESCRIPTION,
    MANIFEST,
    array_name,
    block_name,
    description_name,
    is_partial,
    view_of,
)
from tinyvit_kd.store.store import LogitStore

YOUNG = 60.0  # seconds; what was written to more recently may belong to a dump that runs

Kind = Literal[
    "damaged",  # a block that is not whole, not here, not of this store, or no file
    "unread",  # the system refused; says nothing of the block
    "array",  # a shard's zarr.json; its blocks cannot be read without it
    "classes",  # the class list
    "partial",  # what a killed writer left behind
    "foreign",  # not a part of this store
]
_REMOVABLE: tuple[Kind, ...] = ("damaged", "partial")


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a store.

    Attributes:
        name: of the file, in the store.
        where: its path or URL, for people.
        reason: what is wrong with it, for people.
        block: (shard, view), where the file is that of a block.
        differing: fields of the block's header that are another block's.
    """

    kind: Kind
    name: str
    where: str
    reason: str = ""
    block: tuple[int, int] | None = None
    differing: tuple[str, ...] = ()


@dataclass
class StoreReport:
    """What was found in a store, or in one shard of it."""

    there: int = 0  # blocks, damaged ones included
    missing: int = 0  # blocks; no fault, a dump may be unfinished
    unchecked: int = 0  # blocks whose array cannot be opened
    unlisted: int = 0  # blocks that may be there or not: the system refuses to list their folder
    bytes: int = 0  # of the blocks that are whole
    faults: list[Fault] = field(default_factory=list)
    young: list[str] = field(default_factory=list)  # partial files that a dump may be writing just now

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    def add(self, other: StoreReport) -> None:
        """Take over what was found elsewhere in the store."""
        self.there += other.there
        self.missing += other.missing
        self.unchecked += other.unchecked
        self.unlisted += other.unlisted
        self.bytes += other.bytes
        self.faults += other.faults
        self.young += other.young


def shards_with_samples(store: LogitStore) -> list[int]:
    """The shards that have an array."""
    return [shard for shard, length in enumerate(store.manifest.shard_lengths) if length]


def check_root(store: LogitStore) -> StoreReport:
    """Look for what does not belong beside the shards' folders; contents are not read."""
    report = StoreReport()
    files = {MANIFEST, DESCRIPTION, CLASS_LIST}
    folders = {array_name(shard) for shard in shards_with_samples(store)}
    for entry in _entries(report, store, "") or []:
        if entry.name in folders:
            if entry.kind != "folder":
                report.faults.append(_fault(store, "foreign", entry.name, "stands in place of a shard's folder"))
        elif entry.name not in files:
            _note_stray(report, store, entry)
    return report


def check_shard(store: LogitStore, shard: int) -> StoreReport:
    """Read, decode and check every block of one shard that is there."""
    report = StoreReport()
    entries = _entries(report, store, array_name(shard))
    if entries is None:
        report.unlisted = store.manifest.views
        return report
    views: list[int] = []
    for entry in entries:
        view = view_of(entry.base)
        if view is not None and view < store.manifest.views:
            views.append(view)
        elif entry.base != DESCRIPTION:
            surplus = "" if view is None else "a block of a view that the manifest does not have"
            _note_stray(report, store, entry, surplus)
    report.there = len(views)
    report.missing = store.manifest.views - len(views)
    fault = _array_fault(store, shard)
    if fault is not None:
        report.faults.append(fault)
        report.unchecked = len(views)
        return report
    kinds = {entry.name: entry for entry in entries}
    for view in sorted(views):
        _check_block(report, store, shard, view, kinds[block_name(shard, view)])
    return report


def remove_faults(store: LogitStore, report: StoreReport) -> tuple[list[Fault], list[Fault]]:
    """Remove damaged blocks and what killed writers left behind.

    A dump may be running: each fault is looked at once more before its file is removed.

    Returns:
        What was removed, and what is left of the report's faults.

    Raises:
        StoreError: the system refuses to remove a file.
    """
    removed: list[Fault] = []
    left: list[Fault] = []
    for fault in report.faults:
        # A shard's folder may be a link to another store's, whose blocks are good there.
        if fault.kind not in _REMOVABLE or not store.storage.owns(fault.name):
            left.append(fault)
        elif _still(store, fault):
            (removed if _remove(store, fault) else left).append(fault)
    return removed, left


def _fault(
    store: LogitStore,
    kind: Kind,
    name: str,
    reason: str = "",
    block: tuple[int, int] | None = None,
    differing: tuple[str, ...] = (),
) -> Fault:
    return Fault(kind, name, store.storage.locate(name), reason, block, differing)


def _check_block(report: StoreReport, store: LogitStore, shard: int, view: int, entry: Entry) -> None:
    try:
        fault = _block_fault(store, shard, view, entry)
        report.bytes += store.block_bytes(shard, view) if fault is None else 0
    except BlockMissingError:  # removed since the folder was read
        report.there -= 1
        report.missing += 1
        return
    if fault is not None:
        report.faults.append(fault)


def _block_fault(store: LogitStore, shard: int, view: int, entry: Entry) -> Fault | None:
    """What is wrong with a block that is there.

    Raises:
        BlockMissingError: it is not there.
    """
    name, block = entry.name, (shard, view)
    if entry.kind == "folder":
        return _fault(store, "damaged", name, "a folder stands in place of a block", block)
    if entry.kind == "other":
        return _fault(store, "foreign", name, "no file, in place of a block: a link to nothing, or a device")
    try:
        with np.errstate(invalid="ignore"):  # decoding meets what block_problem then finds
            problem = block_problem(store.read_block(shard, view), store.manifest.num_classes)
    except BlockMissingError:
        raise
    except BlockForeignError as error:
        return _fault(store, "damaged", name, _reason(error), block, error.differing)
    except BlockCorruptError as error:
        return _fault(store, "damaged", name, _reason(error), block)
    except StoreError as error:
        return _fault(store, "unread", name, _reason(error))
    except (OSError, MemoryError) as error:
        return _fault(store, "unread", name, repr(error))
    return _fault(store, "damaged", name, problem, block) if problem else None


def _array_fault(store: LogitStore, shard: int) -> Fault | None:
    name = description_name(shard)
    try:
        entry = _entry(store, name)
        if entry is not None and entry.kind == "folder":  # dump-logits removes no folder
            return _fault(store, "array", name, "a folder stands in its place: remove it")
        open_array(store.storage, shard, array_shape(store.manifest, shard), writable=False)
    except StoreUnreadableError as error:
        return _fault(store, "unread", name, _reason(error))
    except StoreError as error:
        return _fault(store, "array", name, _reason(error))
    except OSError as error:
        return _fault(store, "unread", name, repr(error))
    return None


def _entry(store: LogitStore, name: str) -> Entry | None:
    folder = name.rpartition("/")[0]
    return next((entry for entry in store.storage.list(folder) if entry.name == name), None)


def _entries(report: StoreReport, store: LogitStore, folder: str) -> list[Entry] | None:
    """What is in a folder, by name; nothing where it does not exist, None where the system refuses."""
    try:
        return store.storage.list(folder)
    except OSError as error:
        report.faults.append(_fault(store, "unread", folder, repr(error)))
        return None


def _note_stray(report: StoreReport, store: LogitStore, entry: Entry, reason: str = "") -> None:
    if not is_partial(entry.base) or entry.kind != "file" or entry.is_link:
        report.faults.append(_fault(store, "foreign", entry.name, reason))
        return
    info = store.storage.info(entry.name)
    if info is None:  # its writer has finished it
        return
    if time.time() - info.modified_ns / 1e9 > YOUNG:
        report.faults.append(_fault(store, "partial", entry.name))
    else:
        report.young.append(store.storage.locate(entry.name))


def _still(store: LogitStore, fault: Fault) -> bool:
    entry = _entry(store, fault.name)
    if entry is None:
        return False
    if fault.block is None:
        again = StoreReport()
        _note_stray(again, store, entry)
        return [each.kind for each in again.faults] == [fault.kind]
    try:
        found = _block_fault(store, *fault.block, entry)
    except BlockMissingError:
        return False
    return found is not None and found.kind == fault.kind


def _remove(store: LogitStore, fault: Fault) -> bool:
    """Remove a file, a link or an empty folder; whether that was possible without losing anything else."""
    try:
        return store.storage.remove(fault.name)
    except OSError as error:
        raise StoreError(
            "a damaged block or an unfinished file cannot be removed",
            where=fault.where,
            found=repr(error),
            fix="see to the permissions of its folder, or whether the disk is read-only, then run this again",
        ) from error


def _reason(error: StoreError) -> str:
    # The path is named beside it, and what to do below the list.
    parts = (error.what, error.found and f"found {error.found}", error.expected and f"expected {error.expected}")
    return "; ".join(part for part in parts if part)
