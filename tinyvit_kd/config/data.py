"""Where samples and records come from."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from tinyvit_kd.config.base import Section


class ShardsConfig(Section):
    """A shard set: an ordered list of webdataset tars, whose labels are not used."""

    path: str = Field(description="folder with _info.json, brace pattern, glob, one tar, or a URL of these")
    split: str | None = Field(None, description="split named in _info.json; null: the only one")
    cache_dir: Path | None = Field(None, description="where shards from URLs are kept")
    index_dir: Path | None = Field(None, description="where byte indexes are kept; null: beside the shards")


class LabelledShardsConfig(ShardsConfig):
    """A shard set whose labels are used."""

    class_list: str | None = Field(
        None, description="class list of the labels: a file, or timm's name of one; null: classes.txt beside"
    )


class StoreConfig(Section):
    """The store that stage one writes."""

    path: Path = Field(description="folder of the store")
    topk: int = Field(100, ge=1, le=65535, description="K, the probabilities that are kept a record")
    views: int = Field(ge=1, description="V, the augmented views a sample")
    encoding: Literal["compact", "exact"] = Field(
        "compact", description="compact: square-root 8-bit probabilities; exact: float32"
    )
    seed: int = Field(0, ge=0, description="seed from which the views' stored seeds follow")


class OtherStoreConfig(Section):
    """A further teacher's store."""

    path: Path = Field(description="folder of the store, dumped with --views-from the first one")
    weight: float = Field(1.0, gt=0, description="its share, relative to the others' weights")


class StoredTargetsConfig(Section):
    """The store that stage two reads; or several, of teachers that saw the same views."""

    path: Path = Field(description="folder of the store")
    weight: float = Field(1.0, gt=0, description="its share where there are others")
    others: list[OtherStoreConfig] = Field(
        default_factory=list, description="further teachers; the student learns the weighted mean of all probabilities"
    )
    views: int | None = Field(
        None,
        ge=1,
        description="V, the view numbers that are used, from 0; null: all, with those that are dumped meanwhile",
    )
    view_schedule: Literal["modulo", "permutation"] = Field(
        "modulo",
        description="which views an epoch uses: the next ones, modulo V; or a fresh permutation of all V a cycle",
    )
    verify_rate: float = Field(1.0, ge=0, le=1, description="share of views whose digest is compared, in microseconds")
    block_cache_mib: int | None = Field(
        None,
        ge=1,
        description="memory a worker for store blocks, MiB; null: what the blocks take that its process's lanes read "
        "from at a time. With less, blocks are read again and again",
    )
    trust_transform: bool = Field(
        False,
        description="import and call the transform that the store's views come from, where they come from one: it may "
        "be any code that is installed here",
    )

    @model_validator(mode="after")
    def _each_once(self) -> StoredTargetsConfig:
        paths = [self.path, *(other.path for other in self.others)]
        twice = sorted({str(path) for path in paths if paths.count(path) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is named twice: a teacher's share is set by its weight")
        return self
