"""Labels of several sources in one vocabulary: the classes of a list, by name or number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tinyvit_kd.data.building.class_numbers import are_numbers
from tinyvit_kd.data.building.class_source import ClassSource
from tinyvit_kd.data.building.source_rules import LabelsAre
from tinyvit_kd.data.labels.class_list import ClassList
from tinyvit_kd.data.source_kinds.found import FoundSource
from tinyvit_kd.errors import ShardError
from tinyvit_kd.runtime.wording import counted

_SPARSE = 10  # times as many numbers as classes, and a thousand: more are no numbers of classes
_KINDS = {
    "folders": "names of folders or archives",
    "names": "names",
    "numbers": "numbers",
    "none": "no labels",
}


@dataclass(frozen=True)
class NamedSources:
    """Sources whose classes have the names of one list.

    Attributes:
        sources: with the classes' names in that list.
        classes: the list; None: none is known, and names are sorted.
        whose: what has these classes, in words.
        where: what says them.
        notes: what a reader should know, one line each.
    """

    sources: Sequence[FoundSource]
    classes: ClassList | None
    whose: str
    where: str
    notes: tuple[str, ...] = ()


def require_one_kind(sources: Sequence[FoundSource]) -> None:
    """Refuse sources of which some have labels and others have none.

    Raises:
        ShardError: there are both.
    """
    if len({found.labels == "none" for found in sources}) > 1:
        raise _different(
            sources, "give --unlabelled to pack all without labels, or build them into splits of their own"
        )


def named_by_list(
    sources: Sequence[FoundSource], known: ClassList | None, name: str, first: int, labels_are: LabelsAre | None = None
) -> NamedSources:
    """Give the classes of all sources the names of one class list.

    Numbers count in the list that is known, else in the one that a source declares, else they are classes themselves.

    Args:
        sources: with labels.
        known: the classes of the set, or those of a list that the user names.
        name: of the shard set.
        first: the number of the first class.
        labels_are: what the user says of labels; None: numbers count as such where they cannot be names, too.

    Raises:
        ShardError: labels are numbers in one source and names in another, and no list says what the numbers are; or a
            number is none of a class, or that of one and the name of another.
    """
    where = ", ".join(dict.fromkeys(str(found.listing.source) for found in sources))
    whose = "all splits" if known is None else "the class list"
    if known is None:
        known = _declared(sources)
        whose = whose if known is None else "the source's own list"
    numbered = [found for found in sources if found.labels == "numbers"]
    if known is None and numbered:
        if len(numbered) < len(sources):
            raise _different(
                sources,
                "say what the numbers are with --class-list LIST, whose first class is number 0, or give --labels-are "
                "names if they are names",
            )
        known = _numbers(numbered, name, first)
        renamed = [_renamed(found, known, first) for found in sources]
        return NamedSources(renamed, known, "the numbers up to the highest label", where, _first_note(numbered, first))
    if known is None:
        return NamedSources(sources, None, whose, where)
    if labels_are is None:
        _refuse_ambiguous(numbered, known, first)
    return NamedSources([_renamed(found, known, first) for found in sources], known, whose, where)


def _declared(sources: Sequence[FoundSource]) -> ClassList | None:
    """The list of a source that has the classes of all of them, in its order; the longest of several."""
    names = {each.class_name for found in sources if found.labels != "numbers" for each in _classes(found)}
    lists = [found.declared for found in sources if found.declared is not None]
    fitting = [each for each in lists if names <= set(each.ids)]
    return max(fitting, key=lambda each: len(each.ids), default=None)


def _numbers(sources: Sequence[FoundSource], name: str, first: int) -> ClassList:
    """Classes that are named by their numbers."""
    used = {int(each.class_name) for found in sources for each in _classes(found)}
    if max(used) > _SPARSE * len(used) + 1000:
        raise ShardError(
            "labels are numbers that leave most numbers out",
            where=", ".join(str(found.listing.source) for found in sources),
            found=f"{len(used):,} different ones up to {max(used):,}",
            expected="numbers of classes, which count from 0",
            fix="name the column of the classes with --label-column, or say what the numbers are with --class-list",
        )
    return ClassList(name, tuple(str(number) for number in range(first, max(max(used), first) + 1)))


def _refuse_ambiguous(sources: Sequence[FoundSource], known: ClassList, first: int) -> None:
    """Refuse numbers that are the names of other classes than those that they count to, as of folders 1, 2, 3."""
    places = {int(each): place for place, each in enumerate(known.ids) if are_numbers([each])}
    for found in sources:
        for each in sorted(_classes(found), key=lambda each: int(each.class_name)):
            number = int(each.class_name)
            place = places.get(number, number - first)
            if place == number - first:
                continue
            is_number = 0 <= number - first < len(known.ids)
            as_number = f"class {known.ids[number - first]!r}" if is_number else "no class"
            raise ShardError(
                "labels may be numbers of classes or names of other classes",
                where=f"{found.listing.source}, {each.name(0)}",
                found=f"label {number}: as a number it is {as_number}, as a name it is class {known.ids[place]!r}, "
                f"whose number is {place + first}",
                expected="labels that are the same class either way",
                fix=f"say what they are with --labels-are numbers, which count from {first}, or --labels-are names",
            )


def _first_note(sources: Sequence[FoundSource], first: int) -> tuple[str, ...]:
    if first == 0 and min(int(each.class_name) for found in sources for each in _classes(found)) == 1:
        return ("no label is 0: if the labels count from 1, build into another folder with --first-label 1",)
    return ()


def _renamed(found: FoundSource, known: ClassList, first: int) -> FoundSource:
    """A source whose classes are named as in a list, as far as they are in it."""
    if found.labels == "folders":
        return found
    splits = {split: [_named(each, found, known, first) for each in sources] for split, sources in found.splits.items()}
    return replace(found, splits=splits)


def _named(source: ClassSource, found: FoundSource, known: ClassList, first: int) -> ClassSource:
    if found.labels == "names":
        number = known.find(source.class_name)
        return replace(source, class_name=known.ids[number]) if number >= 0 else source
    number = int(source.class_name) - first
    if not 0 <= number < len(known.ids):
        raise ShardError(
            "a label is the number of no class",
            where=f"{found.listing.source}, {source.name(0)}",
            found=source.class_name,
            expected=f"{first} to {first + len(known.ids) - 1:,}, as {counted(len(known.ids), 'class')} have",
            fix="correct it, or say with --first-label what number the first class has" if number >= 0 else "",
        )
    return replace(source, class_name=known.ids[number])


def _classes(found: FoundSource) -> list[ClassSource]:
    return [each for sources in found.splits.values() for each in sources]


def _different(sources: Sequence[FoundSource], fix: str) -> ShardError:
    return ShardError(
        "the sources have labels of different kinds",
        where=", ".join(str(found.listing.source) for found in sources),
        found="; ".join(f"{found.listing.source.name}: {_KINDS[found.labels]}" for found in sources),
        expected="labels of one kind in all of them",
        fix=fix,
    )
