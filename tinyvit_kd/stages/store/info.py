"""``store info``: describes a store in a few lines."""

from __future__ import annotations

from dataclasses import asdict
from os import PathLike
from typing import Any

from tinyvit_kd.errors import StoreError
from tinyvit_kd.runs.dump_quality import stored_quality
from tinyvit_kd.runs.teacher_quality import Quality
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.wording import printable, table
from tinyvit_kd.store.label_sample import Labels, read_label_sample
from tinyvit_kd.store.manifest import Manifest
from tinyvit_kd.store.statistics import Statistics, holes, statistics
from tinyvit_kd.store.store import LogitStore


def info(path: str | PathLike[str]) -> tuple[str, dict[str, Any]]:
    """Figures about a store: in a few lines for people, and for machines."""
    store = LogitStore.open(path)
    manifest = store.manifest
    with saying("counting the blocks"):
        figures = statistics(store)
    with saying("looking into some of the blocks"):
        quality, known = _quality(store)
    rows = {
        "teacher": f"{manifest.teacher.name}, weights {manifest.teacher.weights_hash}, "
        f"input of {manifest.teacher.image_size} pixels, {manifest.teacher.precision}",
        "shards": f"{len(manifest.shard_names):,} with {sum(manifest.shard_lengths):,} samples ({manifest.shard_set})",
        "views": f"{manifest.views} per sample, {manifest.view_spec['size']} pixels, spec {manifest.view_spec_hash}",
        "records": f"top {manifest.topk} of {manifest.num_classes:,} classes "
        f"({manifest.class_list or 'no class list'}), {manifest.encoding}",
        "blocks": f"{figures.blocks:,} of {figures.total_blocks:,}",
        "on disk": f"{figures.bytes / 2**20:,.1f} MiB, {figures.bytes_per_record:.1f} bytes per record "
        f"(dense float32 {figures.dense_bytes_per_record:,}, "
        f"raw int16 + float16 + seed {figures.raw_bytes_per_record:,})",
        "certainty": f"top-1 {quality.mean_best:.3f}, outside the top {manifest.topk} {quality.mean_outside:.4f}",
        "agreement": known,
        "holes": ", ".join(f"{count:,} {reason}" for reason, count in figures.holes.items()) or "none",
        "made with": ", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
    }
    text = table([(name, printable(told)) for name, told in rows.items()])
    return text, _figures(manifest, figures, quality)


def _figures(manifest: Manifest, figures: Statistics, quality: Quality) -> dict[str, Any]:
    """What the table says, for machines; the teacher's figures are of a sample of blocks."""
    return {
        "manifest": manifest.model_dump(mode="json", exclude={"shard_names", "shard_lengths"}),
        "shards": len(manifest.shard_names),
        "samples": sum(manifest.shard_lengths),
        "bytes_per_record": figures.bytes_per_record,
        **asdict(figures),
        "sampled_views": quality.views,
        **quality.results(),
    }


def _quality(store: LogitStore) -> tuple[Quality, str]:
    """The teacher's figures on some of the blocks, and how often it is right, for people."""
    unknown = "no labels of the teacher's classes were known when it was dumped"
    labels: Labels = {}
    try:
        labels = read_label_sample(store.storage)
    except StoreError as error:
        unknown = f"not known: {error.what}; {error.fix}"
    quality = stored_quality(store, labels, list(store.present_blocks(store.missing_blocks())))
    if quality.agreement is None:
        return quality, unknown
    return quality, f"best class is the label in {quality.agreement:.1%} of {quality.labelled:,} views, a sample"


def list_holes(path: str | PathLike[str]) -> tuple[str, list[dict[str, Any]]]:
    """Every hole: one line each for people, and for machines."""
    store = LogitStore.open(path)
    names = store.manifest.shard_names
    found = [
        {"shard": names[shard], "index": index, "reason": reason.name.lower()} for shard, index, reason in holes(store)
    ]
    return "\n".join(f"{printable(str(each['shard']))}\t{each['index']}\t{each['reason']}" for each in found), found
