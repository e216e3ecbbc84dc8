"""The names of a store's files: one array's folder per shard, one file per block, and what lies beside them."""

from __future__ import annotations

import re

MANIFEST = "manifest.json"
CLASS_LIST = "classes.txt"
DESCRIPTION = "zarr.json"  # of an array in its folder, and of the group in the root
# Without folders a chunk lies beside its array's zarr.json.
CHUNK_KEYS = {"name": "default", "configuration": {"separator": "."}}

_ARRAY = re.compile(r"s[0-9]{6,}")
_BLOCK = re.compile(r"c\.(0|[1-9][0-9]*)\.0\.0")
_PARTIAL = re.compile(  # zarr's own names, which replace the last suffix, and those of runtime.files
    r"(c\.[0-9]+\.0(\.0)?|zarr(\.json)?)\.[0-9a-f]{8,32}\.partial"
    r"|\.(manifest\.json|classes\.txt|zarr\.json|c\.[0-9]+\.0\.0)\.[0-9a-f]{8,32}\.partial"
)


def array_name(shard: int) -> str:
    """The folder of a shard's array."""
    return f"s{shard:06d}"


def is_array_name(name: str) -> bool:
    """Whether a name in the root is that of an array's folder."""
    return _ARRAY.fullmatch(name) is not None


def description_name(shard: int) -> str:
    """The description of a shard's array."""
    return f"{array_name(shard)}/{DESCRIPTION}"


def chunk_name(view: int) -> str:
    """The file of a block, in its array's folder."""
    return f"c.{view}.0.0"


def block_name(shard: int, view: int) -> str:
    """The file of a block, from the store's root."""
    return f"{array_name(shard)}/{chunk_name(view)}"


def view_of(base: str) -> int | None:
    """The view number of a block's file in its array's folder; None where the name is no block's."""
    match = _BLOCK.fullmatch(base)
    return int(match[1]) if match else None


def is_partial(base: str) -> bool:
    """Whether a file is one that a writer has begun: it gets its own name once it is whole."""
    return _PARTIAL.fullmatch(base) is not None
