"""Packs images into shards whose samples can be read in any order."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tinyvit_kd.data.build_spec import BuildSpec, ImageAssignment, keep_build_spec, source_hash
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
_TAR_OVERHEAD = 4096  # bytes per sample at most: three headers, label, description, padding


class Sample(NamedTuple):
    """An image that becomes one sample of a shard."""

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

    The images' bytes are kept as they are, and the seed spreads the images over the shards. The result depends on
    nothing but the source and the arguments. After an interruption, the same call makes the missing shards. Only one
    build at a time may write to ``out``. A second split uses the classes of the first.

    Args:
        source: folder of the images.
        out: folder for the shards, ``classes.txt`` and, written last, timm's ``_info.json``.
        split: name of the split.
        samples_per_shard: the last shard may have fewer.
        seed: of the random assignment of images to shards.
        processes: how many shards are written at a time.
        on_shard: called after each shard with (finished shards, all shards).

    Raises:
        ConfigError: ``split`` has other characters than letters, digits and underscores.
        ShardError: the source cannot be read, or ``out`` holds shards of another build.
        DiskSpaceError: the shards would not fit on the disk.
        BusyError: another process is writing to ``out``.
    """
    _require_plain_name(split)
    sources = _sources(source)
    with sole_writer(out):
        classes = _class_list(out, sources)
        spec = _spec(split, seed, samples_per_shard, sources, classes)
        count = len(spec.filenames)
        missing = [shard for shard, name in enumerate(spec.filenames) if not (out / name).exists()]
        require_free_space(out, _largest_size(sources) * len(missing) // count)
        _prepare(out, spec, classes)
        tasks = _tasks(spec, out, missing, sources, classes)
        for finished, _ in enumerate(run_parallel(_write_shard, tasks, processes), count - len(missing) + 1):
            if on_shard is not None:
                on_shard(finished, count)
        _write_info(out, spec)
    return ShardSet.load(out, split)


def _require_plain_name(split: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_]+", split):
        raise ConfigError("a split cannot have this name", where="split", found=split, expected="letters, digits and _")


def _sources(source: Path) -> list[ClassSource]:
    sources = list_classes(source)
    if not sources:
        raise ShardError("there are no images in the source folder", where=str(source))
    return sources


def _class_list(out: Path, sources: list[ClassSource]) -> ClassList:
    """The classes in ``out`` if it already has shards, else those of the source."""
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
            fix="build into another folder, and begin with the split that has all classes",
        )
    return classes


def _spec(split: str, seed: int, samples_per_shard: int, sources: list[ClassSource], classes: ClassList) -> BuildSpec:
    samples = sum(len(source) for source in sources)
    return BuildSpec(split, seed, samples_per_shard, samples, source_hash(sources), classes.hash)


def _largest_size(sources: list[ClassSource]) -> int:
    """An upper limit of the shards' size, bytes; deflated images count with their unpacked size."""
    return sum(int(source.extents[:, 1:3].max(axis=1).sum()) + _TAR_OVERHEAD * len(source) for source in sources)


def _prepare(out: Path, spec: BuildSpec, classes: ClassList) -> None:
    """Write spec and classes to ``out``, and remove unfinished files that a killed build left behind."""
    keep_build_spec(out / f".{spec.split}.plan.json", spec)
    remove_unfinished(out)
    if not (out / CLASS_LIST_FILE).exists():
        atomic_write(out / CLASS_LIST_FILE, ("\n".join(classes.ids) + "\n").encode())


def _tasks(
    spec: BuildSpec, out: Path, missing: list[int], sources: list[ClassSource], classes: ClassList
) -> Iterator[tuple[Path, list[Sample]]]:
    """For each missing shard, its path and samples."""
    assignment = ImageAssignment(spec, sources)
    labels = {name: label for label, name in enumerate(classes.ids)}
    for shard in missing:
        samples = [Sample(number, labels[name], name, image) for number, name, image in assignment.images_of(shard)]
        yield out / spec.filenames[shard], samples


def _write_shard(task: tuple[Path, list[Sample]]) -> None:
    from webdataset.writer import TarWriter  # imports torch, which only the writing processes need

    path, samples = task
    with (
        atomic_path(path) as temporary,
        ShardFiles() as files,
        temporary.open("wb") as stream,
        # With a fixed mtime, the bytes depend on the samples alone.
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


def _write_info(out: Path, spec: BuildSpec) -> None:
    """Write timm's ``_info.json``, keeping other splits that are in it."""
    path = out / INFO_NAMES[0]
    info: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {"name": out.name, "splits": {}}
    info["splits"][spec.split] = {
        "name": spec.split,
        "filenames": spec.filenames,
        "shard_lengths": spec.lengths,
        "num_samples": spec.samples,
    }
    write_json(path, info)
