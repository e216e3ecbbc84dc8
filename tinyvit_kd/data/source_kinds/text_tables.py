"""Lists of images as text: CSV, TSV and JSON lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from tinyvit_kd.errors import ShardError, reason_of

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON_LINES = (".jsonl", ".ndjson")
TEXT_SUFFIXES = (*_DELIMITERS, *_JSON_LINES)
_LONGEST = 1 << 24  # characters of one field: some lists have embeddings in them
_SHOWN = 60  # characters of a line or cell in a message

Row = Mapping[str, Any]


class TextTable(NamedTuple):
    """A list that is read row by row.

    Attributes:
        names: of its columns, as its first line has them, also twice; of JSON lines, the fields of the first.
        rows: by the names of the columns; a row may lack its last ones.
    """

    names: Sequence[str]
    rows: Iterator[Row]


def text_table(path: Path) -> TextTable:
    """The rows of a list, one at a time.

    Raises:
        ShardError: it cannot be read, or is no text of its kind; also while its rows are read.
    """
    if path.suffix.lower() in _JSON_LINES:
        objects = _json_rows(path)
        first = next(objects, None)
        return TextTable((), iter(())) if first is None else TextTable(list(first), chain([first], objects))
    cells = _rows_of_cells(path)
    names = next(cells, [])
    return TextTable(names, (dict(zip(names, row, strict=False)) for row in cells))


@contextmanager
def _opened(path: Path, expected: str) -> Iterator[TextIO]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except ShardError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, reason_of(error) if isinstance(error, OSError) else str(error), expected) from None


def _unreadable(where: object, found: str, expected: str) -> ShardError:
    return ShardError("a list of images cannot be read", where=str(where), found=found, expected=expected)


def _rows_of_cells(path: Path) -> Iterator[list[str]]:
    """The lines of a CSV or TSV file, the columns' names first; empty lines left out.

    A quote that nobody closes makes one cell of all that follows, up to the next quote. So a cell has to end in the
    line in which it begins, and a row has at most as many cells as there are columns.
    """
    expected = "text in UTF-8, with the columns' names in its first line"
    with _opened(path, expected) as file:
        csv.field_size_limit(_LONGEST)
        first = file.readline()
        file.seek(0)
        delimiter = _DELIMITERS[path.suffix.lower()]
        if delimiter not in first and ";" in first:  # as spreadsheets write where a comma is decimal
            delimiter = ";"
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        width, line = 0, 0  # columns; lines before the row
        try:
            for row in reader:
                if reader.line_num > line + 1:
                    raise _stray_quote(
                        path, line + 1, ascii(next(cell for cell in row if "\n" in cell or "\r" in cell)[:_SHOWN])
                    )
                line += 1
                if not row:
                    continue
                if width and len(row) > width and any(map(str.strip, row[width:])):
                    raise _too_many_cells(path, line, row, width)
                width = width or len(row)
                yield row
        except csv.Error as error:
            if reader.line_num > line + 1 or "expected" in str(error):  # an unexpected end, or text after a quote
                is_open = "end of data" in str(error)
                found = "no other quote up to the end of the list" if is_open else "text behind the next quote"
                raise _stray_quote(path, line + 1, found) from None
            raise _unreadable(f"{path}, line {line + 1:,}", str(error), expected) from None


def _stray_quote(path: Path, line: int, found: str) -> ShardError:
    return ShardError(
        "a cell of a list has a quote at its beginning and no end in its line",
        where=f"{path}, line {line:,}",
        found=found,
        expected="cells of one line each, with a quote at both ends or at neither",
        fix='put a quoted cell\'s own quotes twice: "5"" nail"; if cells do have line breaks, leave their column '
        "out, or write the list as Parquet or JSON lines",
    )


def _too_many_cells(path: Path, line: int, row: Sequence[str], width: int) -> ShardError:
    return ShardError(
        "a row of a list has more cells than there are columns",
        where=f"{path}, line {line:,}",
        found=f"{len(row)} cells, of which the last are {', '.join(map(ascii, row[width - 1 :]))[:_SHOWN]}",
        expected=f"{width} cells, as the first line has",
        fix='put a cell with a delimiter in it between quotes: "big, bad wolf"',
    )


def _json_rows(path: Path) -> Iterator[Row]:
    with _opened(path, "text in UTF-8, with a JSON object in each line") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                raise ShardError(
                    "a line of a list is no JSON object",
                    where=f"{path}, line {number:,}",
                    found=ascii(line.strip()[:_SHOWN]),
                    expected='{"path": "a.jpg", "label": "cat"}',
                )
            yield row
