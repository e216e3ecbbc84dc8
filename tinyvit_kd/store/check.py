"""Reads every block of a store once: is it sound? And removes what is not."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from tinyvit_kd.errors import BlockCorruptError, BlockMissingError, StoreError
from tinyvit_kd.store.arrays import array_name, array_shape, open_array
from tinyvit_kd.store.manifest import MANIFEST
from tinyvit_kd.store.records import Block, RecordStatus
from tinyvit_kd.store.store import LogitStore

YOUNG = 60.0  # seconds; what was written to more recently may belong to a dump that runs
TOLERANCE = 1e-2  # of a record's whole mass, which is 1; far above what any precision of a teacher rounds

_DESCRIPTION = "zarr.json"
_BLOCK = re.compile(r"c\.(0|[1-9][0-9]*)\.0\.0")
_PARTIAL = re.compile(  # zarr's names, which replace the last suffix, and those of runtime.files
    r"(c\.[0-9]+\.0(\.0)?|zarr(\.json)?)\.[0-9a-f]{8,32}\.partial"
    r"|\.(manifest\.json|classes\.txt|zarr\.json|c\.[0-9]+\.0\.0)\.[0-9a-f]{8,32}\.partial"
)

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
    """One thing that is wrong with a store."""

    kind: Kind
    path: Path
    reason: str = ""
    block: tuple[int, int] | None = None  # shard and view


@dataclass
class StoreReport:
    """What was found in a store, or in one shard of it."""

    there: int = 0  # blocks, damaged ones included
    missing: int = 0  # blocks; no fault, a dump may be unfinished
    unchecked: int = 0  # blocks whose array cannot be opened
    unlisted: int = 0  # blocks that may be there or not: the system refuses to list their folder
    bytes: int = 0  # of the blocks that are whole
    faults: list[Fault] = field(default_factory=list)
    young: list[Path] = field(default_factory=list)  # partial files that a dump may be writing just now

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


def check_root(store: LogitStore, class_list: str) -> StoreReport:
    """Look for what does not belong beside the shards' folders; contents are not read.

    Args:
        store: what to check.
        class_list: name of the file of the class list.
    """
    report = StoreReport()
    files = {MANIFEST, _DESCRIPTION, class_list}
    folders = {array_name(shard) for shard in shards_with_samples(store)}
    for entry in _entries(report, store.path) or []:
        if entry.name in folders:
            if not entry.is_dir():
                report.faults.append(Fault("foreign", Path(entry.path), "stands in place of a shard's folder"))
        elif entry.name not in files:
            _note_stray(report, entry)
    return report


def check_shard(store: LogitStore, shard: int) -> StoreReport:
    """Read, decode and check every block of one shard that is there."""
    report, views = StoreReport(), list[int]()
    entries = _entries(report, store.path / array_name(shard))
    if entries is None:
        report.unlisted = store.manifest.views
        return report
    for entry in entries:
        match = _BLOCK.fullmatch(entry.name)
        if match and int(match[1]) < store.manifest.views:
            views.append(int(match[1]))
        elif entry.name != _DESCRIPTION:
            _note_stray(report, entry, "a block of a view that the manifest does not have" if match else "")
    report.there, report.missing = len(views), store.manifest.views - len(views)
    fault = _array_fault(store, shard)
    if fault is not None:
        report.faults.append(fault)
        report.unchecked = len(views)
        return report
    for view in sorted(views):
        _check_block(report, store, shard, view)
    return report


def remove_faults(store: LogitStore, report: StoreReport) -> tuple[list[Fault], list[Fault]]:
    """Remove damaged blocks and what killed writers left behind.

    A dump may be running: each fault is looked at once more before its file is removed.

    Returns:
        What was removed, and what is left of the report's faults.

    Raises:
        StoreError: the system refuses to remove a file.
    """
    removed, left = list[Fault](), list[Fault]()
    for fault in report.faults:
        if fault.kind not in _REMOVABLE or not _inside(store, fault.path):
            left.append(fault)
        elif _still(store, fault):
            (removed if _remove(fault.path) else left).append(fault)
    return removed, left


def block_problem(block: Block, num_classes: int) -> str:
    """What is wrong with the records of a block; empty where nothing is."""
    valid, hole = block.valid, ~block.valid
    with np.errstate(invalid="ignore"):  # what is infinite or no number is found by the comparisons
        mass = block.probs.sum(axis=1) + block.residual
    ascending = (block.indices[:, 1:] > block.indices[:, :-1]).all(axis=1)
    in_range = (block.indices[:, 0] >= 0) & (block.indices[:, -1] < num_classes)
    in_bounds = (block.probs.min(axis=1) >= 0) & (block.residual >= 0) & (abs(mass - 1) <= TOLERANCE)
    full = block.indices.any(axis=1) | block.probs.any(axis=1) | (block.residual != 0)
    problems = {
        "have an unknown status": block.status > max(RecordStatus),
        f"have classes that do not ascend below {num_classes}": valid & ~(ascending & in_range),
        "have probabilities that are not finite, below 0, or do not sum to 1": valid & ~in_bounds,
        "are holes, but not empty": hole & full,
    }
    for problem, rows in problems.items():
        if rows.any():
            return f"{rows.sum()} of {len(block)} records {problem}, the first at index {rows.argmax()}"
    return ""


def _check_block(report: StoreReport, store: LogitStore, shard: int, view: int) -> None:
    path = store.block_path(shard, view)
    try:
        fault = _block_fault(store, shard, view)
        report.bytes += path.stat().st_size if fault is None else 0
    except (BlockMissingError, FileNotFoundError):  # removed since the folder was read
        report.there -= 1
        report.missing += 1
        return
    if fault is not None:
        report.faults.append(fault)


def _block_fault(store: LogitStore, shard: int, view: int) -> Fault | None:
    """What is wrong with a block that is there.

    Raises:
        BlockMissingError: it is not there.
    """
    path, block = store.block_path(shard, view), (shard, view)
    try:
        if path.is_dir():
            return Fault("damaged", path, "a folder stands in place of a block", block)
        if os.path.lexists(path) and not path.is_file():
            return Fault("foreign", path, "no file, in place of a block: a link to nothing, or a device")
        with np.errstate(invalid="ignore"):  # decoding meets what block_problem then finds
            problem = block_problem(store.read_block(shard, view), store.manifest.num_classes)
    except BlockMissingError:
        raise
    except BlockCorruptError as error:
        return Fault("damaged", path, _reason(error), block)
    except StoreError as error:
        return Fault("unread", path, _reason(error))
    except (OSError, MemoryError) as error:
        return Fault("unread", path, repr(error))
    return Fault("damaged", path, problem, block) if problem else None


def _array_fault(store: LogitStore, shard: int) -> Fault | None:
    path = store.path / array_name(shard) / _DESCRIPTION
    try:
        if path.is_dir():  # dump-logits removes no folder
            return Fault("array", path, "a folder stands in its place: remove it")
        open_array(store.path, shard, array_shape(store.manifest, shard), writable=False)
    except StoreError as error:
        cause = error.__cause__
        refused = isinstance(cause, OSError | MemoryError) and not isinstance(cause, FileNotFoundError)
        return Fault("unread" if refused else "array", path, _reason(error))
    except OSError as error:
        return Fault("unread", path, repr(error))
    return None


def _entries(report: StoreReport, folder: Path) -> list[os.DirEntry[str]] | None:
    """What is in a folder, by name; nothing where it does not exist, None where the system refuses."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        report.faults.append(Fault("unread", folder, repr(error)))
        return None


