"""The zarr side of a store: one uint8 array a shard, one chunk a view."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
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


def make_arrays(path: Path, manifest: Manifest) -> None:
    """Make the arrays of a new store. What a killed attempt left behind is replaced: it has no blocks.

    Raises:
        StoreError: the folder has blocks, but no manifest that would say what they are.
    """
    block = next(path.glob("s*/c.*.0.0"), None)
    if block is not None:
        raise StoreError(
            "the folder has blocks but no manifest",
            where=str(path),
            found=block.relative_to(path).as_posix(),
            fix="restore manifest.json, or choose another folder",
        )
    with zarr_settings():
        group = zarr.open_group(LocalStore(path), mode="a")
        for shard in _filled_shards(manifest):
            _create_array(group, manifest, shard, overwrite=True)


def complete_arrays(path: Path, manifest: Manifest, resize: bool) -> None:
    """Make again what an existing store lacks; with ``resize``, give every array room for the manifest's views."""
    with zarr_settings():
        group = zarr.open_group(LocalStore(path), mode="a")
        for shard in _filled_shards(manifest):
            if not (path / array_name(shard) / "zarr.json").is_file():
                _create_array(group, manifest, shard, overwrite=False)
            elif resize:
                array = group[array_name(shard)]
                array.resize((manifest.views, *array.shape[1:]))


def open_array(path: Path, shard: int, writable: bool) -> Any:
    """A shard's array.

    Raises:
        StoreError: its ``zarr.json`` is missing or damaged.
    """
    try:
        with zarr_settings():
            store = LocalStore(path, read_only=not writable)
            return zarr.open_array(store, path=array_name(shard), mode="r+" if writable else "r")
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise StoreError(
            "the store lacks the array of a shard, or cannot read it",
            where=str(path / array_name(shard) / "zarr.json"),
            found=str(error),
            fix="restore this file, or remove it and run dump-logits, which makes it again and keeps the blocks",
        ) from error


def _filled_shards(manifest: Manifest) -> list[int]:
    return [shard for shard, length in enumerate(manifest.shard_lengths) if length]


def _create_array(group: Any, manifest: Manifest, shard: int, overwrite: bool) -> None:
    length = manifest.shard_lengths[shard]
    rows = plane_rows(manifest.encoding, length, manifest.topk, manifest.num_classes)
    group.create_array(
        array_name(shard),
        shape=(manifest.views, rows, length),
        chunks=(1, rows, length),
        dtype="uint8",
        compressors=(ZstdCodec(level=1), Crc32cCodec()),
        fill_value=0,
        # Without folders a chunk lies beside its array's zarr.json.
        chunk_key_encoding={"name": "default", "separator": "."},
        overwrite=overwrite,
    )
