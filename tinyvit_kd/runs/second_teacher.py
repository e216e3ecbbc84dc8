"""Shows a teacher the views that another teacher has seen: a dump takes views and seed from the other's store."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyvit_kd.batches.sample_views import sample_name
from tinyvit_kd.config.recipes import DumpConfig
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.labels.class_list import ClassList
from tinyvit_kd.data.shard_reader import ShardReader
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError, ReplayError
from tinyvit_kd.runs.store_agreement import require_same_shards, require_same_views
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.watchdog import watched
from tinyvit_kd.storage.open import open_storage
from tinyvit_kd.store.records import Block
from tinyvit_kd.store.store import LogitStore


@dataclass(frozen=True)
class FirstTeacher:
    """The store of the teacher that saw the views first.

    Attributes:
        store: of that teacher.
        reader: reads the images, for names of samples in messages.
    """

    store: LogitStore
    reader: ShardReader

    def require_same(self, shard: int, view: int, block: Block) -> None:
        """Compare a block's digests with those of the same block in the first teacher's store, if it is present there.

        Raises:
            ReplayError: a view differs, or is a hole in only one of the stores; it names the first such sample.
        """
        if not self.store.has_block(shard, view):
            return
        first = self.store.read_block(shard, view)
        different = np.flatnonzero((first.digests != block.digests) | (first.valid != block.valid))
        if len(different):
            index = int(different[0])
            raise ReplayError(
                "a view is not the one that the other teacher saw",
                where=sample_name(self.reader, shard, index),
                found=_describe(block, index),
                expected=f"{_describe(first, index)}, from {self.store.where}",
                fix="the image's bytes or the renderer have changed since that dump: restore the shard, or dump it "
                "again into both stores",
            )


def adopt_views(config: DumpConfig, path: str, job: Job) -> tuple[DumpConfig, LogitStore]:
    """Take views and seed from another teacher's store into a recipe.

    Args:
        path: of the other teacher's store.

    Returns:
        the changed recipe, and the other teacher's store.

    Raises:
        StoreError: there is no such store.
        ConfigError: the recipe gives other views or another seed, writes to that store itself, or does not name the
            transform that the store's views come from.
        ManifestMismatchError, RendererError: this machine would render other views.
    """
    with watched(config.runtime.data_timeout):
        other = LogitStore.open(path)
    seed = other.manifest.seed
    is_named_here = other.manifest.view_spec == config.views.model_dump(mode="json")
    spec = require_same_views(other.manifest, job, is_named_here, "write the same views into this recipe")
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


def other_classes(first: LogitStore, num_classes: int, classes: ClassList | None) -> str | None:
    """What a dump says where its classes are not the first teacher's, so that no student can learn from both stores.

    Args:
        num_classes: C of the further teacher.
        classes: its class list; None if it is not known.
    """
    manifest = first.manifest
    if num_classes != manifest.num_classes:
        found = f"{num_classes:,}, not {manifest.num_classes:,}"
    elif (classes.hash if classes is not None else None) != manifest.class_list_hash:
        own = classes.name if classes is not None else "no class list"
        found = f"{own}, which differs from {manifest.class_list or 'no class list'}, if only in its order"
    else:
        return None
    return (
        f"this teacher's classes are not those of {first.where} ({found}): the views will be the same, but pretrain "
        "does not take both stores for one student"
    )


def open_first_teacher(other: LogitStore, shards: ShardSet) -> FirstTeacher:
    """The first teacher, after checking that its store was made from the same shards.

    Raises:
        ManifestMismatchError: the shards differ; it names what differs.
    """
    require_same_shards(other.manifest, shards)
    return FirstTeacher(other, shards.reader())


def _refusal(field: str, found: str) -> ConfigError:
    return ConfigError(
        "the recipe differs from the store that the views are taken from",
        where=field,
        found=found,
        fix=f"omit {field} from the recipe",
    )


def _describe(block: Block, index: int) -> str:
    return f"digest {block.digests[index]:08x}" if block.valid[index] else "a hole"
