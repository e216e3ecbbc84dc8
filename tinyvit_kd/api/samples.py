"""Shards and their samples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from tinyvit_kd.config.view_spec import EvalViewSpec
from tinyvit_kd.data.indexing.index import Int64
from tinyvit_kd.data.shard_reader import ShardReader
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError, ShardError
from tinyvit_kd.runtime.log import warn
from tinyvit_kd.views.decode import decode


@dataclass(frozen=True)
class Sample:
    """One sample of a shard set."""

    shard: int
    index: int  # within the shard
    key: str
    label: int  # -1 if there is none
    image_bytes: bytes = field(repr=False)  # the encoded image

    @property
    def image(self) -> Image.Image:
        """The whole image in RGB.

        Raises:
            BadImageError: the image cannot be decoded.
        """
        return decode(self.image_bytes, EvalViewSpec().max_pixels)


def open_shards(
    path: str | Path,
    split: str | None = None,
    *,
    cache_dir: str | Path | None = None,
    cache_gib: float | None = None,
    cache_local: bool = False,
    index_dir: str | Path | None = None,
) -> ShardSet:
    """Open a shard set; a line says so if it has lost samples (docs/DATA.md).

    Its attributes are ``names`` and ``lengths`` of the shards, the number of samples ``total``, and ``class_list``.

    Args:
        path: a folder with timm's ``_info.json``, a brace pattern, a glob, one tar, or a URL of any of these.
        split: a split named in ``_info.json``; None: the only one.
        cache_dir: where copies of shards from URLs are kept.
        cache_gib: GiB that the copies may take; None: nothing is ever removed.
        cache_local: whether shards at paths are copied, too.
        index_dir: where byte indexes are kept; None: beside the shards.

    Raises:
        ShardError: the shards are missing, compressed, truncated or damaged.
        ConfigError: ``split``, the pattern or a setting of the cache is wrong.
    """
    if cache_dir is None and (cache_gib is not None or cache_local):
        raise ConfigError(
            "cache_gib and cache_local have no effect without cache_dir",
            where="open_shards",
            fix="give cache_dir, a folder on a disk of this machine",
        )
    if cache_gib is not None and not 0 < cache_gib < math.inf:
        raise ConfigError(
            "this is no size of a cache", where="cache_gib", found=str(cache_gib), expected="a number > 0"
        )
    shards = ShardSet.load(
        path,
        split,
        cache_dir=None if cache_dir is None else Path(cache_dir),
        cache_bytes=None if cache_gib is None else int(cache_gib * 2**30),
        cache_local=cache_local,
        index_dir=None if index_dir is None else Path(index_dir),
    )
    # With an _info.json the indexes are read later, and each must have as many samples as it says.
    if shards.known is not None and (lost := shards.leftovers().describe_lost(shards.total)):
        warn(f"{shards.name}: samples are lost: {lost}")
    return shards


def read_sample(shards: ShardSet, shard: int, index: int) -> Sample:
    """Read one sample, given the number of its shard and its index in that shard.

    Raises:
        ConfigError: there is no such sample.
        ShardError: the shard is missing or damaged.
    """
    require_sample(shards.lengths, shard, index)
    return _read(shards.reader(), shard, index)


def iterate_samples(shards: ShardSet, shard: int | None = None) -> Iterator[Sample]:
    """Read all samples of one shard, or of all shards, in order.

    Raises:
        ConfigError: there is no such shard.
        ShardError: a shard is missing or damaged.
    """
    if shard is not None:
        require_shard(shards.lengths, shard)
    reader = shards.reader()
    for number in range(len(shards.lengths)) if shard is None else (shard,):
        for index in range(int(shards.lengths[number])):
            yield _read(reader, number, index)


def find_sample(shards: ShardSet, key: str) -> Sample:
    """Read the first sample with this key. Error messages name samples by their keys.

    The byte indexes of the shards are searched in order, which takes seconds for millions of samples.

    Raises:
        ShardError: there is no such sample, or a shard is missing or damaged.
    """
    for shard in range(len(shards.lengths)):
        index = shards.index(shard)
        for number in range(len(index)):
            if index.key(number) == key:
                return _read(shards.reader(), shard, number)
    raise ShardError("no sample has this key", where=shards.name, found=key)


def require_shard(lengths: Sequence[int] | Int64, shard: int) -> None:
    """Check that a shard exists.

    Raises:
        ConfigError: there is no shard with this number.
    """
    if not 0 <= shard < len(lengths):
        raise ConfigError(
            "there is no shard with this number",
            where="shard",
            found=str(shard),
            expected=f"0 to {len(lengths) - 1}",
        )


def require_view(views: int, view: int) -> None:
    """Check that a view number is one of a store's.

    Args:
        views: V, the view numbers of the store.

    Raises:
        ConfigError: there is no view with this number.
    """
    if view not in range(views):
        raise ConfigError(
            "there is no view with this number",
            where="view",
            found=str(view),
            expected=f"0 to {views - 1}",
            fix="store.complete_views() counts the complete views; a dump with a larger store.views adds others",
        )


def require_sample(lengths: Sequence[int] | Int64, shard: int, index: int) -> None:
    """Check that a sample exists.

    Raises:
        ConfigError: there is no such shard, or no sample with this index in it.
    """
    require_shard(lengths, shard)
    if not 0 <= index < lengths[shard]:
        raise ConfigError(
            "there is no sample with this index",
            where=f"index, in shard {shard}",
            found=str(index),
            expected=f"0 to {lengths[shard] - 1}" if lengths[shard] else "nothing: the shard is empty",
        )


def _read(reader: ShardReader, shard: int, index: int) -> Sample:
    label = int(reader.labels(shard, np.array([index]))[0])
    return Sample(shard, index, reader.key(shard, index), label, reader.read(shard, index))
