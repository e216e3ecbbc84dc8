"""The zarr side of a store: one uint8 array per shard, one chunk per view, described by a file in zarr's format 3.

Descriptions are written and compared as JSON here, without zarr (see ``store.chunks`` for why): all arrays have one
layout, and a stranger's store must not choose what code runs.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from tinyvit_kd.errors import StoreArrayError, StoreError, StoreUnreadableError, said_by, what_to_do
from tinyvit_kd.storage.base import Entry, Storage, read_limited
from tinyvit_kd.storage.together import together
from tinyvit_kd.store.codec import plane_rows
from tinyvit_kd.store.manifest import Manifest
from tinyvit_kd.store.names import CHUNK_KEYS, DESCRIPTION, description_name, is_array_name, view_of

Shape = tuple[int, int, int]

_GROUP = {"attributes": {}, "zarr_format": 3, "node_type": "group"}
_CODECS = [{"name": "bytes"}, {"name": "zstd", "configuration": {"level": 1, "checksum": False}}, {"name": "crc32c"}]
_LARGEST = 1 << 20  # bytes of a description, which has some hundred; anything larger is not read


def any_block(storage: Storage) -> str | None:
    """The name of one of the store's blocks; None if it has none."""
    if storage.at_a_time > 1:  # whatever folders there are, one request finds it
        return next((entry.name for entry in storage.walk() if _is_block(entry)), None)
    for folder in storage.list():
        if is_array_name(folder.name):
            for entry in storage.list(folder.name):
                if view_of(entry.base) is not None:
                    return entry.name
    return None


def _is_block(entry: Entry) -> bool:
    return is_array_name(entry.name.partition("/")[0]) and view_of(entry.base) is not None


def array_shape(manifest: Manifest, shard: int) -> Shape:
    """The shape of a shard's array: (views, rows per block, samples)."""
    length = manifest.shard_lengths[shard]
    return manifest.views, plane_rows(manifest.encoding, length, manifest.topk, manifest.num_classes), length


def complete_arrays(storage: Storage, manifest: Manifest) -> bool:
    """Describe the arrays whose description is missing or damaged, and grow those with fewer views than the manifest.

    Where nothing is wrong, nothing is written, so that a read-only disk will do. A description is replaced only if its
    bytes were read and are wrong; blocks are never changed. Several jobs may do this at the same time.

    Returns:
        whether anything was written.

    Raises:
        StoreUnreadableError: the system refuses to read a description.
        StoreError: the folder cannot be written.
    """
    shards = [shard for shard, length in enumerate(manifest.shard_lengths) if length]
    try:
        complete = partial(_complete_array, storage, manifest)
        written = any(list(together(storage, complete, shards)))
        if written and storage.info(DESCRIPTION) is None:
            write_group(storage)
    except OSError as error:
        raise StoreError(
            "the store cannot be made or grown",
            where=storage.locate(),
            found=said_by(error),
            fix=what_to_do(error, "check the disk's space and the folder's permissions, or choose another folder"),
        ) from error
    return written


def write_group(storage: Storage) -> None:
    """Write the description of the store's root, which is the same for all stores."""
    storage.write(DESCRIPTION, _written(_GROUP))


def check_array(storage: Storage, shard: int, shape: Shape) -> None:
    """Check the description of a shard's array.

    Args:
        shape: as ``array_shape`` gives it; the array may have more views.

    Raises:
        StoreArrayError: the array's ``zarr.json`` is missing, damaged, or has another layout.
        StoreUnreadableError: the system refuses to read it.
    """
    problem = _problem(_read(storage, shard), shape)
    if problem:
        raise StoreArrayError(
            "the description of a shard's array is missing or damaged",
            where=storage.locate(description_name(shard)),
            found=problem,
            fix="run dump-logits: it writes this file again and keeps the blocks",
        )


def _complete_array(storage: Storage, manifest: Manifest, shard: int) -> bool:
    """Returns whether a description was written."""
    shape = array_shape(manifest, shard)
    found = _read(storage, shard)
    if not _problem(found, shape):
        return False
    if _problem(found, (0, *shape[1:])):  # it is missing or damaged, not only too short
        found = _description(shape)
    assert isinstance(found, dict)
    storage.write(description_name(shard), _written(found | {"shape": list(shape)}))
    return True


def _read(storage: Storage, shard: int) -> Any:
    """A description as it was parsed; a text that says what is wrong where there is none to be parsed."""
    name = description_name(shard)
    try:
        content = read_limited(storage, name, _LARGEST)
        if isinstance(content, int):
            return f"{content:,} bytes"
    except FileNotFoundError:
        return "there is no such file"
    except (OSError, MemoryError) as error:
        raise StoreUnreadableError(
            "the array of a shard cannot be opened",
            where=storage.locate(name),
            found=said_by(error),
            fix=what_to_do(error, "check the disk and its permissions") + "; the file itself may be undamaged",
        ) from error
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        return f"no JSON: {error}"


def _problem(found: Any, shape: Shape) -> str:
    """How a parsed description differs from that of an array with so many views or more; empty if it does not."""
    if not isinstance(found, dict):
        return found if isinstance(found, str) else f"a {type(found).__name__} in place of fields"
    expected = _description(shape) | {"dimension_names": None}
    for name in expected.keys() - found.keys() - {"attributes", "dimension_names", "storage_transformers"}:
        return f"no {name}"
    for name, value in found.items():
        if name not in expected:
            if not (isinstance(value, dict) and value.get("must_understand") is False):
                return f"an unknown field {name[:80]}"
        elif not _fits(name, value, expected[name]):
            return f"{name} {str(value)[:200]}, expected {expected[name]}"
    return ""


def _fits(name: str, value: Any, expected: Any) -> bool:
    if name == "attributes":  # of whoever has something to note there
        return isinstance(value, dict)
    if name == "dimension_names":
        return value is None or (isinstance(value, list) and len(value) == 3)
    if name == "shape":
        return _is_list_of_int(value) and value[1:] == expected[1:] and value[0] >= expected[0]
    if name == "codecs":
        return isinstance(value, list) and list(map(_codec, value)) == list(map(_codec, expected))
    return _written(value) == _written(expected)  # as text, since to Python 1, 1.0 and true are the same


def _codec(codec: Any) -> Any:
    """A codec without what may differ: any level of zstd will do, while a checksum that is missing would not."""
    if not isinstance(codec, dict) or codec.get("name") != "zstd" or codec.keys() - {"name", "configuration"}:
        return codec
    options = codec.get("configuration", {})
    allowed = {"level": int, "checksum": bool}
    known = isinstance(options, dict) and all(type(value) is allowed.get(name) for name, value in options.items())
    return "zstd" if known else codec


def _is_list_of_int(value: Any) -> bool:
    return isinstance(value, list) and all(type(each) is int for each in value) and len(value) == 3


def _description(shape: Shape) -> dict[str, Any]:
    """As zarr 3.1.6 has it, in its order."""
    return {
        "shape": list(shape),
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, *shape[1:]]}},
        "chunk_key_encoding": CHUNK_KEYS,
        "fill_value": 0,
        "codecs": _CODECS,
        "attributes": {},
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def _written(fields: Any) -> bytes:
    return json.dumps(fields, indent=2).encode()
