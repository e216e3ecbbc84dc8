"""Which samples of a store are looked at: named ones, random ones, holes, suspects."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice

import numpy as np

from tinyvit_kd.analysis.records.store_labels import StoreLabels
from tinyvit_kd.analysis.records.suspects import Thresholds, find_suspects
from tinyvit_kd.data.indexing.index import ShardIndex
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.seeding import Draws
from tinyvit_kd.store.statistics import holes
from tinyvit_kd.store.store import LogitStore

_PLACE = re.compile(r"(.+):([0-9]{1,9})")
_DRAW = 0x73686F77  # keeps these draws apart from others with the same seed


Place = tuple[int, int]
"""Where a sample is: the number of its shard, and its index there."""


def named_places(shards: ShardSet, names: Sequence[str]) -> list[Place]:
    """Samples by name: ``SHARD:INDEX``, where a shard is a number or the name of its tar, or a key.

    Of several samples with the same key, the first is meant.

    Raises:
        ConfigError: there is no such sample.
        ShardError: a shard cannot be read.
    """
    return [_by_place(shards, name) or _by_key(shards, name) for name in names]


def random_places(lengths: Sequence[int], count: int, seed: int) -> list[Place]:
    """Different samples, drawn from all, in the order of the shards; all of them if there are no more.

    Args:
        lengths: samples of each shard.
    """
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    draws, drawn = Draws(seed, _DRAW), set(range(total)) if count >= total else set[int]()
    while len(drawn) < min(count, total):
        drawn.add(draws.integer(0, total - 1))
    return [_place(ends, number) for number in sorted(drawn)]


def hole_places(store: LogitStore, count: int) -> list[Place]:
    """The first of a store's holes."""
    return [(shard, index) for shard, index, _ in islice(holes(store), count)]


def suspect_places(store: LogitStore, labels: StoreLabels, count: int, processes: int) -> list[Place]:
    """The samples whose label the teacher contradicts most surely (``store suspects``).

    Raises:
        ConfigError: the labels are not known.
    """
    found = find_suspects(store, labels, Thresholds(), processes).found
    return [(each.shard, each.index) for each in found[:count]]


def _place(ends: np.ndarray[tuple[int], np.dtype[np.int64]], number: int) -> Place:
    shard = int(np.searchsorted(ends, number, side="right"))
    return shard, number - (int(ends[shard - 1]) if shard else 0)


def _by_place(shards: ShardSet, text: str) -> Place | None:
    match = _PLACE.fullmatch(text)
    if match is None:
        return None
    name, index = match[1], int(match[2])
    by_name = [number for number, each in enumerate(shards.names) if name in (each, each.removesuffix(".tar"))]
    shard = by_name[0] if by_name else int(name) if name.isdecimal() and name.isascii() else -1
    if shard < 0:
        return None  # it may be a key with a colon in it
    if shard >= len(shards.names) or index >= shards.lengths[shard]:
        expected = f"0:0 to {len(shards.names) - 1}:…" if shard >= len(shards.names) else _indexes(shards, shard)
        raise ConfigError("there is no such sample", where="SAMPLE", found=text, expected=expected)
    return shard, index


def _indexes(shards: ShardSet, shard: int) -> str:
    length = int(shards.lengths[shard])
    return f"{shard}:0 to {shard}:{length - 1}" if length else "another shard: this one is empty"


def _by_key(shards: ShardSet, key: str) -> Place:
    raw = key.encode("utf-8", "surrogateescape")
    for shard in range(len(shards.names)):
        index = _find_key(shards.index(shard), raw)
        if index is not None:
            return shard, index
    raise ConfigError(
        "there is no such sample",
        where="SAMPLE",
        found=key,
        expected="SHARD:INDEX, for example 0:12 or train-000000.tar:12, or the key of a sample",
    )


def _find_key(index: ShardIndex, raw: bytes) -> int | None:
    """The sample with this key; None if there is none. One search in all keys, since there may be millions."""
    joined = index.key_bytes.tobytes()
    start = joined.find(raw)
    while start >= 0 and raw:
        number = int(np.searchsorted(index.key_ends, start + len(raw)))
        if index.raw_key(number) == raw and index.key_ends[number] == start + len(raw):
            return number
        start = joined.find(raw, start + 1)
    return None
