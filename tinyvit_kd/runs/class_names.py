"""Names of classes for people: "tench" for n01440764."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tinyvit_kd.data.labels.class_list import ClassList, wordnet_names


def class_names(ids: Sequence[str], names: Sequence[Sequence[str]] = ()) -> list[str]:
    """A readable name of each class, told apart from those of the others.

    It is the first of a class's names; where several classes share that ("crane" is a bird and a machine), all of its
    names; where they share those, too, the first with the id behind it. A class that has no name is called by its id.

    Args:
        ids: of the classes. Names of WordNet ids are looked up in timm's table.
        names: other names of each class, as ``ClassList.names`` has them; none by default.
    """
    known = wordnet_names()
    given = names or [()] * len(ids)
    # A list's own name may hold several, as WordNet's do: "tench, Tinca tinca".
    whole = [", ".join(own) or known.get(each, "") or each for each, own in zip(ids, given, strict=True)]
    short = [_first(name) if name != each else each for each, name in zip(ids, whole, strict=True)]
    shared, still_shared = _shared(short), _shared(whole)

    def readable(each: str, brief: str, full: str) -> str:
        if brief.casefold() not in shared:
            return brief
        return full if full.casefold() not in still_shared else f"{brief} ({each})"

    return [readable(*each) for each in zip(ids, short, whole, strict=True)]


def names_of(classes: ClassList | None, num_classes: int) -> list[str]:
    """A readable name of each of a network's classes; "class 7" where there is no class list."""
    if classes is None:
        return [f"class {number}" for number in range(num_classes)]
    return class_names(classes.ids, classes.names)


def _first(names: str) -> str:
    return names.partition(",")[0].strip() or names


def _shared(names: Sequence[str]) -> set[str]:
    return {name for name, count in Counter(name.casefold() for name in names).items() if count > 1}
