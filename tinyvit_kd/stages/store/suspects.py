"""``store suspects``: samples whose label the teacher contradicts, as CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any

from tinyvit_kd.analysis.records.store_labels import find_labels, open_stored_shards
from tinyvit_kd.analysis.records.suspects import Suspect, Suspects, Thresholds, find_suspects
from tinyvit_kd.errors import ConfigError, reason_of
from tinyvit_kd.runs.class_lists import stored_classes
from tinyvit_kd.runs.class_names import names_of
from tinyvit_kd.runtime.files import atomic_write
from tinyvit_kd.runtime.wording import counted, printable
from tinyvit_kd.store.store import LogitStore

FORMAT = 1
COLUMNS = (
    *("shard", "index", "key", "label", "label_name", "teacher_class", "teacher_name"),
    *("contradicted", "label_probability", "label_not_stored", "teacher_probability", "views"),
)
# With what a spreadsheet takes the text of a cell for a formula; some take the full-width forms, too.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
Tree = dict[str, Any]


def suspects(
    path: str | PathLike[str],
    processes: int,
    contradicted: float = Thresholds.contradicted,
    label_probability: float = Thresholds.label_probability,
    teacher_probability: float = Thresholds.teacher_probability,
    min_views: int = Thresholds.views,
    limit: int | None = None,
    shards: str | None = None,
    **options: Any,
) -> tuple[Tree, str]:
    """The suspects of a store as plain data, and a line for people about them.

    Args:
        processes: how many share the work.
        contradicted, label_probability, teacher_probability, min_views: when a sample is suspect (``Thresholds``).
        limit: how many are told, the surest ones; None: all.
        shards: those that the store was dumped from; None: those that its results name.
        options: of ``ShardSet.load``.

    Raises:
        StoreError: there is no store.
        ConfigError: its labels or keys are not known.
        ManifestMismatchError, ShardError: the shards are others or cannot be read.
    """
    thresholds = Thresholds(contradicted, label_probability, teacher_probability, min_views)
    store = LogitStore.open(path)
    labels = find_labels(store, None if shards is None else open_stored_shards(store, shards, **options))
    found = find_suspects(store, labels, thresholds, processes)
    names = names_of(stored_classes(store), store.manifest.num_classes)
    told = [_told(each, store.manifest.shard_names, names) for each in found.found[:limit]]
    result = {
        "format": FORMAT,
        "store": store.where,
        "labels": labels.source,
        "thresholds": asdict(thresholds),
        "samples": found.samples,
        "unlabelled": found.unlabelled,
        "blocks": found.blocks,
        "missing_blocks": found.missing,
        "unread": [{"block": where, "what": what} for where, what in found.unread],
        "count": len(found.found),
        "suspects": told,
    }
    return result, printable(_summary(found, len(told), labels.source))


def as_csv(result: Tree) -> str:
    """The suspects as CSV with a header.

    A text that a spreadsheet would take for a formula gets an apostrophe in front: keys come from strangers.
    """
    written = io.StringIO()
    lines = csv.writer(written, lineterminator="\n")
    lines.writerow(COLUMNS)
    lines.writerows(_cells(each) for each in result["suspects"])
    return written.getvalue()


def as_json(result: Tree) -> str:
    """The suspects, and what they were found in, in one line of JSON."""
    return json.dumps(result, allow_nan=False) + "\n"


def require_place(output: Path) -> None:
    """Refuse a file that cannot be written, before hours of reading.

    Raises:
        ConfigError: it is a folder, or its folder does not exist or takes no file.
    """
    folder = output.absolute().parent
    problem = "it is a folder" if output.is_dir() else "" if folder.is_dir() else f"no folder {folder}"
    if not problem:
        try:
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            problem = f"{folder} takes no file: {reason_of(error)}"
    if problem:
        raise ConfigError(
            "the suspects cannot be written there",
            where=f"--output {output}",
            found=problem,
            fix="name a file in a folder that exists and can be written",
        )


def write(output: Path, text: str) -> None:
    """Write the file, whole or not at all."""
    atomic_write(output, text.encode())


def _told(suspect: Suspect, shard_names: Sequence[str], names: Sequence[str]) -> Tree:
    return {
        "shard": shard_names[suspect.shard],
        "shard_number": suspect.shard,
        "index": suspect.index,
        "key": suspect.key,
        "label": suspect.label,
        "label_name": names[suspect.label],
        "teacher_class": suspect.teacher_class,
        "teacher_name": names[suspect.teacher_class],
        "contradicted": suspect.contradicted / suspect.views,
        "label_probability": suspect.label_probability,
        "label_not_stored": suspect.label_not_stored,
        "teacher_probability": suspect.teacher_probability,
        "views": suspect.views,
    }


def _cells(told: Tree) -> Iterator[str]:
    for name in COLUMNS:
        value = told[name]
        if isinstance(value, float):
            yield f"{value:.4f}"
        elif isinstance(value, int):
            yield str(value)
        else:
            yield ("'" if value.startswith(_FORMULA) else "") + printable(value)


def _summary(found: Suspects, told: int, labels: str) -> str:
    count = len(found.found)
    share = f" ({count / found.samples:.2%})" if found.samples else ""
    notes = [f"{counted(found.blocks, 'block')} read, labels {labels}"]
    if told < count:
        notes.append(f"the {told:,} surest are told")
    if found.unlabelled:
        notes.append(f"{counted(found.unlabelled, 'sample')} without a label that the teacher knows")
    if found.missing:
        notes.append(f"{counted(found.missing, 'block')} not dumped yet")
    if found.unread:
        notes.append(f"{counted(len(found.unread), 'block')} left out: {found.unread[0][0]} ({found.unread[0][1]})")
    return f"suspects: {count:,} of {counted(found.samples, 'labelled sample')}{share}; {'; '.join(notes)}"
