"""Keys of samples: what a tar can have as a key, and that no two are the same."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
import xxhash

from tinyvit_kd.data.building.class_source import ClassSource
from tinyvit_kd.data.building.left_out import printable
from tinyvit_kd.errors import ShardError
from tinyvit_kd.runtime.wording import first_few

_SHOWN = 3
_DIGITS = 8  # hexadecimal, of a path's hash


def key_of(text: str) -> str:
    """A key that a tar can have: what follows a dot in a member's last part would be taken for its suffix."""
    folders, base = _divided(text)
    return "/".join([*folders, base.replace(".", "_")])


def keys_of_paths(names: Sequence[str]) -> list[str]:
    """Keys of images by their paths: without suffixes, unless two would then be the same (``a.jpg`` and ``a.png``).

    Where they still are (``b.c.jpg`` and ``b_c.jpg``), a hash of the path follows, so that a key does not depend on the
    order of the images.
    """
    keys = [_without_suffix(name) for name in names]
    for longer in (key_of, lambda name: f"{key_of(name)}-{xxhash.xxh3_64_hexdigest(os.fsencode(name))[:_DIGITS]}"):
        counts = Counter(keys)
        keys = [key if counts[key] == 1 else longer(name) for key, name in zip(keys, names, strict=True)]
    return keys


def require_distinct_keys(split: str, sources: Sequence[ClassSource]) -> None:
    """Refuse keys that two samples of a split would share; samples without keys have their numbers.

    Raises:
        ShardError: two have the same.
    """
    keyed = [source for source in sources if len(source.keys)]
    if not keyed:
        return
    keys = np.concatenate([source.keys for source in keyed])
    values, counts = np.unique(keys, return_counts=True)
    repeated = [os.fsdecode(bytes(value)) for value in values[counts > 1]]
    total = sum(map(len, sources))
    if len(keys) < total:
        texts = (os.fsdecode(bytes(value)) for value in values)
        numbers = [text for text in texts if text.isascii() and text.isdigit() and len(text) == 9 and int(text) < total]
        repeated += numbers
    if repeated:
        raise ShardError(
            "samples would share their keys",
            where=f"split {split}, {', '.join(dict.fromkeys(str(source.path) for source in keyed))}",
            found=f"{len(repeated):,}: {first_few(map(printable, repeated), _SHOWN)}",
            expected="a key of its own for each sample",
            fix="name another column with --key-column, or number the samples with --key-column ''; of folders without "
            "labels, give the folder above them, or build each into a split of its own",
        )


def _divided(text: str) -> tuple[list[str], str]:
    parts = [part for part in PurePosixPath(text).parts if part not in ("/", "//", "..", ".")]
    return parts[:-1], parts[-1] if parts else ""


def _without_suffix(name: str) -> str:
    folders, base = _divided(name)
    stem = base.rpartition(".")[0] or base
    return key_of("/".join([*folders, stem]))
