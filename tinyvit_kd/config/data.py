"""Where samples and records come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from tinyvit_kd.config.base import Location, Section, unit

Encoding = Literal["compact", "exact"]
"""Names of the encodings of a store's probabilities; ``store.encodings`` has what they mean."""


class ShardsConfig(Section):
    """A shard set: an ordered list of webdataset tars. Labels are not used."""

    path: str = Field(
        description="folder with _info.json, brace pattern, glob or single tar; or the URL of a folder, pattern or "
        "tar. pipe:COMMAND is a URL, too, and runs that command"
    )
    split: str | None = Field(None, description="split named in _info.json; null: the only one")
    cache_dir: Path | None = Field(
        None,
        description="folder on a disk of this machine for copies of shards from URLs, which its processes share; "
        "required for URLs that no storage serves in parts",
    )
    cache_gib: float | None = Field(
        None,
        gt=0,
        description="space that the copies in cache_dir may take: those that are needed last make room for others; "
        "null: nothing is ever removed",
        json_schema_extra=unit("GiB per machine"),
    )
    cache_local: bool = Field(
        False, description="whether shards at paths, such as those of a network mount, are copied to cache_dir, too"
    )
    index_dir: Path | None = Field(None, description="folder for byte indexes; null: beside the shards")
    max_lost_fraction: float = Field(
        0.01,
        ge=0,
        le=1,
        description="fraction of samples that may be lost, because the tars hold no image for them or a link that "
        "leads nowhere (docs/DATA.md); the run stops before it begins if there are more",
        json_schema_extra=unit("fraction"),
    )

    @model_validator(mode="after")
    def _cache_has_a_folder(self) -> Self:
        asked = [name for name, is_set in (("cache_gib", self.cache_gib), ("cache_local", self.cache_local)) if is_set]
        if asked and self.cache_dir is None:
            raise ValueError(f"{asked[0]} has no effect without cache_dir: name a folder on a disk of this machine")
        return self

    @property
    def cache_bytes(self) -> int | None:
        """``cache_gib`` in bytes."""
        return None if self.cache_gib is None else int(self.cache_gib * 2**30)

    @property
    def places(self) -> dict[str, Any]:
        """Where copies and indexes are kept, as ``ShardSet.load`` takes it."""
        kept = {name: getattr(self, name) for name in ("cache_dir", "cache_local", "index_dir")}
        return kept | {"cache_bytes": self.cache_bytes}


class MaybeLabelledShardsConfig(ShardsConfig):
    """A shard set whose labels, where it has some, show how good a teacher is."""

    class_list: str | None = Field(
        None,
        description="class list of the labels: a text file with one id per line, or one of timm's lists by name, for "
        "example imagenet; null: classes.txt beside the shards, if it exists. Labels that are names or ids are looked "
        "up in it",
    )
    label_key: str | None = Field(
        None,
        min_length=1,
        description="the field of .json that is the label, with dots for nested ones (meta.label); null: .cls, then "
        "the usual fields of .json, then .label and .txt",
    )
    first_label: int = Field(
        0,
        ge=0,
        description="number of the first class in the labels; 1 if they count from 1",
        json_schema_extra=unit("class number"),
    )


class LabelledShardsConfig(MaybeLabelledShardsConfig):
    """A shard set whose labels are used."""

    max_unlabelled_fraction: float = Field(
        0.01,
        ge=0,
        le=1,
        description="fraction of samples that may have no label; the run stops before it begins if there are more",
        json_schema_extra=unit("fraction"),
    )


class StoreConfig(Section):
    """The store that stage one writes."""

    path: Location = Field(description="folder of the store")
    topk: int = Field(
        100,
        ge=1,
        le=65535,
        description="K, the number of top classes whose probabilities are kept",
        json_schema_extra=unit("classes per record"),
    )
    views: int = Field(
        ge=1, description="V, the number of augmented views to store", json_schema_extra=unit("views per sample")
    )
    encoding: Encoding = Field(
        "compact", description="compact: square-root 8-bit probabilities; exact: float32 probabilities"
    )
    seed: int = Field(0, ge=0, description="seed from which the stored seed of every view is derived")


class OtherStoreConfig(Section):
    """A further teacher's store."""

    path: Location = Field(description="folder of the store, dumped with --views-from and the first store")
    weight: float = Field(1.0, gt=0, description="weight of this teacher relative to the others")


class StoredTargetsConfig(Section):
    """The store that stage two reads, or the stores of several teachers that saw the same views."""

    path: Location = Field(description="folder of the store")
    weight: float = Field(1.0, gt=0, description="weight of this teacher relative to the others, if there are others")
    others: list[OtherStoreConfig] = Field(
        default_factory=list,
        description="stores of further teachers; the student learns the weighted mean of all teachers' probabilities",
    )
    views: int | None = Field(
        None,
        ge=1,
        description="V, the number of views to use, from view 0 on; null: all, including views added by a later dump",
        json_schema_extra=unit("views per sample"),
    )
    view_schedule: Literal["modulo", "permutation"] = Field(
        "modulo",
        description="order of views over the epochs; modulo: 0 to V - 1, again and again; permutation: a new random "
        "order in each cycle through the V views",
    )
    follow: bool = Field(
        False,
        description="whether to train while the store is still being dumped: an epoch waits until all blocks of its "
        "views are there, and a run that begins before the dump waits for the store. Which views an epoch uses does "
        "not depend on it (docs/STORES.md)",
    )
    follow_timeout: float | None = Field(
        3600,
        gt=0,
        description="with follow: time without a new block after which a run that waits writes a checkpoint and ends "
        "with exit code 75, so that it does not keep its machines; null: it waits for ever",
        json_schema_extra=unit("seconds"),
    )
    verify_rate: float = Field(
        1.0,
        ge=0,
        le=1,
        description="fraction of views whose digest is checked (a few microseconds each)",
        json_schema_extra=unit("fraction"),
    )
    block_cache_mib: int | None = Field(
        None,
        ge=1,
        description="memory for store blocks, which all workers of a rank share; null: enough for every block that the "
        "rank's lanes read at once. A smaller cache has to read blocks repeatedly",
        json_schema_extra=unit("MiB per rank"),
    )
    trust_transform: bool = Field(
        False,
        description="whether to import and call the transform that the store names, if it names one. This can run any "
        "code installed on the machine",
    )

    @model_validator(mode="after")
    def _each_once(self) -> StoredTargetsConfig:
        paths = [self.path, *(other.path for other in self.others)]
        twice = sorted({str(path) for path in paths if paths.count(path) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is named twice: to give a teacher a larger share, raise its weight")
        return self
