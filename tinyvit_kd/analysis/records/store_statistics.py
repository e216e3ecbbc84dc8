"""What a store says of its teacher and of itself: how right, how sure, how alike, how large.

``as_dict`` has every figure as plain data, for ``--json`` and for reports.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pydantic import ValidationError

from tinyvit_kd.analysis.records.block_sample import Blocks, tasks_of
from tinyvit_kd.analysis.records.class_figures import class_figures
from tinyvit_kd.analysis.records.store_blocks import MIXED_ROWS, BlockSummer, worth_processes
from tinyvit_kd.analysis.records.store_figures import (
    Tree,
    agreement,
    between_views,
    calibration,
    field_bytes,
    kept_mass,
    of_view,
    spread,
)
from tinyvit_kd.analysis.records.store_labels import StoreLabels
from tinyvit_kd.analysis.records.store_sums import StoreSums
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.errors import StoreError
from tinyvit_kd.runs.class_lists import stored_classes
from tinyvit_kd.runs.class_names import names_of
from tinyvit_kd.runtime.log import progress_bar
from tinyvit_kd.runtime.parallel import run_parallel
from tinyvit_kd.store.manifest import Manifest
from tinyvit_kd.store.store import LogitStore

FORMAT = 1
LISTED_UNREAD = 20


@dataclass(frozen=True)
class StoreStatistics:
    """The figures of some of a store's blocks, or of all.

    Attributes:
        where: path or URL of the store.
        manifest: what it was made from.
        names: of the teacher's classes, for people.
        ids: of these classes; None where they are not known.
        labels: which labels were used, for people.
        labels_kind: ``shards``, ``sample`` or ``none``.
        labels_note: what was taken for granted about them; empty if nothing was.
        mixes: whether views are mixed; None where the view spec is of a later version.
        present, total: blocks that the store has, and should have.
        wanted: blocks that were to be read.
        sums: over the blocks that were.
    """

    where: str
    manifest: Manifest
    names: list[str]
    ids: tuple[str, ...] | None
    labels: str
    labels_kind: str
    labels_note: str
    mixes: bool | None
    present: int
    total: int
    wanted: int
    sums: StoreSums

    @property
    def is_sample(self) -> bool:
        """Whether blocks that the store has were left out on purpose."""
        return self.wanted < self.present

    def as_dict(self) -> Tree:
        """All figures as plain JSON; means are of records, and fractions are between 0 and 1.

        What is not known is null: agreement without labels, figures of views without a second view.
        """
        sums, total = self.sums, self.sums.total
        largest = math.log(self.manifest.num_classes)
        return {
            "format": FORMAT,
            "store": self._store(),
            "read": self._read(),
            "labels": {
                "kind": self.labels_kind,
                "source": self.labels,
                "note": self.labels_note,
                "views": total.labelled,
                "mixed": self.mixes,
                "mixed_views_per_block": MIXED_ROWS if self.mixes else None,
            },
            "agreement": agreement(total, self.manifest.topk),
            "confidence": spread(sums, "confidence", total.confidence),
            "entropy": spread(sums, "entropy", total.entropy, largest) | {"unit": "nats", "largest": largest},
            "residual": spread(sums, "residual", total.residual),
            "kept_mass": kept_mass(sums),
            "by_view": [of_view(view, each, self.manifest.topk) for view, each in sorted(sums.by_view.items())],
            "between_views": between_views(sums),
            "classes": class_figures(sums.classes, self.names, self.ids),
            "calibration": calibration(sums),
            "bytes": field_bytes(sums, self.manifest),
            "holes": {"samples": sums.samples, "holes": sum(sums.holes.values()), "reasons": dict(sums.holes)},
        }

    def _store(self) -> Tree:
        manifest = self.manifest
        return {
            "path": self.where,
            "manifest_hash": manifest.hash,
            "teacher": manifest.teacher.name,
            "num_classes": manifest.num_classes,
            "class_list": manifest.class_list,
            "topk": manifest.topk,
            "encoding": manifest.encoding,
            "views": manifest.views,
            "shards": len(manifest.shard_names),
            "samples": sum(manifest.shard_lengths),
        }

    def _read(self) -> Tree:
        unread = self.sums.unread
        return {
            "blocks": self.sums.blocks,
            "wanted_blocks": self.wanted,
            "present_blocks": self.present,
            "total_blocks": self.total,
            "is_sample": self.is_sample,
            "records": self.sums.total.records,
            "unread_blocks": len(unread),
            "unread": [{"block": where, "what": what} for where, what in unread[:LISTED_UNREAD]],
        }


def store_statistics(store: LogitStore, labels: StoreLabels, blocks: Blocks, processes: int) -> StoreStatistics:
    """Read blocks and sum up what they say; memory is bounded by a few blocks per process.

    Args:
        store: opened for reading.
        labels: as ``find_labels`` gives them.
        blocks: (shard, view) of the blocks to read, shard by shard (``choose_blocks``). A block that cannot be read or
            is damaged is counted and left out.
        processes: how many share the work; the figures do not depend on it.

    Raises:
        StoreError: none of the blocks can be read.
    """
    spec = _spec(store.manifest)
    missing = store.missing_blocks()
    total_blocks = store.manifest.views * sum(length > 0 for length in store.manifest.shard_lengths)
    sums = StoreSums.zeros(store.manifest.num_classes, store.manifest.topk)
    tasks = tasks_of(blocks)
    summer = BlockSummer(store, labels, spec)
    with progress_bar(None, len(blocks), "block", label="store stats") as bar:
        workers = worth_processes(store, blocks, min(processes, len(tasks)))
        for task, found in zip(tasks, run_parallel(summer, tasks, workers), strict=True):
            sums.add(found)
            bar.update(len(task.views))
    _require_some(store, sums)
    classes = stored_classes(store)
    return StoreStatistics(
        where=store.where,
        manifest=store.manifest,
        names=names_of(classes, store.manifest.num_classes),
        ids=None if classes is None else classes.ids,
        labels=labels.source,
        labels_kind=labels.kind,
        labels_note=labels.note,
        mixes=None if spec is None else spec.mixes,
        present=total_blocks - len(missing),
        total=total_blocks,
        wanted=len(blocks),
        sums=sums,
    )


def _spec(manifest: Manifest) -> ViewSpec | None:
    try:
        return ViewSpec.model_validate(manifest.view_spec)
    except ValidationError:  # of a later version, which may mix views in other ways
        return None


def _require_some(store: LogitStore, sums: StoreSums) -> None:
    if sums.unread and not sums.blocks:
        where, what = sums.unread[0]
        raise StoreError(
            "no block of the store can be read",
            where=where,
            found=f"{what} (the first of {len(sums.unread):,} blocks)",
            fix=f"run store check {store.where}, which says what is wrong with each",
        )
