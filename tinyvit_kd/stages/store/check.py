"""``store check``: reads every block, names what is wrong, and removes what is damaged."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from os import PathLike
from typing import Any

from tinyvit_kd.errors import StoreError, TinyVitKdError
from tinyvit_kd.runs.class_lists import stored_classes
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.runtime.log import progress_bar
from tinyvit_kd.runtime.parallel import run_parallel
from tinyvit_kd.runtime.wording import printable
from tinyvit_kd.storage.open import open_storage
from tinyvit_kd.store.check import check_root, check_shard, remove_faults, shards_with_samples
from tinyvit_kd.store.label_sample import read_label_sample
from tinyvit_kd.store.names import CLASS_LIST, LABELS, MANIFEST
from tinyvit_kd.store.report import Fault, FaultKind, StoreReport
from tinyvit_kd.store.store import LogitStore

SHARES = 4  # of a check's work for each process, so that none is left without while others have much
LISTED = 20  # faults of each kind that are listed; the others are counted
REASON_LENGTH = 400  # characters after which a reason is cut off
HEADINGS: dict[FaultKind, tuple[str, str]] = {  # what is listed, and what to do about it
    "damaged": ("damaged blocks", "--repair removes them, dump-logits makes them again"),
    "unread": ("cannot be read", "no damage: check the disk, its permissions and the free memory"),
    "array": ("descriptions of arrays missing or damaged", "dump-logits makes them again and keeps the blocks"),
    "classes": ("class list missing or not the teacher's", "dump-logits writes it again"),
    "labels": ("labels, which statistics alone need, damaged", "dump-logits writes them again"),
    "partial": ("unfinished files of writers that were stopped", "--repair removes them"),
    "foreign": ("files that do not belong to the store", "--repair leaves them: remove them by hand"),
}


def check(path: str | PathLike[str], processes: int) -> StoreReport:
    """Read every present block.

    Args:
        processes: how many processes share the shards.

    Raises:
        StoreError, FormatVersionError: there is no store, or its manifest is damaged or of another format.
    """
    store = LogitStore.open(path)
    report = check_root(store)
    _check_classes(report, store)
    shards = shards_with_samples(store)
    views = store.manifest.views
    parts = min(views, math.ceil(SHARES * processes / max(1, len(shards)))) if processes > 1 else 1
    tasks = [(shard, part, parts) for shard in shards for part in range(parts)]
    processes = max(1, min(processes, len(tasks)))
    with progress_bar(solo_job(), len(shards) * views, "block", label="store check") as bar:
        for (_, part, _), found in zip(tasks, run_parallel(partial(_check_part, store), tasks, processes), strict=True):
            report.add(found)
            bar.set_postfix_str(f"{report.bytes / 2**20:,.0f} MiB", refresh=False)
            bar.update(len(range(part, views, parts)))
    return report


def _check_part(store: LogitStore, task: tuple[int, int, int]) -> StoreReport:
    return check_shard(store, *task)


def describe_check(report: StoreReport, with_verdict: bool = True) -> str:
    """Describe a report to people: counts, then the first faults of each kind with their paths.

    Args:
        with_verdict: end with whether the store is sound. After a repair another verdict follows.
    """
    total = report.present + report.missing + report.unlisted
    undamaged = f"{report.undamaged:,} of them, {report.bytes / 2**20:,.1f} MiB, are undamaged"
    lines = [f"{report.present:,} of {total:,} blocks are there; {undamaged}"]
    if report.missing:
        lines.append(f"missing blocks: {report.missing:,} (no damage: dump-logits makes them)")
    for kind, (name, note) in HEADINGS.items():
        lines += _headed_list(name, note, [_line(fault) for fault in report.faults if fault.kind == kind])
    if report.unchecked:
        lines.append(f"not checked: {report.unchecked:,} blocks, whose arrays are among those above")
    if report.unlisted:
        lines.append(f"not listed: {report.unlisted:,} blocks, present or missing: their folders above cannot be read")
    note = "changed less than a minute ago, no fault: a dump may be writing them"
    lines += _headed_list("unfinished files", note, report.recent_partials)
    return "\n".join([*lines, *([verdict(report.sound, report.complete)] if with_verdict else [])])


def check_figures(report: StoreReport) -> dict[str, Any]:
    """A report for machines; it lists all faults."""
    return {
        "sound": report.sound,
        "complete": report.complete,
        "present": report.present,
        "missing": report.missing,
        "undamaged": report.undamaged,
        "unchecked": report.unchecked,
        "unlisted": report.unlisted,
        "bytes": report.bytes,
        "faults": [
            {"kind": fault.kind, "where": fault.where, "reason": fault.reason, "block": fault.block}
            for fault in report.faults
        ],
        "unfinished": report.recent_partials,
    }


def verdict(sound: bool, complete: bool) -> str:
    """The last line of a check or a repair."""
    return ("sound" if sound else "not sound") + ("" if complete else ", and not complete")


def require_writable(path: str | PathLike[str]) -> None:
    """Refuse to repair a store that cannot be written, before hours of reading.

    Raises:
        StoreError: the folder is read-only for this user.
    """
    if not open_storage(path).is_writable():
        raise StoreError(
            "the store cannot be repaired: its folder is read-only",
            where=str(path),
            fix="change its permissions, or omit --repair to check only",
        )


def repair(path: str | PathLike[str], report: StoreReport) -> tuple[str, bool]:
    """Remove what is damaged. What is removed is missing in the report from then on.

    Returns:
        what was done, for people, and whether the store is now sound.

    Raises:
        StoreError: the system refuses to remove a file, or the manifest seems to be wrong, not the blocks.
    """
    _refuse_wrong_manifest(path, report)
    removed, left = remove_faults(LogitStore.open(path), report)
    blocks = sum(fault.block is not None for fault in removed)
    report.present -= blocks
    report.missing += blocks
    note = f"{blocks:,} of them blocks: run dump-logits, which makes these again"
    lines = _headed_list("removed", note, (fault.where for fault in removed))
    lines += _headed_list("left as they are", "see above", dict.fromkeys(fault.where for fault in left))
    return "\n".join([*(lines or ["nothing to remove"]), verdict(not left, report.complete)]), not left


def _refuse_wrong_manifest(path: str | PathLike[str], report: StoreReport) -> None:
    # One misplaced manifest must not cost all blocks. A block's header holds the hash of the manifest it was made with.
    foreign = [fault for fault in report.faults if "manifest_hash" in fault.differing]
    if foreign and not report.bytes:
        raise StoreError(
            "no block belongs to the store that the manifest describes; nothing was removed",
            where=open_storage(path).locate(MANIFEST),
            found=f"{len(foreign):,} blocks that were made with another manifest",
            fix="restore the manifest that they were made with, or remove the blocks by hand",
        )


def _check_classes(report: StoreReport, store: LogitStore) -> None:
    try:
        stored_classes(store)
    except TinyVitKdError as error:
        where = store.storage.locate(CLASS_LIST)
        report.faults.append(Fault("classes", CLASS_LIST, where, f"{error.what}; found {error.found}"))
    try:
        read_label_sample(store.storage)
    except StoreError as error:
        where = store.storage.locate(LABELS)
        report.faults.append(Fault("labels", LABELS, where, f"{error.what}; found {error.found}"))


def _line(fault: Fault) -> str:
    return f"{fault.where}: {' '.join(fault.reason.split())[:REASON_LENGTH]}" if fault.reason else fault.where


def _headed_list(name: str, note: str, items: Iterable[str]) -> list[str]:
    """A heading with the number of items, and the first of them below; no lines if there are no items."""
    shown = [printable(item) for item in items]
    if not shown:
        return []
    more = [f"  … and {len(shown) - LISTED:,} more"] if len(shown) > LISTED else []
    return [f"{name}: {len(shown):,} ({note})", *(f"  {item}" for item in shown[:LISTED]), *more]
