"""The byte index of a shard: its samples, where their images are in the tar, and their labels."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

from tinyvit_kd.data.image_formats import IMAGE_SUFFIXES
from tinyvit_kd.data.shard_files import Location, ShardFiles
from tinyvit_kd.data.tars import Member, tar_members
from tinyvit_kd.runtime.watchdog import doing

Int64 = npt.NDArray[np.int64]

NO_LABEL = -1
_LABEL_BYTES = 1 << 20  # a larger .cls or .json is not a label


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """The samples of one shard, in the tar's order."""

    offsets: Int64  # [n], of the images' first bytes, counted from the start of the tar
    sizes: Int64  # [n], of the images, bytes
    labels: Int64  # [n], -1 if there is none
    key_bytes: npt.NDArray[np.uint8]  # all keys, one after the other
    key_ends: Int64  # [n], ends of the keys in key_bytes

    def __len__(self) -> int:
        return len(self.offsets)

    def raw_key(self, index: int) -> bytes:
        """The key of one sample, byte for byte as in the tar."""
        start = self.key_ends[index - 1] if index else 0
        return self.key_bytes[start : self.key_ends[index]].tobytes()

    def key(self, index: int) -> str:
        """The key of one sample, for people; bytes that are not UTF-8 appear as ``\\xNN``."""
        return self.raw_key(index).decode("utf-8", "backslashreplace")

    @property
    def key_hash(self) -> int:
        """64 bits that change when a sample is added, removed, moved, renamed or resized."""
        parts = (self.key_bytes.tobytes(), self.key_ends.astype("<i8"), self.sizes.astype("<i8"))
        return xxhash.xxh3_64_intdigest(b"".join(bytes(part) for part in parts))

    @property
    def label_hash(self) -> int:
        """64 bits over the labels."""
        return xxhash.xxh3_64_intdigest(self.labels.astype("<i8").data)


def split_name(name: str) -> tuple[str, str] | None:
    """Split a member's name at the first dot of its base name, into key and lower-case suffix; None if one is empty.

    This is the webdataset convention (https://github.com/webdataset/webdataset). It also skips ``._…`` files.
    """
    base = name.rpartition("/")[2]
    stem, _, suffix = base.partition(".")
    if not stem or not suffix:
        return None
    return name[: len(name) - len(suffix) - 1], suffix.lower()


def scan_tar(tar: Location, files: ShardFiles | None = None) -> ShardIndex:
    """Make the index of a plain tar by reading all of its headers.

    Args:
        tar: path or URL.
        files: reads the tar; by default a new ``ShardFiles``.

    Raises:
        ShardError: the tar is missing, compressed, truncated or damaged.
    """
    images: list[Member] = []
    labels: list[int] = []
    keys: list[bytes] = []
    files = files or ShardFiles()
    for key, parts in group_members(tar_members(files, tar)):
        doing(f"indexing {tar}")
        image = next((parts[suffix] for suffix in IMAGE_SUFFIXES if suffix in parts), None)
        if image is not None:
            images.append(image)
            labels.append(_label(parts, files, tar))
            keys.append(key.encode("utf-8", "surrogateescape"))
    return ShardIndex(
        offsets=np.array([image.offset for image in images], dtype=np.int64),
        sizes=np.array([image.size for image in images], dtype=np.int64),
        labels=np.array(labels, dtype=np.int64),
        key_bytes=np.frombuffer(b"".join(keys), dtype=np.uint8),
        key_ends=np.cumsum([len(key) for key in keys], dtype=np.int64),
    )


def group_members(members: Iterable[Member]) -> Iterator[tuple[str, dict[str, Member]]]:
    """Group adjacent members with the same key into samples; a repeated suffix begins a new sample.

    Yields:
        key and members by suffix, for each sample.
    """
    key = ""
    parts: dict[str, Member] = {}
    for member in members:
        if (name := split_name(member.name)) is None:
            continue
        member_key, suffix = name
        if member_key != key or suffix in parts:
            if parts:
                yield key, parts
            key = member_key
            parts = {}
        parts[suffix] = member
    if parts:
        yield key, parts


def _label(parts: dict[str, Member], files: ShardFiles, tar: Location) -> int:
    for suffix, parse in (("cls", _parse_cls), ("json", _parse_json)):
        member = parts.get(suffix)
        if member is not None and member.size <= _LABEL_BYTES:
            return parse(files.read_at_most(tar, member.offset, member.size))
    return NO_LABEL


def _parse_cls(content: bytes) -> int:
    text = content.strip()
    return _valid_label(int(text)) if text.isdigit() and len(text) < 20 else NO_LABEL


def _parse_json(content: bytes) -> int:
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        return NO_LABEL
    label = tree.get("label") if isinstance(tree, dict) else None
    return _valid_label(label) if isinstance(label, int) and not isinstance(label, bool) else NO_LABEL


def _valid_label(label: int) -> int:
    return label if 0 <= label < 2**63 else NO_LABEL
