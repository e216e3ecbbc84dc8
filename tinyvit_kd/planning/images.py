"""The images of a stage: a shard set that is there, or one of so many samples that is taken to be."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from tinyvit_kd.config.data import ShardsConfig
from tinyvit_kd.data.known_shards import known_shards, tar_bytes
from tinyvit_kd.data.labels.class_list import load_class_list
from tinyvit_kd.data.locating.urls import is_url
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError, ShardError, StorageError
from tinyvit_kd.planning.chain import Chain
from tinyvit_kd.planning.given import PerStage

_MOST_SHARDS = 5_000_000


@dataclass(frozen=True)
class Images:
    """A shard set in numbers.

    Attributes:
        shards: names and lengths; of a set that is not there yet, as ``shards build`` would make them.
        bytes_per_image: None where it is not known.
        exists: whether the shards are there.
        note: where the numbers come from, for people; empty for indexed shards.
    """

    shards: ShardSet
    bytes_per_image: float | None
    exists: bool
    note: str = ""


@dataclass(frozen=True)
class GivenImages:
    """Numbers of shard sets that are not there yet.

    Attributes:
        samples: of the shards of a stage. The number without a stage is that of the first recipe's shards.
        bytes_per_image: likewise.
        per_shard: samples in each shard.
    """

    samples: PerStage
    bytes_per_image: PerStage
    per_shard: int

    def find(self, config: ShardsConfig, stage: str, chain: Chain) -> Images:
        """The shards of a section of a recipe.

        Args:
            stage: of the recipe; "evaluate" for the shards that a training is scored on.

        Raises:
            ShardError, StorageError, ConfigError: there are none, and their number was not given, or is more than
                a plan can hold.
        """
        samples = _number(self.samples, config, stage, chain)
        size = _number(self.bytes_per_image, config, stage, chain)
        try:
            shards = known_shards(config)
        except (ShardError, StorageError):  # of a bucket that is not there yet, or not to be had from here
            if samples is None or (is_there(config.path) and not is_url(config.path)):
                raise
            return Images(_imagined(config, round(samples), self.per_shard), size, exists=False)
        ignored = f"{config.path} is there: --samples does not apply to it" if samples is not None else ""
        if shards.known is not None:
            return Images(shards, shards.image_bytes / max(1, shards.total), True, ignored)
        if (whole := tar_bytes(shards)) is not None:
            note = f"{config.path} has not been indexed: labels are not checked, bytes per image are those of its tars"
            return Images(shards, whole / max(1, shards.total), True, "; ".join(filter(None, (note, ignored))))
        note = f"{config.path} has not been fetched: its labels and images are not looked at"
        return Images(shards, size, True, "; ".join(filter(None, (note, ignored))))


def _number(given: PerStage, config: ShardsConfig, stage: str, chain: Chain) -> float | None:
    """What was given for a shard set: for this stage, for another stage with the same shards, or for the first one."""
    same = [each.stage for each in chain.ordered if _is_same(each.config.shards, config)]
    for_it = [given.by_stage[name] for name in (stage, *same) if name in given.by_stage]
    if for_it:
        return for_it[0]
    return given.everywhere if chain.ordered and _is_same(chain.ordered[0].config.shards, config) else None


def _is_same(one: ShardsConfig, other: ShardsConfig) -> bool:
    return (one.path, one.split) == (other.path, other.split)


def is_there(path: str) -> bool:
    """Whether a folder or a file is there; a pattern is taken to be where its folder is."""
    text = path.removeprefix("file://")
    return os.path.exists(text) or (any(each in text for each in "*?[{") and os.path.isdir(os.path.dirname(text)))


def _imagined(config: ShardsConfig, samples: int, per_shard: int) -> ShardSet:
    if (number := -(-samples // per_shard)) > _MOST_SHARDS:
        raise ConfigError(
            "a plan of so many shards would not fit into memory",
            where="--samples, --samples-per-shard",
            found=f"{number:,} shards",
            expected=f"at most {_MOST_SHARDS:,}",
            fix="correct the number of samples, or give more of them per shard",
        )
    lengths = np.full(-(-samples // per_shard), per_shard, dtype=np.int64)
    lengths[-1] = samples - per_shard * (len(lengths) - 1)
    names = tuple(f"{config.split or 'train'}-{number:06d}.tar" for number in range(len(lengths)))
    named = getattr(config, "class_list", None)
    return ShardSet(
        name=config.path,
        split=config.split,
        names=names,
        lengths=lengths,
        class_list=None if named is None else load_class_list(named),
        locations=names,
    )
