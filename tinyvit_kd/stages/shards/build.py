"""``shards build``: packs images into shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tinyvit_kd.analysis.shard_set import describe_shards, shard_bar
from tinyvit_kd.data.building.build import build_splits
from tinyvit_kd.data.building.build_report import count_built, describe_listed, describe_packed
from tinyvit_kd.data.building.left_out import NAMED
from tinyvit_kd.data.building.source_rules import ColumnNames, SourceRules
from tinyvit_kd.runtime.log import warn
from tinyvit_kd.views.smaller import Smaller


def build(
    sources: Sequence[Path],
    output: Path | str,
    split: str | None,
    samples_per_shard: int,
    seed: int,
    processes: int,
    rules: Mapping[str, Any] | None = None,
    columns: Mapping[str, Any] | None = None,
    list_all: bool = False,
    resize: tuple[int, int] | None = None,
) -> tuple[str, dict[str, Any]]:
    """Pack images into shards; returns a description of what was made, for people, and its counts.

    Args:
        sources: folders, tars, zips and lists; their classes are merged by name.
        output: a folder, or the URL of one in an object store.
        split: None: each folder, tar or zip of the source is a split.
        rules: the fields of ``SourceRules``, without ``columns``.
        columns: the fields of ``ColumnNames``.
        list_all: name all that is left out, not only the first ones.
        resize: the shorter side of images that are larger, pixels, and the quality of their JPEG files.
    """
    with shard_bar("shards build") as on_shard:
        report = build_splits(
            sources,
            output,
            split,
            samples_per_shard=samples_per_shard,
            seed=seed,
            processes=processes,
            on_shard=on_shard,
            on_listed=lambda listed: warn("\n".join(describe_listed(listed))) if describe_listed(listed) else None,
            rules=SourceRules(**rules or {}, columns=ColumnNames(**columns or {})),
            named=None if list_all else NAMED,
            reencode=None if resize is None else Smaller(*resize),
        )
    described = [describe_shards(shards, numbered=True) for shards in report.sets]
    return "\n".join([*described, *describe_packed(report)]), count_built(report)
