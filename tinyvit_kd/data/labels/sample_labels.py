"""The label of a sample, from the files beside its image: a number, or a text that a class list has to explain.

An index is made before any class list is known, so it keeps texts as they are (``data.text_labels``). They are looked
up when a shard set is opened with its class list.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from tinyvit_kd.data.labels.plain_text import decode_text
from tinyvit_kd.data.tars.member import Member
from tinyvit_kd.runtime.wording import first_few

NO_LABEL = -1
JSON_NAMES = (
    *("label", "labels", "label_id", "label_idx", "label_index"),
    *("class_id", "class_idx", "class_index", "class_label", "target", "targets", "cls", "class"),
    *("category", "category_id", "label_name", "class_name", "category_name", "synset", "wnid"),
)
_INSIDE_A_LABEL = ("id", "idx", "index", "value", "name")  # fields of {"label": {"id": 3, "name": "dog"}}
_DEPTH = 4  # of nested objects that are searched
_JSON_BYTES, _TEXT_BYTES = 1 << 20, 1 << 10  # larger members are no labels
_MAX_NAME = 200  # characters of a class name; a longer text is a caption
_MAX_LABEL = 2**63
_SHOWN_FIELDS, _SHOWN_TEXT = 12, 60  # of a sample without a label, in a message
_NUMBER = re.compile(r"([+-]?)0*([0-9]{1,19})(\.0*)?", re.ASCII)

Value = int | str | None  # a label's number, or its text, or neither


class FoundLabel(NamedTuple):
    """What a sample's files say of its label.

    Attributes:
        number: the label, -1 if none is given as a number.
        texts: names or ids of the class, the likeliest first; empty if there is a number.
        note: where there is no number, what was found instead, for people.
    """

    number: int
    texts: tuple[str, ...] = ()
    note: str = ""


def find_label(parts: Mapping[str, Member], read: Callable[[Member], bytes], label_key: str | None) -> FoundLabel:
    """Look for a sample's label in its ``.cls``, ``.json``, ``.label`` and ``.txt``, in this order.

    The first number counts. Without one, the texts are kept that may be the name of a class. What a ``.txt`` says
    counts only where the others say nothing: it is a caption in most sets.

    Args:
        parts: the sample's members by suffix.
        read: the content of a member.
        label_key: the field of ``.json`` that is the label, with dots for nested ones; nothing else is looked at then.
            None: the usual names.
    """
    texts: list[str] = []
    notes: list[str] = []
    for suffix in ("json",) if label_key is not None else ("cls", "json", "label", "txt"):
        member = parts.get(suffix)
        if member is None or (suffix == "txt" and texts):
            continue
        if member.size > (_TEXT_BYTES if suffix in ("label", "txt") else _JSON_BYTES):
            notes.append(f".{suffix} has {member.size:,} bytes")
            continue
        content = read(member)
        values, note = _in_json(content, label_key) if suffix == "json" else _in_text(content)
        number = next((value for value in values if isinstance(value, int)), None)
        if number is not None:
            return FoundLabel(number)
        texts += [value for value in values if isinstance(value, str) and value not in texts]
        notes.append(f".{suffix} {note}")
    if not notes:
        wanted = "no .json" if label_key is not None else "no .cls, .json, .label or .txt"
        notes = [f"{_files(sorted(parts))}: {wanted}"]
    return FoundLabel(NO_LABEL, tuple(texts), "; ".join(notes))


def value_of(value: Any) -> Value:
    """A label from any value of a JSON file, or from a text: its number, or what may be the name of a class.

    Numbers count in any plain spelling ("3", "3.0", "+3", 3.0, ["3"]). What is negative, no whole number, or longer
    than a class's name is no label, and neither is true or false.
    """
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, float):
        value = int(value) if math.isfinite(value) and value == int(value) else None
    if isinstance(value, int) and not isinstance(value, bool):
        return value if 0 <= value < _MAX_LABEL else None
    return _value_of_text(value) if isinstance(value, str) else None


def name_of(value: Any) -> str | None:
    """A label as ``value_of`` gives it, but as a name whatever it looks like: ``001`` is not 1 then."""
    if isinstance(value, str):
        text = value.strip()
        return text if 0 < len(text) <= _MAX_NAME and text.isprintable() else None
    label = value_of(value)
    return None if label is None else str(label)


def _value_of_text(text: str) -> Value:
    text = text.strip().removeprefix("\ufeff").strip()
    if match := _NUMBER.fullmatch(text):
        number = int(match[2])
        return number if number < _MAX_LABEL and (match[1] != "-" or not number) else None
    try:
        float(text)
    except ValueError:
        return text if 0 < len(text) <= _MAX_NAME and text.isprintable() else None
    return None


def _in_text(content: bytes) -> tuple[list[Value], str]:
    if len(content) < 19 and (plain := content.strip()).isdigit():  # as nearly all labels are
        return [int(plain)], ""
    try:
        text = decode_text(content)
    except UnicodeDecodeError:
        return [], f"is no text, it begins with the bytes {content[:8].hex(' ')}"
    if text.lstrip()[:1] in ("[", "{", '"'):
        values, _ = _in_json(content, None)
        if any(value is not None for value in values):
            return values, f"is {_shown(text.strip())}"
    return [value_of(text)], f"is {_shown(text.strip())}" if text.strip() else "is empty"


def _in_json(content: bytes, label_key: str | None) -> tuple[list[Value], str]:
    """The values of a JSON file that may be its label, the likeliest first, and what the file says, for people."""
    try:
        return _in_tree(json.loads(decode_text(content)), label_key)
    except (ValueError, RecursionError):
        return [], "is no JSON"


def _in_tree(tree: Any, label_key: str | None) -> tuple[list[Value], str]:
    if not isinstance(tree, dict):
        return ([value_of(tree)] if label_key is None else []), f"is {_shown(tree)}"
    says = f"has the field{'s' if len(tree) > 1 else ''} {first_few(tree, _SHOWN_FIELDS)}" if tree else "has no fields"
    if label_key is not None:
        found, value = _at(tree, label_key)
        return [value_of(value)], f"{says}; {label_key} is {_shown(value) if found else 'not there'}"
    for candidates in _levels(tree):
        numbers = {path: value for path, each in candidates.items() if isinstance(value := value_of(each), int)}
        texts = [value for each in candidates.values() if isinstance(value := value_of(each), str)]
        shown = says + "".join(f"; {path} is {_shown(each)}" for path, each in candidates.items())
        if "label" in numbers:
            return [numbers["label"]], shown
        if len(set(numbers.values())) > 1:
            return [], f"{shown}: which of them is the label?"
        if numbers or texts:
            return [*numbers.values(), *texts], shown
        says = shown
    return [], says


def _levels(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Values under a label's usual names, by their dotted paths, level by level; each level in the names' order."""
    level: list[tuple[str, bool, dict[str, Any]]] = [("", False, tree)]
    for _ in range(_DEPTH):
        found: list[tuple[int, str, Any]] = []
        below: list[tuple[str, bool, dict[str, Any]]] = []
        for prefix, in_label, mapping in level:
            names = (*JSON_NAMES, *_INSIDE_A_LABEL) if in_label else JSON_NAMES
            for key, value in mapping.items():
                is_label = key.casefold() in names
                if isinstance(value, dict):
                    below.append((f"{prefix}{key}.", is_label, value))
                elif is_label:
                    found.append((names.index(key.casefold()), f"{prefix}{key}", value))
        found.sort(key=lambda each: each[0])
        yield {path: value for _, path, value in found}
        level = below


def _at(tree: Any, path: str) -> tuple[bool, Any]:
    """Whether a field is there, and its value; the name as it is written comes before its parts."""
    if isinstance(tree, dict) and path in tree:
        return True, tree[path]
    name, dot, rest = path.partition(".")
    if isinstance(tree, list) and name.isdecimal() and int(name) < len(tree):
        inner = tree[int(name)]
    elif isinstance(tree, dict) and name in tree:
        inner = tree[name]
    else:
        return False, None
    return _at(inner, rest) if dot else (True, inner)


def _files(suffixes: list[str]) -> str:
    """What files a sample has, for people."""
    names = [f".{suffix}" if suffix else "one without a suffix" for suffix in suffixes]
    return f"its only file is {names[0]}" if len(names) == 1 else f"its files are {', '.join(names)}"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f"'{value}'" if len(value) <= _SHOWN_TEXT and value.isprintable() else f"{value[:_SHOWN_TEXT]!r}…"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_TEXT else f"{text[:_SHOWN_TEXT]}…"
