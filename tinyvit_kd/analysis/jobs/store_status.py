"""How far a dump is: the blocks that its store has, and the files that its parts keep beside the store.

No block is read: the shards' folders are listed, in an object store all at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tinyvit_kd.analysis.jobs.liveness import as_number
from tinyvit_kd.analysis.jobs.part_status import Part, PartStatus, part_statuses
from tinyvit_kd.errors import ConfigError, TinyVitKdError, reason_of
from tinyvit_kd.runtime.wording import counted
from tinyvit_kd.storage.base import Storage
from tinyvit_kd.storage.open import open_storage
from tinyvit_kd.store.folders import array_entries
from tinyvit_kd.store.manifest import Manifest
from tinyvit_kd.store.names import is_partial, view_of


@dataclass(frozen=True)
class StoreStatus:
    """How far a store is. What is not known is None.

    Attributes:
        path: or URL of the store.
        state: ``finished`` if no block is missing; else that of its parts: active if one is, or what the last one did;
            ``incomplete`` where no part says anything.
        message: what is wrong with the store, or what its dump is doing.
        age: seconds since the last sign of life of any part.
        teacher: its name.
        views, topk: of the store.
        samples, shards: how many there are.
        present, total: blocks.
        missing_shards: by name of the shard, how many of its blocks are missing; empty shards have none.
        unattended: how many of the missing blocks no part that is at work makes.
        first_missing: name of the shard and number of the view of the first missing blocks.
        unfinished: temporary files, which running dumps use and killed ones leave behind.
        unlisted: shards whose folder the system refuses to list; their blocks count as missing.
        holes: views that are holes, as far as its dumps have told: each of those that its last start made.
        rate: views per second of all parts that are at work.
        seconds_left: until these have made what is missing; None where nobody makes it.
        parts: that have left a file beside the store.
        notes: what is wrong with files, or with clocks.
    """

    path: str
    kind: str = field(default="store", init=False)
    stage: str = field(default="dump-logits", init=False)
    state: str = "unknown"
    message: str | None = None
    age: float | None = None
    teacher: str | None = None
    views: int | None = None
    topk: int | None = None
    samples: int | None = None
    shards: int | None = None
    present: int | None = None
    total: int | None = None
    missing_shards: dict[str, int] = field(default_factory=dict)
    unattended: int = 0
    first_missing: tuple[tuple[str, int], ...] = ()
    unfinished: int = 0
    unlisted: int = 0
    holes: int | None = None
    rate: float | None = None
    seconds_left: float | None = None
    parts: tuple[PartStatus, ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for machines."""
        return asdict(self)


@dataclass
class _Blocks:
    """The blocks of a store, shard by shard.

    Attributes:
        manifest: of the store.
        missing: view numbers of each shard's missing blocks.
        unfinished: temporary files.
        refused: what the system said where it refused to list a folder.
    """

    manifest: Manifest
    missing: list[list[int]] = field(default_factory=list)
    unfinished: int = 0
    refused: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.manifest.views * sum(length > 0 for length in self.manifest.shard_lengths)

    def missing_of(self, part: Part) -> int:
        """How many blocks of a part's shards are missing."""
        number, parts = part
        return sum(map(len, self.missing[number - 1 :: parts]))

    def missing_views(self) -> int:
        """How many views the missing blocks hold."""
        lengths = self.manifest.shard_lengths
        return sum(len(views) * length for views, length in zip(self.missing, lengths, strict=True))


FIRST = 5  # missing blocks that are named


