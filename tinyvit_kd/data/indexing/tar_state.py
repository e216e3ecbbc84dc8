"""What tells one state of a tar from another, so that an index is used for the state that it was made of."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import xxhash

from tinyvit_kd.data.shard_files import Location, ShardFiles

_END_BYTES = 1 << 14  # bytes at each end of a tar that are looked at


class TarState:
    """A tar as it is now. Nothing is read of one at a URL unless ``content`` is asked for.

    Args:
        files: reads the tar.
        tar: path or URL.
        label_key: the field of ``.json`` that is the label; with other labels it is another index.

    Attributes:
        info: size, time and tag of the tar.
        is_local: whether it is a file of this machine.

    Raises:
        ShardError: the tar is missing or cannot be read.
    """

    def __init__(self, files: ShardFiles, tar: Location, label_key: str | None = None) -> None:
        self._files, self._tar, self._label_key = files, tar, label_key
        self.info = files.info(tar)
        self.is_local = files.is_local(tar)

    @cached_property
    def fingerprint(self) -> int:
        """64 bits over size, modification time and both ends; for a tar at a URL, over size, time and tag.

        The time is included because correcting a label in the middle of a tar changes neither its size nor its ends. A
        service changes time and tag whenever an object is written, so that its ends need not be read.
        """
        numbers = np.array([self.info.size, self.info.modified_ns], dtype="<i8").tobytes()
        rest = self._ends if self.is_local else self.info.tag.encode()
        return self._labelled(xxhash.xxh3_64_intdigest(numbers + rest))

    @cached_property
    def content(self) -> int:
        """64 bits over size and both ends: the same for a copy of the tar elsewhere."""
        return self._labelled(xxhash.xxh3_64_intdigest(np.int64(self.info.size).astype("<i8").tobytes() + self._ends))

    @cached_property
    def _ends(self) -> bytes:
        head = self._files.read_at_most(self._tar, 0, _END_BYTES)
        tail = self._files.read_at_most(self._tar, max(0, self.info.size - _END_BYTES), _END_BYTES)
        return head + tail

    def _labelled(self, value: int) -> int:
        return value if self._label_key is None else xxhash.xxh3_64_intdigest(self._label_key.encode(), seed=value)
