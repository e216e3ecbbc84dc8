"""Makes the files of a new store, or checks and grows those of an existing one."""

from __future__ import annotations

from tinyvit_kd.errors import ManifestMismatchError, StoreError, said_by, what_to_do
from tinyvit_kd.storage.base import Storage
from tinyvit_kd.store.arrays import any_block, complete_arrays, write_group
from tinyvit_kd.store.manifest import Manifest
from tinyvit_kd.store.names import MANIFEST


def prepare_store(storage: Storage, manifest: Manifest, fsync: bool) -> Manifest:
    """Make a store's manifest and arrays; an existing store keeps its blocks, and grows if ``manifest`` has more views.

    Args:
        fsync: flush the names of the arrays' folders to the disk.

    Returns:
        the manifest of the store: its own if it exists, with the larger number of views.

    Raises:
        ManifestMismatchError: the folder holds a store that was made from something else.
        StoreError: the store's manifest is missing or damaged, or the folder cannot be written.
    """
    block = any_block(storage)  # before the manifest is looked for: another job may be making this store
    existing: Manifest | None = None
    if storage.info(MANIFEST) is not None:
        existing = Manifest.load(storage)
        _require_same(existing, manifest, storage, block)
        manifest = existing.model_copy(update={"views": max(existing.views, manifest.views)})
    elif block is not None:
        raise StoreError(
            "the folder has blocks but no manifest",
            where=storage.locate(),
            found=block,
            fix="restore manifest.json, or choose another folder",
        )
    elif not _save(manifest, storage, is_new=True):  # another job has just made one
        return prepare_store(storage, manifest, fsync)
    if complete_arrays(storage, manifest) and fsync:
        storage.sync_folder()  # the arrays' folders
    if existing is not None and manifest != existing:
        _save(manifest, storage)  # last: whoever reads it finds arrays with as many views
    return manifest


def try_writing(storage: Storage) -> None:
    """Find out whether an object store lets this job write: no look says it, and a teacher may run for hours before.

    Raises:
        StoreError: it does not.
    """
    if storage.is_local:
        return
    try:
        write_group(storage)  # its content is always the same
    except OSError as error:
        raise StoreError(
            "the store cannot be written",
            where=storage.locate(),
            found=said_by(error),
            fix=what_to_do(error, "check the permissions, then run dump-logits again"),
        ) from error


def _save(manifest: Manifest, storage: Storage, is_new: bool = False) -> bool:
    """Write a manifest; of several jobs that make a store at the same time, one does. Returns whether this one did."""
    try:
        return manifest.save(storage, is_new)
    except OSError as error:
        raise StoreError(
            "the store cannot be made" if is_new else "the store's manifest cannot be written",
            where=storage.locate(MANIFEST),
            found=said_by(error),
            fix=what_to_do(
                error, "check the disk's free space and the folder's permissions, then run dump-logits again"
            ),
        ) from error


def _require_same(existing: Manifest, manifest: Manifest, storage: Storage, block: str | None) -> None:
    try:
        existing.require_same(manifest.identity, storage.locate())
    except ManifestMismatchError as error:
        if block is None:  # the recipe was corrected after a dump that stopped before its first block
            error.with_context(
                fix="remove the folder and run again: it has no blocks yet, unless another dump is writing to it"
            )
        raise
