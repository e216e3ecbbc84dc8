"""Where samples and records come from."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

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


class StoredTargetsConfig(Section):
    """The store that stage two reads."""

    path: Path = Field(description="folder of the store")
    verify_rate: float = Field(1.0, ge=0, le=1, description="share of views whose digest is compared, in microseconds")
    block_cache_mib: int | None = Field(
        None,
        ge=1,
        description="memory a worker for store blocks, MiB; null: what the blocks take that its process's lanes read "
        "from at a time. With less, blocks are read again and again",
    )
