"""Packs images into shards that training can read at random."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tinyvit_kd.data.assignment import Assignment, ShuffledImages, keep_assignment, source_hash
from tinyvit_kd.data.class_list import ClassList, load_class_list
from tinyvit_kd.data.locate import INFO_NAMES
from tinyvit_kd.data.shard_files import ShardFiles
from tinyvit_kd.data.shards import CLASS_LIST_FILE, ShardSet
from tinyvit_kd.data.sources import ClassSource, Image, list_classes, read_image
from tinyvit_kd.errors import ConfigError, ShardError
from tinyvit_kd.runtime.files import (
    atomic_path,
    atomic_write,
    remove_unfinished,
    require_free_space,
    sole_writer,
    write_json,
)
from tinyvit_kd.runtime.parallel import run_parallel

OnShard = Callable[[int, int], None]
_TAR_OVERHEAD = 4096  # bytes a sample at the most: three headers, label, description, padding


class Sample(NamedTuple):
    """What becomes one sample of a shard."""

    number: int  # within the split
    label: int
    class_name: str
    image: Image


def build_shards(
    source: Path,
    out: Path,
    split: str,
    *,
    samples_per_shard: int,
    seed: int,
    processes: int,
    on_shard: OnShard | None = None,
) -> ShardSet:
    """Pack a folder of class folders, class tars or class zips into webdataset tars.

    Images keep their bytes; the seed spreads them over the shards. The result follows from source and
    arguments alone. Run again after a kill, it makes what is missing. One build at a time in ``out``;
    a second split uses the first one's classes.

    Args:
        source: where the images are.
        out: where the shards, ``classes.txt`` and, last, timm's ``_info.json`` go.
        samples_per_shard: the last shard may have fewer.
        processes: shards written at a time.
        on_shard: called with (finished shards, all shards) after each.

    Raises:
        ShardError: the source cannot be read, or ``out`` holds shards of another build.
        DiskSpaceError: the shards would not fit on the disk.
        BusyError: another process writes to ``out``.
    """
    _require_plain_name(split)
    sources = _sources(source)
    with sole_writer(out):
        classes = _class_list(out, sources)
        assignment = _assign(split, seed, samples_per_shard, sources, classes)
        todo = [shard for shard, name in enumerate(assignment.filenames) if not (out / name).exists()]
        require_free_space(out, _expected_bytes(sources) * len(todo) // len(assignment.filenames))
        _prepare(out, assignment, classes)
        tasks, count = _tasks(assignment, out, todo, sources, classes), len(assignment.filenames)
        for done, _ in enumerate(run_parallel(_write_shard, tasks, processes), count - len(todo) + 1):
            if on_shard is not None:
                on_shard(done, count)
        _describe(out, assignment)
    return ShardSet.load(out, split)


def _require_plain_name(split: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_]+", split):
        raise ConfigError("not a name for a split", where="split", found=split, expected="letters, digits and _")


def _sources(source: Path) -> list[ClassSource]:
    sources = list_classes(source)
    if not sources:
        raise ShardError("there are no images in the source folder", where=str(source))
    return sources


def _class_list(out: Path, sources: list[ClassSource]) -> ClassList:
    """The classes that ``out`` already has, or those of the source."""
    names = tuple(source.class_name for source in sources)
    if not (out / CLASS_LIST_FILE).exists():
        return ClassList(out.name, names)
    classes = load_class_list(str(out / CLASS_LIST_FILE))
    if new := sorted(set(names) - set(classes.ids)):
        raise ShardError(
            "the source has classes that the shard set lacks",
            where=str(out / CLASS_LIST_FILE),
            found=", ".join(new[:5]) + (", …" if len(new) > 5 else ""),
            expected=f"the {len(classes.ids)} classes of the split that was built first",
            fix="build into another folder, and there first the split that has all classes",
        )
    return classes


def _assign(
    split: str, seed: int, samples_per_shard: int, sources: list[ClassSource], classes: ClassList
) -> Assignment:
    samples = sum(len(source) for source in sources)
    return Assignment(split, seed, samples_per_shard, samples, source_hash(sources), classes.hash)


def _expected_bytes(sources: list[ClassSource]) -> int:
    """At the most: deflated images count with the size they unpack to."""
    return sum(int(source.spans[:, 1:3].max(axis=1).sum()) + _TAR_OVERHEAD * len(source) for source in sources)


def _prepare(out: Path, assignment: Assignment, classes: ClassList) -> None:
    """Write assignment and classes down, and remove what a killed build left half-written."""
    keep_assignment(out / f".{assignment.split}.plan.json", assignment)
    remove_unfinished(out)
    if not (out / CLASS_LIST_FILE).exists():
        atomic_write(out / CLASS_LIST_FILE, ("\n".join(classes.ids) + "\n").encode())


def _tasks(
    assignment: Assignment, out: Path, todo: list[int], sources: list[ClassSource], classes: ClassList
) -> Iterator[tuple[Path, list[Sample]]]:
    shuffled = ShuffledImages(assignment, sources)
    labels = {name: label for label, name in enumerate(classes.ids)}
    for shard in todo:
        samples = [Sample(number, labels[name], name, image) for number, name, image in shuffled.shard(shard)]
        yield out / assignment.filenames[shard], samples


def _write_shard(task: tuple[Path, list[Sample]]) -> None:
    from webdataset.writer import TarWriter  # imports torch, which only the writing processes need

    path, samples = task
    with (
        atomic_path(path) as aside,
        ShardFiles() as files,
        aside.open("wb") as stream,
        # A fixed mtime makes the bytes a function of the samples.
        TarWriter(stream, encoder=False, mtime=0) as tar,
    ):
        for sample in samples:
            tar.write(_members(sample, read_image(sample.image, files)))


def _members(sample: Sample, content: bytes) -> dict[str, str | bytes]:
    kind = "wnid" if re.fullmatch(r"n\d{8}", sample.class_name) else "class_name"
    description = {"filename": sample.image.name, kind: sample.class_name, "label": sample.label}
    return {
        "__key__": f"{sample.number:09d}",
        sample.image.suffix: content,
        "cls": str(sample.label).encode(),
        "json": json.dumps(description).encode(),
    }


def _describe(out: Path, assignment: Assignment) -> None:
    """Write timm's ``_info.json``; other splits that it holds stay."""
    path = out / INFO_NAMES[0]
    info: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {"name": out.name, "splits": {}}
    info["splits"][assignment.split] = {
        "name": assignment.split,
        "filenames": assignment.filenames,
        "shard_lengths": assignment.lengths,
        "num_samples": assignment.samples,
    }
    write_json(path, info)
