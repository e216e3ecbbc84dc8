"""Reads every block of a store once and reports what is wrong; a repair removes damaged files."""

from __future__ import annotations

import time

from tinyvit_kd.errors import (
    BlockCorruptError,
    BlockForeignError,
    BlockMissingError,
    StoreError,
    StoreUnreadableError,
    said_by,
    what_to_do,
)
from tinyvit_kd.storage.base import Entry
from tinyvit_kd.store.arrays import array_shape, check_array
from tinyvit_kd.store.integrity import records_problem
from tinyvit_kd.store.names import (
    CLASS_LIST,
    DESCRIPTION,
    LABELS,
    MANIFEST,
    array_name,
    description_name,
    is_partial,
    view_of,
)
from tinyvit_kd.store.read_ahead import Read, read_ahead
from tinyvit_kd.store.report import Fault, FaultKind, StoreReport
from tinyvit_kd.store.store import RECENT, LogitStore

_REMOVABLE: tuple[FaultKind, ...] = ("damaged", "partial")


def shards_with_samples(store: LogitStore) -> list[int]:
    """Numbers of the shards that have samples, and so an array."""
    return [shard for shard, length in enumerate(store.manifest.shard_lengths) if length]


def check_root(store: LogitStore) -> StoreReport:
    """Look in the store's root for files and folders that do not belong there; none of them is read."""
    report = StoreReport()
    files = {MANIFEST, DESCRIPTION, CLASS_LIST, LABELS}
    folders = {array_name(shard) for shard in shards_with_samples(store)}
    for entry in _list_folder(report, store, "") or []:
        if entry.name in folders:
            if entry.kind != "folder":
                report.faults.append(_fault(store, "foreign", entry.name, "it is in place of a shard's folder"))
        elif entry.name not in files:
            _note_stray(report, store, entry)
    return report


def check_shard(store: LogitStore, shard: int, part: int = 0, parts: int = 1) -> StoreReport:
    """Read and check every present block of one shard.

    Args:
        part: which of the parts of the shard's views; part 0 also looks at all that is no block.
        parts: over how many calls the views are spread, so that several processes can share a shard.
    """
    report = StoreReport()
    entries = _list_folder(report, store, array_name(shard))
    views = range(part, store.manifest.views, parts)
    if entries is None:
        report.unlisted = len(views)
        report.faults = report.faults if part == 0 else []
        return report
    blocks: dict[int, Entry] = {}
    for entry in entries:
        view = view_of(entry.base)
        if view is not None and view < store.manifest.views:
            if view in views:
                blocks[view] = entry
        elif entry.base != DESCRIPTION and part == 0:
            reason = "" if view is None else "a block of a view that the manifest does not have"
            _note_stray(report, store, entry, reason)
    report.present = len(blocks)
    report.missing = len(views) - len(blocks)
    fault = _array_fault(store, shard, entries)
    if fault is not None:
        report.faults += [fault] if part == 0 else []
        report.unchecked = len(blocks)
        return report
    files = sorted(view for view, entry in blocks.items() if entry.kind == "file")
    for view, read in read_ahead(store, shard, files):
        _check_block(report, store, shard, view, blocks.pop(view), read)
    for view, entry in blocks.items():
        _check_block(report, store, shard, view, entry)
    report.faults.sort(key=lambda fault: (fault.block is not None, fault.block or ()))  # blocks by view, after all else
    return report


def remove_faults(store: LogitStore, report: StoreReport) -> tuple[list[Fault], list[Fault]]:
    """Remove damaged blocks, and unfinished files that killed writers left behind.

    A dump may be running, so each fault is confirmed before its file is removed.

    Returns:
        the faults whose files were removed, and the faults that remain.

    Raises:
        StoreError: the system refuses to remove a file.
    """
    removed: list[Fault] = []
    left: list[Fault] = []
    listed: dict[str, dict[str, Entry]] = {}  # by folder, each of which is listed once
    for fault in report.faults:
        # A shard's folder may be a link to the folder of another store, in which these blocks are right.
        if fault.kind not in _REMOVABLE or not store.storage.owns(fault.name):
            left.append(fault)
        elif _is_confirmed(store, fault, listed):
            (removed if _remove(store, fault) else left).append(fault)
    return removed, left


def _fault(
    store: LogitStore,
    kind: FaultKind,
    name: str,
    reason: str = "",
    block: tuple[int, int] | None = None,
    differing: tuple[str, ...] = (),
) -> Fault:
    return Fault(kind, name, store.storage.locate(name), reason, block, differing)


