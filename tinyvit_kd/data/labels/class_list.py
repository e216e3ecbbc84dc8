"""Class lists, which say what the class numbers of a head or of labels mean."""

from __future__ import annotations

import difflib
import importlib.util
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xxhash

from tinyvit_kd.data.labels.class_list_text import WORDNET_ID, plain_lines, read_entries, require_distinct
from tinyvit_kd.errors import ConfigError, reason_of

_SUFFIX = "_synsets.txt"
_NAMES = "imagenet_synset_to_lemma.txt"


@dataclass(frozen=True)
class ClassList:
    """Classes in order: class i is ``ids[i]``, for example a WordNet ID.

    Attributes:
        names: other names of each class, where the list has them; they do not enter comparisons.
    """

    name: str
    ids: tuple[str, ...]
    names: tuple[tuple[str, ...], ...] = field(default=(), compare=False, repr=False)

    @property
    def hash(self) -> str:
        """16 hexadecimal digits over the ids in their order; neither the list's name nor other names matter."""
        return xxhash.xxh3_64_hexdigest("\n".join(self.ids).encode("utf-8", "surrogateescape"))

    def find(self, text: str) -> int:
        """The class with this id or name, -1 if there is none, or more than one.

        An id counts before a name. Case, the form of Unicode, and blanks for underscores matter only where two classes
        differ in nothing else. Where all ids are WordNet's and the list has no names, WordNet's own are known.
        """
        exact = self._exact.get(text, -1)
        return exact if exact >= 0 else self._folded.get(_folded(text), -1)

    def near(self, text: str, count: int) -> list[str]:
        """Up to ``count`` ids or names that look like a text; in small letters and with blanks, as ``find`` reads."""
        return difflib.get_close_matches(_folded(text), self._folded, count)

    @cached_property
    def _exact(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.ids)}

    @cached_property
    def _folded(self) -> dict[str, int]:
        """Classes by whatever else they may be called: ids first, then whole names, then single ones of several."""
        names = self.names
        if not names and all(WORDNET_ID.fullmatch(each) for each in self.ids):
            known = wordnet_names()
            names = tuple((known[each],) if each in known else () for each in self.ids)
        singles = tuple(tuple(part for name in each for part in name.split(",")) for each in names)
        found: dict[str, int] = {}
        for spellings in (tuple((each,) for each in self.ids), names, singles):
            found = _unambiguous(spellings) | found
        return found

    def __getstate__(self) -> tuple[str, tuple[str, ...], tuple[tuple[str, ...], ...]]:
        return self.name, self.ids, self.names  # without the tables, which each process makes if it needs them

    def __setstate__(self, state: tuple[str, tuple[str, ...], tuple[tuple[str, ...], ...]]) -> None:
        self.__dict__.update(zip(("name", "ids", "names"), state, strict=True))


def load_class_list(name_or_path: str, where: str = "class_list") -> ClassList:
    """Read a class list.

    Args:
        name_or_path: a file with one id per line, or in one of the other forms of ``class_list_text``; or the name of
            one of timm's lists: ``imagenet``, ``imagenet22k`` (fall11, 21,841), ``imagenet21k_goog``,
            ``imagenet22k_ms``, ``imagenet12k``, ….
        where: the field that names it, for messages.

    Raises:
        ConfigError: there is no such file or list, or it is not a list of distinct ids.
    """
    path = Path(name_or_path)
    if path.is_file():
        return _read(path, path.stem, str(path))
    known = _timm_lists()
    if name_or_path in known:
        return _read(known[name_or_path], name_or_path, name_or_path)
    raise ConfigError(
        "there is no such class list",
        where=where,
        found=name_or_path,
        expected=f"a text file with one id per line, or one of {', '.join(sorted(known))}",
    )


def class_map(source: ClassList, target: ClassList) -> npt.NDArray[np.int64]:
    """The position in ``source`` of each class of ``target``: int64 [len(target.ids)]; -1 for classes not in it.

    Ids that differ only in their form of Unicode, as file systems change it, are the same, unless a list has both.
    """
    exact = {name: position for position, name in enumerate(source.ids)}
    composed = _only_ones(source.ids)
    asked = _only_ones(target.ids)

    def position(name: str) -> int:
        form = _composed(name)
        return exact.get(name, composed.get(form, -1) if form in asked else -1)

    return np.array([position(name) for name in target.ids], dtype=np.int64)


def parse_class_list(name: str, text: str, where: str) -> ClassList:
    """Make a class list from a text that this package wrote, with one id per line and nothing else.

    Args:
        name: of the list.
        text: its ids.
        where: path or URL of the text, for messages.

    Raises:
        ConfigError: there is no line, or one is empty or repeated.
    """
    ids = plain_lines(text)
    require_distinct(ids, where)
    return ClassList(name, tuple(ids))


def _read(path: Path, name: str, where: str) -> ClassList:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError("cannot read the class list", where=where, found=reason_of(error)) from None
    return read_class_list(content, name, where)


def read_class_list(content: bytes, name: str, where: str) -> ClassList:
    """Make a class list from the content of a file in one of the forms of ``class_list_text``.

    Args:
        content: of the file.
        name: of the list.
        where: path or URL of the file, for messages.

    Raises:
        ConfigError: it is not a list of distinct ids.
    """
    entries = read_entries(content, where)
    names = tuple(entry[1:] for entry in entries)
    return ClassList(name, tuple(entry[0] for entry in entries), names if any(names) else ())


def _folder_of_lists() -> Path:
    # importlib.resources would import timm, which takes seconds and loads torch; only the paths of files are needed.
    found = importlib.util.find_spec("timm")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "data" / "_info"


def _timm_lists() -> dict[str, Path]:
    return {file.name.removesuffix(_SUFFIX): file for file in _folder_of_lists().glob(f"*{_SUFFIX}")}


@cache
def wordnet_names() -> Mapping[str, str]:
    """Names of WordNet's classes by id, such as "tench, Tinca tinca", from timm's table; empty if it has none."""
    table = _folder_of_lists() / _NAMES
    lines = plain_lines(table.read_text(encoding="utf-8")) if table.is_file() else []
    return {wordnet_id: names for wordnet_id, _, names in (line.partition("\t") for line in lines)}


def _composed(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _only_ones(ids: Iterable[str]) -> dict[str, int]:
    """Positions of ids by their composed form, without those that two ids share."""
    positions: dict[str, list[int]] = {}
    for position, name in enumerate(ids):
        positions.setdefault(_composed(name), []).append(position)
    return {form: each[0] for form, each in positions.items() if len(each) == 1}


def _folded(text: str) -> str:
    return _composed(" ".join(text.replace("_", " ").split())).casefold()


def _unambiguous(names: Iterable[Iterable[str]]) -> dict[str, int]:
    """Classes by those of their names that no other class has."""
    owners: dict[str, set[int]] = {}
    for number, each in enumerate(names):
        for name in each:
            owners.setdefault(_folded(name), set()).add(number)
    return {name: next(iter(owner)) for name, owner in owners.items() if name and len(owner) == 1}
