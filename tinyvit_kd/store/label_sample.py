"""Labels of some of a store's samples, kept beside the blocks so that the store can tell how good its teacher is.

They take no part in replay: a store without them, as of earlier versions, is complete.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import xxhash

from tinyvit_kd.errors import StoreError, said_by, what_to_do
from tinyvit_kd.storage.base import Storage
from tinyvit_kd.store.names import LABELS

Labels = Mapping[int, npt.NDArray[np.int64]]
"""By shard number, the teacher's class of each of its first samples, -1 where it is not known: int64 [n]."""

_FORMAT = 1


def write_label_sample(storage: Storage, labels: Labels) -> None:
    """Write ``labels.json``, unless it has the same content already."""
    body = {"format": _FORMAT, "labels": {str(shard): each.tolist() for shard, each in sorted(labels.items())}}
    content = json.dumps(body | {"checksum": _checksum(body)}, separators=(",", ":")).encode()
    if storage.info(LABELS) is None or storage.read(LABELS) != content:
        storage.write(LABELS, content)


def read_label_sample(storage: Storage) -> Labels:
    """The labels that ``write_label_sample`` wrote; none if there is no such file.

    Raises:
        StoreError: the file is damaged, or the system refuses to read it.
    """
    if storage.info(LABELS) is None:
        return {}
    try:
        body = json.loads(storage.read(LABELS))
        checksum = body.pop("checksum")
        if body["format"] != _FORMAT:
            return {}  # of a later version
        if checksum != _checksum(body):
            raise ValueError("its checksum is wrong")
        return {int(shard): np.array(each, dtype=np.int64) for shard, each in body["labels"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise StoreError(
            "the labels that the store keeps for its statistics cannot be read",
            where=storage.locate(LABELS),
            found=said_by(error),
            fix=what_to_do(error, "run dump-logits again: it writes them"),
        ) from error


def _checksum(body: dict[str, object]) -> str:
    return xxhash.xxh3_64_hexdigest(json.dumps(body, sort_keys=True).encode())
