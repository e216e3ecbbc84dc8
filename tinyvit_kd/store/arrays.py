"""The zarr side of a store: one uint8 array per shard, one chunk per view."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.errors import ContainsArrayError

from tinyvit_kd.errors import StoreArrayError, StoreError, StoreUnreadableError
from tinyvit_kd.storage.base import Storage
from tinyvit_kd.store.codec import plane_rows
from tinyvit_kd.store.manifest import Manifest
from tinyvit_kd.store.names import CHUNK_KEYS, array_name, description_name, is_array_name, view_of
from tinyvit_kd.store.zarr_files import ZarrFiles

_CODECS = ("bytes", "zstd", "crc32c")


def zarr_settings() -> Any:
    """Zarr's settings for reading and writing blocks, as a context.

    One thread is the fastest for one chunk per call. No chunk is empty, so zarr need not search for all-zero chunks.
    """
    return zarr.config.set({"threading.max_workers": 1, "array.write_empty_chunks": True})


def any_block(storage: Storage) -> str | None:
    """The name of one of the store's blocks; None if it has none."""
    for folder in storage.list():
        if is_array_name(folder.name):
            for entry in storage.list(folder.name):
                if view_of(entry.base) is not None:
                    return entry.name
    return None


def complete_arrays(storage: Storage, manifest: Manifest) -> None:
    """Create the arrays that are missing or damaged, and grow those with fewer views than the manifest says.

    Blocks are never changed. Several jobs may do this at the same time.

    Raises:
        StoreError: the folder cannot be written.
    """
    try:
        with zarr_settings():
            for shard, length in enumerate(manifest.shard_lengths):
                if length:
                    _complete_array(storage, shard, array_shape(manifest, shard))
    except OSError as error:
        raise StoreError(
            "the store cannot be made or grown",
            where=storage.locate(),
            found=repr(error),
            fix="check the disk's free space and the folder's permissions, or choose another folder",
        ) from error


def array_shape(manifest: Manifest, shard: int) -> tuple[int, int, int]:
    """The shape of a shard's array: (views, rows per block, samples)."""
    length = manifest.shard_lengths[shard]
    return manifest.views, plane_rows(manifest.encoding, length, manifest.topk, manifest.num_classes), length


def open_array(storage: Storage, shard: int, shape: tuple[int, int, int], writable: bool, durable: bool = False) -> Any:
    """Open a shard's array.

    Args:
        shape: as ``array_shape`` gives it; the array may have more views.
        durable: flush each block to the disk before it is renamed to its final name.

    Raises:
        StoreArrayError: the array's ``zarr.json`` is missing, damaged, or has another layout.
        StoreUnreadableError: the system refuses to read it.
    """
    try:
        with zarr_settings():
            files = ZarrFiles(storage, read_only=not writable, durable=durable)
            # Format 3 only: zarr would also open a .zarray of format 2, whose chunks are other files than our blocks.
            array = zarr.open_array(files, path=array_name(shard), mode="r+" if writable else "r", zarr_format=3)
        _require_layout(array.metadata.to_dict(), shape)
    except FileNotFoundError as error:
        raise _unusable(storage, shard, error) from error
    except (OSError, MemoryError) as error:
        raise StoreUnreadableError(
            "the array of a shard cannot be opened",
            where=storage.locate(description_name(shard)),
            found=repr(error),
            fix="check the disk, its permissions and the free memory; the file itself may be undamaged",
        ) from error
    except Exception as error:  # on damaged JSON zarr raises nearly anything, even AttributeError
        raise _unusable(storage, shard, error) from error
    return array


def _unusable(storage: Storage, shard: int, error: Exception) -> StoreArrayError:
    return StoreArrayError(
        "the description of a shard's array is missing or damaged",
        where=storage.locate(description_name(shard)),
        found=str(error),
        fix="run dump-logits: it writes this file again and keeps the blocks",
    )


def _require_layout(found: dict[str, Any], shape: tuple[int, int, int]) -> None:
    """Refuse any layout but our own: with other codecs, a flipped bit could go unnoticed."""
    layout = {
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": (1, *shape[1:])}},
        "chunk_key_encoding": CHUNK_KEYS,
        "fill_value": 0,
        "storage_transformers": (),
        "codecs": _CODECS,
    }
    found = found | {"codecs": tuple(codec["name"] for codec in found["codecs"])}  # any level of zstd will do
    for name, expected in layout.items():
        if getattr(found[name], "value", found[name]) != expected:  # until zarr 3.1, data_type is an enumeration
            raise ValueError(f"{name} {found[name]}, expected {expected}")
    if found["shape"][1:] != shape[1:] or found["shape"][0] < shape[0]:
        raise ValueError(f"shape {found['shape']}, expected {shape}")


def _complete_array(storage: Storage, shard: int, shape: tuple[int, int, int]) -> None:
    description = description_name(shard)
    existed = storage.info(description) is not None
    try:
        array = open_array(storage, shard, (0, *shape[1:]), writable=True)
    except StoreError:
        if existed:  # and is damaged; if it did not exist, another job may be creating it just now
            storage.remove(description)
        _create_array(storage, shard, shape)
        return
    if array.shape[0] < shape[0]:  # never shrink it: zarr would delete blocks
        array.resize(shape)


def _create_array(storage: Storage, shard: int, shape: tuple[int, int, int]) -> None:
    with suppress(ContainsArrayError):  # another job has created it
        zarr.create_array(
            ZarrFiles(storage),
            name=array_name(shard),
            shape=shape,
            chunks=(1, *shape[1:]),
            dtype="uint8",
            compressors=(ZstdCodec(level=1), Crc32cCodec()),
            fill_value=0,
            chunk_key_encoding=CHUNK_KEYS,
        )
