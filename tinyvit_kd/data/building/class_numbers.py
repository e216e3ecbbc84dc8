"""Which number each class of a source gets; a class has the same number in all splits of a set."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tinyvit_kd.data.building.class_source import ClassSource
from tinyvit_kd.data.building.left_out import Cause, Tally, printable
from tinyvit_kd.data.building.source_rules import SourceRules
from tinyvit_kd.data.labels.class_list import ClassList
from tinyvit_kd.errors import ShardError
from tinyvit_kd.runtime.wording import first_few

FIRST_SPLIT = "the first split"
"""Whose classes a list has that an earlier build has written, in the words of messages."""


@dataclass(frozen=True)
class ClassNumbers:
    """Attributes:
    classes: of the set, in their order.
    labels: the number of each class of the source, by its name there.
    notes: what a reader should know, one line each.
    """

    classes: ClassList
    labels: Mapping[str, int]
    notes: tuple[str, ...]


def number_classes(
    name: str,
    splits: Mapping[str, Sequence[ClassSource]],
    known: ClassList | None,
    where: str,
    rules: SourceRules,
    left_out: Tally,
    whose: str = "all splits",
) -> ClassNumbers:
    """Number the classes of a source.

    A set's first build sorts them: by number if all names are numbers, else as text. Later ones keep that list.

    Args:
        name: of the shard set.
        splits: the classes of the source.
        known: the class list of the set, if it has one already.
        where: the file of that list, for messages.
        rules: what is said of classes without images.
        left_out: counts classes without images that get no number.
        whose: what has the known classes, in words.

    Raises:
        ShardError: a class is not in the list, two have names that look alike, or one has no images.
    """
    sources = [source for sources in splits.values() for source in sources]
    full = {source.class_name for source in sources if len(source)}
    empty = {source.class_name: source for source in sources if source.class_name not in full}
    _refuse_lookalikes({*full, *empty})
    if known is None:
        _refuse_empty(empty, rules)
        kept = {*full, *(empty if rules.empty_classes == "keep" else ())}
        classes = ClassList(name, tuple(class_order(kept)))
    else:
        classes = known
    spelled = {_composed(each): label for label, each in enumerate(classes.ids)}
    for each in sorted(set(empty)):
        if _composed(each) not in spelled:
            left_out.add(Cause.EMPTY_CLASS, each)
    if unknown := sorted(each for each in full if _composed(each) not in spelled):
        raise _unknown_classes(unknown, classes, where, whose)
    labels = {each: spelled[_composed(each)] for each in full}
    return ClassNumbers(classes, labels, tuple(_notes(classes, labels, splits, whose)))


def class_order(names: Iterable[str]) -> list[str]:
    """Names in the order of their numbers if all are plain numbers, else as text."""
    names = sorted(names)
    return sorted(names, key=int) if are_numbers(names) else names


def are_numbers(names: Collection[str]) -> bool:
    """Whether all names are plain numbers."""
    return bool(names) and all(name.isascii() and name.isdigit() and len(name) < 20 for name in names)


def _notes(
    classes: ClassList, labels: Mapping[str, int], splits: Mapping[str, Sequence[ClassSource]], whose: str
) -> Iterable[str]:
    ids = classes.ids
    if are_numbers(ids) and list(ids) != sorted(ids) and list(ids) == class_order(ids):
        yield f"class names are numbers, and labels follow their order: {', '.join(ids[:3])}, … {ids[-1]}"
    if are_numbers(ids) and list(ids) != class_order(ids):
        odd = next(each for label, each in enumerate(ids) if int(each) != label)
        yield (
            f"class names are numbers, but the set's class list keeps them in another order: class {odd} has the label "
            f"{ids.index(odd)}. For labels in the numbers' order, build all splits into another folder"
        )
    for each in sorted(labels):
        if each != ids[labels[each]]:
            yield f"class {each!a} is taken for {ids[labels[each]]!a}: the same name in another Unicode form"
    for pair in _pairs(labels, str.casefold):
        yield f"two classes have names that differ in upper and lower case alone: {' and '.join(map(repr, pair))}"
    for split, sources in splits.items():
        present = {labels[source.class_name] for source in sources if len(source)}
        if missing := [each for label, each in enumerate(ids) if label not in present]:
            named = first_few(missing, 5)
            yield f"split {split} has images of {len(present):,} of {len(ids):,} classes of {whose}; none of {named}"


def _refuse_lookalikes(names: Collection[str]) -> None:
    for pair in _pairs(names, _composed):
        raise ShardError(
            "two classes have the same name, in different Unicode forms",
            where=printable(pair[0]),
            found=" and ".join(map(ascii, pair)),
            expected="one folder, tar or zip per class",
            fix="put the images of both into one",
        )
    for pair in _pairs(names, lambda name: str(int(name))) if are_numbers(names) else ():
        raise ShardError(
            "two classes have the same number",
            found=" and ".join(map(repr, pair)),
            expected="one folder, tar or zip per class",
            fix="put the images of both into one, or rename one",
        )


def _pairs(names: Iterable[str], form: Callable[[str], str]) -> list[tuple[str, str]]:
    """Names that are the same in a form."""
    seen: dict[str, str] = {}
    return [(seen[form(name)], name) for name in sorted(names) if seen.setdefault(form(name), name) != name]


def _refuse_empty(empty: Mapping[str, ClassSource], rules: SourceRules) -> None:
    if empty and rules.empty_classes == "stop":
        described = [
            f"{name!r}" + (f" (with {count:,} things of other kinds)" if count else "")
            for name, source in sorted(empty.items())
            for count in (source.archives + source.others,)
        ]
        raise ShardError(
            "the source has folders, tars or zips without images",
            found=f"{len(empty):,}: {first_few(described, 5)}",
            expected="images of each class, because the classes are numbered",
            fix="give --empty-classes keep if they are classes: they keep their numbers; or --empty-classes leave-out "
            "if they are none. --list names what lies in them",
        )


def _unknown_classes(unknown: list[str], classes: ClassList, where: str, whose: str) -> ShardError:
    owner = "the split that was built first" if whose == FIRST_SPLIT else whose
    alike = {_folded(each): each for each in reversed(classes.ids)}
    described = []
    for name in unknown[:5]:
        close = alike.get(_folded(name)) or next(iter(difflib.get_close_matches(name, classes.ids, 1, 0.8)), None)
        described.append(ascii(name) + (f" (the set has {close!a})" if close else ""))
    return ShardError(
        f"the source has classes that {'the shard set' if whose == FIRST_SPLIT else whose} lacks",
        where=where,
        found=", ".join(described) + (f" and {len(unknown) - 5:,} more" if len(unknown) > 5 else ""),
        expected=f"the {len(classes.ids)} classes of {owner}",
        fix="if these are spellings of the same class, rename the folders; else build into another folder, and begin "
        "with the split that has all classes, or give --split-from-folders",
    )


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    kept = (char for char in unicodedata.normalize("NFKC", name).casefold() if char.isalnum())
    return "".join(kept)
