"""Which columns of a table are an image, its label and its key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tinyvit_kd.data.building.source_rules import SourceRules
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.wording import first_few

IMAGE_NAMES = ("path", "file", "filename", "image", "file_name", "file_path", "image_path", "img")
LABEL_NAMES = ("label", "class", "target")
KEY_NAMES = ("key", "id")
_MOST_SHOWN = 12


class Columns(NamedTuple):
    """The names of columns; None: there is none."""

    image: str
    label: str | None
    key: str | None


def choose_columns(
    where: str,
    present: Sequence[tuple[str, str]],
    rules: SourceRules,
    bytes_in: Sequence[str] = (),
    classes_in: Sequence[str] = (),
) -> Columns:
    """The columns that the user names, else those that have usual names.

    Args:
        where: the table, for messages.
        present: the name of each column, and what it holds in words that are shown, which may be empty.
        rules: what the user says.
        bytes_in: columns that hold images; they come before paths.
        classes_in: columns of which the table says that they are classes.

    Raises:
        ConfigError: a column that is named is not there, none has a usual name, or two have the name of one that is
            used.
    """
    kinds = dict(present)
    named = rules.columns
    image = _named(where, kinds, named.image, "--image-column") or _usual(IMAGE_NAMES, bytes_in)
    image = image or (bytes_in[0] if len(bytes_in) == 1 else None) or _usual(IMAGE_NAMES, list(kinds))
    if image is None:
        raise _missing(
            "no column of a table is known to hold images or their paths",
            where,
            kinds,
            f"a column {', '.join(IMAGE_NAMES[:-1])} or {IMAGE_NAMES[-1]}, or one with the bytes of images",
            "name it with --image-column",
        )
    label = None
    if not rules.unlabelled:
        label = _named(where, kinds, named.label, "--label-column") or _usual(LABEL_NAMES, list(kinds))
        label = label or (classes_in[0] if len(classes_in) == 1 else None)
        if label is None:
            raise _missing(
                "no column of a table is known to hold labels",
                where,
                kinds,
                f"a column {', '.join(LABEL_NAMES[:-1])} or {LABEL_NAMES[-1]}",
                "name it with --label-column, or give --unlabelled to pack the images without labels",
            )
    key = None
    if named.key != "":
        key = _named(where, kinds, named.key, "--key-column") or _usual(KEY_NAMES, list(kinds))
    chosen = Columns(image, label, key)
    counts = Counter(name for name, _ in present)
    if repeated := [name for name in dict.fromkeys(chosen) if name is not None and counts[name] > 1]:
        raise ConfigError(
            "several columns of a table have the same name",
            where=where,
            found=", ".join(f"{counts[name]} columns {name}" for name in repeated),
            expected="one column with the name of each that is used",
            fix="rename or remove the others, or name another column with --image-column, --label-column or "
            "--key-column",
        )
    return chosen


def _named(where: str, kinds: Mapping[str, str], name: str | None, option: str) -> str | None:
    if name is not None and name not in kinds:
        raise _missing("a table has no such column", where, kinds, f"the column {name}", f"correct {option}")
    return name


def _usual(names: Sequence[str], present: Sequence[str]) -> str | None:
    by_name = {name.casefold(): name for name in reversed(present)}
    return next((by_name[name] for name in names if name in by_name), None)


def _missing(problem: str, where: str, kinds: Mapping[str, str], expected: str, fix: str) -> ConfigError:
    shown = [f"{name} ({kind})" if kind else name for name, kind in kinds.items()]
    return ConfigError(
        problem,
        where=where,
        found=f"the columns {first_few(shown, _MOST_SHOWN)}" if shown else "none",
        expected=expected,
        fix=fix,
    )
