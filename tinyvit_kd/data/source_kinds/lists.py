"""A list of images: paths with labels, one in each row of a CSV, TSV or JSON-lines file."""

from __future__ import annotations

import json
import os
import stat
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from tinyvit_kd.data.building.left_out import Cause
from tinyvit_kd.data.building.source_folders import Found, takes_file
from tinyvit_kd.data.building.source_rules import Listing
from tinyvit_kd.data.labels.class_list import ClassList
from tinyvit_kd.data.labels.sample_labels import Value, name_of, value_of
from tinyvit_kd.data.source_kinds.columns import Columns, choose_columns
from tinyvit_kd.data.source_kinds.found import FoundSource
from tinyvit_kd.data.source_kinds.keys import key_of
from tinyvit_kd.data.source_kinds.rows import Rows
from tinyvit_kd.data.source_kinds.text_tables import TEXT_SUFFIXES, text_table
from tinyvit_kd.errors import ConfigError, ShardError
from tinyvit_kd.runtime.wording import counted, first_few

_SHOWN, _LONGEST = 3, 40  # rows that a message names, and characters of a value in it


def is_text_list(path: Path) -> bool:
    """Whether a path is a list, by its suffix."""
    return path.suffix.lower() in TEXT_SUFFIXES and path.is_file()


def find_in_text_list(listing: Listing, split: str | None) -> FoundSource:
    """The images that a list names.

    Raises:
        ShardError: it cannot be read, a file that it names is missing, or some of its rows have no label.
        ConfigError: a column is missing.
    """
    path = listing.source
    table = text_table(path)
    first = next(table.rows, None)
    if first is None:
        raise ShardError("a list of images has no rows", where=str(path), expected="the columns' names, and rows below")
    columns = choose_columns(str(path), [(name, "") for name in table.names], listing.rules)
    listed = ListedFiles(listing, columns)
    for number, row in enumerate(chain([first], table.rows), 1):
        listed.add(number, row)
    return found_rows(listing, single_split(listing, split), [listed.finished()], columns)


class ListedFiles:
    """Takes the files that a table names, row by row.

    Args:
        listing: of the table.
        columns: of the table.
        classes: as for ``label_and_key``.
    """

    def __init__(self, listing: Listing, columns: Columns, classes: ClassList | None = None) -> None:
        self._listing, self._columns, self._classes = listing, columns, classes
        self._root = listing.rules.columns.root or listing.source.parent
        self._rows = Rows(self._root, own_files=True)
        self._missing: list[str] = []

    def add(self, number: int, row: Any) -> None:
        """Take the file of a row, by the names of the columns; files that are missing are kept for the error."""
        name = row.get(self._columns.image)
        if name is None or not str(name).strip():
            self._listing.left_out.add(Cause.NO_IMAGE, f"{self._listing.source.name}, row {number}")
            return
        path = self._root / str(name)
        try:
            info = path.stat()
        except (OSError, ValueError):
            self._missing.append(f"{name} (row {number})")
            return
        if stat.S_ISDIR(info.st_mode):
            self._listing.left_out.add(Cause.NAMES_FOLDER, f"{name} (row {number})")
            return
        is_file = stat.S_ISREG(info.st_mode)
        if not is_file or not os.access(path, os.R_OK):
            self._listing.left_out.add(Cause.UNREADABLE if is_file else Cause.SPECIAL, str(name))
            return
        if takes_file(Found(path, False, info.st_size, (0, 0)), self._listing):
            said = said_of(self._listing, self._columns, row, number, self._classes)
            self._rows.add(str(name), said.label, (0, info.st_size), said.key, said.instead)

    def finished(self) -> Rows:
        """What was taken.

        Raises:
            ShardError: files are missing.
        """
        if self._missing:
            raise ShardError(
                "files that a list names are not there",
                where=str(self._listing.source),
                found=f"{counted(len(self._missing), 'file')}: {first_few(self._missing, _SHOWN)}",
                expected=f"paths from {self._root} on",
                fix="give the folder that they are relative to with --root, or correct the list",
            )
        return self._rows


class Said(NamedTuple):
    """What a row says of its sample.

    Attributes:
        label: of the sample.
        key: of the sample; empty: it is numbered.
        instead: what the row has in place of a label, for people; empty: it has one, or nothing.
    """

    label: Value
    key: str
    instead: str


