"""The zarr side of a store: one uint8 array a shard, one chunk a view."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.core.buffer import Buffer
from zarr.errors import ContainsArrayError
from zarr.storage import LocalStore

from tinyvit_kd.errors import StoreError
from tinyvit_kd.runtime.files import atomic_write
from tinyvit_kd.store.codec import plane_rows
from tinyvit_kd.store.manifest import Manifest

_CODECS = ("bytes", "zstd", "crc32c")
# Without folders a chunk lies beside its array's zarr.json.
_CHUNK_KEYS = {"name": "default", "configuration": {"separator": "."}}


def array_name(shard: int) -> str:
    """The folder of a shard's array."""
    return f"s{shard:06d}"


def chunk_name(view: int) -> str:
    """The file of a block, in its array's folder."""
    return f"c.{view}.0.0"


class _Files(LocalStore):  # type: ignore[misc]  # zarr is not typed for mypy here
    """Files that are flushed to the disk before they are renamed; zarr itself renames, and flushes nothing."""

    async def set(self, key: str, value: Buffer) -> None:
        self._check_writable()
        await asyncio.to_thread(atomic_write, self.root / key, value.as_buffer_like(), fsync=True)


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


def open_array(path: Path, shard: int, shape: tuple[int, int, int], writable: bool, fsync: bool = False) -> Any:
    """A shard's array of this shape; it may have more views.

    Args:
        fsync: flush each block to the disk before it takes its place.

    Raises:
        StoreError: its ``zarr.json`` is missing, damaged, of another store, or the system refuses to read it; in
            that last case alone its cause is an OSError other than FileNotFoundError, or a MemoryError.
    """
    try:
        with zarr_settings():
            store = (_Files if fsync else LocalStore)(path, read_only=not writable)
            # Format 3 alone: zarr would also take a .zarray of format 2, whose chunks are other files than our blocks.
            array = zarr.open_array(store, path=array_name(shard), mode="r+" if writable else "r", zarr_format=3)
        _require_layout(array.metadata.to_dict(), shape)
    except FileNotFoundError as error:
        raise _unusable(path, shard, error) from error
    except (OSError, MemoryError) as error:  # says nothing of the file
        raise StoreError(
            "the array of a shard cannot be opened",
            where=str(path / array_name(shard) / "zarr.json"),
            found=repr(error),
            fix="see to the disk, its permissions and the free memory; the file itself may be whole",
        ) from error
    except Exception as error:  # zarr meets damaged JSON with whatever error comes first, AttributeError among them
        raise _unusable(path, shard, error) from error
    return array


def _unusable(path: Path, shard: int, error: Exception) -> StoreError:
    return StoreError(
        "the store lacks the array of a shard, or cannot read it",
        where=str(path / array_name(shard) / "zarr.json"),
        found=str(error),
        fix="run dump-logits, which makes this file again and keeps the blocks",
    )


def _require_layout(found: dict[str, Any], shape: tuple[int, int, int]) -> None:
    """Refuse an array that is not laid out as we do it: with other codecs, a flipped bit could go unnoticed."""
    layout = {
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": (1, *shape[1:])}},
        "chunk_key_encoding": _CHUNK_KEYS,
        "fill_value": 0,
        "storage_transformers": (),
        "codecs": _CODECS,
    }
    found = found | {"codecs": tuple(codec["name"] for codec in found["codecs"])}  # any level of zstd will do
    for name, expected in layout.items():
        if found[name] != expected:
            raise ValueError(f"{name} {found[name]}, expected {expected}")
    if found["shape"][1:] != shape[1:] or found["shape"][0] < shape[0]:
        raise ValueError(f"shape {found['shape']}, expected {shape}")


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
            chunk_key_encoding=_CHUNK_KEYS,
        )
