"""Images in Parquet and Arrow files, or named there by their paths; as Hugging Face's ``datasets`` writes them, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tinyvit_kd.data.building.source_rules import Listing
from tinyvit_kd.data.image_formats import HEAD_BYTES
from tinyvit_kd.data.labels.class_list import ClassList
from tinyvit_kd.data.labels.class_list_text import require_distinct
from tinyvit_kd.data.source_kinds.arrow_files import (
    ARROW_SUFFIXES,
    Batch,
    batches_of,
    features_of,
    holds_bytes,
    image_bytes,
    image_paths,
    places_of,
    schema_of,
)
from tinyvit_kd.data.source_kinds.columns import Columns, choose_columns
from tinyvit_kd.data.source_kinds.found import FoundSource
from tinyvit_kd.data.source_kinds.lists import ListedFiles, found_rows, said_of, single_split
from tinyvit_kd.data.source_kinds.rows import Rows
from tinyvit_kd.errors import ShardError


def is_arrow_table(path: Path) -> bool:
    """Whether a path is a Parquet or Arrow file, by its suffix."""
    return path.suffix.lower() in ARROW_SUFFIXES and path.is_file()


def find_in_arrow_table(listing: Listing, split: str | None) -> FoundSource:
    """The images in one Parquet or Arrow file; see ``find_in_arrow_files``."""
    return find_in_arrow_files(listing, single_split(listing, split), [listing.source])


def find_in_arrow_files(
    listing: Listing, split: str, files: Sequence[Path], features: Mapping[str, Any] | None = None
) -> FoundSource:
    """The images in Parquet or Arrow files that have the same columns, or that these files name.

    Args:
        listing: of the source.
        split: the files are this split.
        files: in their order.
        features: what a data set's description says of the columns, where the files say nothing.

    Raises:
        ShardError: a file cannot be read or has other columns, a row has no label, or there are no images.
        ConfigError: a column is missing, or pyarrow is.
    """
    schema = schema_of(files[0])
    features = features_of(schema) or features or {}
    columns = choose_columns(
        str(files[0]),
        [(field.name, str(field.type)) for field in schema],
        listing.rules,
        bytes_in=[field.name for field in schema if holds_bytes(field.type)],
        classes_in=[name for name, feature in features.items() if _class_names(feature)],
    )
    declared = None
    if columns.label is not None and (names := _class_names(features.get(columns.label))):
        require_distinct(names, str(files[0]))
        declared = ClassList(columns.label, tuple(names))
    taken = _Taken(listing, columns, declared)
    for file in files:
        missing = [name for name in columns if name is not None and name not in schema_of(file).names]
        if missing:
            raise ShardError(
                "the files of a table have different columns",
                where=str(file),
                found=f"no column {', '.join(missing)}",
                expected=f"the columns of {files[0].name}",
            )
        taken.add_file(file)
    return found_rows(listing, split, taken.finished(), columns, declared)


def _class_names(feature: Any) -> list[str]:
    is_label = isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
    names = feature.get("names") if is_label else None
    return [str(name) for name in names] if isinstance(names, list) else []


class _Taken:
    """Images by where they lie: at places in Arrow files, in rows of Parquet files, or in files of their own."""

    def __init__(self, listing: Listing, columns: Columns, classes: ClassList | None) -> None:
        self._listing, self._columns, self._classes = listing, columns, classes
        self._placed = Rows(listing.source)
        self._packed = Rows(listing.source, column=columns.image)
        self._own = ListedFiles(listing, columns, classes)

    def finished(self) -> list[Rows]:
        return [self._placed, self._packed, self._own.finished()]

    def add_file(self, file: Path) -> None:
        self._placed.files.append(file)
        self._packed.files.append(file)
        wanted = dict.fromkeys(name for name in self._columns if name is not None)
        first = 0
        for batch in batches_of(file, list(wanted)):
            self._add_batch(file, first, batch)
            first += batch.rows.num_rows

    def _add_batch(self, file: Path, first: int, batch: Batch) -> None:
        images = batch.rows.column(self._columns.image)
        others = [name for name in (self._columns.label, self._columns.key) if name is not None]
        values = {name: batch.rows.column(name).to_pylist() for name in others}
        content, names = image_bytes(images), image_paths(images)
        starts = None if content is None else places_of(content, batch)
        for number in range(batch.rows.num_rows):
            row = {name: column[number] for name, column in values.items()}
            value = None if content is None else content[number]
            if value is None or not value.is_valid:
                self._own.add(first + number + 1, row | {self._columns.image: names[number]})
                continue
            self._take(
                file, first + number, row, value.as_buffer(), names[number], None if starts is None else starts[number]
            )

    def _take(self, file: Path, number: int, row: Any, content: Any, path: str | None, start: int | None) -> None:
        name = path or f"{file.stem}-{number:09d}"
        shown = f"{self._listing.shown(file)}:{name}"
        if not self._listing.takes(name, lambda: shown, lambda: content[:HEAD_BYTES].to_pybytes()):
            return
        said = said_of(self._listing, self._columns, row, number + 1, self._classes)
        if start is None:
            self._packed.add(name, said.label, (number, content.size), said.key, said.instead)
        else:
            self._placed.add(name, said.label, (start, content.size), said.key, said.instead)
