"""What came of a source: its shards, what was left out, and what will be holes; for people and as counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tinyvit_kd.data.building import packed_images
from tinyvit_kd.data.building.left_out import MEANINGS, Tally
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.runtime.wording import counted


@dataclass
class BuildReport:
    """What came of a source.

    Attributes:
        left_out: what became no sample, by cause.
        notes: on the classes, one line each.
        undecodable: samples that will be holes, by the reason; of the shards that this call has written.
        sets: the shards, a set for each split.
        resized: samples that were encoded anew, because they were too large; of the shards that this call has written.
    """

    left_out: Tally
    notes: tuple[str, ...] = ()
    undecodable: Tally = field(default_factory=Tally)
    sets: list[ShardSet] = field(default_factory=list)
    resized: int = 0


def describe_listed(report: BuildReport) -> list[str]:
    """What is known of a source before it is packed, in lines."""
    lines = report.left_out.lines(MEANINGS)
    return [*report.notes, *(["left out of the shards:"] if lines else []), *(f"  {line}" for line in lines)]


def describe_packed(report: BuildReport) -> list[str]:
    """Which of the samples just written will be holes or were resized, and how many files were left out, in lines."""
    lines = report.undecodable.lines(packed_images.MEANINGS)
    left_out = report.left_out.files_by_suffix()
    return [
        *(["packed, but will be holes:"] if lines else []),
        *(f"  {line}" for line in lines),
        *([f"resized    {counted(report.resized, 'sample')}"] if report.resized else []),
        *([f"left out   {report.left_out.file_suffixes.total():,} files: {left_out}"] if left_out else []),
    ]


def count_built(report: BuildReport) -> dict[str, Any]:
    """The counts, for programs."""
    return {
        "splits": {shards.split: {"samples": shards.total, "shards": len(shards.names)} for shards in report.sets},
        "classes": max((len(shards.class_list.ids) for shards in report.sets if shards.class_list), default=0),
        "left_out": dict(report.left_out.counts),
        "undecodable": dict(report.undecodable.counts),
        **({"resized": report.resized} if report.resized else {}),
        **({"left_out_by_suffix": dict(report.left_out.file_suffixes)} if report.left_out.file_suffixes else {}),
    }
