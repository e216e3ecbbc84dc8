"""``store``: what a store holds, whether every block of it is sound, and its repair."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from os import PathLike

from tinyvit_kd.errors import StoreError, TinyVitKdError
from tinyvit_kd.runs.class_lists import stored_classes
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.runtime.log import progress_bar
from tinyvit_kd.runtime.parallel import run_parallel
from tinyvit_kd.storage.open import open_storage
from tinyvit_kd.store.check import Fault, Kind, StoreReport, check_root, check_shard, remove_faults, shards_with_samples
from tinyvit_kd.store.names import CLASS_LIST, MANIFEST
from tinyvit_kd.store.statistics import holes, statistics
from tinyvit_kd.store.store import LogitStore

LISTED = 20  # examples of each kind of fault
LONGEST = 400  # characters of a reason
KINDS: dict[Kind, tuple[str, str]] = {
    "damaged": ("damaged blocks", "--repair removes them, dump-logits makes them again"),
    "unread": ("cannot be read", "no damage: see to the disk, its permissions and the free memory"),
    "array": ("descriptions of arrays missing or damaged", "dump-logits makes them again and keeps the blocks"),
    "classes": ("class list missing or not the teacher's", "dump-logits writes it again"),
    "partial": ("unfinished files of writers that were stopped", "--repair removes them"),
    "foreign": ("files that do not belong to the store", "--repair leaves them: remove them by hand"),
}


def info(path: str | PathLike[str]) -> str:
    """A few lines of figures."""
    store = LogitStore.open(path)
    manifest, figures = store.manifest, statistics(store)
    rows = {
        "teacher": f"{manifest.teacher.name}, weights {manifest.teacher.weights_hash}",
        "shards": f"{len(manifest.shard_names):,} with {sum(manifest.shard_lengths):,} samples ({manifest.shard_set})",
        "views": f"{manifest.views} a sample, {manifest.view_spec['size']} pixels, spec {manifest.view_spec_hash}",
        "records": f"top {manifest.topk} of {manifest.num_classes:,} classes "
        f"({manifest.class_list or 'no class list'}), {manifest.encoding}",
        "blocks": f"{figures.blocks:,} of {figures.blocks_in_all:,}",
        "on disk": f"{figures.bytes / 2**20:,.1f} MiB, {figures.bytes_per_record:.1f} bytes a record "
        f"(dense float32 {figures.dense_bytes_per_record:,}, "
        f"raw int16 + float16 + seed {figures.raw_bytes_per_record:,})",
        "certainty": f"top-1 {figures.mean_top1:.3f}, outside the top {manifest.topk} {figures.mean_residual:.4f}",
        "holes": ", ".join(f"{count:,} {reason}" for reason, count in figures.holes.items()) or "none",
        "made with": ", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
    }
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows.items())


def list_holes(path: str | PathLike[str]) -> str:
    """One line a hole: shard, index, reason."""
    store = LogitStore.open(path)
    names = store.manifest.shard_names
    return "\n".join(f"{names[shard]}\t{index}\t{reason.name.lower()}" for shard, index, reason in holes(store))


def check(path: str | PathLike[str], processes: int) -> StoreReport:
    """Read every block that is there; shards are spread over processes.

    Raises:
        StoreError, FormatVersionError: there is no store, or its manifest is damaged or of another format.
    """
    store = LogitStore.open(path)
    report = check_root(store)
    _check_classes(report, store)
    shards = shards_with_samples(store)
    processes = max(1, min(processes, len(shards)))
    with progress_bar(solo_job(), len(shards), "shard", label="store check") as bar:
        for found in run_parallel(partial(check_shard, store), shards, processes):
            report.add(found)
            bar.update()
    return report


def describe_check(report: StoreReport) -> str:
    """The report for people: counts, then the first faults of each kind with their paths."""
    every = report.there + report.missing + report.unlisted
    lines = [f"{report.there:,} of {every:,} blocks are there; {report.bytes / 2**20:,.1f} MiB of them are whole"]
    if report.missing:
        lines.append(f"missing blocks: {report.missing:,} (no damage: dump-logits makes them)")
    for kind, (name, note) in KINDS.items():
        lines += _listed(name, note, [_line(fault) for fault in report.faults if fault.kind == kind])
    if report.unchecked:
        lines.append(f"not checked: {report.unchecked:,} blocks of the arrays above that cannot be opened")
    if report.unlisted:
        lines.append(f"not listed: {report.unlisted:,} blocks, there or missing, of folders above that cannot be read")
    note = "younger than a minute, no fault: a dump may be writing them"
    lines += _listed("unfinished files", note, report.young)
    return "\n".join([*lines, "sound" if report.sound else "not sound"])


def require_writable(path: str | PathLike[str]) -> None:
    """Refuse, before hours of reading, to repair what cannot be written.

    Raises:
        StoreError: the folder is read-only for this user.
    """
    if not open_storage(path).is_writable():
        raise StoreError(
            "the store cannot be repaired: its folder is read-only",
            where=str(path),
            fix="see to its permissions, or leave --repair away to check only",
        )


def repair(path: str | PathLike[str], report: StoreReport) -> tuple[str, bool]:
    """Remove what is damaged: what was done, for people, and whether nothing that is wrong is left.

    Raises:
        StoreError: the system refuses to remove a file, or it seems to be the manifest that is wrong.
    """
    _refuse_wrong_manifest(path, report)
    removed, left = remove_faults(LogitStore.open(path), report)
    blocks = sum(fault.block is not None for fault in removed)
    note = f"{blocks:,} of them blocks: run dump-logits, which makes these again"
    lines = _listed("removed", note, (fault.where for fault in removed))
    lines += _listed("left as they are", "see above", (fault.where for fault in left))
    return "\n".join([*(lines or ["nothing to remove"]), "not sound" if left else "sound"]), not left


def _refuse_wrong_manifest(path: str | PathLike[str], report: StoreReport) -> None:
    # One file that was mixed up must not cost all blocks; the header names the hash of the manifest it was made with.
    strangers = [fault for fault in report.faults if "manifest_hash" in fault.differing]
    if strangers and not report.bytes:
        raise StoreError(
            "not one block is of the store that the manifest describes; nothing was removed",
            where=open_storage(path).locate(MANIFEST),
            found=f"{len(strangers):,} blocks that were made with another manifest",
            fix="restore the manifest that they were made with, or remove the blocks by hand",
        )


def _check_classes(report: StoreReport, store: LogitStore) -> None:
    try:
        stored_classes(store)
    except TinyVitKdError as error:
        where = store.storage.locate(CLASS_LIST)
        report.faults.append(Fault("classes", CLASS_LIST, where, f"{error.what}; found {error.found}"))


def _line(fault: Fault) -> str:
    return f"{fault.where}: {' '.join(fault.reason.split())[:LONGEST]}" if fault.reason else fault.where


def _listed(name: str, note: str, lines: Iterable[str]) -> list[str]:
    """How many there are, and the first of them below; nothing where there are none."""
    every = [_printable(line) for line in lines]
    if not every:
        return []
    more = [f"  … and {len(every) - LISTED:,} more"] if len(every) > LISTED else []
    return [f"{name}: {len(every):,} ({note})", *(f"  {line}" for line in every[:LISTED]), *more]


def _printable(text: str) -> str:
    # Names of files and what zarr says of them are whatever a store's maker wrote: they must not steer the terminal.
    return text if text.isprintable() else ascii(text)
