"""What a build finds in its sources: splits, their classes, and the classes' numbers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tinyvit_kd.data.building.class_names import named_by_list, require_one_kind
from tinyvit_kd.data.building.class_numbers import FIRST_SPLIT, ClassNumbers, number_classes
from tinyvit_kd.data.building.class_source import ClassSource
from tinyvit_kd.data.building.source_levels import require_class_level, require_readable
from tinyvit_kd.data.building.source_rules import Listing, SourceRules
from tinyvit_kd.data.classes_beside import CLASS_LIST_FILE
from tinyvit_kd.data.labels.class_list import ClassList, load_class_list, read_class_list
from tinyvit_kd.data.labels.class_list_text import plain_lines
from tinyvit_kd.data.source_kinds.found import FoundSource
from tinyvit_kd.data.source_kinds.keys import require_distinct_keys
from tinyvit_kd.data.source_kinds.kinds import find_source, require_fitting_options
from tinyvit_kd.errors import ShardError
from tinyvit_kd.storage.base import Storage


@dataclass(frozen=True)
class Found:
    """What a build's sources come to.

    Attributes:
        sources: each by itself, its classes named as in the class list where one is known.
        numbers: of the classes; None: nothing has labels.
    """

    sources: Sequence[FoundSource]
    numbers: ClassNumbers | None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know of the sources and their classes, one line each."""
        notes = [note for found in self.sources for note in found.notes]
        return (*notes, *(self.numbers.notes if self.numbers else ()))

    @property
    def labels(self) -> Mapping[str, int]:
        """The number of each class; empty: nothing has labels."""
        return self.numbers.labels if self.numbers else {}

    @property
    def classes_hash(self) -> str:
        """Of the class list."""
        return self.numbers.classes.hash if self.numbers else "unlabelled"

    @property
    def splits(self) -> dict[str, list[ClassSource]]:
        """The images of each split, from all sources: sorted by class, and within one in the order of the sources."""
        return merged_splits(self.sources)


def merged_splits(sources: Iterable[FoundSource]) -> dict[str, list[ClassSource]]:
    """The images of each split, from all sources: sorted by class, and within one in the order of the sources."""
    splits: dict[str, list[ClassSource]] = {}
    for found in sources:
        for split, classes in found.splits.items():
            splits.setdefault(split, []).extend(classes)
    return {split: sorted(classes, key=lambda each: each.class_name) for split, classes in splits.items()}


def find_splits(listings: Sequence[Listing], split: str | None) -> list[FoundSource]:
    """The images of each source, by split and class; classes without images, too.

    Args:
        listings: how to look at each source.
        split: the name of the only one; None: the sources have several.

    Raises:
        ShardError: a source cannot be read, some of the sources have labels and others have none, or samples would
            share their keys.
        ConfigError: two splits have the same name, or an option does not fit a source.
    """
    require_fitting_options([listing.source for listing in listings], listings[0].rules)
    sources = []
    for listing in listings:
        sources.append(find_source(listing, split))
        require_readable(listing)
    if listings[0].rules.unlabelled:
        sources = [_without_labels(found) for found in sources]
    require_one_kind(sources)
    for name, classes in merged_splits(sources).items():
        require_distinct_keys(name, classes)
    return sources


def _without_labels(found: FoundSource) -> FoundSource:
    return replace(found, labels="none", declared=None)


def number_source(out: Storage, sources: Sequence[FoundSource], rules: SourceRules) -> Found:
    """The classes in ``out`` if it already has shards, else those of the sources, and their numbers.

    Raises:
        ShardError: the folders of a source may not be classes, or do not fit those of ``out``.
        ConfigError: there is no such class list.
    """
    if all(found.labels == "none" for found in sources):
        return Found(sources, None)
    listed = None if rules.class_list is None else load_class_list(rules.class_list)
    names = {each.class_name for found in sources for classes in found.splits.values() for each in classes}
    declared = {each for found in sources if found.declared for each in found.declared.ids}
    kept = _known_classes(out, names | declared | set(listed.ids if listed else ()))
    if kept is not None and listed is not None and kept.hash != listed.hash:
        raise ShardError(
            "the shard set has other classes than the class list that is given",
            where=out.locate(CLASS_LIST_FILE),
            found=f"{len(kept.ids):,} classes ({', '.join(kept.ids[:3])}, …)",
            expected=f"the {len(listed.ids):,} of {rules.class_list}, in their order",
            fix="leave --class-list out, or build into another folder",
        )
    name = out.locate().rstrip("/").rpartition("/")[2]
    named = named_by_list(sources, kept or listed, name, rules.first_label, rules.labels_are)
    for found in named.sources:
        if found.labels == "folders":
            require_class_level(found.listing, found.splits, named.classes.ids if named.classes else ())
    whose = FIRST_SPLIT if kept else named.whose
    where = out.locate(CLASS_LIST_FILE) if kept else rules.class_list or named.where
    left_out = sources[0].listing.left_out
    numbers = number_classes(name, merged_splits(named.sources), named.classes, where, rules, left_out, whose)
    return Found(named.sources, replace(numbers, notes=(*named.notes, *numbers.notes)))


def require_same_classes(out: Storage, classes: ClassList) -> None:
    """Check that the classes in ``out`` are those that the shards are about to be labelled by.

    Raises:
        ShardError: they are others: another build has written its own at the same moment.
    """
    known = _known_classes(out, classes.ids)
    if known is None or known.hash != classes.hash:
        raise ShardError(
            "another build has just written another class list",
            where=out.locate(CLASS_LIST_FILE),
            expected=f"the {len(classes.ids):,} classes of this source",
            fix="run the same command again: it takes the classes that are there, or says what does not fit",
        )


def _known_classes(out: Storage, names: Collection[str]) -> ClassList | None:
    """The classes of a set; each whole line if a build has written them, which may look like an id and a name."""
    if out.info(CLASS_LIST_FILE) is None:
        return None
    content = out.read(CLASS_LIST_FILE)
    try:
        lines = tuple(plain_lines(content.decode("utf-8-sig")))
    except UnicodeDecodeError:
        lines = ()
    name = Path(CLASS_LIST_FILE).stem
    written_by_us = not set(names).isdisjoint(lines) and len(set(lines)) == len(lines)
    return ClassList(name, lines) if written_by_us else read_class_list(content, name, out.locate(CLASS_LIST_FILE))
