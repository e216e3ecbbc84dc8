"""The zarr side of a store: one uint8 array a shard, one chunk a view."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.errors import ContainsArrayError
from zarr.storage import LocalStore

from tinyvit_kd.errors import StoreError
from tinyvit_kd.store.codec import plane_rows
from tinyvit_kd.store.manifest import Manifest


def array_name(shard: int) -> str:
    """The folder of a shard's array."""
    return f"s{shard:06d}"


def chunk_name(view: int) -> str:
    """The file of a block, in its array's folder."""
    return f"c.{view}.0.0"


def zarr_settings() -> Any:
    """One thread is fastest for one chunk a call; no chunk is empty, so looking for zeros is wasted time."""
    return zarr.config.set({"threading.max_workers": 1, "array.write_empty_chunks": True})


def any_block(path: Path) -> Path | None:
    """Some block's file; None where the store has none."""
    return next(path.glob("s*/c.*.0.0"), None)


def complete_arrays(path: Path, manifest: Manifest) -> None:
    """Give every shard an array with room for the manifest's views; what fits is left as it is, blocks always.

    Several jobs may do this at the same time.

    Raises:
        StoreError: the folder cannot be written.
    """
    try:
        with zarr_settings():
            for shard, length in enumerate(manifest.shard_lengths):
                if length:
                    _complete_array(path, shard, array_shape(manifest, shard))
    except OSError as error:
        raise StoreError(
            "the store cannot be made or grown",
            where=str(path),
            found=repr(error),
            fix="see to the disk's space and the folder's permissions, or choose another folder",
        ) from error


def array_shape(manifest: Manifest, shard: int) -> tuple[int, int, int]:
    """Views, rows and samples of a shard's array."""
    length = manifest.shard_lengths[shard]
    return manifest.views, plane_rows(manifest.encoding, length, manifest.topk, manifest.num_classes), length


def open_array(path: Path, shard: int, shape: tuple[int, int, int], writable: bool) -> Any:
    """A shard's array of this shape; it may have more views.

    Raises:
        StoreError: its ``zarr.json`` is missing, damaged, or of another store.
    """
    try:
        with zarr_settings():
            store = LocalStore(path, read_only=not writable)
            array = zarr.open_array(store, path=array_name(shard), mode="r+" if writable else "r")
        if array.chunks != (1, *shape[1:]) or array.shape[1:] != shape[1:] or array.shape[0] < shape[0]:
            raise ValueError(f"shape {array.shape} in chunks of {array.chunks}, expected {shape}")
    except Exception as error:  # zarr meets damaged JSON with whatever error comes first, AttributeError among them
        raise StoreError(
            "the store lacks the array of a shard, or cannot read it",
            where=str(path / array_name(shard) / "zarr.json"),
            found=str(error),
            fix="run dump-logits, which makes this file again and keeps the blocks",
        ) from error
    return array


def _complete_array(path: Path, shard: int, shape: tuple[int, int, int]) -> None:
    description = path / array_name(shard) / "zarr.json"
    was_there = description.exists()
    try:
        array = open_array(path, shard, (0, *shape[1:]), writable=True)
    except StoreError:
        if was_there:  # but damaged; one that is missing may be in the making by another job
            description.unlink()
        _create_array(path, shard, shape)
        return
    if array.shape[0] < shape[0]:  # never to fewer: zarr would remove blocks
        array.resize(shape)


def _create_array(path: Path, shard: int, shape: tuple[int, int, int]) -> None:
    with suppress(ContainsArrayError):  # another job was faster
        zarr.create_array(
            LocalStore(path),
            name=array_name(shard),
            shape=shape,
            chunks=(1, *shape[1:]),
            dtype="uint8",
            compressors=(ZstdCodec(level=1), Crc32cCodec()),
            fill_value=0,
            # Without folders a chunk lies beside its array's zarr.json.
            chunk_key_encoding={"name": "default", "separator": "."},
        )
