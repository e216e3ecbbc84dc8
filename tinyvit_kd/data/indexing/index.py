"""The byte index of a shard: its samples, where their images are in the tar, and their labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

from tinyvit_kd.data.image_formats import HEAD_BYTES, image_format
from tinyvit_kd.data.labels.sample_labels import FoundLabel, find_label
from tinyvit_kd.data.labels.text_labels import NO_TEXTS, TextLabels, pack_labels
from tinyvit_kd.data.shard_files import Location, ShardFiles
from tinyvit_kd.data.tars.dotted_names import Parts
from tinyvit_kd.data.tars.grouping import samples_of
from tinyvit_kd.data.tars.leftovers import Leftovers
from tinyvit_kd.data.tars.member import Member
from tinyvit_kd.data.tars.members import tar_members
from tinyvit_kd.runtime.watchdog import doing

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """The samples of one shard, in the tar's order."""

    offsets: Int64  # [n], of the images' first bytes, counted from the start of the tar
    sizes: Int64  # [n], of the images, bytes
    labels: Int64  # [n], -1 if there is none that is a number
    key_bytes: npt.NDArray[np.uint8]  # all keys, one after the other
    key_ends: Int64  # [n], ends of the keys in key_bytes
    texts: TextLabels = NO_TEXTS  # labels that are no numbers
    leftovers: Leftovers | None = None  # what is in the tar and in no sample; None: an older version's index, not known

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


def scan_tar(tar: Location, files: ShardFiles | None = None, label_key: str | None = None) -> ShardIndex:
    """Make the index of a plain tar by reading all of its headers.

    Args:
        tar: path or URL.
        files: reads the tar; by default a new ``ShardFiles``.
        label_key: the field of ``.json`` that is the label; None: see ``labels.sample_labels.find_label``.

    Raises:
        ShardError: the tar is missing, compressed, truncated or damaged.
    """
    own_files = files or ShardFiles()
    leftovers = Leftovers()

    def read(member: Member) -> bytes:
        return own_files.read_at_most(tar, member.offset, member.size)

    def read_label(parts: Parts) -> FoundLabel:
        doing(f"indexing {tar}")
        return find_label(parts, read, label_key)

    def holds_image(member: Member) -> bool:
        head = own_files.read_at_most(tar, member.offset, min(member.size, HEAD_BYTES))
        return image_format(head) is not None

    samples = samples_of(tar_members(own_files, tar, leftovers), leftovers, read_label, holds_image)
    if not samples and "other" in leftovers.counts:  # so these files are all there is
        leftovers.rename("other", "not_an_image")
    labels, texts = pack_labels([sample.label for sample in samples if sample.label is not None])
    keys = [sample.key.encode("utf-8", "surrogateescape") for sample in samples]
    images = [sample.image for sample in samples if sample.image is not None]
    assert len(images) == len(labels) == len(samples)
    return ShardIndex(
        offsets=np.array([image.offset for image in images], dtype=np.int64),
        sizes=np.array([image.size for image in images], dtype=np.int64),
        labels=labels,
        key_bytes=np.frombuffer(b"".join(keys), dtype=np.uint8),
        key_ends=np.cumsum([len(key) for key in keys], dtype=np.int64),
        texts=texts,
        leftovers=leftovers,
    )
