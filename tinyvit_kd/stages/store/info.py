"""``store info``: describes a store in a few lines."""

from __future__ import annotations

from os import PathLike

from tinyvit_kd.errors import StoreError
from tinyvit_kd.runs.dump_quality import stored_quality
from tinyvit_kd.runs.teacher_quality import Quality
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.wording import printable
from tinyvit_kd.store.label_sample import Labels, read_label_sample
from tinyvit_kd.store.statistics import holes, statistics
from tinyvit_kd.store.store import LogitStore


def info(path: str | PathLike[str]) -> str:
    """Figures about a store, in a few lines."""
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
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {printable(text)}" for name, text in rows.items())


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


def list_holes(path: str | PathLike[str]) -> str:
    """One line per hole: shard, index, reason."""
    store = LogitStore.open(path)
    names = store.manifest.shard_names
    return "\n".join(
        f"{printable(names[shard])}\t{index}\t{reason.name.lower()}" for shard, index, reason in holes(store)
    )
