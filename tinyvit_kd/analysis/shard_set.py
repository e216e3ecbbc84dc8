"""A shard set as it is described: shards, samples, labels, and what of the tars is in no sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tinyvit_kd.data.classes_beside import CLASS_LIST_FILE
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.data.tars.leftovers import LOST, PASSED_OVER, Leftovers
from tinyvit_kd.runtime.log import progress_bar
from tinyvit_kd.runtime.wording import counted, first_few


def describe_shards(shards: ShardSet, named: str | None = None, numbered: bool = False) -> str:
    """A description for people.

    Args:
        named: the class list, as the user named it.
        numbered: labels were given here, and count from 0.
    """
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
    return "\n".join([*lines, *leftover_lines(leftovers), *_empty_lines(shards.empty_shards())])


def _each(lengths: list[int]) -> str:
    """How many samples each of some shards has, for people."""
    fewest, most = min(lengths, default=0), max(lengths, default=0)
    if fewest < most:
        return f"of {fewest:,} to {most:,} samples each"
    return f"of {counted(most, 'sample')}" + (" each" if len(lengths) > 1 else "")


def leftover_lines(leftovers: Leftovers) -> list[str]:
    """What is in no sample, a line per cause."""
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
    return [f"empty      shards without a sample: {len(empty):,} ({first_few(empty, 3)})"] if empty else []


def _describe_labels(shards: ShardSet, numbered: bool) -> str:
    """The range of the labels, and what is odd about them; ``numbered``: they were given here, and count from 0."""
    counts = shards.label_counts()
    if shards.unlabelled and counts.unlabelled == counts.samples:
        return "none, as the set was built"
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


def shard_figures(shards: ShardSet) -> dict[str, Any]:
    """The same for machines."""
    counts = shards.label_counts()
    return {
        "name": shards.name,
        "split": shards.split,
        "shards": len(shards.names),
        "samples": shards.total,
        "labelled": counts.samples - counts.unlabelled,
        "image_bytes": int(shards.image_bytes),
        "classes": len(shards.class_list.ids) if shards.class_list else None,
        "smallest_label": counts.smallest if counts.largest >= 0 else None,
        "largest_label": counts.largest if counts.largest >= 0 else None,
        "empty_shards": shards.empty_shards(),
        **leftover_figures(shards.leftovers()),
    }


def leftover_figures(leftovers: Leftovers) -> dict[str, Any]:
    """What is in no sample, for machines: counts by cause."""
    return {
        "lost": {cause: count for cause, count in leftovers.counts.items() if cause in LOST},
        "passed_over": {cause: count for cause, count in leftovers.counts.items() if cause in PASSED_OVER},
        "joined_archives": leftovers.joined,
        "indexes_of_earlier_versions": leftovers.unknown,
    }


@contextmanager
def shard_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar over shards; yields a function that takes (finished shards, all shards)."""
    bar = progress_bar(None, 0, "shard", label=label)

    def on_shard(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    with bar:
        yield on_shard
