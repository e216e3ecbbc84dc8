"""``store info``: what a store holds, for people."""

from __future__ import annotations

from pathlib import Path

from tinyvit_kd.store.statistics import holes, statistics
from tinyvit_kd.store.store import LogitStore


def describe(path: Path) -> str:
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


def list_holes(path: Path) -> str:
    """One line a hole: shard, index, reason."""
    store = LogitStore.open(path)
    names = store.manifest.shard_names
    return "\n".join(f"{names[shard]}\t{index}\t{reason.name.lower()}" for shard, index, reason in holes(store))
