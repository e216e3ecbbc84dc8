"""Names of a store's files: a folder per shard's array, a file per block in it, and the files beside these folders."""

from __future__ import annotations

import re

MANIFEST = "manifest.json"
CLASS_LIST = "classes.txt"
LABELS = "labels.json"  # of some samples, for statistics
DESCRIPTION = "zarr.json"  # describes an array in its folder, and the group in the root
# With this separator, chunks lie beside their array's zarr.json, not in folders of their own.
CHUNK_KEYS = {"name": "default", "configuration": {"separator": "."}}

_ARRAY = re.compile(r"s[0-9]{6,}")
_BLOCK = re.compile(r"c\.(0|[1-9][0-9]*)\.0\.0")
_PARTIAL = re.compile(  # the names that zarr gives, which replace the last suffix, and those of runtime.files
    r"(c\.[0-9]+\.0(\.0)?|zarr(\.json)?)\.[0-9a-f]{8,32}\.partial"
    r"|\.(manifest\.json|classes\.txt|labels\.json|zarr\.json|c\.[0-9]+\.0\.0)\.[0-9a-f]{8,32}\.partial"
)


def array_name(shard: int) -> str:
    """Name of the folder of a shard's array."""
    return f"s{shard:06d}"


def is_array_name(name: str) -> bool:
    """Whether a name in the store's root is that of an array's folder."""
    return _ARRAY.fullmatch(name) is not None


def description_name(shard: int) -> str:
    """Name of the description of a shard's array, relative to the store's root."""
    return f"{array_name(shard)}/{DESCRIPTION}"


def chunk_name(view: int) -> str:
    """Name of a block's file, relative to its array's folder."""
    return f"c.{view}.0.0"


def block_name(shard: int, view: int) -> str:
    """Name of a block's file, relative to the store's root."""
    return f"{array_name(shard)}/{chunk_name(view)}"


def view_of(base: str) -> int | None:
    """The view number in the name of a block's file; None if a name is not that of a block.

    Args:
        base: the name relative to the array's folder.
    """
    match = _BLOCK.fullmatch(base)
    return int(match[1]) if match else None


def is_partial(base: str) -> bool:
    """Whether a name is that of a temporary file, which a writer renames when it is complete."""
    return _PARTIAL.fullmatch(base) is not None
