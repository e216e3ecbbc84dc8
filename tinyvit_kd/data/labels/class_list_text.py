"""Reads class lists in the forms in which they are passed around: plain lines, lines with definitions, JSON."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tinyvit_kd.data.labels.plain_text import decode_text
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.wording import first_few

Entry = tuple[str, ...]  # a class's id, then its other names

WORDNET_ID = re.compile(r"n[0-9]{8}", re.ASCII)
_ID_AND_NAMES = re.compile(rf"({WORDNET_ID.pattern})\s+(\S.*)", re.ASCII)
_FORMS = (
    'one distinct id per line, with its names behind a tab if there are any; or JSON: ["tench", …], {"0": "tench", …}, '
    '{"0": ["n01440764", "tench"], …} or {"tench": 0, …}'
)
_SHOWN = 5  # faults of a kind that a message names


def read_entries(content: bytes, where: str) -> list[Entry]:
    """The classes of a file, in order.

    Args:
        content: of the file.
        where: its path or name, for messages.

    Raises:
        ConfigError: it is no text, or not a list of distinct classes numbered from 0; it says which line is wrong.
    """
    try:
        text = decode_text(content)
    except UnicodeDecodeError as error:
        found = (
            f"byte {content[error.start]:#04x} at {error.start:,}" if error.start < len(content) else "half a letter"
        )
        raise ConfigError(
            "cannot read the class list: it is no text in UTF-8 or UTF-16",
            where=where,
            found=found,
            fix="save it as plain text in UTF-8",
        ) from None
    if "\0" in text:
        raise _wrong(where, "a NUL, so that it is no text")
    return _from_json(text, where) if _looks_like_json(text) else _from_lines(text, where)


def plain_lines(text: str) -> list[str]:
    """The lines of a text, stripped, up to the last one that is not empty."""
    return [line.strip() for line in text.rstrip().splitlines()]


def require_distinct(ids: Sequence[str], where: str, unit: str = "line", units: str = "lines") -> None:
    """Refuse a list that is empty, or in which an id is empty or repeated.

    Raises:
        ConfigError: it names the first ones.
    """
    if not ids or "" in ids:
        at = f", at {unit} {ids.index('') + 1}" if ids else ""
        raise _wrong(where, f"an empty {unit if ids else 'file'}{at}")
    if len(set(ids)) < len(ids):
        repeated = [name for name, count in Counter(ids).items() if count > 1]
        named = [f"{name} ({units} {_numbers(ids, name)})" for name in sorted(repeated)[:_SHOWN]]
        raise _wrong(where, f"repeated {units}: {', '.join(named)}{', …' if len(repeated) > _SHOWN else ''}")


def _looks_like_json(text: str) -> bool:
    """Whether a text is one bracket to its end: the first of many classes may be called ``[unknown]``."""
    stripped = text.strip()
    if stripped[:1] not in ("{", "["):
        return False
    ends = stripped[-1] in ("}", "]") and ('"' in stripped or "'" in stripped)
    return ends or len(stripped.splitlines()) == 1


def _from_lines(text: str, where: str) -> list[Entry]:
    lines = plain_lines(text)
    if any("\t" in line for line in lines):
        entries = _numbered([tuple(cell.strip() for cell in line.split("\t")) for line in lines], where)
    else:
        matches = [_ID_AND_NAMES.fullmatch(line) for line in lines]
        # All lines or none: a list of names may have one that looks like this.
        entries = [(match[1], match[2], line) for match, line in zip(matches, lines, strict=True) if match]
        if len(entries) < len(lines):
            entries = [(line,) for line in lines]
    require_distinct([entry[0] for entry in entries], where)
    return entries


def _numbered(rows: list[Entry], where: str) -> list[Entry]:
    """Rows of a table in their classes' order. A first column of numbers only is that of the classes' numbers."""
    if not all(row[0].isdecimal() and len(row) > 1 for row in rows):
        return rows
    return _in_order([(int(row[0]), row[1:]) for row in rows], where)


def _from_json(text: str, where: str) -> list[Entry]:
    try:
        tree = json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        raise _wrong(where, f"text that begins like JSON, but is not JSON: {error}") from None
    if not isinstance(tree, _Pairs):
        entries = [_entry(value, where) for value in tree]
    elif all(key.isdecimal() for key, _ in tree):
        entries = _in_order([(int(key), _entry(value, where)) for key, value in tree], where)
    elif all(isinstance(value, int) and not isinstance(value, bool) for _, value in tree):
        entries = _in_order([(value, (key.strip(),)) for key, value in tree], where)
    else:
        raise _wrong(where, f"fields such as {tree[0][0]}, of which neither names nor values are the classes' numbers")
    require_distinct([entry[0] for entry in entries], where, "name", "names")
    return entries


class _Pairs(list[tuple[str, Any]]):
    """A JSON object, repeated names included."""


def _entry(value: Any, where: str) -> Entry:
    names = value if isinstance(value, list) and not isinstance(value, _Pairs) else [value]
    if not names or not all(isinstance(name, str) for name in names):
        raise _wrong(where, f"the value {json.dumps(value, ensure_ascii=False)[:60]} where a class's name should be")
    return tuple(name.strip() for name in names)


def _in_order(numbered: list[tuple[int, Entry]], where: str) -> list[Entry]:
    """Entries sorted by their numbers, which must be 0 to n - 1, each once."""
    counts = Counter(number for number, _ in numbered)
    repeated = sorted(number for number, count in counts.items() if count > 1)
    if repeated:
        raise _wrong(where, f"class number {first_few(repeated, _SHOWN)} more than once")
    if counts and set(counts) == set(range(1, len(counts) + 1)):
        fix = "number the classes from 0; if the labels count from 1, too, set shards.first_label to 1"
        raise _wrong(where, f"class numbers from 1 to {len(counts)}", f"numbers from 0 to {len(counts) - 1}", fix)
    missing = [number for number in range(len(counts)) if number not in counts]
    if missing:
        expected = f"numbers from 0 to {len(counts) - 1} for {len(counts)} classes"
        raise _wrong(where, f"no class number {first_few(missing, _SHOWN)}, and the largest is {max(counts)}", expected)
    return [entry for _, entry in sorted(numbered)]


def _wrong(where: str, found: str, expected: str = _FORMS, fix: str = "") -> ConfigError:
    return ConfigError("this is not a class list", where=where, found=found, expected=expected, fix=fix)


def _numbers(ids: Sequence[str], name: str) -> str:
    places = [number for number, each in enumerate(ids, start=1) if each == name]
    return ", ".join(map(str, places[:-1])) + f" and {places[-1]}"
