"""``shards``: builds, indexes, describes and checks shard sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.building.build import build_splits
from tinyvit_kd.data.building.build_report import count_built, describe_listed, describe_packed
from tinyvit_kd.data.building.left_out import NAMED
from tinyvit_kd.data.building.source_rules import SourceRules
from tinyvit_kd.data.check import CheckReport, check_shards
from tinyvit_kd.data.labels.label_order import LabelOrder
from tinyvit_kd.data.shards import CLASS_LIST_FILE, ShardSet
from tinyvit_kd.data.tars.leftovers import LOST, PASSED_OVER, Leftovers
from tinyvit_kd.runtime.log import progress_bar, warn
from tinyvit_kd.runtime.wording import counted
from tinyvit_kd.views.decode import decode

LISTED = 20  # samples that are listed for each kind of fault; the others are counted
_ONE_OF = {  # faults as they are said of a single one
    "have no label": "has no label",
    "have a label that the class list lacks": "has a label that the class list lacks",
    "shards without a sample": "shard without a sample",
}


def build(
    source: Path,
    output: Path,
    split: str | None,
    samples_per_shard: int,
    seed: int,
    processes: int,
    rules: Mapping[str, Any] | None = None,
    list_all: bool = False,
) -> tuple[str, dict[str, Any]]:
    """Pack images into shards; returns a description of what was made, for people, and its counts.

    Args:
        split: None: each folder, tar or zip of the source is a split.
        rules: the fields of ``SourceRules``.
        list_all: name all that is left out, not only the first ones.
    """
    with _shard_bar("shards build") as on_shard:
        report = build_splits(
            source,
            output,
            split,
            samples_per_shard=samples_per_shard,
            seed=seed,
            processes=processes,
            on_shard=on_shard,
            on_listed=lambda listed: warn("\n".join(describe_listed(listed))) if describe_listed(listed) else None,
            rules=SourceRules(**rules or {}),
            named=None if list_all else NAMED,
        )
    described = [_describe(shards, numbered=True) for shards in report.sets]
    return "\n".join([*described, *describe_packed(report)]), count_built(report)


def index(path: str, **options: Any) -> str:
    """Make the missing byte indexes; returns a description of the shard set, for people.

    Here and below, ``options`` are those of ``ShardSet.load``.
    """
    with _shard_bar("shards index") as on_shard:
        return _describe(ShardSet.load(path, on_shard=on_shard, **options), options.get("class_list"))


def info(path: str, **options: Any) -> str:
    """A description of a shard set, for people."""
    with _shard_bar("shards info") as on_shard:
        return _describe(ShardSet.load(path, on_shard=on_shard, **options), options.get("class_list"))


def check(path: str, processes: int, **options: Any) -> tuple[str, bool]:
    """Read and decode every sample; returns a report for people, and whether the shard set is sound."""
    shards = ShardSet.load(path, **options)
    with _shard_bar("shards check") as on_shard:
        report = check_shards(shards, partial(_decode, ViewSpec().max_pixels), processes, on_shard)
    return _report(report), report.sound


def _decode(max_pixels: int, image: bytes) -> None:
    decode(image, max_pixels)


def _describe(shards: ShardSet, named: str | None = None, numbered: bool = False) -> str:
    counts, leftovers = shards.label_counts(), shards.leftovers()
    labelled, lost = counts.samples - counts.unlabelled, leftovers.lost
    classes = (
        f"{len(shards.class_list.ids):,} ({named or CLASS_LIST_FILE})"
        if shards.class_list
        else "no class list beside the shards"
    )
    rows = {
        "shard set": f"{shards.name}, split {shards.split or '(unnamed)'}",
        "shards": f"{len(shards.names):,}, {_each(shards.lengths.tolist())}",
        "samples": f"{shards.total:,}, {labelled:,} of them labelled, {shards.image_bytes / 2**20:,.1f} MiB of images",
        "classes": classes,
        "labels": _describe_labels(shards, numbered),
    }
    if lost:
        rows["lost"] = f"{lost:,} besides these ({leftovers.lost_fraction(shards.total):.2%}):"
    lines = [f"{name:<10} {text}" for name, text in rows.items()]
    return "\n".join([*lines, *_leftover_lines(leftovers), *_empty_lines(shards.empty_shards())])


def _each(lengths: list[int]) -> str:
    """How many samples each of some shards has, for people."""
    fewest, most = min(lengths, default=0), max(lengths, default=0)
    if fewest < most:
        return f"of {fewest:,} to {most:,} samples each"
    return f"of {counted(most, 'sample')}" + (" each" if len(lengths) > 1 else "")


def _leftover_lines(leftovers: Leftovers) -> list[str]:
    lines = [f"  {line}" for line in leftovers.lines(LOST)]
    if passed_over := leftovers.lines(PASSED_OVER):
        lines += ["passed over:", *(f"  {line}" for line in passed_over)]
    if leftovers.joined:
        lines.append(f"joined     archives behind the first one of their tar, read as well: {leftovers.joined:,}")
    if leftovers.unknown:
        lines.append(
            f"unknown    indexes of an earlier version, which do not say what was left out and cannot "
            f"be replaced (--index-dir FOLDER makes others): {leftovers.unknown:,}"
        )
    return lines


def _empty_lines(empty: list[str]) -> list[str]:
    return [f"empty      shards without a sample: {len(empty):,} ({_first(empty, 3)})"] if empty else []


def _first(names: list[str], count: int) -> str:
    return ", ".join(names[:count]) + (", …" if len(names) > count else "")


def _describe_labels(shards: ShardSet, numbered: bool) -> str:
    """The range of the labels, and what is odd about them; ``numbered``: they were given here, and count from 0."""
    counts = shards.label_counts()
    parts = [f"{counts.smallest:,} to {counts.largest:,}" if counts.largest >= 0 else "none"]
    if counts.smallest == 1 and not numbered:
        parts.append(
            "none is 0, where classes count from 0: if these labels count from 1, set shards.first_label to 1 in "
            "recipes, and say --first-label 1 here"
        )
    if counts.unlabelled:
        have = "sample has" if counts.unlabelled == 1 else "samples have"
        parts.append(f"{counts.unlabelled:,} {have} none, the first is {shards.first_unlabelled()}")
    return "; ".join(parts)


def _describe_order(order: LabelOrder) -> str:
    """A warning where labels are sorted."""
    return (
        f"labels are sorted: {order.share:.2%} of neighbours in a shard share theirs, and "
        f"{order.share_in_random_order:.2%} would in random order. Each batch comes from a few places in the shards, "
        "so it will lack classes: pack the images anew with shards build, which mixes them, or train with more "
        "schedule.lanes, up to as many as a batch has samples"
    )


def _report(report: CheckReport) -> str:
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
    if report.missing_labels:
        lines.append(f"  what the first one has instead: {report.first_unlabelled}")
    if report.label_order.is_sorted:
        lines.append(_describe_order(report.label_order))
    if report.leftovers.lost:
        lines.append(f"{report.leftovers.lost:,} lost:")
    lines += _leftover_lines(report.leftovers)
    return "\n".join([*lines, "sound" if report.sound else "not sound"])


@contextmanager
def _shard_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar over shards; yields a function that takes (finished shards, all shards)."""
    bar = progress_bar(None, 0, "shard", label=label)

    def on_shard(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    with bar:
        yield on_shard