def _note_stray(report: StoreReport, entry: os.DirEntry[str], reason: str = "") -> None:
    path = Path(entry.path)
    if not (_PARTIAL.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)):
        report.faults.append(Fault("foreign", path, reason))
    elif _is_stale(path):
        report.faults.append(Fault("partial", path))
    elif os.path.lexists(path):  # else its writer has finished it
        report.young.append(path)


def _is_stale(path: Path) -> bool:
    try:
        return time.time() - path.lstat().st_mtime > YOUNG
    except FileNotFoundError:
        return False


def _inside(store: LogitStore, path: Path) -> bool:
    # A shard's folder may be a link to another store's, whose blocks are good there.
    return path.parent.resolve().is_relative_to(store.path.resolve())


def _still(store: LogitStore, fault: Fault) -> bool:
    if fault.block is None:
        return _is_stale(fault.path)
    try:
        found = _block_fault(store, *fault.block)
    except BlockMissingError:
        return False
    return found is not None and found.kind == fault.kind


def _remove(path: Path) -> bool:
    """Remove a file, a link or an empty folder; whether that was possible without losing anything else."""
    try:
        if path.is_dir():
            if path.is_symlink() or any(path.iterdir()):
                return False
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            "a damaged block or an unfinished file cannot be removed",
            where=str(path),
            found=repr(error),
            fix="see to the permissions of its folder, or whether the disk is read-only, then run this again",
        ) from error
    return True


def _reason(error: StoreError) -> str:
    # The path is named beside it, and what to do below the list.
    parts = (error.what, error.found and f"found {error.found}", error.expected and f"expected {error.expected}")
    return "; ".join(part for part in parts if part)
