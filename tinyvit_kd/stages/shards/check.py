"""``shards check``: decodes every sample, and names what is wrong."""

from __future__ import annotations

from functools import partial
from typing import Any

from tinyvit_kd.analysis.shard_set import leftover_figures, leftover_lines, shard_bar
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.check import CheckReport, check_shards
from tinyvit_kd.data.labels.label_order import LabelOrder
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.runtime.wording import counted
from tinyvit_kd.views.decode import decode

LISTED = 20  # samples that are listed for each kind of fault; the others are counted
_ONE_OF = {  # faults as they are said of a single one
    "have no label": "has no label",
    "have a label that the class list lacks": "has a label that the class list lacks",
    "shards without a sample": "shard without a sample",
}


def check(path: str, processes: int, **options: Any) -> CheckReport:
    """Read and decode every sample.

    Args:
        processes: how many processes share the shards.
        options: those of ``ShardSet.load``.
    """
    shards = ShardSet.load(path, **options)
    with shard_bar("shards check") as on_shard:
        return check_shards(shards, partial(_decode, ViewSpec().max_pixels), processes, on_shard)


def _decode(max_pixels: int, image: bytes) -> None:
    decode(image, max_pixels)


def check_figures(report: CheckReport) -> dict[str, Any]:
    """A report for machines; it lists all samples that have a fault."""
    return {
        "sound": report.sound,
        "samples": report.samples,
        "shards": report.shards,
        "undecodable": [{"sample": sample, "reason": reason} for sample, reason in report.undecodable],
        "unreadable": [{"sample": sample, "reason": reason} for sample, reason in report.unreadable],
        "duplicate_keys": report.duplicate_keys,
        "missing_labels": report.missing_labels,
        "unlabelled": report.unlabelled,
        "labels_out_of_range": [{"sample": sample, "label": label} for sample, label in report.labels_out_of_range],
        "empty_shards": report.empty_shards,
        "labels_are_sorted": bool(report.label_order.is_sorted),
        **leftover_figures(report.leftovers),
    }


def _describe_order(order: LabelOrder) -> str:
    """A warning where labels are sorted."""
    return (
        f"labels are sorted: {order.share:.2%} of neighbours in a shard share theirs, and "
        f"{order.share_in_random_order:.2%} would in random order. Each batch comes from a few places in the shards, "
        "so it will lack classes: pack the images anew with shards build, which mixes them, or train with more "
        "schedule.lanes, up to as many as a batch has samples"
    )


def describe_check(report: CheckReport) -> str:
    """A report for people: counts, and the first samples with each fault."""
    faults = {
        "cannot be decoded": [f"{sample}: {reason}" for sample, reason in report.undecodable],
        "cannot be read": [f"{sample}: {reason}" for sample, reason in report.unreadable],
        "share their key": report.duplicate_keys,
        "have no label": report.missing_labels,
        "have a label that the class list lacks": [
            f"{sample}: {label}" for sample, label in report.labels_out_of_range
        ],
        "shards without a sample": report.empty_shards,
    }
    lines = [f"{counted(report.samples, 'sample')} in {counted(report.shards, 'shard')}"]
    for fault, samples in faults.items():
        if samples:
            lines.append(f"{len(samples):,} {_ONE_OF.get(fault, fault) if len(samples) == 1 else fault}:")
            lines += [f"  {sample}" for sample in samples[:LISTED]]
            lines += [f"  … and {len(samples) - LISTED:,} more"] if len(samples) > LISTED else []
    if report.unlabelled:
        lines.append(f"{report.unlabelled:,} without labels, as the set was built")
    if report.missing_labels:
        lines.append(f"  what the first one has instead: {report.first_unlabelled}")
    if report.label_order.is_sorted:
        lines.append(_describe_order(report.label_order))
    if report.leftovers.lost:
        lines.append(f"{report.leftovers.lost:,} lost:")
    lines += leftover_lines(report.leftovers)
    return "\n".join([*lines, "sound" if report.sound else "not sound"])
