"""Writes one shard: a webdataset tar whose bytes depend on its samples alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from tinyvit_kd.data.building.left_out import Tally
from tinyvit_kd.data.building.packed_images import count_if_odd
from tinyvit_kd.data.building.source_image import Image, read_image
from tinyvit_kd.data.building.source_rules import sample_suffix
from tinyvit_kd.data.indexing.index import scan_tar
from tinyvit_kd.data.indexing.index_file import write_index_beside
from tinyvit_kd.data.shard_files import ShardFiles
from tinyvit_kd.runtime.files import atomic_path
from tinyvit_kd.storage.base import Storage

Reencode = Callable[[bytes], bytes | None]
"""Makes a JPEG file of an image's bytes; None: the bytes are kept as they are."""


class Sample(NamedTuple):
    """An image that becomes one sample of a shard."""

    number: int  # within the split
    label: int | None  # None: it has none
    class_name: str
    image: Image
    key: str = ""  # empty: the number, with nine digits


class ShardTask(NamedTuple):
    """A shard that is to be written."""

    out: Storage
    name: str  # of its file
    samples: list[Sample]
    reencode: Reencode | None = None


class Packed(NamedTuple):
    """What came of the images of a shard."""

    odd: Tally  # will be holes
    resized: int  # were encoded anew


def write_shard(task: ShardTask) -> Packed:
    """Write a shard, whole or not at all; counts the samples that will be holes.

    For a URL it is written into the folder for temporary files first, and its index is written beside it.
    """
    out, name, samples, reencode = task
    if out.is_local:
        with atomic_path(Path(out.locate(name))) as path:
            return _write_tar(path, samples, reencode)
    with TemporaryDirectory(prefix="tinyvit-kd-build-") as folder:
        path = Path(folder) / name
        packed = _write_tar(path, samples, reencode)
        out.upload(path, name)
        with ShardFiles() as files:
            write_index_beside(out.locate(name), scan_tar(path), files)
    return packed


def _write_tar(path: Path, samples: list[Sample], reencode: Reencode | None) -> Packed:
    from webdataset.writer import TarWriter  # imports torch, which only the writing processes need

    odd, resized = Tally(None), 0
    with (
        ShardFiles() as files,
        path.open("wb") as stream,
        # With a fixed mtime, the bytes depend on the samples alone.
        TarWriter(stream, encoder=False, mtime=0) as tar,
    ):
        for sample in samples:
            content = read_image(sample.image, files)
            count_if_odd(f"{sample.class_name}/{sample.image.name}".lstrip("/"), content, odd)
            smaller = None if reencode is None else reencode(content)
            resized += smaller is not None
            tar.write(_members(sample, content if smaller is None else smaller, smaller is not None))
    return Packed(odd, resized)


def _members(sample: Sample, content: bytes, is_jpeg: bool) -> dict[str, str | bytes]:
    key, name = sample.key or f"{sample.number:09d}", sample.image.name
    suffix = "jpg" if is_jpeg else sample_suffix(name, content)
    if sample.label is None:
        return {"__key__": key, suffix: content, "json": json.dumps({"filename": name}).encode()}
    kind = "wnid" if re.fullmatch(r"n\d{8}", sample.class_name) else "class_name"
    description = {"filename": name, kind: sample.class_name, "label": sample.label}
    return {
        "__key__": key,
        suffix: content,
        "cls": str(sample.label).encode(),
        "json": json.dumps(description).encode(),
    }