def _check_block(
    report: StoreReport, store: LogitStore, shard: int, view: int, entry: Entry, read: Read | None = None
) -> None:
    try:
        read = read or Read.of(store, shard, view)
        fault = _block_fault(store, shard, view, entry, read)
        if fault is None:
            report.undamaged += 1
            report.bytes += len(read.content)
    except BlockMissingError:  # removed since the folder was listed
        report.present -= 1
        report.missing += 1
        return
    if fault is not None:
        report.faults.append(fault)


def _block_fault(store: LogitStore, shard: int, view: int, entry: Entry, read: Read) -> Fault | None:
    """What is wrong with a block; None if nothing is.

    Args:
        read: what came of reading it.

    Raises:
        BlockMissingError: the block is gone.
    """
    name = entry.name
    block = (shard, view)
    if entry.kind == "folder":
        return _fault(store, "damaged", name, "a folder is in place of a block", block)
    if entry.kind == "other":
        return _fault(store, "foreign", name, "a device or a broken link is in place of a block")
    try:
        problem = records_problem(store.unpack(shard, view, read.result()), store.header(shard, view))
    except BlockMissingError:
        raise
    except BlockForeignError as error:
        return _fault(store, "damaged", name, _reason(error), block, error.differing)
    except BlockCorruptError as error:
        return _fault(store, "damaged", name, _reason(error), block)
    except StoreError as error:
        return _fault(store, "unread", name, _reason(error))
    except (OSError, MemoryError) as error:
        return _fault(store, "unread", name, said_by(error))
    return _fault(store, "damaged", name, problem, block) if problem else None


def _array_fault(store: LogitStore, shard: int, entries: list[Entry]) -> Fault | None:
    name = description_name(shard)
    if any(entry.name == name and entry.kind == "folder" for entry in entries):  # which dump-logits would not remove
        return _fault(store, "array", name, "a folder is in its place: remove it")
    try:
        check_array(store.storage, shard, array_shape(store.manifest, shard))
    except StoreUnreadableError as error:
        return _fault(store, "unread", name, _reason(error))
    except StoreError as error:
        return _fault(store, "array", name, _reason(error))
    except OSError as error:
        return _fault(store, "unread", name, said_by(error))
    return None


def _find_entry(store: LogitStore, name: str, listed: dict[str, dict[str, Entry]]) -> Entry | None:
    folder = name.rpartition("/")[0]
    entry = listed.get(folder, {}).get(name)
    if entry is None or entry.kind != "file":  # what a file is, is looked at again; of others the listing says it
        listed[folder] = {entry.name: entry for entry in store.storage.list(folder)}
    return listed[folder].get(name)


def _list_folder(report: StoreReport, store: LogitStore, folder: str) -> list[Entry] | None:
    """List a folder: empty if it does not exist; None, with a fault in the report, if the system refuses."""
    try:
        return store.storage.list(folder)
    except OSError as error:
        report.faults.append(_fault(store, "unread", folder, said_by(error)))
        return None


def _note_stray(report: StoreReport, store: LogitStore, entry: Entry, reason: str = "") -> None:
    if not is_partial(entry.base) or entry.kind != "file" or entry.is_link:
        report.faults.append(_fault(store, "foreign", entry.name, reason))
        return
    info = store.storage.info(entry.name)
    if info is None:  # its writer has finished and renamed it
        return
    if time.time() - info.modified_ns / 1e9 > RECENT:
        report.faults.append(_fault(store, "partial", entry.name))
    else:
        report.recent_partials.append(store.storage.locate(entry.name))


def _is_confirmed(store: LogitStore, fault: Fault, listed: dict[str, dict[str, Entry]]) -> bool:
    """Whether a second look at a file finds the same fault."""
    entry = _find_entry(store, fault.name, listed)
    if entry is None:
        return False
    if fault.block is None:
        again = StoreReport()
        _note_stray(again, store, entry)
        return [each.kind for each in again.faults] == [fault.kind]
    try:
        found = _block_fault(store, *fault.block, entry, Read.of(store, *fault.block))
    except BlockMissingError:
        return False
    return found is not None and found.kind == fault.kind


def _remove(store: LogitStore, fault: Fault) -> bool:
    """Remove a file, a link or an empty folder; returns False if anything else would be lost."""
    try:
        return store.storage.remove(fault.name)
    except OSError as error:
        raise StoreError(
            "a damaged block or an unfinished file cannot be removed",
            where=fault.where,
            found=said_by(error),
            fix=what_to_do(
                error, "check the permissions of its folder, and whether the disk is read-only, then run this again"
            ),
        ) from error


def _reason(error: StoreError) -> str:
    # Reports give the path in front of the reason, and say what to do once per kind of fault.
    parts = (error.what, error.found and f"found {error.found}", error.expected and f"expected {error.expected}")
    return "; ".join(part for part in parts if part)
