"""A user's classes in terms of another head's: a class list, or a mapping of several of the head's classes to one."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinyvit_kd.data.labels.class_list import ClassList, class_map, load_class_list
from tinyvit_kd.data.labels.class_list_text import plain_lines
from tinyvit_kd.data.labels.plain_text import decode_text
from tinyvit_kd.errors import ConfigError, reason_of

HEADER = ("teacher", "class")  # names of a mapping's two columns, or fields
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_LINES_OF_JSON = (".jsonl", ".ndjson")
_FORM = (
    "two columns, a class of the teacher and the class that it becomes, in .csv, in .tsv with the header teacher and "
    'class, or in .jsonl as {"teacher": …, "class": …}'
)
_OTHER_MARKS = {";": "semicolons", "\t": "tabs", "|": "bars"}  # between cells, where it is neither comma nor tab
_SHOWN = 5  # classes that a message names
_NEAR = 2  # names that are proposed for each


@dataclass(frozen=True)
class ClassGroups:
    """Classes, and what each is called in another list.

    Attributes:
        classes: the user's, in the user's order.
        asked: of each, the classes of the other list that it consists of: each under one or more names, of which the
            first that the other list has counts.
    """

    classes: ClassList
    asked: tuple[tuple[tuple[str, ...], ...], ...]

    def positions(self, known: ClassList, where: str) -> tuple[tuple[int, ...], ...]:
        """Of each class, its places in another list.

        Args:
            known: the other list.
            where: the field and the file, for messages.

        Raises:
            ConfigError: the other list lacks a class, and near names are proposed; or one of its classes belongs to two
                of these.
        """
        exact = class_map(known, ClassList("asked", tuple(each[0] for group in self.asked for each in group))).tolist()
        places = iter(exact)
        found = tuple(tuple(_place(next(places), names, known) for names in group) for group in self.asked)
        pairs = [(place, names[0], number) for number, names, place in self._each(found)]
        if missing := [(name, number) for place, name, number in pairs if place < 0]:
            raise self._lacking(missing, known, where)
        owners: dict[int, tuple[str, int]] = {}
        for place, name, number in pairs:
            if (owner := owners.setdefault(place, (name, number))) != (name, number) or found[number].count(place) > 1:
                raise ConfigError(
                    "a class of the teacher is named twice",
                    where=where,
                    found=f"{owner[0]} for {self.classes.ids[owner[1]]}, {name} for {self.classes.ids[number]}: both "
                    f"are class {place} of {known.name} ({known.ids[place]})",
                    fix="leave it in one place: its probability can be counted once",
                )
        return found

    def _each(self, found: Sequence[Sequence[int]]) -> Iterable[tuple[int, tuple[str, ...], int]]:
        for number, (group, places) in enumerate(zip(self.asked, found, strict=True)):
            for names, place in zip(group, places, strict=True):
                yield number, names, place

    def _lacking(self, missing: list[tuple[str, int]], known: ClassList, where: str) -> ConfigError:
        def told(name: str, number: int) -> str:
            own = self.classes.ids[number]
            near = " or ".join(known.near(name, _NEAR))
            return f"{name}{'' if name == own else f' (for {own})'}{f', near {near}' if near else ''}"

        more = f"; and {len(missing) - _SHOWN:,} more" if len(missing) > _SHOWN else ""
        total = sum(map(len, self.asked))
        return ConfigError(
            f"the teacher lacks {len(missing):,} of the {total:,} classes that it is to be restricted to",
            where=where,
            found="; ".join(told(*each) for each in missing[:_SHOWN]) + more,
            expected=f"ids or names of {known.name}, each of one class",
            fix=self._advice(missing, known, where)
            + "write them as the teacher's list does, leave them out, or map other classes of the teacher to them in "
            "a file of two columns, teacher and class",
        )

    def _advice(self, missing: list[tuple[str, int]], known: ClassList, where: str) -> str:
        """What to do first where a file seems to be a mapping that was not read as it is meant; else empty."""
        pairs = [(name, self.classes.ids[number]) for name, number in missing]
        for mark, called in _OTHER_MARKS.items():
            if all(mark in name for name, _ in pairs):
                return (
                    f"if each line has two cells, put commas between them in .csv, or tabs in .tsv, not {called}; else "
                )
        if all(name != own and known.find(own) >= 0 for name, own in pairs):
            return "put the teacher's class first and the class that it becomes second, for they seem swapped; else "
        if where.lower().endswith(".tsv") and all(name == own for name, own in pairs):
            return "if this is a mapping, begin it with the header teacher and class; else "
        return ""


def load_class_groups(name_or_path: str, where: str) -> ClassGroups:
    """Read the classes that a head is to be restricted to.

    Args:
        name_or_path: a class list, as ``load_class_list`` takes it; or a mapping: a file ``.csv`` or ``.jsonl``, or a
            ``.tsv`` whose first line is ``teacher`` and ``class``. A mapping's classes are numbered in the order in
            which the file names them first.
        where: the field, for messages.

    Raises:
        ConfigError: there is no such file or list, it is none, or it has fewer than two classes.
    """
    path = Path(name_or_path)
    text = _text(path, where) if path.is_file() and path.suffix.lower() in (*_DELIMITERS, *_LINES_OF_JSON) else None
    rows = None if text is None else _rows(text, path, f"{where}: {path}")
    groups = _of_list(load_class_list(name_or_path, where)) if rows is None else _of_rows(rows, path)
    if len(groups.classes.ids) < 2:
        raise ConfigError(
            "a teacher can be restricted to two classes or more",
            where=f"{where}: {name_or_path}",
            found=", ".join(groups.classes.ids),
            fix="name the other classes, too: the softmax over one class is 1 for every image",
        )
    return groups


def _of_list(classes: ClassList) -> ClassGroups:
    names = classes.names or ((),) * len(classes.ids)
    return ClassGroups(classes, tuple(((each, *others),) for each, others in zip(classes.ids, names, strict=True)))


def _of_rows(rows: list[tuple[str, str]], path: Path) -> ClassGroups:
    groups: dict[str, list[tuple[str, ...]]] = {}
    for teacher, own in rows:
        groups.setdefault(own, []).append((teacher,))
    return ClassGroups(ClassList(path.stem, tuple(groups)), tuple(map(tuple, groups.values())))


def _text(path: Path, where: str) -> str:
    try:
        return decode_text(path.read_bytes())
    except OSError as error:
        raise ConfigError("cannot read the classes", where=f"{where}: {path}", found=reason_of(error)) from None
    except UnicodeDecodeError:
        raise _wrong(f"{where}: {path}", "bytes that are no text in UTF-8 or UTF-16") from None


def _rows(text: str, path: Path, where: str) -> list[tuple[str, str]] | None:
    """(teacher's class, own class) of each line; None where the file is a class list."""
    suffix = path.suffix.lower()
    if suffix in _LINES_OF_JSON:
        rows = [_of_json(line, number, where) for number, line in enumerate(plain_lines(text), start=1) if line]
    else:
        table = list(csv.reader(io.StringIO(text), delimiter=_DELIMITERS[suffix], skipinitialspace=True))
        lines = [(number, [cell.strip() for cell in row]) for number, row in enumerate(table, start=1) if any(row)]
        first = tuple(cell.casefold() for cell in lines[0][1]) if lines else ()
        has_header = first in (HEADER, HEADER[::-1])
        if not has_header and (suffix == ".tsv" or all(len(row) == 1 for _, row in lines)):
            return None
        rows = [_of_cells(row, number, where) for number, row in lines[has_header:]]
        if first == HEADER[::-1]:
            rows = [(teacher, own) for own, teacher in rows]
    if not rows:
        raise _wrong(where, "no line")
    return rows


def _of_cells(row: list[str], number: int, where: str) -> tuple[str, str]:
    if len(row) != 2 or not all(row):
        raise _wrong(where, f"{len([cell for cell in row if cell])} cells in line {number}: {', '.join(row)[:60]}")
    return row[0], row[1]


def _of_json(line: str, number: int, where: str) -> tuple[str, str]:
    try:
        tree = json.loads(line)
        teacher, own = (tree[name] for name in HEADER)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _wrong(where, f"line {number}: {line[:60]}") from None
    if not (isinstance(teacher, str) and isinstance(own, str) and teacher.strip() and own.strip()):
        raise _wrong(where, f"line {number}: {line[:60]}")
    return teacher.strip(), own.strip()


def _wrong(where: str, found: str) -> ConfigError:
    return ConfigError("this is no mapping of a teacher's classes", where=where, found=found, expected=_FORM)


def _place(exact: int, names: tuple[str, ...], known: ClassList) -> int:
    return exact if exact >= 0 else next((place for name in names if (place := known.find(name)) >= 0), -1)
