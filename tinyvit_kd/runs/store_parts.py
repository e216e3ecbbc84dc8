"""Parts of stores that are copied: which views and shards, from which of several sources, and into what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from tinyvit_kd.errors import ConfigError, ManifestMismatchError
from tinyvit_kd.runtime.number_lists import is_number_or_range, listed_numbers
from tinyvit_kd.runtime.wording import printable
from tinyvit_kd.storage.open import open_storage
from tinyvit_kd.store.manifest import Manifest
from tinyvit_kd.store.names import array_name, view_of
from tinyvit_kd.store.store import LogitStore

Block = tuple[int, int]  # shard, view


@dataclass(frozen=True)
class Parts:
    """Which blocks of a store are meant."""

    shards: list[int]
    views: list[int]

    @property
    def blocks(self) -> list[Block]:
        """All of them, view by view: whoever follows the copy can begin with the first views."""
        return [(shard, view) for view in self.views for shard in self.shards]


def open_sources(paths: Sequence[str], target: str) -> list[LogitStore]:
    """The stores to copy from, all of which must be parts of one.

    Raises:
        ConfigError: one of them is the target, or lies around it.
        ManifestMismatchError: they were made from different things; it names what differs.
        StoreError: there is no store, or its manifest is damaged.
    """
    sources = [LogitStore.open(path) for path in dict.fromkeys(paths)]
    goal = open_storage(target)
    for source in sources:
        if goal.is_same(source.storage) or goal.locate().startswith(f"{source.where.rstrip('/')}/"):
            raise ConfigError(
                "a store cannot be copied into itself",
                where=f"TARGET: {printable(target)}",
                found=f"the same place as {printable(source.where)}, or one in it",
                fix="name another folder or URL",
            )
    first, *others = sources
    for other in others:
        try:
            other.manifest.require_same(first.manifest.identity, other.where, other=first.where)
        except ManifestMismatchError as error:
            raise error.with_context(
                fix="merge only parts of one store: of one recipe, teacher and shard set"
            ) from None
    return sources


def chosen_parts(manifest: Manifest, views: str | None, shards: str | None) -> Parts:
    """The parts that ``--views`` and ``--shards`` name; all of the store without them. Empty shards have no blocks.

    Args:
        manifest: of the source, with the largest number of views of all.
        views: numbers, such as ``0-9``.
        shards: numbers and names, such as ``0-99`` or ``train-0000*.tar``.

    Raises:
        ConfigError: there are no such views or shards.
    """
    numbers = list(range(manifest.views)) if views is None else listed_numbers(views, manifest.views)
    if not numbers:
        expected = f"numbers from 0 to {manifest.views - 1}, the smaller first, such as 0-9 or 0,2"
        raise ConfigError("the store has no such views", where="--views", found=_cut(views or ""), expected=expected)
    named = range(len(manifest.shard_names)) if shards is None else _named_shards(manifest.shard_names, shards)
    return Parts([shard for shard in sorted(named) if manifest.shard_lengths[shard]], sorted(numbers))


def _named_shards(names: Sequence[str], text: str) -> set[int]:
    found: set[int] = set()
    for part in (each.strip() for each in text.split(",")):
        if is_number_or_range(part) and part not in names:
            numbers: Iterable[int] | None = listed_numbers(part, len(names))
        else:
            numbers = [number for number, name in enumerate(names) if fnmatchcase(name, part)]
        if not numbers:
            raise ConfigError(
                "the store has no such shards",
                where="--shards",
                found=_cut(part),
                expected=f"numbers from 0 to {len(names) - 1}, the smaller first, or names from "
                f"{printable(names[0])} to {printable(names[-1])}, also with * and ?",
            )
        found.update(numbers)
    return found


def _cut(text: str) -> str:
    return printable(text[:80])


def holders(sources: Sequence[LogitStore], parts: Parts) -> dict[Block, list[LogitStore]]:
    """Which of the sources have each block. Each shard's folder is listed once."""
    found: dict[Block, list[LogitStore]] = {block: [] for block in parts.blocks}
    for source in sources:
        for shard in parts.shards:
            for entry in source.storage.list(array_name(shard)):
                view = view_of(entry.base)
                if view is not None and view < source.manifest.views and (shard, view) in found:
                    found[shard, view].append(source)
    return found
