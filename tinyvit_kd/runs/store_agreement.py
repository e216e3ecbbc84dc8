"""Whether a run and a store agree: on shards, views, teachers and the bytes of views."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import numpy as np

from tinyvit_kd.batches.sample_views import SampleViews, sample_name
from tinyvit_kd.config.load import validate
from tinyvit_kd.config.view_spec import TransformConfig, ViewSpec
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import BadImageError, ConfigError, FieldDifference, ManifestMismatchError, ReplayError
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.log import say
from tinyvit_kd.store.manifest import Manifest
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.views.randaugment import parse_auto_augment
from tinyvit_kd.views.render import view_digest
from tinyvit_kd.views.selfcheck import check_renderers
from tinyvit_kd.views.spec_hash import view_spec_hash
from tinyvit_kd.views.transform import TRANSFORM_FIELD, build_transform, transform_versions

STORED_BLOCKS, STORED_SAMPLES = 4, 4  # of a store, that a dump which goes on makes again


def require_same_as_stored(samples: SampleViews, store: LogitStore, blocks: Iterable[tuple[int, int]]) -> None:
    """Make some views of a store's first blocks (shard, view) again: one that goes on must go on with the same views.

    Raises:
        ReplayError: naming a sample whose view is another one now.
    """
    size = samples.spec.size
    for shard, view in islice(blocks, STORED_BLOCKS):
        block = store.read_block(shard, view)
        valid = np.flatnonzero(block.valid)
        for index in valid[:: max(1, len(valid) // STORED_SAMPLES)][:STORED_SAMPLES].tolist():
            made = np.empty((1, 3, size, size), np.uint8)
            seeds = {view: int(block.seeds[index])}
            stored = int(block.digests[index])
            try:
                samples.render_new(shard, index, seeds, view, made)
                digest = view_digest(made[0])
                if digest == stored:
                    continue
                found = f"digest {digest:08x}"
            except BadImageError as error:
                found = error.what
            raise ReplayError(
                "this dump would continue with other views than those in its store",
                where=f"{sample_name(samples.reader, shard, index)}, view {view}",
                found=found,
                expected=f"digest {stored:08x}, from {store.where}",
                fix="restore what has changed since (images, a transform's code or its libraries), or dump into "
                "another store",
            )


def require_same_shards(manifest: Manifest, shards: ShardSet) -> None:
    """Check that a store was dumped from exactly these shards.

    Raises:
        ManifestMismatchError: naming what differs, and the first shard that does.
    """
    require_same_listing(manifest, shards)
    found = tuple(shards.key_hashes())
    changed = [shard for shard, stored in enumerate(manifest.key_hashes) if found[shard] != stored]
    if changed:
        raise ManifestMismatchError(
            "a shard does not hold the samples that the teacher saw",
            differences=(FieldDifference("key_hashes", manifest.key_hashes, found),),
            where=shards.locations[changed[0]],
            found=f"other keys, image sizes or another order, in {len(changed)} of {len(shards.names)} shards",
            fix="use the shards that the store was dumped from, or dump these into another store",
        )


def require_same_listing(manifest: Manifest, shards: ShardSet) -> None:
    """Check that a store was dumped from shards of these names and lengths; none is opened.

    Raises:
        ManifestMismatchError: naming what differs.
    """
    same = {"shard_names": tuple(shards.names), "shard_lengths": tuple(shards.lengths.tolist())}
    manifest.require_same(same, where=shards.locations[0].rpartition("/")[0] or shards.name)


def require_same_teaching(store: LogitStore, first: Manifest) -> None:
    """Check that a further teacher saw the views of the first one's store, and names classes alike.

    Raises:
        ManifestMismatchError: naming what differs.
    """
    names = ("shard_names", "shard_lengths", "key_hashes", "view_spec_hash", "seed", "num_classes", "class_list_hash")
    store.manifest.require_same(
        {name: getattr(first, name) for name in names},
        where=store.where,
        other="the first teacher's",
        fix="dump it again with --views-from the first store, by a teacher with the same classes",
    )


def check_views(spec: ViewSpec, job: Job) -> None:
    """Check that this machine can render a spec, and renders views as they are defined; say what renders them.

    Raises:
        ConfigError: the policy is not one that can be rendered, or the transform cannot be made.
        RendererError: the renderer makes other bytes.
    """
    generators = ""
    if spec.transform is not None:
        generators = build_transform(spec.transform).generators
    elif spec.auto_augment is not None:
        parse_auto_augment(spec.auto_augment)
    renderer = check_renderers()
    if spec.transform is not None:
        renderer = f"views come from {spec.transform}, replayed by seeding {generators}"
    say(job, renderer)


def require_same_views(manifest: Manifest, job: Job, trusted: bool, consent: str) -> ViewSpec:
    """The store's view spec, after checking that this machine renders it to the same bytes.

    Args:
        trusted: whether a transform that the store names may be imported and called.
        consent: what a user does who trusts it.

    Raises:
        ConfigError: the store's views come from a transform, which is not trusted, or cannot be made here.
        ManifestMismatchError: the store's views were rendered by another version of the renderer.
        RendererError: this machine's renderer makes other bytes than that version.
    """
    spec = stored_spec(manifest, trusted, consent)
    if spec.transform is not None and (other := manifest.other_versions(transform_versions(spec))):
        say(job, f"versions differ from the dump's: {other}; digests will show whether views differ")
    check_views(spec, job)
    return spec


def stored_spec(manifest: Manifest, trusted: bool, consent: str) -> ViewSpec:
    """The store's view spec, as this version of the renderer defines views; nothing is rendered.

    Args:
        trusted: whether a transform that the store names may be imported and called.
        consent: what a user does who trusts it.

    Raises:
        ConfigError: the store's views come from a transform, which is not trusted.
        ManifestMismatchError: the store's views were rendered by another version of the renderer.
    """
    spec = validate(ViewSpec, manifest.view_spec, f"view_spec of the store of {manifest.shard_set}")
    manifest.require_same({"view_spec_hash": view_spec_hash(spec)})
    if spec.transform is not None:
        require_trust(spec.transform, trusted, consent)
    return spec


def require_trust(transform: TransformConfig, trusted: bool, consent: str) -> None:
    """Check that a transform which a store names may be imported and called; see ``stored_spec``.

    Raises:
        ConfigError: it may not.
    """
    if not trusted:  # a store may be somebody else's, and any function of any package can be named in its manifest
        raise ConfigError(
            "the store's views come from a transform, which this run would import and call",
            where=f"{TRANSFORM_FIELD} of the store",
            found=transform.model_dump_json(exclude_defaults=True),
            fix=f"if you trust whoever made the store, {consent}",
        )
