"""Which kind of source a path is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tinyvit_kd.data.building.source_rules import ColumnNames, Listing, SourceRules
from tinyvit_kd.data.building.sources import list_classes, list_splits
from tinyvit_kd.data.building.split_names import plain_splits
from tinyvit_kd.data.source_kinds.arrow_tables import find_in_arrow_table, is_arrow_table
from tinyvit_kd.data.source_kinds.datasets_folder import find_in_datasets_folder, is_datasets_folder
from tinyvit_kd.data.source_kinds.found import FoundSource
from tinyvit_kd.data.source_kinds.imagenet_validation import find_imagenet_validation
from tinyvit_kd.data.source_kinds.lists import find_in_text_list, is_text_list
from tinyvit_kd.data.source_kinds.tiny_imagenet import find_tiny_imagenet, is_tiny_imagenet
from tinyvit_kd.data.source_kinds.unlabelled import find_unlabelled
from tinyvit_kd.errors import ConfigError


class Kind(NamedTuple):
    """A kind of source."""

    holds: Callable[[Path, SourceRules], bool]  # whether a path is of this kind
    find: Callable[[Listing, str | None], FoundSource]  # its images; of all splits where none is named


def _find_classes(listing: Listing, split: str | None) -> FoundSource:
    source = listing.source
    if split is not None:
        return FoundSource(listing, {split: list_classes(source, listing)}, "folders")
    return FoundSource(listing, plain_splits(source, list_splits(source, listing)), "folders")


KINDS: Mapping[str, Kind] = {
    "list": Kind(lambda path, _: is_text_list(path), find_in_text_list),
    "table": Kind(lambda path, _: is_arrow_table(path), find_in_arrow_table),
    "datasets": Kind(lambda path, _: is_datasets_folder(path), find_in_datasets_folder),
    "unlabelled": Kind(lambda _, rules: rules.unlabelled, find_unlabelled),
    "validation": Kind(lambda _, rules: rules.labels is not None, find_imagenet_validation),
    "tiny_imagenet": Kind(lambda path, _: is_tiny_imagenet(path), find_tiny_imagenet),
    "classes": Kind(lambda _path, _rules: True, _find_classes),
}
"""Kinds of sources; the first that holds counts. To support another one, add a line here."""


def require_fitting_options(paths: Sequence[Path], rules: SourceRules) -> None:
    """Refuse options that none of the sources has a use for.

    Raises:
        ConfigError: there is one.
    """
    present = {kind_of(path, rules) for path in paths}
    tables = {"list", "table", "datasets"}
    of_columns = rules.columns != ColumnNames() or rules.first_label or rules.labels_are is not None
    for given, options, wanted, kinds in (
        (
            of_columns,
            "--image-column, --label-column, --key-column, --root, --first-label or --labels-are",
            "a list or table",
            tables,
        ),
        (rules.labels is not None, "--labels", "ImageNet's validation images", {"validation"}),
        (rules.split is not None, "--source-split", "a data set with splits", {"datasets", "tiny_imagenet"}),
    ):
        if given and not present & kinds:
            raise ConfigError(
                "an option fits none of the sources",
                where=", ".join(map(str, paths)),
                found=options,
                expected=f"{wanted} among the sources",
                fix="leave the option out, or correct the source",
            )


def kind_of(path: Path, rules: SourceRules) -> str:
    """The name of a path's kind in ``KINDS``."""
    return next(name for name, kind in KINDS.items() if kind.holds(path, rules))


def find_source(listing: Listing, split: str | None) -> FoundSource:
    """The images of a source.

    Args:
        listing: how to look.
        split: the name of the only one; None: the source has several.

    Raises:
        ShardError: the source cannot be read.
        ConfigError: an option does not fit it.
    """
    return KINDS[kind_of(listing.source, listing.rules)].find(listing, split)
