"""Lists of images as text: CSV, TSV and JSON lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tinyvit_kd.errors import ShardError, reason_of

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON_LINES = (".jsonl", ".ndjson")
TEXT_SUFFIXES = (*_DELIMITERS, *_JSON_LINES)
_LONGEST = 1 << 24  # characters of one field: some lists have embeddings in them

Row = Mapping[str, Any]


def text_rows(path: Path) -> Iterator[Row]:
    """The rows of a list, by the names of its columns; one at a time.

    Raises:
        ShardError: it cannot be read, or is no text of its kind.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() in _JSON_LINES:
                yield from _json_rows(path, file)
                return
            csv.field_size_limit(_LONGEST)
            first = file.readline()
            file.seek(0)
            delimiter = _DELIMITERS[path.suffix.lower()]
            if delimiter not in first and ";" in first:  # as spreadsheets write where a comma is decimal
                delimiter = ";"
            for row in csv.DictReader(file, delimiter=delimiter):
                yield {name: value for name, value in row.items() if name is not None}
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise ShardError(
            "a list of images cannot be read",
            where=str(path),
            found=reason_of(error) if isinstance(error, OSError) else str(error),
            expected="text in UTF-8, with the columns' names in its first line",
        ) from None


def _json_rows(path: Path, lines: Iterator[str]) -> Iterator[Row]:
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
                where=f"{path}, line {number}",
                found=ascii(line.strip()[:60]),
                expected='{"path": "a.jpg", "label": "cat"}',
            )
        yield row