def store_status(path: str, now: float) -> StoreStatus:
    """Look at a store, at a path or a URL, and at what its dumps keep beside it.

    Args:
        now: Unix time, seconds.
    """
    try:
        storage = open_storage(path)
        blocks = _list_blocks(storage, Manifest.load(storage))
    except TinyVitKdError as error:
        parts = tuple(part_statuses(path, None, now))
        state = _joint_state(parts) if parts else "unknown"
        return StoreStatus(path, state=state, message=str(error), age=_youngest(parts), parts=parts)
    manifest, parts = blocks.manifest, tuple(part_statuses(path, blocks.missing_of, now))
    missing = sum(map(len, blocks.missing))
    active = [part for part in parts if part.state in ("starting", "running", "evaluating")]
    rates = [part.rate for part in active if part.rate]
    rate = sum(rates) if rates else None
    names = manifest.shard_names
    return StoreStatus(
        path,
        state="finished" if not missing else _joint_state(parts),
        message=next((part.message for part in active or parts[-1:] if part.message), None) if missing else None,
        age=_youngest(parts),
        teacher=manifest.teacher.name,
        views=manifest.views,
        topk=manifest.topk,
        samples=sum(manifest.shard_lengths),
        shards=len(names),
        present=blocks.total - missing,
        total=blocks.total,
        missing_shards={name: len(views) for name, views in zip(names, blocks.missing, strict=True) if views},
        unattended=max(0, missing - sum(part.missing or 0 for part in active)),
        first_missing=_first_missing(blocks),
        unfinished=blocks.unfinished,
        unlisted=len(blocks.refused),
        holes=_holes(parts),
        rate=rate,
        seconds_left=_seconds_left(blocks, active, rate) if missing else 0.0,
        parts=parts,
        notes=tuple(_notes(blocks)),
    )


def part_alone(path: str, part: Part, now: float) -> StoreStatus:
    """Look at what one part of a dump keeps beside its store, and not at the store: a few small files.

    Args:
        part: (i, n).
        now: Unix time, seconds.

    Raises:
        ConfigError: the part has left nothing there.
    """
    parts = tuple(part_statuses(path, None, now, only=part))
    if not parts:
        raise ConfigError(
            f"part {part[0]} of {part[1]} of a dump has left nothing beside this store, or has not begun",
            where=path,
            expected="the store of a dump that was started with this --part",
        )
    (found,) = parts
    return StoreStatus(path, state=found.state, message=found.message, age=found.age, rate=found.rate, parts=parts)


def _list_blocks(storage: Storage, manifest: Manifest) -> _Blocks:
    lengths, views = manifest.shard_lengths, range(manifest.views)
    blocks = _Blocks(manifest, [[] for _ in lengths])
    with_samples = [shard for shard, length in enumerate(lengths) if length]
    listed = array_entries(storage, with_samples, blocks.total, lambda error: blocks.refused.append(reason_of(error)))
    for shard, entries in listed:
        found = {view_of(entry.base) for entry in entries}
        blocks.unfinished += sum(is_partial(entry.base) for entry in entries)
        blocks.missing[shard] = [view for view in views if view not in found]
    return blocks


def _first_missing(blocks: _Blocks) -> tuple[tuple[str, int], ...]:
    found = (
        (name, view) for name, views in zip(blocks.manifest.shard_names, blocks.missing, strict=True) for view in views
    )
    return tuple(each for each, _ in zip(found, range(FIRST), strict=False))


def _joint_state(parts: Iterable[PartStatus]) -> str:
    """The state of an incomplete store: of a part that works, else of the one with the newest sign."""
    known = [part for part in parts if part.state != "finished"]
    active = [part for part in known if part.state in ("running", "evaluating", "starting")]
    newest = min(active or known, key=lambda part: part.age if part.age is not None else float("inf"), default=None)
    return "incomplete" if newest is None or newest.state == "unknown" else newest.state


def _youngest(parts: Iterable[PartStatus]) -> float | None:
    return min((part.age for part in parts if part.age is not None), default=None)


def _holes(parts: Iterable[PartStatus]) -> int | None:
    counts = [as_number(part.figures.get("holes")) for part in parts if part.figures]
    known = [count for count in counts if count is not None]
    return int(sum(known)) if known else None


def _seconds_left(blocks: _Blocks, active: Sequence[PartStatus], rate: float | None) -> float | None:
    """Until all is made, if the active parts make all of it; else None."""
    theirs = sum(part.missing or 0 for part in active)
    if not active or theirs < sum(map(len, blocks.missing)):
        return None
    each = [part.seconds_left for part in active]
    known = [seconds for seconds in each if seconds is not None]
    if len(known) == len(each):
        return max(known)
    return blocks.missing_views() / rate if rate else None


def _notes(blocks: _Blocks) -> Iterator[str]:
    if blocks.refused:
        yield f"{counted(len(blocks.refused), 'shard folder')} cannot be listed: {blocks.refused[0]}"