def said_of(listing: Listing, columns: Columns, row: Any, number: int, classes: ClassList | None = None) -> Said:
    """The label of a row, and the key of its sample.

    Args:
        listing: of the table.
        columns: of the table.
        row: by the names of its columns.
        number: of the row, from 1.
        classes: of which labels are numbers, where the table says so.

    Raises:
        ShardError: the row has no key, or a number that no class of the table has.
    """
    value = None if columns.label is None else row.get(columns.label)
    label = value_of(value)
    if classes is None and listing.rules.labels_are == "names":
        label = name_of(value)
    if classes is None and listing.rules.labels_are == "numbers" and not isinstance(label, int):
        label = None
    instead = _shown(value) if label is None else ""
    if classes is not None and isinstance(label, int):
        if label >= len(classes.ids):
            raise ShardError(
                "a label is none of the table's own classes",
                where=f"{listing.source}, row {number}",
                found=str(label),
                expected=f"0 to {len(classes.ids) - 1:,}",
            )
        label = classes.ids[label]
    if columns.key is None:
        return Said(label, "", instead)
    key = row.get(columns.key)
    if key is None or not (text := key_of(str(key).strip())) or not text.isprintable():
        raise ShardError(
            "a row of a table has no key",
            where=f"{listing.source}, row {number}, column {columns.key}",
            found=ascii(key),
            expected="printable characters",
            fix="name another column with --key-column, or number the samples with --key-column ''",
        )
    return Said(label, text, instead)


def _shown(value: Any) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        return ""
    text = ascii(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def found_rows(
    listing: Listing, split: str, parts: list[Rows], columns: Columns, declared: ClassList | None = None
) -> FoundSource:
    """What a table's rows come to, as one split.

    Args:
        parts: rows whose images lie in different kinds of places.
        declared: the classes, where the table says their names.

    Raises:
        ShardError: there are no images, or some have no label.
    """
    parts = [part for part in parts if len(part)]
    if not parts:
        raise ShardError("there are no images in a table", where=str(listing.source), expected="a row for each image")
    classes = [each for part in parts for each in part.classes()]
    notes = _notes_on_repeated(listing, parts)
    if columns.label is None:
        return FoundSource(listing, {split: classes}, "none", notes=notes)
    if without := sum(part.unlabelled for part in parts):
        shown = [each for part in parts for each in part.first_unlabelled]
        number = "the number of a class, which is whole and not negative"
        raise ShardError(
            "rows of a table have no label",
            where=f"{listing.source}, column {columns.label}",
            found=f"{without:,} of {sum(map(len, parts)):,}: {first_few(shown, _SHOWN)}",
            expected=f"{'' if listing.rules.labels_are == 'numbers' else 'a name, or '}{number}, in each row",
            fix="correct these rows, take them out, or give --unlabelled to pack all images without labels",
        )
    labels: Any = "numbers" if declared is None and all(part.are_numbers for part in parts) else "names"
    if labels == "names" and declared is None:
        notes += _notes_on_numbers(listing, parts)
    return FoundSource(listing, {split: classes}, labels, declared, notes)


def _notes_on_repeated(listing: Listing, parts: list[Rows]) -> tuple[str, ...]:
    files, unequal = map(sum, zip(*(part.repeated() for part in parts), strict=True))
    if not files:
        return ()
    labels = f", {unequal:,} of them with different labels" if unequal else ""
    are = "is" if files == 1 else "are"
    return (f"{listing.source}: {counted(files, 'image')} {are} listed more than once{labels}; each row is a sample",)


def _notes_on_numbers(listing: Listing, parts: list[Rows]) -> tuple[str, ...]:
    counts = [(label, count) for part in parts for label, count in part.counts().items() if isinstance(label, int)]
    if not counts:
        return ()
    numbers = first_few(sorted({label for label, _ in counts}), _SHOWN)
    rows = f"{sum(count for _, count in counts):,} of {sum(map(len, parts)):,} rows"
    return (f"{listing.source}: labels are taken as names, although those of {rows} are numbers: {numbers}",)


def single_split(listing: Listing, split: str | None) -> str:
    """The name of the one split that a source is.

    Raises:
        ConfigError: each of its folders was to be one.
    """
    if split is None:
        raise ConfigError(
            "the source has no folders that could be splits",
            where=str(listing.source),
            fix="give --split NAME instead of --split-from-folders",
        )
    return split
