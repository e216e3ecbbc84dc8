"""A further teacher of views that another has seen: its dump takes them from the other's store."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyvit_kd.batches.sample_views import sample_name
from tinyvit_kd.config.recipes import DumpConfig
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.shards import ShardReader
from tinyvit_kd.errors import ConfigError, ReplayError
from tinyvit_kd.runs.agreement import require_same_shards, require_same_views
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.watchdog import watched
from tinyvit_kd.storage.open import open_storage
from tinyvit_kd.store.records import Block
from tinyvit_kd.store.store import LogitStore


@dataclass(frozen=True)
class FirstTeacher:
    """The teacher that has seen the views before, and the images."""

    store: LogitStore
    reader: ShardReader

    def require_same(self, shard: int, view: int, block: Block) -> None:
        """Compare a block's digests with those of the block that the other teacher's store has, if it has it.

        Raises:
            ReplayError: naming the first sample whose view differs, or is a hole in one of them alone.
        """
        if not self.store.has_block(shard, view):
            return
        seen = self.store.read_block(shard, view)
        differ = np.flatnonzero((seen.digests != block.digests) | (seen.valid != block.valid))
        if len(differ):
            index = int(differ[0])
            raise ReplayError(
                "a view is not the one that the other teacher saw",
                where=sample_name(self.reader, shard, index),
                found=_named(block, index),
                expected=f"{_named(seen, index)}, from {self.store.where}",
                fix="the image's bytes or the renderer have changed since that dump: restore the shard, or dump it "
                "again into both stores",
            )


def adopt_views(config: DumpConfig, path: str, job: Job) -> tuple[DumpConfig, LogitStore]:
    """The recipe with the views and the seed of another teacher's store, and that store.

    Raises:
        StoreError: there is no store.
        ConfigError: the recipe itself gives other views or another seed, or does not name the views' transform.
        ManifestMismatchError, RendererError: this machine would render other views.
    """
    with watched(config.runtime.data_timeout):
        other = LogitStore.open(path)
    seed, named = other.manifest.seed, other.manifest.view_spec == config.views.model_dump(mode="json")
    spec = require_same_views(other.manifest, job, named, "write the same views into this recipe")
    if "views" in config.model_fields_set and config.views != spec:
        names = [name for name in ViewSpec.model_fields if getattr(config.views, name) != getattr(spec, name)]
        raise _refusal("views", f"another {', '.join(names)}")
    if "seed" in config.store.model_fields_set and config.store.seed != seed:
        raise _refusal("store.seed", f"{config.store.seed}, not {seed}")
    if open_storage(config.store.path).is_same(other.storage):
        fix = "set store.path to a new folder"
        raise ConfigError("a store cannot take its views from itself", where="store.path", found=path, fix=fix)
    store = config.store.model_copy(update={"seed": seed})
    return config.model_copy(update={"views": spec, "store": store}), other


def open_first_teacher(other: LogitStore, reader: ShardReader) -> FirstTeacher:
    """The teacher before, of the same shards.

    Raises:
        ManifestMismatchError: naming what differs.
    """
    require_same_shards(other.manifest, reader.shards)
    return FirstTeacher(other, reader)


def _refusal(field: str, found: str) -> ConfigError:
    return ConfigError(
        "the recipe differs from the store that the views are taken from",
        where=field,
        found=found,
        fix=f"leave {field} out of the recipe",
    )


def _named(block: Block, index: int) -> str:
    return f"digest {block.digests[index]:08x}" if block.valid[index] else "a hole"
