"""The content of an index file: arrays in an ``.npz``, with what tells which state of a tar they are of."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tinyvit_kd.data.indexing.index import ShardIndex
from tinyvit_kd.data.indexing.npz import read_npz
from tinyvit_kd.data.indexing.tar_state import TarState
from tinyvit_kd.data.labels.text_labels import NO_TEXTS, TextLabels
from tinyvit_kd.data.tars.leftovers import Leftovers

FORMAT_VERSION = 2  # 1 has neither texts of labels nor what was left out
_COLUMNS = {"offsets": "<i8", "sizes": "<i8", "labels": "<i8", "key_bytes": "|u1", "key_ends": "<i8"}
_TEXTS_PREFIX = "label_text_"  # before the names of the arrays of TextLabels
_SINCE_2 = {
    **{
        f"{_TEXTS_PREFIX}{name}": dtype
        for name, dtype in zip(TextLabels._fields, ("<i8", "|u1", "<i8", "|u1"), strict=True)
    },
    "leftovers": "|u1",
}
_HEADER = {"version": "<i8", "fingerprint": "<u8"}
_CONTENT = {"content": "<u8"}  # later indexes of version 2 have it, so that a copy of a set elsewhere can use them


class KeptIndex(NamedTuple):
    """An index from a file, and the state of the tar that it is of, as the file says."""

    shard_index: ShardIndex
    fingerprint: int  # as ``TarState.fingerprint``
    content: int | None  # as ``TarState.content``; None: the file does not say


def from_bytes(file: bytes, tar_size: int) -> KeptIndex | None:
    """Read an index file; None if it is of another version, or cannot be an index of a tar of this size.

    Raises:
        Exception: the file is damaged: zipfile and numpy raise nearly anything.
    """
    found = read_npz(file, {**_HEADER, **_COLUMNS, **_SINCE_2, **_CONTENT}, optional={**_SINCE_2, **_CONTENT})
    version = int(found["version"])
    if version not in (1, FORMAT_VERSION):
        return None
    texts, leftovers = NO_TEXTS, None
    if version == FORMAT_VERSION:
        texts = TextLabels(**{name: found[_TEXTS_PREFIX + name] for name in TextLabels._fields})
        leftovers = Leftovers.from_json(found["leftovers"].tobytes())
    index = ShardIndex(**{name: found[name] for name in _COLUMNS}, texts=texts, leftovers=leftovers)
    if not (_lies_within(index, tar_size) and _names_its_texts(index)):
        return None
    return KeptIndex(index, int(found["fingerprint"]), int(found["content"]) if "content" in found else None)


def to_bytes(index: ShardIndex, state: TarState) -> bytes:
    """The content of the file of an index that was made of this state of its tar."""
    assert index.leftovers is not None
    content = io.BytesIO()
    arrays = {name: getattr(index, name) for name in _COLUMNS}
    arrays |= {_TEXTS_PREFIX + name: array for name, array in index.texts._asdict().items()}
    leftovers = np.frombuffer(index.leftovers.to_json(), dtype=np.uint8)
    header = {
        "version": np.int64(FORMAT_VERSION),
        "fingerprint": np.uint64(state.fingerprint),
        "content": np.uint64(state.content),
    }
    np.savez(content, **header, **arrays, leftovers=leftovers)  # type: ignore[arg-type]
    return content.getvalue()


def _lies_within(index: ShardIndex, tar_size: int) -> bool:
    """Whether the arrays of an index are equally long, and its images lie in the tar."""
    offsets, sizes, ends = index.offsets, index.sizes, index.key_ends
    if not len(offsets) == len(sizes) == len(index.labels) == len(ends):
        return False
    within = (offsets >= 0) & (offsets <= tar_size) & (sizes >= 0) & (sizes <= tar_size - offsets)
    return bool(within.all()) and _are_ends(ends, len(index.key_bytes))


def _names_its_texts(index: ShardIndex) -> bool:
    """Whether the labels that are texts are among the texts of an index."""
    codes, ends = index.texts.codes, index.texts.ends
    if len(codes) not in (0, len(index)) or not _are_ends(ends, len(index.texts.table)):
        return False
    return bool(((codes >= -1) & (codes < len(ends))).all())


def _are_ends(ends: npt.NDArray[np.int64], length: int) -> bool:
    """Whether these are the ends of pieces that make up ``length`` bytes."""
    starts = np.concatenate([np.zeros(1, dtype=np.int64), ends])
    return bool((np.diff(starts) >= 0).all()) and int(starts[-1]) == length
